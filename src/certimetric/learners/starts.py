"""The metric that a learner stays near to."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.datasets import make_spd_matrix

from certimetric.base.arrays import Array
from certimetric.geometry.spd import check_spd, factor_psd, inverse
from certimetric.learners.gmml import ridged

PRIORS = {"identity", "covariance", "random"}
_RIDGE = 1e-6  # on the covariance, as a fraction of its mean eigenvalue


def prior_components(prior: Any, X: Array, n_features: int, rng: np.random.RandomState) -> Array:
    """Components of a positive definite prior for instances X.

    Parameters
    ----------
    prior : {"identity", "covariance", "random"} or array-like of shape (d, d)
        "covariance" is the inverse covariance of the instances, with a small ridge.
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
    return factor_psd(inverse(ridged(covariance, _RIDGE, n_features)))
