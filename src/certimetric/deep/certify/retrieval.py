"""Certified retrieval: for every query, how far it may be moved before its first result is of another class."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from torch import Tensor, nn

from certimetric.base.arrays import Array, Indices
from certimetric.base.results import Framed
from certimetric.base.warnings import warn
from certimetric.base.wording import PIXELS
from certimetric.deep.certify.base import Certified, Certifier, from_embeddings
from certimetric.deep.certify.registry import make_certifier
from certimetric.deep.models.calling import as_module, seeded
from certimetric.deep.models.comparing import check_search, querying
from certimetric.deep.models.images import ImageSet
from certimetric.deep.retrieval.evaluation import MODEL, with_positive
from certimetric.deep.retrieval.same_pictures import with_own_ids

_TOLD = ("method", "norm", "settings", "confidence", "constant", "n_without_positive", "ids", "labels")


@dataclass(frozen=True, eq=False, kw_only=True)
class RetrievalCertificate(Certified, Framed):
    """Certified retrieval of a model, query by query.

    Parameters
    ----------
    predictions, radii, abstained, constant
        As of :class:`Certified`, of the predictions, right or wrong.
    method : str
    norm : {"l2", "linf"}
        Of the perturbation of a query, in pixels from 0 to 1. The gallery is as it is: it is not perturbed.
    settings : dict
        Of the method.
    ids, labels : int array of shape (m,)
        Of the queries.
    confidence : float or None
        With which the radius of each query holds; None where it is proven.
    n_without_positive : int
        Queries that were left out, since no other picture of their label is in the gallery.
    pixels : RetrievalCertificate or None
        The same of the pixels themselves: what a model has to beat. Their radii are proven in every case.
    """

    method: str
    norm: str
    settings: dict[str, Any]
    ids: Indices
    labels: Indices
    confidence: float | None
    n_without_positive: int
    pixels: RetrievalCertificate | None = None

    @property
    def correct_radii(self) -> Array:
        """Radius within which the prediction stays *right*; −1 where it is wrong or missing."""
        right = (self.predictions == self.labels) & ~self.abstained
        return np.where(right, self.radii, -1.0)

    def certified_recall(self, eps: ArrayLike) -> Array:
        """Certified R@1: share of queries that are right and stay so under every perturbation of size at most ε.

        Parameters
        ----------
        eps : float or array-like of shape (e,)
            At 0 this is the share of right predictions.
        """
        eps = np.asarray(eps, dtype=float)
        if not (eps >= 0).all():
            raise ValueError(f"eps must hold sizes of at least 0, got {eps.tolist()}")
        return np.asarray((self.correct_radii >= eps[..., None]).mean(axis=-1))

    def _subjects(self) -> dict[str, RetrievalCertificate]:
        return {MODEL: self} | ({} if self.pixels is None else {PIXELS: self.pixels})

    def to_frame(self) -> pd.DataFrame:
        """One row a query and subject: ``subject`` ("model", "raw pixels"), ``id``, ``label``, ``prediction``, …"""
        parts = []
        for subject, told in self._subjects().items():
            columns = {"subject": subject, "id": told.ids, "label": told.labels, "prediction": told.predictions}
            columns |= {"right": told.correct_radii >= 0, "abstained": told.abstained, "radius": told.radii}
            parts.append(pd.DataFrame(columns))
        return pd.concat(parts, ignore_index=True)

    def to_json(self) -> str:
        """Settings and radii as JSON; an infinite radius is the string "inf"."""
        return json.dumps(self._document(), allow_nan=False)

    def _document(self) -> dict[str, Any]:
        told = {name: getattr(self, name) for name in (*_TOLD, "predictions", "abstained")}
        told = {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in told.items()}
        told["radii"] = [radius if np.isfinite(radius) else "inf" for radius in self.radii.tolist()]
        return told | {"pixels": None if self.pixels is None else self.pixels._document()}

    def _repr_html_(self) -> str:
        finite = self.radii[np.isfinite(self.radii)]
        top = float(finite.max()) if finite.size and finite.max() > 0 else 1.0
        sizes = np.linspace(0.0, float(f"{top:.1g}"), 5)  # to about the largest radius
        shown = {subject: told.certified_recall(sizes) for subject, told in self._subjects().items()}
        table = pd.DataFrame(shown, index=pd.Index(sizes, name=f"ε ({self.norm})"))
        return table.T.to_html(float_format="{:.3f}".format)


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


@seeded(0)
def certify_retrieval(
    model: nn.Module | Callable[[Tensor], Any],
    queries: ImageSet,
    gallery: ImageSet | None = None,
    *,
    method: str | Certifier = "lipschitz",
    batch_size: int = 256,
    with_pixels: bool = True,
    metric: str = "euclidean",
    **settings: Any,
) -> RetrievalCertificate:
    """Certify for every query how far it may be moved before its first result is of another class.

    Parameters
    ----------
    model : Module or callable
        Images (b, c, h, w) from 0 to 1 to embeddings (b, k), compared by ``metric``. Smoothing asks only what it gives;
        the other methods read its layers, for which it must be a Module.
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
        Certify the pixels themselves too, compared by Euclidean distance.
    metric : {"euclidean", "cosine", "dot"}, default="euclidean"
        How embeddings are compared: "cosine" by any method, "dot" by "lipschitz". Both are the nearest of other points,
        as :mod:`certimetric.deep.models.comparing` proves.
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
    if check_search(metric) == "dot":
        if method != "lipschitz":
            raise ValueError(f"inner products are certified by method 'lipschitz', got {method!r}")
        settings["metric"] = metric
    certifier = make_certifier(method, **settings) if isinstance(method, str) else method
    if not isinstance(method, str) and settings:
        raise ValueError(f"{min(settings)} is a setting of the certifier, which was given as it is")
    if reason := certifier.futile():
        warn(reason)
    if not isinstance(model, nn.Module):  # layers are read of the Module itself, in the precision that it has
        model = as_module(model)
    if metric == "cosine":
        model = querying(model, metric)
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
