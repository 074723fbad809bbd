"""Where learners start, and what they stay near to, by name: the one place that knows the names."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.linalg
from sklearn.datasets import make_spd_matrix

from certimetric.base.arrays import Array, Indices
from certimetric.constraints.neighbors import class_members
from certimetric.geometry.spd import check_matrix, check_spd, factor_psd, inverse
from certimetric.learners.coordinates import Coordinates, check_n_components
from certimetric.learners.gmml import COVARIANCE_RIDGE, ridged

INITS_WITHOUT_CLASSES = {"auto", "identity", "pca", "random"}
INITS = INITS_WITHOUT_CLASSES | {"lda"}
PRIORS = {"identity", "covariance", "random"}

_WITHIN_RIDGE = 1e-3  # on the scatter inside of classes, as a fraction of its mean eigenvalue


def starting_components(
    init: Any,
    coordinates: Coordinates,
    n_components: int | None,
    n_features: int,
    rng: np.random.RandomState,
    y: Indices | None = None,
) -> Array:
    """Starting point of the learners that descend over L, in their coordinates.

    Parameters
    ----------
    init : {"auto", "identity", "pca", "lda", "random"} or array-like of shape (k, d)
        "auto" is the identity, or the leading principal components where fewer components than features are wanted;
        "lda" discriminants, :func:`discriminants`; "random" is :func:`random_components`.
    coordinates : Coordinates
        Those that :meth:`Coordinates.for_descent` chose for the same ``init`` and ``n_components``.
    n_components : int or None
        k; None for as many as there are coordinates, or discriminants, or rows of an ``init`` array.
    n_features : int
        How many features the data have.
    rng : RandomState
        Of a random start; no other draws of it.
    y : int array of shape (n,), optional
        Class codes, where there are classes.

    Raises
    ------
    ValueError
        On more components than features or discriminants, discriminants without classes, or an array of another shape.
    """
    check_n_components(n_components, n_features)
    if not isinstance(init, str):
        L = check_matrix(init, "init")
        if L.shape[1] != n_features or not len(L) or (n_components is not None and len(L) != n_components):
            wanted = f"({n_components or 'k'}, {n_features})"
            raise ValueError(f"init must be a matrix of shape {wanted}, got {L.shape}")
        return L * coordinates.unit
    X, spanned = coordinates.X, coordinates.axes is not None
    r = X.shape[1]
    k = n_components or r
    if init == "random":
        return random_components(k, r, rng)
    if init == "lda":
        if y is None:
            raise ValueError("init='lda' needs class labels, and tuples have none: fit labelled instances")
        found = discriminants(X, y)
        if n_components is not None and n_components > len(found):
            raise ValueError(
                f"init='lda' has {len(found)} discriminants of {len(np.unique(y))} classes: n_components must be at "
                f"most as many, got {n_components}"
            )
        return found[:n_components]
    if not spanned and (init == "pca" or (init == "auto" and k < r)):
        return principal_axes(X, k)
    return np.eye(k, r)  # the coordinates of a span are its principal axes


def principal_axes(X: Array, k: int) -> Array:
    """Unit directions in which the instances vary most, shape (k, d); rows of 0 where there are fewer instances."""
    _, _, axes = np.linalg.svd(X - X.mean(axis=0), full_matrices=False)
    L = np.zeros((k, X.shape[1]))
    L[: len(axes)] = axes[:k]
    return L


def random_components(k: int, d: int, rng: np.random.RandomState) -> Array:
    """Normal numbers of variance 1/k, shape (k, d): squared distances are those of the data in the mean."""
    return rng.standard_normal((k, d)) / np.sqrt(k)


def discriminants(X: Array, y: Indices) -> Array:
    """Fisher's linear discriminants, best first, that whiten the scatter inside of classes.

    There are as many as classes less one, or as features. Where instances of a class do not vary, a small ridge keeps
    directions finite.

    Parameters
    ----------
    X : array of shape (n, d)
    y : int array of shape (n,)
        Class codes, two or more.
    """
    members = class_members(y)
    means = np.stack([X[rows].mean(axis=0) for rows in members])
    within = np.concatenate([X[rows] - mean for rows, mean in zip(members, means)])
    sizes = np.array([len(rows) for rows in members])
    between = np.sqrt(sizes / len(X))[:, None] * (means - sizes @ means / len(X))
    return discriminant_directions(
        ridged(within.T @ within / len(X), _WITHIN_RIDGE), between, min(len(members) - 1, X.shape[1])
    )


def discriminant_directions(S: Array, between: Array, k: int) -> Array:
    """Directions of means that lie far apart against a positive definite scatter S, which they whiten: shape (k, d).

    The scatter of c means has rank c − 1 at most: a thin SVD of them, whitened, replaces a d×d eigenproblem.
    """
    C = scipy.linalg.cholesky(S, lower=True)
    U, _, _ = np.linalg.svd(scipy.linalg.solve_triangular(C, between.T, lower=True), full_matrices=False)
    return np.ascontiguousarray(scipy.linalg.solve_triangular(C, U[:, :k], lower=True, trans="T").T)


def prior_components(prior: Any, X: Array, n_features: int, rng: np.random.RandomState) -> Array:
    """Components of a positive definite prior for instances X.

    Parameters
    ----------
    prior : {"identity", "covariance", "random"} or array-like of shape (d, d)
        "covariance" is the inverse covariance of the instances, with a small ridge; "random" any positive definite one.
    X : array of shape (n, d)
        Instances, in the coordinates of the learner.
    n_features : int
        How many features the data have.
    rng : RandomState
        Of a random prior.

    Raises
    ------
    ValueError
        If an array is not positive definite, or of another shape.
    """
    d = X.shape[1]
    if not isinstance(prior, str):
        matrix = check_spd(prior, "prior")
        if matrix.shape != (d, d):
            raise ValueError(f"prior must have shape ({d}, {d}), got {matrix.shape}")
        return factor_psd(matrix)
    if prior == "identity":
        return np.eye(d)
    if prior == "random":
        return factor_psd(make_spd_matrix(d, random_state=rng))
    centred = X - X.mean(axis=0)
    covariance = centred.T @ centred / max(len(X) - 1, 1)
    return factor_psd(inverse(ridged(covariance, COVARIANCE_RIDGE, n_features)))
