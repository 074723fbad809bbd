"""Local Fisher discriminant analysis: classes apart, neighbours inside of each together."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any

import numba as nb
import numpy as np
import scipy.linalg
from joblib import effective_n_jobs
from numpy.typing import ArrayLike
from sklearn.base import _fit_context
from sklearn.utils._param_validation import Interval, StrOptions

from certimetric.base.arrays import Array
from certimetric.base.chunks import chunk_slices, map_chunks
from certimetric.base.rounding import UNIT_ROUNDOFF
from certimetric.base.threads import limited_threads
from certimetric.constraints.neighbors import class_members
from certimetric.geometry.kernels import expansion_error
from certimetric.geometry.neighbors import nearest_neighbors
from certimetric.learners.base import CLASS_WEIGHT, MahalanobisLearner
from certimetric.learners.coordinates import Coordinates, check_n_components
from certimetric.learners.gmml import ridged

_MEMORY = 64 * 2**20  # bytes of affinities at a time,
_CHUNKS_AT_ONCE = 4  # in chunks that as many threads may work on,
_SMALL_CLASS = 512  # but in one where a class has fewer instances


class LFDA(MahalanobisLearner):
    """Local Fisher discriminant analysis: the scatters of Fisher's discriminant, of neighbours.

    Two instances i, j of class c have the affinity ``a_ij = exp(−d²(x_i, x_j) / (s_i s_j))``, with s_i the distance of
    i to its k-th neighbour in the class. With n_c instances in the class and n in all, pairs have the weights ::

        within    a_ij / n_c                 (same class),   0 (others)
        between   a_ij (1/n − 1/n_c),                      1/n

    and L has the k generalised eigenvectors that make the between scatter largest against the within scatter: far parts
    of a class need not come together. With weights of the instances a pair counts by their product besides, and n_c and
    n are sums of weights; s_i stays what it is.

    Parameters
    ----------
    n_components : int, default=None
        Rows of L; None for as many as features.
    n_neighbors : int, default=None
        Which neighbour scales affinities; None for 7, or for the last in classes that are smaller.
    embedding : {"weighted", "orthonormal", "plain"}, default="weighted"
        Eigenvectors times the roots of their eigenvalues; an orthonormal basis of their span; or as they are.
    reg : float, default=1e-3
        Ridge on the within scatter, as a fraction of its mean eigenvalue.
    class_weight : dict, "balanced" or None, default=None
        Of labelled instances: a weight for each class, or as much in all for every class.
    n_jobs : int, default=None
        Threads for the affinities of all pairs of a class, as in joblib; they change nothing in the result.

    Attributes
    ----------
    components_ : array of shape (k, d)
        Where there are more features than instances, at most as many rows as their differences span.
    metric_ : MahalanobisMetric
    classes_ : array
    converged_ : bool
        Always True: there is nothing to iterate.

    Notes
    -----
    There is no perturbation loss for it: the quotient of scatters does not change when L is multiplied by anything
    invertible from the left, so that it has no scale in which an adversarial margin could be weighed against it.

    References
    ----------
    Sugiyama (2007), *Dimensionality reduction of multimodal labeled data by local Fisher discriminant analysis*
    [sugiyama2007dimensionality], JMLR 8.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from certimetric import LFDA
    >>> X, y = load_iris(return_X_y=True)
    >>> LFDA(n_components=2).fit(X, y).components_.shape
    (2, 4)
    """

    _parameter_constraints = {
        "n_components": [Interval(Integral, 1, None, closed="left"), None],
        "n_neighbors": [Interval(Integral, 1, None, closed="left"), None],
        "embedding": [StrOptions({"weighted", "orthonormal", "plain"})],
        "reg": [Interval(Real, 0, None, closed="left")],
        "class_weight": CLASS_WEIGHT,
        "n_jobs": [Integral, None],
    }

    def __init__(
        self,
        n_components: int | None = None,
        *,
        n_neighbors: int | None = None,
        embedding: str = "weighted",
        reg: float = 1e-3,
        class_weight: Mapping[Any, float] | str | None = None,
        n_jobs: int | None = None,
    ):
        self.n_components = n_components
        self.n_neighbors = n_neighbors
        self.embedding = embedding
        self.reg = reg
        self.class_weight = class_weight
        self.n_jobs = n_jobs

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> LFDA:
        """Learn from X, shape (n, d), and class labels y, shape (n,), with weights of at least 0, shape (n,).

        Raises
        ------
        ValueError
            On NaN or infinity, a single class, or more components than features.
        """
        X, codes, weights = self._validate_labelled(X, y, sample_weight)
        check_n_components(self.n_components, X.shape[1])
        coordinates = Coordinates.of(X, rescale=False)
        X = coordinates.X
        r = X.shape[1]
        k = min(self.n_components or r, r)
        w, sums = np.ones(len(X)) if weights is None else weights, np.bincount(codes, weights)
        means, within, between, lost = np.empty((len(sums), r)), np.zeros((r, r)), np.zeros((r, r)), 0.0
        n_jobs = effective_n_jobs(self.n_jobs)
        with limited_threads(r):
            centre = w @ X / sums.sum()
            # A class at a time: of the others no more than these sums is kept.
            for code, rows in enumerate(class_members(codes)):
                own, of_rows = X.take(rows, axis=0), w[rows]
                own -= centre
                means[code] = of_rows @ own / sums[code]
                own -= means[code]
                whole = (own.T * of_rows) @ own
                lost += whole.trace()
                local = local_scatter(own, self.n_neighbors or 7, n_jobs, None if weights is None else of_rows)
                local *= 1.0 / sums[code]
                within += local
                # All pairs weigh 1/n between; those of one class weigh a_ij (1/n − 1/n_c) instead.
                whole -= local
                whole *= 1.0 - sums[code] / sums.sum()
                between += whole
            whole = (means.T * sums) @ means
            between += whole
            # What the sums lost to rounding, where few instances lie far from all others.
            lost = 8.0 * len(X) * UNIT_ROUNDOFF * (lost + whole.trace())
            within = ridged(within, self.reg, self.n_features_in_)
            within.flat[:: r + 1] += lost
            some = None if k == r else (r - k, r - 1)
            values, vectors = scipy.linalg.eigh(
                between, within, subset_by_index=some, overwrite_a=True, overwrite_b=True, check_finite=False
            )
        values, L = values[::-1], vectors.T[::-1]
        if self.embedding == "weighted":
            L = L * np.sqrt(np.maximum(values, 0.0))[:, None]
        elif self.embedding == "orthonormal":
            L = np.linalg.qr(L.T)[0].T
        self._set_components(coordinates.lift(L))
        self._set_converged(True, "" if L.any() else "learned nothing: all instances are equal")
        return self


def local_scatter(X: Array, n_neighbors: int, n_jobs: int = 1, weights: Array | None = None) -> Array:
    """``½ Σ_ij a_ij (x_i − x_j)(x_i − x_j)ᵀ`` over the instances of a class, shape (n, d), by blocks of them.

    With weights of the instances, shape (n,), it is ``w_i w_j a_ij``. Duplicates of an instance have affinity 0 to
    everything where their scale is 0: their differences are as well.
    """
    n, d = X.shape
    if n < 2:
        return np.zeros((d, d))
    k = min(n_neighbors, n - 1)
    sizes, kth = np.einsum("ij,ij->i", X, X), np.empty(n)
    # The cuts do not depend on the number of threads.
    parts = chunk_slices(n, 24 * n, _MEMORY, 1 if n < _SMALL_CLASS else _CHUNKS_AT_ONCE)

    def squares_of(part: slice) -> Array:
        squares = X @ X[part].T
        _to_squared_distances(squares, part.start, sizes)
        return squares

    def scales_of(part: slice) -> Array | None:
        squares = squares_of(part)
        _kth_of_others(squares, part.start, k, kth)
        return squares if len(parts) == 1 else None

    made = map_chunks(scales_of, parts, n_jobs)
    # Where the expanded square has lost more than four digits, direct differences tell, which are 0 of duplicates.
    largest = sizes.max()
    limit, alone = 1e4 * expansion_error(d, largest, largest), None
    if kth.min() <= limit:
        lost = np.flatnonzero(kth <= limit)
        kth[lost] = nearest_neighbors(X[lost], X, k, exclude=lost, n_jobs=n_jobs)[1][:, -1]
        alone = kth <= 0
        kth[alone] = 1.0
    inverse = 1.0 / np.sqrt(kth)
    products = np.empty_like(X)

    def product_of(part: slice) -> None:
        affinity = squares_of(part) if made[0] is None else made[0]
        _to_exponents(affinity, part.start, inverse)
        if alone is not None:
            affinity[alone] = affinity[:, alone[part]] = -np.inf
        np.exp(affinity, out=affinity)
        if weights is not None:
            affinity *= weights[:, None]
            affinity *= weights[part]
        m = affinity.shape[1]
        affinity.ravel()[part.start * m : part.stop * m : m + 1] = -affinity.sum(axis=0)
        np.matmul(affinity.T, X, out=products[part])

    map_chunks(product_of, parts, n_jobs)
    return -(X.T @ products)


@nb.njit(cache=True, nogil=True, fastmath={"contract", "reassoc", "nsz"})
def _to_squared_distances(products, first, sizes):
    """Products of all rows with rows from ``first``, to expanded squares of their distances, in place."""
    for i in range(products.shape[0]):
        row, own = products[i], sizes[i]
        for j in range(row.shape[0]):
            row[j] = max(own + sizes[first + j] - 2.0 * row[j], 0.0)


@nb.njit(cache=True, nogil=True, fastmath={"nnan", "nsz"})
def _kth_of_others(squares, first, k, kth):
    """The k-th smallest of every column but for the instance itself.

    Each row goes through sorted lists of all columns, where its smaller value stays and its larger value moves on:
    more comparisons than in a search by columns, but eight at a time.
    """
    n, m = squares.shape
    smallest, moving = np.full((k, m), np.inf), np.empty(m)
    for i in range(n):
        moving[:] = squares[i]
        if 0 <= i - first < m:
            moving[i - first] = np.inf
        for place in range(k):
            row = smallest[place]
            for j in range(m):
                stays = min(row[j], moving[j])
                moving[j] = max(row[j], moving[j])
                row[j] = stays
    kth[first : first + m] = smallest[k - 1]


@nb.njit(cache=True, nogil=True)
def _to_exponents(squares, first, inverse):
    """Squared distances to the logarithms of affinities, in place; an instance has none to itself."""
    for i in range(squares.shape[0]):
        row, own = squares[i], -inverse[i]
        for j in range(row.shape[0]):
            row[j] = row[j] * own * inverse[first + j]  # in this order, which does not overflow
        if 0 <= i - first < row.shape[0]:
            row[i - first] = -np.inf
