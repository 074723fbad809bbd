"""The pixels themselves, certified: what a model has to beat."""

from __future__ import annotations

import numpy as np
from torch import nn

from certimetric.deep.certify.base import Certified, Certifier, from_embeddings
from certimetric.deep.models.images import ImageSet


class PixelCertifier(Certifier):
    """The pixels as their own embedding, whatever the model: what a model has to beat.

    The Lipschitz constant is 1. In l2 the radius is the smallest change itself, in l∞ the bound by triplets.

    Parameters
    ----------
    norm : {"l2", "linf"}, default="l2"
    """

    name = "pixels"

    def __init__(self, norm: str = "l2"):
        if norm not in ("l2", "linf"):
            raise ValueError(f"norm of PixelCertifier must be 'l2' or 'linf', got {norm!r}")
        self.norm = norm

    def certify(self, model: nn.Module, queries: ImageSet, gallery: ImageSet, batch_size: int = 256) -> Certified:
        points = [np.asarray(part.tensor().double().flatten(1).cpu()) for part in (gallery, queries)]
        return from_embeddings(points[0], points[1], queries, gallery, norm=self.norm)
