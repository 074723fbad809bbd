"""Training without an attack: on the images as they are, and on noisy ones."""

from __future__ import annotations

import torch
from torch import Tensor

from certimetric.base.arguments import require
from certimetric.deep.defenses.base import Batch, Defense


class NoDefense(Defense):
    """Natural training."""

    def compute_loss(self, batch: Batch) -> Tensor:
        return batch.loss_of(batch.images)


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
        require(sigma > 0, "sigma", "must be positive", sigma, self)
        require(sigma < float("inf"), "sigma", "must be a finite deviation, in pixels", sigma, self)
        self.sigma = sigma

    def compute_loss(self, batch: Batch) -> Tensor:
        return batch.loss_of(batch.images + self.sigma * torch.randn_like(batch.images))
