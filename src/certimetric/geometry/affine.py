"""Transformers of other libraries, taken only as what their own ``transform`` computes: an affine map, or nothing."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.sparse.linalg import lsqr
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

from certimetric.base.arrays import Array
from certimetric.base.chunks import chunk_slices

_STEP = 2.0**40  # of the differences: so large that an offset of the map costs the components no digits
_SCALES = (1e-6, 1e-3, 1.0, 1e3, 1e6)  # of the random instances at which a map is checked
_TRIALS = 4  # instances at each scale
_TOLERANCE = 1e-8  # of the rounding of a transformer, relative to what it adds up


def is_fitted(estimator: Any) -> bool:
    """Whether an estimator has been fitted: scikit-learn says so, and it knows its features."""
    try:
        check_is_fitted(estimator)
    except (NotFittedError, TypeError):
        return False
    return hasattr(estimator, "n_features_in_") or hasattr(estimator, "components_")


def affine_components(transformer: Any) -> Array:
    """Components L, shape (k, d), of a fitted transformer that computes ``x Lᵀ + c``; distances do not see c.

    The map is read off the transformer's own ``transform``, at 0 and at multiples of the basis vectors, and compared
    with it at random instances of many sizes, about 0 and about the instance that it maps to 0. An attribute
    ``components_`` is believed only where it says the same; then it is taken, digit for digit. A TypeError says that it
    is no fitted transformer, a ValueError that what it computes is not affine, or not finite.
    """
    name = type(transformer).__name__
    claimed = _claimed_components(transformer)
    d = getattr(transformer, "n_features_in_", None if claimed is None else claimed.shape[1])
    if not callable(getattr(transformer, "transform", None)) or not isinstance(d, (int, np.integer)):
        hint = "" if claimed is None else "; if its components_ are all, give MahalanobisMetric.from_components(them)"
        if isinstance(transformer, str):
            hint = f"; a learner by its name is made by certimetric.make_learner({transformer!r})"
        expected = "a MahalanobisMetric or a fitted learner or transformer"
        raise TypeError(f"metric must be {expected}, got {transformer!r}{hint}")
    compute = _function_of(transformer, int(d))
    rng = np.random.default_rng(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        offset = compute(np.zeros((1, int(d))))[0]
        scattered = np.concatenate([size * rng.standard_normal((_TRIALS, int(d))) for size in _SCALES])
        images = compute(scattered) - offset
        # f(2x) − f(0) = 2 (f(x) − f(0)) costs two calls, and most maps that are not affine fail it already.
        _require(images * 2.0, compute(2.0 * scattered) - offset, np.abs(images) + np.abs(offset), name)
        if claimed is not None and claimed.shape != (len(offset), int(d)):
            claimed = None
        if claimed is not None and not _agree(scattered @ claimed.T, images, _sizes(scattered, claimed, offset)):
            claimed = None
        L = _differences(compute, int(d), offset) if claimed is None else claimed
        centre, unit = _location(L, offset)
        local = centre + unit * scattered
        for X in (scattered, local):
            _require(X @ L.T + offset, compute(X), _sizes(X, L, offset), name)
    return L


def _claimed_components(transformer: Any) -> Array | None:
    try:
        L = np.asarray(getattr(transformer, "components_", None), dtype=np.float64)
    except (TypeError, ValueError):
        return None
    return L if L.ndim == 2 and L.size and np.isfinite(L).all() else None


def _function_of(transformer: Any, d: int) -> Callable[[Array], Array]:
    """The transformer's own ``transform``, from and to arrays of float64, in blocks of bounded memory."""
    name = type(transformer).__name__
    columns = getattr(transformer, "feature_names_in_", None)

    def compute(X: Array) -> Array:
        if len(X) == 1:  # some squeeze the axis of a single row
            return compute(np.concatenate([X, X]))[:1]
        given: Any = X
        if columns is not None:
            import pandas as pd

            given = pd.DataFrame(X, columns=columns)
        try:
            Z = transformer.transform(given)
        except NotFittedError as error:
            raise TypeError(f"metric must be fitted, got {transformer!r}") from error
        except Exception as error:  # whatever a foreign transformer raises on numbers of any sign and size
            reason = str(error).partition("\n")[0]
            raise ValueError(
                f"metric {name} is no affine map of the features, as a metric must be: its transform fails at some "
                f"numbers ({type(error).__name__}: {reason})"
            ) from error
        Z = np.asarray(Z.toarray() if hasattr(Z, "toarray") else Z)
        if Z.ndim != 2 or len(Z) != len(X) or not Z.shape[1] or Z.dtype.kind not in "fiu":
            raise ValueError(
                f"metric {name} is no affine map of the features, as a metric must be: its transform gives an array of "
                f"shape {Z.shape} and type {Z.dtype} for {len(X)} rows of {d} features"
            )
        return Z.astype(np.float64)

    return compute


def _differences(compute: Callable[[Array], Array], d: int, offset: Array) -> Array:
    """Components by differences from the image of 0, one block of basis vectors at a time."""
    L = np.empty((len(offset), d))
    for some in chunk_slices(d, 8.0 * (d + len(offset))):
        steps = _STEP * np.eye(some.stop - some.start, d, some.start)
        L[:, some] = ((compute(steps) - offset) / _STEP).T
    return L


def _location(L: Array, offset: Array) -> tuple[Array, Array]:
    """Where the transformer's data lie, as far as its map tells: an instance that it takes to 0, and a unit for each
    feature that it takes to length 1."""
    if not np.isfinite(L).all():
        return np.zeros(L.shape[1]), np.ones(L.shape[1])
    length = np.linalg.norm(L, axis=0)
    unit = np.divide(1.0, length, out=np.ones_like(length), where=length > 0)
    return unit * lsqr(L * unit, -offset, iter_lim=100)[0], unit


def _sizes(X: Array, L: Array, offset: Array) -> Array:
    """What is added up for each coordinate of the images: what their rounding is relative to."""
    return np.abs(X) @ np.abs(L).T + np.abs(offset)


def _agree(expected: Array, found: Array, sizes: Array) -> bool:
    """Whether images agree to rounding."""
    with np.errstate(invalid="ignore", over="ignore"):
        return bool((np.abs(expected - found) <= _TOLERANCE * sizes).all())


def _require(expected: Array, found: Array, sizes: Array, name: str) -> None:
    # A transformer of several steps rounds relative to the largest coordinate of a row.
    if not np.isfinite(found).all() or not _agree(expected, found, sizes.max(axis=1, keepdims=True)):
        raise ValueError(
            f"metric {name} is no affine map of the features, as a metric must be: its transform does not take sums "
            f"to sums"
        )
