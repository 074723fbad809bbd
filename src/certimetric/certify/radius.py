"""Certified radius of k-NN predictions: a lower bound on the smallest perturbation that changes one."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_array

from certimetric.base.arrays import Array, Indices, check_size
from certimetric.base.chunks import DEFAULT_MEMORY, chunk_slices, map_chunks
from certimetric.base.lazy_arrays import is_lazy, map_rows, row_blocks
from certimetric.certify.kernels import certify_rows
from certimetric.certify.reference import ReferenceSet, power_of_two_times
from certimetric.constraints.labels import checked_labels
from certimetric.geometry.features import align_all
from certimetric.geometry.mahalanobis import as_metric
from certimetric.geometry.norms import Norm, resolve_norm


@dataclass(frozen=True, eq=False)
class RadiusBound:
    """Certified radii with the pairs of training instances that bind them.

    Parameters
    ----------
    predicted : int array of shape (m,)
        Class codes.
    radii : array of shape (m,)
    opponents : int array of shape (m,)
        Training instance of another class whose constraint is the tightest; −1 for none.
    """

    predicted: Indices
    radii: Array
    opponents: Indices


def certified_radius(
    metric: Any,
    X_train: ArrayLike,
    y_train: ArrayLike,
    X: ArrayLike | None = None,
    *,
    n_neighbors: int = 1,
    norm: Any = "l2",
    memory: int = DEFAULT_MEMORY,
    n_jobs: int = 1,
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
    memory : int, default=64 MiB
        Bytes for blocks of distances; for each task at work, where X is a Dask array.
    n_jobs : int, default=1
        Threads. Where X is a Dask array its scheduler decides instead, and each block takes one.

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
    The bound for k = 1 is that of Wang et al. (NeurIPS 2020), arXiv 2006.07024; for k > 1 the ranks are those of
    the proof in ``docs/certificates.md``, which hold for even k and for ties.

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
        return map_rows(partial(codes_and_radii, reference, n_neighbors, norm, memory=memory), X, 2)[:, 1]
    reference, queries, exclude = prepare_queries(metric, X_train, y_train, X, n_neighbors)
    bound = bound_radii(reference, queries, n_neighbors, norm, exclude=exclude, memory=memory, n_jobs=n_jobs)
    return bound.radii


def prepare_queries(
    metric: Any, X_train: ArrayLike, y_train: ArrayLike, X: ArrayLike | None, n_neighbors: int
) -> tuple[ReferenceSet, Array, Indices | None]:
    """Check the arguments of a certificate; give the training set, the queries, and what each must not see."""
    X_train, X = align_all(metric, X_train=X_train, X=X)
    X_train = check_array(X_train, dtype=np.float64, input_name="X_train")
    reference = prepare_reference(metric, X_train, y_train)
    check_n_neighbors(n_neighbors, len(X_train) - (X is None))
    if X is None:
        return reference, X_train, np.arange(len(X_train))
    queries = check_size(check_array(X, dtype=np.float64, input_name="X"))
    reference.metric.transform(queries[:1])
    return reference, queries, None


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
    reference: ReferenceSet,
    X: Array,
    n_neighbors: int,
    norm: Norm,
    *,
    exclude: Indices | None = None,
    errors: Array | float = 0.0,
    memory: int = DEFAULT_MEMORY,
    n_jobs: int = 1,
) -> RadiusBound:
    """Predictions and certified radii of queries over a prepared training set (see :func:`certified_radius`).

    ``errors`` bounds how far the coordinates of each query may be off before any rounding here.
    """
    points, own_errors = reference.embed(X)
    errors = own_errors + errors
    if exclude is None:
        exclude = np.full(len(X), -1, dtype=np.int64)
    predicted = reference.predict(points, n_neighbors, exclude=exclude, memory=memory, n_jobs=n_jobs)
    norm, exponent = reference.in_range(norm)
    dual, dual_errors = reference.dual_points(norm)
    train = reference.points
    squares = np.einsum("ij,ij->i", train, train)
    growth = reference.growth(norm)
    radii, opponents = np.empty(len(X)), np.empty(len(X), dtype=np.int64)

    def certify(rows: slice) -> None:
        products = points[rows] @ train.T
        certify_rows(
            products,
            points[rows],
            errors[rows],
            predicted[rows],
            exclude[rows],
            train,
            reference.point_errors,
            squares,
            dual,
            dual_errors,
            reference.y,
            float(norm.dual_order),
            growth,
            n_neighbors,
            radii[rows],
            opponents[rows],
        )

    map_chunks(certify, chunk_slices(len(X), 8.0 * len(train), memory, n_jobs), n_jobs)
    return RadiusBound(predicted, power_of_two_times(radii, exponent), opponents)


def codes_and_radii(
    reference: ReferenceSet, n_neighbors: int, norm: Norm, X: Array, *, memory: int = DEFAULT_MEMORY, n_jobs: int = 1
) -> Array:
    """Class codes and certified radii of queries side by side, shape (m, 2): both come of one search."""
    bound = bound_radii(reference, X, n_neighbors, norm, memory=memory, n_jobs=n_jobs)
    return np.column_stack([bound.predicted, bound.radii])
