"""Certified retrieval: for every query, how far it may be moved before its first result is of another class."""

from __future__ import annotations

import json
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from certimetric.base.arrays import Array, Indices
from certimetric.deep.models.callables import as_module
from certimetric.deep.models.embed import ImageSet
from certimetric.deep.models.randomness import seeded
from certimetric.deep.retrieval.evaluation import MODEL, PIXELS, with_positive
from certimetric.deep.retrieval.same_pictures import apart, exclusion_keys, with_own_ids
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

    Attributes
    ----------
    name : str
        By which :func:`certify_retrieval` knows it.
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

    def futile(self) -> str | None:
        """Why nothing can be certified with these settings, whatever the model: one sentence; else None."""
        return None

    def settings(self) -> dict[str, Any]:
        """The arguments of its constructor."""
        return dict(vars(self))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{key}={value!r}' for key, value in self.settings().items())})"


@dataclass(frozen=True, eq=False)
class RetrievalCertificate:
    """Certified retrieval of a model, query by query.

    Parameters
    ----------
    method : str
    norm : {"l2", "linf"}
        Of the perturbation of a query, in pixels from 0 to 1. The gallery is as it is: it is not perturbed.
    settings : dict
        Of the method.
    ids, labels : int array of shape (m,)
        Of the queries.
    certified : Certified
        Predictions and radii.
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
    certified: Certified
    confidence: float | None
    n_without_positive: int
    pixels: RetrievalCertificate | None = None

    @property
    def radii(self) -> Array:
        """Of the predictions, right or wrong."""
        return self.certified.radii

    @property
    def predictions(self) -> Indices:
        """Labels of the first results, or of the majority."""
        return self.certified.predictions

    @property
    def abstained(self) -> NDArray[np.bool_]:
        """Where there is no prediction."""
        return self.certified.abstained

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

    def frame(self) -> pd.DataFrame:
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
            "constant": self.certified.constant,
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
        Of the method: see :class:`LipschitzCertifier`, :class:`SmoothingCertifier`, :class:`IntervalCertifier`.

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
        warnings.warn(reason, UserWarning, stacklevel=3)  # beyond the frame of `seeded`
    if not isinstance(model, nn.Module):
        model = as_module(model)
    items = queries if gallery is None else gallery
    queries = with_own_ids(queries, items)
    chosen = with_positive(queries, items)
    asked = queries.select(chosen.nonzero()[:, 0])
    n_left = int((~chosen).sum())
    certified = certifier.certify(model, asked, items, batch_size)
    pixels = None
    if with_pixels:
        baseline = PixelCertifier(certifier.norm)
        pixels = _told(baseline, asked, baseline.certify(model, asked, items), n_left, None)
    return _told(certifier, asked, certified, n_left, pixels)


def _told(
    certifier: Certifier, queries: ImageSet, certified: Certified, n_left: int, pixels: RetrievalCertificate | None
) -> RetrievalCertificate:
    ids, labels = (np.asarray(part.cpu(), dtype=np.int64) for part in (queries.ids, queries.labels))
    confidence = None if certifier.alpha is None else 1.0 - certifier.alpha
    about = certifier.name, certifier.norm, certifier.settings()
    return RetrievalCertificate(*about, ids, labels, certified, confidence, n_left, pixels)


def make_certifier(method: str, **settings: Any) -> Certifier:
    """A certifier by its name.

    Raises
    ------
    ValueError
        If there is none of that name, or a setting does not fit.
    """
    from certimetric.deep.certify.interval import IntervalCertifier
    from certimetric.deep.certify.lipschitz import LipschitzCertifier
    from certimetric.deep.certify.smoothing import SmoothingCertifier

    kinds = {kind.name: kind for kind in (LipschitzCertifier, SmoothingCertifier, IntervalCertifier)}
    if method not in kinds:
        raise ValueError(f"method must be one of {', '.join(map(repr, kinds))}, got {method!r}")
    try:
        return kinds[method](**settings)
    except TypeError as error:
        raise ValueError(f"settings of the method {method!r} do not fit: {error}") from None


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
