"""What one way to certify retrieval has to offer, and what it gives; radii from embeddings."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import nn

from certimetric.base.arrays import Array, Indices
from certimetric.deep.models.images import ImageSet
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
    errors, known = np.broadcast_to(errors, len(points)), np.broadcast_to(gallery_errors, len(gallery_points))
    keys, gallery_keys = (np.asarray(part.cpu()) for part in exclusion_keys(queries, gallery))
    for rows, kept, exclude in apart(keys, gallery_keys):
        if n_neighbors >= (n := len(kept)):
            raise ValueError(f"n_neighbors must be less than the {n} pictures of the gallery, got {n_neighbors}")
        seen = slice(None) if len(kept) == len(gallery_points) else kept
        reference = EmbeddedSet(gallery_points[seen], codes[seen].astype(np.int64), W, known[seen])
        told: dict[str, Any] = {"n_neighbors": n_neighbors, "exact": exact, "exclude": exclude, "errors": errors[rows]}
        predicted[rows], radii[rows] = embedding_radii(reference, points[rows], resolve_norm(norm), **told)
    return Certified(classes[predicted], radii, np.zeros(len(points), dtype=bool))
