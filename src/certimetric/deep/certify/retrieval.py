"""Certified retrieval: for every query, how far it may be moved before its first result is of another class."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from torch import Tensor, nn

from certimetric.base.warnings import warn
from certimetric.deep.certify.base import Certifier, RetrievalCertificate
from certimetric.deep.certify.pixels import PixelCertifier
from certimetric.deep.certify.registry import make_certifier
from certimetric.deep.models.calling import as_module
from certimetric.deep.models.images import ImageSet
from certimetric.deep.models.randomness import seeded
from certimetric.deep.retrieval.evaluation import with_positive
from certimetric.deep.retrieval.same_pictures import with_own_ids


@seeded(0)
def certify_retrieval(
    model: nn.Module | Callable[[Tensor], Any],
    queries: ImageSet,
    gallery: ImageSet | None = None,
    *,
    method: str | Certifier = "lipschitz",
    batch_size: int = 256,
    with_pixels: bool = True,
    **settings: Any,
) -> RetrievalCertificate:
    """Certify for every query how far it may be moved before its first result is of another class.

    Parameters
    ----------
    model : Module or callable
        Images (b, c, h, w) from 0 to 1 to embeddings (b, k), compared by Euclidean distance. Smoothing asks only what
        it gives; the other methods read its layers, for which it must be a Module.
    queries : ImageSet
    gallery : ImageSet, default=None
        None for the queries themselves; a query is never its own result, nor is an item of its group, see
        :class:`ImageSet`. The gallery is not perturbed: certificates are about changes of the query.
    method : {"lipschitz", "smoothing", "interval"} or Certifier, default="lipschitz"
        "lipschitz" (l2) divides the radius in the embedding space by the computed Lipschitz constant of the model;
        "smoothing" (l2) certifies the majority under Gaussian noise, of any model, with a confidence; "interval" (l∞)
        follows the box of possible pixels through the layers.
    batch_size : int, default=256
    with_pixels : bool, default=True
        Certify the pixels themselves too.
    **settings
        Of the method: those of its class.

    Returns
    -------
    certificate : RetrievalCertificate

    Raises
    ------
    ValueError
        If the method is unknown, a setting does not fit, the model has layers that the method has no bound for, or no
        query has another picture of its label in the gallery.

    Examples
    --------
    >>> import torch
    >>> images = ImageSet(torch.tensor([0.0, 0.2, 0.8, 1.0]).reshape(4, 1, 1, 1), torch.tensor([0, 0, 1, 1]))
    >>> certify_retrieval(nn.Flatten(), images).radii.round(3)
    array([0.5, 0.2, 0.2, 0.5])
    """
    certifier = make_certifier(method, **settings) if isinstance(method, str) else method
    if not isinstance(method, str) and settings:
        raise ValueError(f"{min(settings)} is a setting of the certifier, which was given as it is")
    if reason := certifier.futile():
        warn(reason)
    if not isinstance(model, nn.Module):  # layers are read of the Module itself, in the precision that it has
        model = as_module(model)
    items = queries if gallery is None else gallery
    queries = with_own_ids(queries, items)
    chosen = with_positive(queries, items)
    asked = queries.select(chosen.nonzero()[:, 0])

    def certificate(certifier: Certifier, pixels: RetrievalCertificate | None = None) -> RetrievalCertificate:
        return RetrievalCertificate(
            **vars(certifier.certify(model, asked, items, batch_size)),
            method=certifier.name,
            norm=certifier.norm,
            settings=certifier.settings(),
            ids=np.asarray(asked.ids.cpu(), dtype=np.int64),
            labels=np.asarray(asked.labels.cpu(), dtype=np.int64),
            confidence=None if certifier.alpha is None else 1.0 - certifier.alpha,
            n_without_positive=int((~chosen).sum()),
            pixels=pixels,
        )

    return certificate(certifier, certificate(PixelCertifier(certifier.norm)) if with_pixels else None)
