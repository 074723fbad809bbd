"""Recall, precision and radii of each class: what an accuracy hides where classes are of very different sizes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from certimetric.base.arrays import Array, Indices
from certimetric.base.results import Told

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class CertifiedClasses(Told):
    """Figures of each class that hold under every perturbation of size at most ε, each query perturbed on its own.

    Parameters
    ----------
    eps : float
    labels : array of shape (c,)
        The true ones, sorted.
    support : int array of shape (c,)
        Queries of each class.
    recall : array of shape (c,)
        Share of them that are right, and stay so.
    precision : array of shape (c,)
        Of the queries that are answered the class, or may be after a perturbation unless they are of the class, the
        share that are of it and stay so; 0 where there are none.
    median_radius : array of shape (c,)
        Of the queries of the class, a wrong answer having the radius 0.

    Examples
    --------
    >>> labels, answers = np.array(["rare", "usual", "usual"]), np.array(["rare", "usual", "rare"])
    >>> found = CertifiedClasses.of(labels, answers, np.array([1.0, 0.2, 0.5]), eps=0.4)
    >>> found.recall.tolist(), found.precision.tolist(), found.median_radius.tolist()
    ([1.0, 0.0], [0.3333333333333333, 0.0], [1.0, 0.1])
    """

    _also: ClassVar = ("balanced_accuracy",)
    eps: float
    labels: NDArray[Any]
    support: Indices
    recall: Array
    precision: Array
    median_radius: Array

    @classmethod
    def of(cls, y: NDArray[Any], answers: NDArray[Any], radii: Array, eps: float) -> CertifiedClasses:
        """From true labels, answers and the radii of these, each of shape (m,)."""
        labels, codes = np.unique(y, return_inverse=True)
        support = np.bincount(codes)
        right = answers == y
        stays = right & (radii >= eps)
        kept = np.bincount(codes, weights=stays)
        # Whatever is of another class and not certified may be answered any class.
        loose = radii < eps
        false = [((codes != code) & (loose | (answers == label))).sum() for code, label in enumerate(labels.tolist())]
        held = np.where(right, radii, 0.0)
        medians = np.array([np.median(held[codes == code]) for code in range(len(labels))])
        return cls(eps, labels, support, kept / support, kept / np.maximum(kept + np.array(false), 1.0), medians)

    @property
    def balanced_accuracy(self) -> float:
        """Mean of the recalls."""
        return float(self.recall.mean())

    def to_frame(self) -> pd.DataFrame:
        """One row a class: label, support, recall, precision, median_radius."""
        import pandas as pd

        names = ("support", "recall", "precision", "median_radius")
        return pd.DataFrame({"label": self.labels, **{name: getattr(self, name) for name in names}})
