"""Training on noisy images."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from certimetric.deep.defenses.base import Defense, Loss, Miner, NoDefense


class NoiseDefense(Defense):
    """Train on images with Gaussian noise, so that a smoothed model knows what it will be asked about.

    Parameters
    ----------
    sigma : float, default=0.25
        Standard deviation, in pixels. Pixels are not brought back to 0 to 1: the certificate is about this very noise.

    References
    ----------
    Cohen, Rosenfeld & Kolter, arXiv 1902.02918, section 3.3: training for :class:`certimetric.deep.SmoothingCertifier`.
    """

    def __init__(self, sigma: float = 0.25):
        if not 0 < sigma < float("inf"):
            raise ValueError(f"sigma of NoiseDefense must be a positive deviation, in pixels, got {sigma!r}")
        self.sigma = sigma

    def loss(
        self, model: nn.Module, images: Tensor, labels: Tensor, loss_fn: Loss, miner: Miner | None = None
    ) -> Tensor:
        return NoDefense().loss(model, images + self.sigma * torch.randn_like(images), labels, loss_fn, miner)
