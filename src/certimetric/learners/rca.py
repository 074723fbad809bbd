"""Relevant component analysis: whitening by the scatter inside of chunklets."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

import numpy as np
import scipy.linalg
from numpy.typing import ArrayLike, NDArray
from sklearn.base import _fit_context
from sklearn.utils._param_validation import Interval

from certimetric.base.arrays import MODEST, Array, Indices, check_size
from certimetric.base.chunks import chunk_slices
from certimetric.base.threads import limited_threads
from certimetric.learners.base import MahalanobisLearner
from certimetric.learners.coordinates import Coordinates, check_n_components

_MEMORY = 2**16  # bytes of centred instances at a time, which stay in cache
_FLOOR = 1e-10  # of a variance inside of chunklets, that keeps a singular scatter invertible


class RCA(MahalanobisLearner):
    """Relevant component analysis: what varies inside of chunklets is noise, and is whitened.

    A *chunklet* is a set of instances known to be of one class, whichever it is. With C the mean over the instances of
    all chunklets of ``(x − m)(x − m)ᵀ``, m the mean of its chunklet, ``M = C⁻¹``. With ``n_components``, the directions
    are kept in which the covariance of all instances of chunklets is largest against C, and C is whitened there.

    Parameters
    ----------
    n_components : int, default=None
        Rows of L; None for as many as features.
    reg : float, default=1e-3
        Ridge on C, as a fraction of its mean eigenvalue: directions in which chunklets do not vary (constant columns,
        or more features than instances of chunklets) get a large weight, not an infinite one.

    Attributes
    ----------
    components_ : array of shape (k, d)
        Where there are more features than instances, at most as many rows as their differences span.
    metric_ : MahalanobisMetric
    n_chunklets_ : int
        Chunklets of two or more instances: others say nothing.
    converged_ : bool
        Always True: there is nothing to iterate.

    References
    ----------
    Bar-Hillel, Hertz, Shental, Weinshall (2003), *Learning distance functions using equivalence relations*
    [barhillel2003learning], ICML.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from certimetric import RCA
    >>> X, y = load_iris(return_X_y=True)
    >>> RCA(n_components=2).fit(X, y).components_.shape
    (2, 4)
    """

    _parameter_constraints = {
        "n_components": [Interval(Integral, 1, None, closed="left"), None],
        "reg": [Interval(Real, 0, None, closed="left")],
    }

    def __init__(self, n_components: int | None = None, *, reg: float = 1e-3):
        self.n_components = n_components
        self.reg = reg

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> RCA:
        """Learn from chunklets.

        Parameters
        ----------
        X : array-like of shape (n, d)
        y : array-like of shape (n,)
            Chunklet of each instance, −1 for none. Class labels do: every class is a chunklet.
        sample_weight : array-like of shape (n,), optional
            Of the instances in means and scatters, at least 0.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            On NaN or infinity, no chunklet of two instances, or more components than features.
        """
        X, y = self._validate(X, y)
        X, y, weights = self._weighted(check_size(X, limit=MODEST), y, sample_weight)
        self.n_samples_fit_ = len(X)
        check_n_components(self.n_components, X.shape[1])
        rows, sizes = _chunklets(y)
        if not len(sizes):
            raise ValueError("y must name at least one chunklet of two or more instances, got none")
        self.n_chunklets_ = len(sizes)
        coordinates = Coordinates.of(X[rows], rescale=False)
        with limited_threads(coordinates.X.shape[1]):
            L = self._whiten(coordinates.X, sizes, None if weights is None else weights[rows])
        self._set_components(coordinates.lift(L))
        varies = bool((coordinates.X[0] != coordinates.X).any())
        self._set_converged(True, "" if varies else "learned nothing: all instances of chunklets are equal")
        return self

    def _whiten(self, X: Array, sizes: Indices, weights: Array | None) -> Array:
        """L for instances in the order of their chunklets."""
        d = X.shape[1]
        starts = np.cumsum(sizes) - sizes
        w = np.ones(len(X)) if weights is None else weights
        means = np.add.reduceat(X if weights is None else X * w[:, None], starts)
        means /= np.add.reduceat(w, starts)[:, None]
        C, number = np.zeros((d, d)), np.repeat(np.arange(len(sizes)), sizes)
        for rows in chunk_slices(len(X), 8.0 * d, _MEMORY):
            within = means[number[rows]]
            np.subtract(X[rows], within, out=within)
            within *= np.sqrt(w[rows])[:, None]
            C += within.T @ within
            del within  # before the next one is made
        C /= w.sum()
        mean = np.trace(C) / self.n_features_in_ or 1.0
        # Besides the ridge, as much of every feature's own variance as lets C be factored: units may differ by far.
        own = np.diagonal(C)
        C += np.diag(self.reg * mean + _FLOOR * np.where(own > 0, own, mean))
        k = min(self.n_components or d, d)
        if k == d:
            values, vectors = scipy.linalg.eigh(C)
            return (vectors / np.sqrt(values)).T
        centred = (X - (X.mean(axis=0) if weights is None else w @ X / w.sum())) * np.sqrt(w)[:, None]
        # Generalised eigenvectors v with vᵀ C v = 1 whiten C on their span as they are.
        _, vectors = scipy.linalg.eigh(centred.T @ centred / w.sum(), C, subset_by_index=(d - k, d - 1))
        return vectors.T[::-1]


def _chunklets(y: NDArray[Any]) -> tuple[Indices, Indices]:
    """Row numbers of all chunklets of two or more instances, one chunklet after the other, and the sizes of these."""
    chunklets, codes, counts = np.unique(y, return_inverse=True, return_counts=True)
    if chunklets.dtype.kind in "iuf":
        counts[chunklets < 0] = 0
    kept = np.flatnonzero(counts[codes] > 1)
    return kept[np.argsort(codes[kept], kind="stable")], counts[counts > 1]
