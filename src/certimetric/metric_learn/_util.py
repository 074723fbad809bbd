"""Checks of input, and starting metrics, under metric-learn's names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.linalg
from numpy.linalg import LinAlgError
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_array, check_X_y

from certimetric.base.arrays import Array
from certimetric.base.warnings import warn
from certimetric.learners.starts import (
    PRIORS,
    discriminants,
    principal_axes,
    prior_components,
    random_components,
)
from certimetric.metric_learn import wording
from certimetric.metric_learn.exceptions import NonPSDError, PreprocessorError

Preprocessor = Callable[[Any], Any]

_ANYTHING = {
    "accept_sparse": True,
    "dtype": None,
    "ensure_all_finite": False,
    "ensure_2d": False,
    "allow_nd": True,
    "ensure_min_samples": 0,
    "ensure_min_features": 0,
}


class ArrayIndexer:
    """An array of points as a preprocessor: row numbers to points."""

    def __init__(self, X: ArrayLike):
        self.X = check_array(X, **_ANYTHING)

    def __call__(self, indices: Any) -> Any:
        indices = np.asarray(indices)
        if indices.dtype.kind == "f" and (indices == np.floor(indices)).all():
            indices = indices.astype(np.int64)  # labels and row numbers are often kept in one array of floats
        return self.X[indices]


def check_input(
    input_data: Any,
    y: Any = None,
    preprocessor: Preprocessor | None = None,
    type_of_inputs: str = "classic",
    tuple_size: int | None = None,
    accept_sparse: Any = False,
    dtype: Any = "numeric",
    order: str | None = None,
    copy: bool = False,
    force_all_finite: Any = True,
    multi_output: bool = False,
    ensure_min_samples: int = 1,
    ensure_min_features: int = 1,
    y_numeric: bool = False,
    estimator: Any = None,
) -> Any:
    """Points of shape (n, d), or tuples of shape (m, t, d), formed by the preprocessor where indicators are given.

    The arguments after ``tuple_size`` are those of scikit-learn's ``check_array``. With ``y`` it comes back, too.
    Another shape is a ValueError, like whatever ``check_array`` refuses; a preprocessor that raises is a
    PreprocessorError.
    """
    if type_of_inputs not in ("classic", "tuples"):
        raise ValueError(wording.WRONG_TYPE_OF_INPUTS.format(given=type_of_inputs))
    if y is None:
        X = check_array(input_data, **_ANYTHING)
    else:
        X, y = check_X_y(input_data, y, multi_output=multi_output, y_numeric=y_numeric, **_ANYTHING)
    tuples = type_of_inputs == "tuples"
    X, applied = _formed(X, preprocessor, tuples, make_context(estimator))
    X = check_array(
        X,
        accept_sparse=accept_sparse,
        dtype=dtype,
        order=order,
        copy=copy,
        ensure_all_finite=force_all_finite,
        ensure_2d=False,
        allow_nd=True,
        ensure_min_samples=ensure_min_samples,
        ensure_min_features=ensure_min_features,
        estimator=estimator,
    )
    if X.ndim != (3 if tuples else 2):
        where = "after" if applied else ""
        kind = "tuples" if tuples else "points"
        raise ValueError(wording.wrong_dimensions(kind, make_context(estimator), where, X, True))
    if tuples:
        if X.shape[2] < ensure_min_features:  # check_array does not look at the last axis; this is its sentence
            raise ValueError(
                f"Found array with {X.shape[2]} feature(s) (shape={X.shape}) while a minimum of {ensure_min_features} "
                f"is required{make_context(estimator)}."
            )
        check_tuple_size(X, tuple_size, make_context(estimator))
        if y is not None and X.shape[1] == 2:
            check_y_valid_values_for_pairs(y)
    return X if y is None else (X, y)


def _formed(X: Any, preprocessor: Preprocessor | None, tuples: bool, context: str) -> tuple[Any, bool]:
    """Points or tuples, and whether the preprocessor has made them."""
    wanted = 3 if tuples else 2
    if X.ndim == wanted:
        return X, False
    kind = "tuples" if tuples else "points"
    if preprocessor is None:
        raise ValueError(wording.wrong_dimensions(kind, context, "", X, X.ndim == wanted - 1))
    if X.ndim != wanted - 1:
        raise ValueError(wording.wrong_dimensions(f"{kind} or indicators", context, "with", X, False))
    return (preprocess_tuples if tuples else preprocess_points)(X, preprocessor), True


def preprocess_tuples(tuples: NDArray[Any], preprocessor: Preprocessor) -> NDArray[Any]:
    """Tuples of points, (m, t, d), of tuples of indicators, (m, t)."""
    columns = [preprocess_points(tuples[:, place], preprocessor) for place in range(tuples.shape[1])]
    try:
        return np.stack(columns, axis=1)
    except Exception as error:
        raise PreprocessorError(wording.PREPROCESSOR_FAILED.format(error=error)) from error


def preprocess_points(points: NDArray[Any], preprocessor: Preprocessor) -> Any:
    """Points, (n, d), of indicators, (n,)."""
    try:
        return preprocessor(points)
    except Exception as error:
        raise PreprocessorError(wording.PREPROCESSOR_FAILED.format(error=error)) from error


def make_context(estimator: Any) -> str:
    """`` by NAME`` for sentences about an estimator; nothing without one."""
    name = make_name(estimator)
    return f" by {name}" if name is not None else ""


def make_name(estimator: Any) -> str | None:
    if estimator is None or isinstance(estimator, str):
        return estimator
    return type(estimator).__name__


def check_tuple_size(tuples: NDArray[Any], tuple_size: int | None, context: str) -> None:
    if tuple_size is not None and tuples.shape[1] != tuple_size:
        raise ValueError(
            wording.WRONG_TUPLE_SIZE.format(
                wanted=tuple_size, context=context, size=tuples.shape[1], shape=tuples.shape, data=tuples
            )
        )


def check_y_valid_values_for_pairs(y: Any) -> None:
    if not np.isin(y, (-1, 1)).all():
        raise ValueError(wording.PAIR_LABELS)


def check_collapsed_pairs(pairs: Any) -> None:
    """Refuse pairs of two equal instances."""
    pairs = np.asarray(pairs)
    count = int((np.linalg.norm(pairs[:, 0] - pairs[:, 1], axis=1) < 1e-9).sum())
    if count:
        raise ValueError(wording.COLLAPSED_PAIRS.format(count=count, total=len(pairs)))


def validate_vector(u: ArrayLike, dtype: Any = None) -> NDArray[Any]:
    """A vector of whatever has one dimension that is longer than 1, as SciPy's distances take them."""
    vector = np.atleast_1d(np.squeeze(np.asarray(u, dtype=dtype)))
    if vector.ndim > 1:
        raise ValueError(wording.VECTOR)
    return vector


def _rounding(w: Array) -> float:
    return float(np.abs(w).max() * len(w) * np.finfo(w.dtype).eps)


def _check_sdp_from_eigen(w: Array, tol: float | None = None) -> bool:
    """Whether eigenvalues are those of a definite matrix; ``tol`` is what counts as 0."""
    tol = _rounding(w) if tol is None else tol
    if tol < 0:
        raise ValueError(wording.NEGATIVE_TOLERANCE)
    if (w < -tol).any():
        raise NonPSDError()
    return not (np.abs(w) < tol).any()


def components_from_metric(metric: Array, tol: float | None = None) -> Array:
    """L of shape (d, d) with ``LᵀL = metric``; a NonPSDError if an eigenvalue of the metric lies below −tol."""
    metric = np.asarray(metric)
    if not np.allclose(metric, metric.T):
        raise ValueError(wording.NOT_SYMMETRIC_METRIC)
    diagonal = np.diagonal(metric)
    if np.array_equal(metric, np.diag(diagonal)):
        _check_sdp_from_eigen(diagonal, tol)
        return np.diag(np.sqrt(np.maximum(diagonal, 0.0)))
    try:
        return np.ascontiguousarray(np.linalg.cholesky(metric).T)
    except LinAlgError:  # not definite, perhaps semidefinite
        w, V = np.linalg.eigh(metric)
        _check_sdp_from_eigen(w, tol)
        return np.sqrt(np.maximum(w, 0.0))[:, None] * V.T


def _pseudo_inverse_from_eig(w: Array, V: Array, tol: float | None = None) -> Array:
    """Moore-Penrose inverse of ``V diag(w) Vᵀ``; eigenvalues up to ``tol`` count as 0."""
    tol = float(w.max()) * len(w) * np.finfo(w.dtype).eps if tol is None else tol
    large = np.abs(w) > tol
    return (V[:, large] / w[large]) @ V[:, large].T


def _check_n_components(n_features: int, n_components: int | None) -> int:
    if n_components is None:
        return n_features
    if not 0 < n_components <= n_features:
        raise ValueError(wording.WRONG_N_COMPONENTS.format(n_features=n_features))
    return n_components


def _auto_select_init(has_classes: bool, n_features: int, n_samples: int, n_components: int, n_classes: int) -> str:
    if has_classes and n_components <= min(n_features, n_classes - 1):
        return "lda"
    return "pca" if n_components < min(n_features, n_samples) else "identity"


def checked_init(
    n_components: int, X: Array, y: Any = None, init: Any = "auto", random_state: Any = None, has_classes: bool = True
) -> Any:
    """A starting point as learners take it: "identity", "pca", or an array of shape (n_components, d)."""
    n, d = X.shape
    allowed = ("auto", "pca", "identity", "random", "lda")[: 5 if has_classes else 4]
    if isinstance(init, np.ndarray):
        init = check_array(init, dtype=np.float64, copy=True)
        if init.shape[1] != d:
            raise ValueError(wording.WRONG_INIT_WIDTH.format(width=init.shape[1], n_features=d))
        if init.shape[0] > init.shape[1]:
            raise ValueError(wording.WRONG_INIT_HEIGHT.format(height=init.shape[0], width=init.shape[1]))
        if init.shape[0] != n_components:
            raise ValueError(wording.INIT_AGAINST_N_COMPONENTS.format(n_components=n_components, height=init.shape[0]))
        return init
    if not isinstance(init, str) or init not in allowed:
        raise ValueError(wording.WRONG_INIT.format(allowed="', '".join(allowed)))
    if init == "auto":
        init = _auto_select_init(has_classes, d, n, n_components, len(np.unique(y)) if has_classes else 0)
    if init == "random":
        return random_components(n_components, d, check_random_state(random_state))
    if init == "lda":
        return _padded(discriminants(X, np.unique(y, return_inverse=True)[1])[:n_components], n_components)
    return init


def _initialize_components(
    n_components: int,
    input: Array,
    y: Any = None,
    init: Any = "auto",
    verbose: bool = False,
    random_state: Any = None,
    has_classes: bool = True,
) -> Array:
    """The same, always as an array."""
    start = checked_init(n_components, input, y, init, random_state, has_classes)
    if not isinstance(start, str):
        return start
    if start == "identity":
        return np.eye(n_components, input.shape[1])
    return principal_axes(input, n_components)


def _padded(L: Array, rows: int) -> Array:
    """L with rows of 0 below, up to ``rows``."""
    return L if len(L) >= rows else np.concatenate([L, np.zeros((rows - len(L), L.shape[1]))])


def _initialize_metric_mahalanobis(
    input: Array,
    init: Any = "identity",
    random_state: Any = None,
    return_inverse: bool = False,
    strict_pd: bool = False,
    matrix_name: str = "matrix",
) -> Any:
    """A prior or starting metric of shape (d, d), and its inverse where asked for.

    ``init`` is a matrix, "identity", "covariance" (the inverse covariance of the distinct instances of ``input``, (n,
    d) or (m, t, d)) or "random" (any SPD matrix). With ``strict_pd`` a singular matrix is refused by a LinAlgError;
    else its pseudo-inverse is the inverse, with a warning.
    """
    d = input.shape[-1]
    if not isinstance(init, np.ndarray) and (not isinstance(init, str) or init not in PRIORS):
        raise ValueError(wording.WRONG_MATRIX.format(name=matrix_name))
    if isinstance(init, str) and init == "identity":
        return (np.eye(d), np.eye(d)) if return_inverse else np.eye(d)
    if isinstance(init, str) and init == "random":
        L = prior_components(init, np.empty((0, d)), d, check_random_state(random_state))
        M = L.T @ L
        return (M, scipy.linalg.pinvh(M)) if return_inverse else M
    if isinstance(init, str):
        X = np.unique(input.reshape(-1, d), axis=0) if input.ndim == 3 else input
        covariance = np.atleast_2d(np.cov(X, rowvar=False))
        w, V = scipy.linalg.eigh(covariance, check_finite=False)
        if not _check_sdp_from_eigen(w):
            if strict_pd:
                raise LinAlgError(wording.NO_PRECISION.format(name=matrix_name))
            warn(wording.SINGULAR_COVARIANCE)
        M = _pseudo_inverse_from_eig(w, V)
        return (M, covariance) if return_inverse else M
    M = check_array(init, dtype=np.float64, copy=True)
    if M.shape != (d, d):
        raise ValueError(wording.WRONG_MATRIX_SHAPE.format(shape=M.shape, name=matrix_name, n_features=d))
    if not np.allclose(M, M.T):
        raise ValueError(wording.ASYMMETRIC_MATRIX.format(name=matrix_name))
    w, V = scipy.linalg.eigh(M, check_finite=False)
    if not _check_sdp_from_eigen(w):
        if strict_pd:
            raise LinAlgError(wording.SINGULAR_MATRIX.format(name=matrix_name))
        if return_inverse:
            warn(wording.SINGULAR_INIT)
    return (M, _pseudo_inverse_from_eig(w, V)) if return_inverse else M
