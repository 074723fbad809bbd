"""What a certificate of retrieval is: what one way to certify has to offer, and what it gives, query by query."""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from torch import nn

from certimetric.base.arrays import Array, Indices
from certimetric.base.results import Framed
from certimetric.base.wording import PIXELS
from certimetric.deep.models.images import ImageSet
from certimetric.deep.retrieval.evaluation import MODEL
from certimetric.deep.retrieval.same_pictures import apart, exclusion_keys
from certimetric.geometry.norms import resolve_norm


@dataclass(frozen=True, eq=False)
class Certified:
    """Predictions and radii of queries, in their order.

    Parameters
    ----------
    predictions : int array of shape (m,)
        Labels.
    radii : array of shape (m,)
        No perturbation of this size or smaller changes the prediction; 0 where nothing is certified.
    abstained : bool array of shape (m,)
        Where a randomised method does not know the prediction with its confidence; the radius is 0 there.
    constant : float or None
        Lipschitz constant that the radii rest on.
    """

    predictions: Indices
    radii: Array
    abstained: NDArray[np.bool_]
    constant: float | None = None


class Certifier(ABC):
    """A way to certify retrieval, configured by its constructor.

    Another one is a subclass in a module of its own, and a line in :mod:`certimetric.deep.certify.registry`: then
    :func:`certify_retrieval`, audits and their command know it.

    Attributes
    ----------
    name : str
        By which it is known.
    norm : {"l2", "linf"}
        How the perturbation is measured, in pixels.
    alpha : float or None
        Share of wrong certificates that chance is allowed, for each query; None where certificates are proofs.
    """

    name: ClassVar[str]
    norm: str
    alpha: float | None = None

    @abstractmethod
    def certify(self, model: nn.Module, queries: ImageSet, gallery: ImageSet, batch_size: int = 256) -> Certified:
        """Certify queries against a gallery in which none finds an item of its own id or, if given, its own group."""

    @classmethod
    def for_audit(cls, sigma: float, seed: int) -> Certifier:
        """With the settings of an audit: what is drawn depends on the seed, and noise has this deviation, in pixels."""
        return cls()

    def largest_radius(self) -> float:
        """A radius that none exceeds with these settings, whatever the model."""
        return math.inf

    def futile(self) -> str | None:
        """Why nothing can be certified with these settings, whatever the model: one sentence; else None."""
        return None

    def settings(self) -> dict[str, Any]:
        """The arguments of its constructor."""
        return dict(vars(self))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{key}={value!r}' for key, value in self.settings().items())})"


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

    def to_frame(self) -> pd.DataFrame:
        """One row a query and subject: ``subject`` ("model", "raw pixels"), ``id``, ``label``, ``prediction``, …"""
        parts = []
        for subject, told in ((MODEL, self), (PIXELS, self.pixels)):
            if told is not None:
                columns = {
                    "subject": subject,
                    "id": told.ids,
                    "label": told.labels,
                    "prediction": told.predictions,
                    "right": told.correct_radii >= 0,
                    "abstained": told.abstained,
                    "radius": told.radii,
                }
                parts.append(pd.DataFrame(columns))
        return pd.concat(parts, ignore_index=True)

    def to_json(self) -> str:
        """Settings and radii as JSON; an infinite radius is the string "inf"."""
        return json.dumps(self._document(), allow_nan=False)

    def _document(self) -> dict[str, Any]:
        return {
            "method": self.method,
            "norm": self.norm,
            "settings": self.settings,
            "confidence": self.confidence,
            "constant": self.constant,
            "n_without_positive": self.n_without_positive,
            "ids": self.ids.tolist(),
            "labels": self.labels.tolist(),
            "predictions": self.predictions.tolist(),
            "abstained": self.abstained.tolist(),
            "radii": [radius if np.isfinite(radius) else "inf" for radius in self.radii.tolist()],
            "pixels": None if self.pixels is None else self.pixels._document(),
        }

    def _repr_html_(self) -> str:
        sizes = _round_sizes(self.radii)
        shown = {MODEL: self.certified_recall(sizes)}
        if self.pixels is not None:
            shown[PIXELS] = self.pixels.certified_recall(sizes)
        table = pd.DataFrame(shown, index=pd.Index(sizes, name=f"ε ({self.norm})"))
        return table.T.to_html(float_format="{:.3f}".format)


def _round_sizes(radii: Array) -> Array:
    """Five sizes from 0 to about the largest radius."""
    finite = radii[np.isfinite(radii)]
    top = float(finite.max()) if finite.size and finite.max() > 0 else 1.0
    return np.linspace(0.0, float(f"{top:.1g}"), 5)


def from_embeddings(
    gallery_points: Array,
    points: Array,
    queries: ImageSet,
    gallery: ImageSet,
    *,
    norm: str = "l2",
    W: Array | None = None,
    n_neighbors: int = 1,
    exact: bool = True,
    gallery_errors: Array | float = 0.0,
    errors: Array | float = 0.0,
) -> Certified:
    """Predictions and radii from embeddings; see :class:`certimetric.certify.embedded.EmbeddedSet`.

    No query sees an item of its id or, where there are groups, of its group.
    """
    from certimetric.certify.embedded import EmbeddedSet, embedding_radii  # kernels that nothing else here needs

    classes, codes = np.unique(np.asarray(gallery.labels.cpu()), return_inverse=True)
    predicted, radii = np.zeros(len(points), dtype=np.int64), np.zeros(len(points))
    errors = np.broadcast_to(errors, len(points))
    keys, gallery_keys = (np.asarray(part.cpu()) for part in exclusion_keys(queries, gallery))
    for rows, kept, exclude in apart(keys, gallery_keys):
        if n_neighbors >= len(kept):
            n = len(kept)
            raise ValueError(f"n_neighbors must be less than the {n} pictures of the gallery, got {n_neighbors}")
        seen = slice(None) if len(kept) == len(gallery_points) else kept
        known = np.broadcast_to(gallery_errors, len(gallery_points))[seen]
        reference = EmbeddedSet(gallery_points[seen], codes[seen].astype(np.int64), W, known)
        predicted[rows], radii[rows] = embedding_radii(
            reference,
            points[rows],
            resolve_norm(norm),
            n_neighbors=n_neighbors,
            exact=exact,
            exclude=exclude,
            errors=errors[rows],
        )
    return Certified(classes[predicted], radii, np.zeros(len(points), dtype=bool))
