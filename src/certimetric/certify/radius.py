"""Certified radius of k-NN predictions: a lower bound on the smallest perturbation that changes one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from joblib import effective_n_jobs
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_array

from certimetric.base.arrays import Array, Indices, check_size
from certimetric.base.chunks import DEFAULT_MEMORY, chunk_slices, map_chunks
from certimetric.base.lazy_arrays import is_lazy, map_rows, row_blocks
from certimetric.certify.kernels import NEAR, certify_rows
from certimetric.certify.reference import PointSet, ReferenceSet, power_of_two_times, votes
from certimetric.certify.sums import weighted_votes
from certimetric.constraints.labels import checked_labels
from certimetric.geometry.features import align_all
from certimetric.geometry.mahalanobis import as_metric
from certimetric.geometry.neighbors import select_nearest
from certimetric.geometry.norms import Norm, resolve_norm

MEMORY_MB, MIB = 64, 2**20


@dataclass(frozen=True, eq=False)
class PredictedQueries:
    """Queries that are predicted by the k nearest of a set of points, with their predictions.

    Parameters
    ----------
    reference : PointSet
    X : array of shape (m, d)
    points : array of shape (m, r)
    errors : array of shape (m,)
        Their coordinates, and how far each may be off.
    k : int
    predicted : int array of shape (m,)
        Class codes.
    exclude : int array of shape (m,)
        The training instance that each query does not see; −1 for none.
    memory, n_jobs : int
        Bytes for blocks of distances, and threads.
    """

    reference: PointSet
    X: Array
    points: Array
    errors: Array
    k: int
    predicted: Indices
    exclude: Indices
    memory: int
    n_jobs: int

    @classmethod
    def of(
        cls,
        reference: PointSet,
        X: Array,
        k: int,
        *,
        exclude: Indices | None = None,
        errors: Array | float = 0.0,
        memory: int = DEFAULT_MEMORY,
        n_jobs: int = 1,
    ) -> PredictedQueries:
        """Predict queries; ``errors`` bounds how far the coordinates of each may be off before any rounding here."""
        points, rounding = reference.embed(X)
        exclude = np.full(len(X), -1, dtype=np.int64) if exclude is None else exclude
        predicted = reference.predict(points, k, exclude=exclude, memory=memory, n_jobs=n_jobs)
        return cls(reference, X, points, rounding + errors, k, predicted, exclude, memory, n_jobs)

    def take(self, rows: Indices) -> PredictedQueries:
        """Some of the queries."""
        parts = self.X[rows], self.points[rows], self.errors[rows], self.predicted[rows], self.exclude[rows]
        X, points, errors, predicted, exclude = parts
        return replace(self, X=X, points=points, errors=errors, predicted=predicted, exclude=exclude)

    def at(self, points: Array) -> Indices:
        """Class codes predicted at other points, (m, d), in the place of the queries."""
        return self.reference.predict(
            self.reference.embed(points)[0], self.k, exclude=self.exclude, memory=self.memory, n_jobs=self.n_jobs
        )

    def fill(self, kernel: Callable[..., None], known: tuple[Any, ...], *figures: NDArray[Any]) -> None:
        """Have a kernel fill the rows of figures, each of length m, in blocks: it gets the inner products of some
        queries with the training set, what is known of the queries, what else it has to know, and their rows."""
        train = self.reference.points

        def of(rows: slice) -> None:
            queries = self.points[rows], self.errors[rows], self.predicted[rows], self.exclude[rows]
            kernel(self.points[rows] @ train.T, *queries, *known, *(figure[rows] for figure in figures))

        map_chunks(of, chunk_slices(len(self.X), 8.0 * len(train), self.memory, self.n_jobs), self.n_jobs)


def certified_radius(
    metric: Any,
    X_train: ArrayLike,
    y_train: ArrayLike,
    X: ArrayLike | None = None,
    *,
    n_neighbors: int = 1,
    norm: Any = "l2",
    memory_mb: int = MEMORY_MB,
    n_jobs: int | None = None,
) -> Array:
    """Certified radius of the k-NN prediction of each query.

    No perturbation of the query of size at most the radius changes what the k nearest training instances under the
    metric vote for, whatever attack made it. With J the training instances of the predicted class, N the others, ::

        e(l, j) = [d²(x, x_l) − d²(x, x_j)]_+ / (2 ‖M(x_l − x_j)‖_*)
        r(x) = s-th smallest over l in N of (a-th largest over j in J of e(l, j)),   s = ⌈k/2⌉, a = ⌊k/2⌋ + 1

    Ties count as changes. What rounding can do to the prediction at any such point, and to these figures, is counted:
    ``docs/certificates.md`` says what is promised in floating point.

    Parameters
    ----------
    metric : MahalanobisMetric or fitted learner
    X_train : array-like of shape (n, d)
    y_train : array-like of shape (n,)
        Labels.
    X : array-like or Dask array of shape (m, d), optional
        Queries; without it, every training instance is a query that does not see itself (leave-one-out). Queries in a
        Dask array are certified block by block when the result is asked for.
    n_neighbors : int, default=1
        k.
    norm : {"l2", "linf", "l1"}, array-like of shape (d, d) or Norm, default="l2"
        How a perturbation is measured; a matrix A stands for ``√(δᵀAδ)``.
    memory_mb : int, default=64
        MiB for blocks of distances; for each task at work, where X is a Dask array.
    n_jobs : int, default=None
        Threads; None for 1, −1 for all cores. Where X is a Dask array its scheduler decides instead, and each block
        takes one.

    Returns
    -------
    radii : array of shape (m,)
        In units of X; infinity where the training set holds too few instances of other classes to outvote. A Dask array
        where X is one.

    Raises
    ------
    ValueError
        If ``n_neighbors`` exceeds the number of training instances, or the features do not match: data frames are taken
        by the names of their columns, in any order, where the metric or the training set knows them.

    References
    ----------
    The bound for k = 1 is that of Wang et al. (NeurIPS 2020), arXiv 2006.07024 [wang2020provably]; for k > 1 the ranks
    are those of the proof in ``docs/certificates.md``, which hold for even k and for ties.

    Examples
    --------
    >>> from certimetric import MahalanobisMetric
    >>> metric = MahalanobisMetric.from_matrix([[1.0]])
    >>> certified_radius(metric, [[0.0], [4.0]], ["a", "b"], [[1.0], [2.5]]).round(9)
    array([1. , 0.5])
    """
    norm = resolve_norm(norm)
    if is_lazy(X):
        reference = prepare_reference(metric, X_train, y_train)
        check_n_neighbors(n_neighbors, len(reference.y))
        X = row_blocks(X)
        reference.metric.transform(np.empty((0, X.shape[1])))  # one message for another number of features
        return map_rows(partial(codes_and_radii, reference, n_neighbors, norm, memory=memory_mb * MIB), X, 2)[:, 1]
    reference, X, options = prepare_queries(metric, X_train, y_train, X, n_neighbors, memory_mb, n_jobs)
    return bound_radii(reference, X, n_neighbors, norm, **options)[1]


def prepare_queries(
    metric: Any,
    X_train: ArrayLike,
    y_train: ArrayLike,
    X: ArrayLike | None,
    n_neighbors: int,
    memory_mb: int,
    n_jobs: int | None,
) -> tuple[ReferenceSet, Array, dict[str, Any]]:
    """Check the arguments of a certificate: the training set, its queries, and which of it these do not see, with what
    they may take."""
    X_train, X = align_all(metric, X_train=X_train, X=X)
    X_train = check_array(X_train, dtype=np.float64, input_name="X_train")
    reference = prepare_reference(metric, X_train, y_train)
    check_n_neighbors(n_neighbors, len(X_train) - (X is None))
    exclude = np.arange(len(X_train)) if X is None else None
    if X is None:
        X = X_train
    else:
        X = check_size(check_array(X, dtype=np.float64, input_name="X"))
        reference.metric.transform(X[:1])
    return reference, X, {"exclude": exclude, "memory": memory_mb * MIB, "n_jobs": effective_n_jobs(n_jobs)}


def prepare_reference(metric: Any, X_train: ArrayLike, y_train: ArrayLike) -> ReferenceSet:
    """Check a metric and a training set, and join them."""
    (X_train,) = align_all(metric, X_train=X_train)
    metric = as_metric(metric)
    X_train = check_size(check_array(X_train, dtype=np.float64, input_name="X_train"), "X_train")
    _, y = np.unique(checked_labels(y_train, "y_train"), return_inverse=True)
    if len(y) != len(X_train):
        raise ValueError(f"y_train must hold one label for each of the {len(X_train)} instances, got {len(y)}")
    metric.transform(X_train[:1])
    return ReferenceSet(metric, X_train, y.astype(np.int64))


def check_n_neighbors(n_neighbors: int, n: int) -> None:
    """Raise a ValueError unless 1 ≤ n_neighbors ≤ n."""
    if not 1 <= n_neighbors <= n:
        raise ValueError(f"n_neighbors must be between 1 and n_samples={n} training instances, got {n_neighbors}")


def bound_radii(
    reference: PointSet,
    X: Array,
    n_neighbors: int,
    norm: Norm,
    *,
    exclude: Indices | None = None,
    errors: Array | float = 0.0,
    **options: int,
) -> tuple[Indices, Array]:
    """Predicted class codes and certified radii of queries (see :func:`certified_radius`), by one search for both.

    The options are those of :meth:`PredictedQueries.of`.
    """
    points, rounding = reference.embed(X)
    exclude = np.full(len(X), -1, dtype=np.int64) if exclude is None else exclude
    return _search(reference, points, rounding + errors, exclude, n_neighbors, norm, **options)


def radii_of(queries: PredictedQueries, norm: Norm) -> Array:
    """Certified radii of queries that were predicted."""
    known = queries.reference, queries.points, queries.errors, queries.exclude, queries.k
    return _search(*known, norm, memory=queries.memory, n_jobs=queries.n_jobs)[1]


def _search(
    reference: PointSet,
    points: Array,
    errors: Array,
    exclude: Indices,
    k: int,
    norm: Norm,
    *,
    memory: int = DEFAULT_MEMORY,
    n_jobs: int = 1,
) -> tuple[Indices, Array]:
    """Class codes and radii: of what is near, where that is worth it, and otherwise of the whole training set."""
    if reference.by_distance and k > 1:
        return weighted_votes(reference, points, errors, k, norm, exclude, memory=memory, n_jobs=n_jobs)
    norm, exponent = reference.in_range(norm)
    if (vicinity := reference.vicinity(points, k)) is None:
        data, order = reference.kernel_data(norm), float(norm.dual_order)
        codes, radii = np.full(len(points), -1, dtype=np.int64), np.empty(len(points))
    else:
        normed = reference.normed(norm)
        data, order = normed.data, normed.order
        codes, radii = vicinity.certify(normed, points, errors, k, exclude, memory, n_jobs)
    left = np.flatnonzero(codes < 0)

    def scan(part: slice) -> None:
        rows = left[part]
        codes[rows], radii[rows] = scanned(points[rows], errors[rows], exclude[rows], k, data, order)

    map_chunks(scan, chunk_slices(len(left), 8.0 * len(reference.y), memory, n_jobs), n_jobs)
    return codes, power_of_two_times(radii, exponent)


def scanned(
    points: Array, errors: Array, exclude: Indices, k: int, data: tuple[Any, ...], order: float
) -> tuple[Indices, Array]:
    """Class codes and radii of embedded queries from their inner products with the whole training set."""
    train, _, squares, _, _, y, _ = data
    m, s, a = len(points), (k + 1) // 2, k // 2 + 1
    products = points @ train.T
    indices, squared = np.empty((m, k), dtype=np.int64), np.empty((m, k))
    lengths = np.einsum("ij,ij->i", points, points)
    select_nearest(products, points, train, lengths, squares, exclude, indices, squared)
    codes, radii = votes(y[indices], int(y.max()) + 1).argmax(axis=1), np.empty(m)
    near, binding = np.empty((m, max(NEAR, a)), dtype=np.int64), np.empty((m, s), dtype=np.int64)
    certify_rows(products, points, errors, codes, exclude, data, order, k, radii, near, binding)
    return codes, radii


def codes_and_radii(reference: PointSet, n_neighbors: int, norm: Norm, X: Array, **options: Any) -> Array:
    """The two of :func:`bound_radii` side by side, shape (m, 2): both come of one search."""
    return np.column_stack(bound_radii(reference, X, n_neighbors, norm, **options))
