"""Scores of single predictions: how far each can be trusted, by its radius, its votes and its distances."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from certimetric.base.arguments import ArgumentError, require
from certimetric.base.arrays import Array
from certimetric.base.results import Columns
from certimetric.certify.classifier import CertifiedKNeighborsClassifier
from certimetric.certify.reference import PointSet
from certimetric.geometry.neighbors import nearest_neighbors


@dataclass(frozen=True, eq=False)
class PredictionScores(Columns):
    """Predictions, and how far each can be trusted: more is better; made by :func:`prediction_scores`.

    Parameters
    ----------
    label : array of shape (m,)
    radius : array of shape (m,)
        Certified radius.
    vote_share : array of shape (m,)
        Share of the k votes that the label got.
    distance_ratio : array of shape (m,)
        Distance to the nearest instance of another class over that to the nearest of the label: the trust score.

    Examples
    --------
    >>> from certimetric import CertifiedKNeighborsClassifier
    >>> knn = CertifiedKNeighborsClassifier(3).fit([[0.0], [1.0], [5.0]], ["a", "a", "b"])
    >>> prediction_scores(knn, [[0.5]]).vote_share.round(3).tolist()
    [0.667]
    """

    label: NDArray[Any]
    radius: Array
    vote_share: Array
    distance_ratio: Array


def prediction_scores(classifier: CertifiedKNeighborsClassifier, X: ArrayLike) -> PredictionScores:
    """Predict queries, and tell how far each prediction can be trusted.

    Parameters
    ----------
    classifier : fitted CertifiedKNeighborsClassifier
    X : array-like of shape (m, d)

    Returns
    -------
    scores : PredictionScores

    Raises
    ------
    ValueError
        If X does not fit the classifier, or it knows one class only.

    References
    ----------
    Jiang et al., arXiv 1805.11783 [jiang2018trust]: the trust score, here over all training instances (their α = 0) and
    in the learned metric.

    Examples
    --------
    >>> knn = CertifiedKNeighborsClassifier(1).fit([[0.0], [4.0]], ["a", "b"])
    >>> prediction_scores(knn, [[0.0], [1.0]]).to_frame().round(6)
      label  radius  vote_share  distance_ratio
    0     a     2.0         1.0             inf
    1     a     1.0         1.0             3.0
    """
    labels, radii = classifier.predict_with_radius(X)
    codes = np.searchsorted(classifier.classes_, labels)
    rows = np.arange(len(codes))
    shares = classifier.predict_proba(X)[rows, codes]
    return PredictionScores(labels, radii, shares, distance_ratios(class_distances(classifier, X))[rows, codes])


def class_distances(classifier: CertifiedKNeighborsClassifier, X: ArrayLike) -> Array:
    """Distance of each query to the nearest training instance of each class, in the learned metric: (m, n_classes).

    Raises
    ------
    ValueError
        If X does not fit the classifier.

    Examples
    --------
    >>> knn = CertifiedKNeighborsClassifier(1).fit([[0.0], [4.0]], ["a", "b"])
    >>> class_distances(knn, [[1.0]])
    array([[1., 3.]])
    """
    n_classes = len(classifier.classes_)
    return np.asarray(classifier._map(partial(_nearest_of_classes, classifier.reference_, n_classes), X, n_classes))


def _nearest_of_classes(reference: PointSet, n_classes: int, X: Array, **options: Any) -> Array:
    points, found = reference.embed(X)[0], np.empty((len(X), n_classes))
    for code in range(n_classes):
        found[:, code] = nearest_neighbors(points, reference.points[reference.y == code], 1, **options)[1][:, 0]
    return np.ldexp(np.sqrt(found), reference.exponent)


def distance_ratios(distances: Array) -> Array:
    """Of each class the distance to the nearest other class over that to itself, of distances to all: (m, c) to (m, c).

    Infinity where only the own one is 0; 1 where both are, since equal instances of two classes tell nothing.

    Raises
    ------
    ArgumentError
        Of one class only.

    Examples
    --------
    >>> distance_ratios(np.array([[1.0, 3.0, 2.0], [0.0, 0.0, 1.0]]))
    array([[2.        , 0.33333333, 0.5       ],
           [1.        , 1.        , 0.        ]])
    """
    require(distances.shape[1] > 1, "classes", "must be at least two, to tell one from another", distances.shape[1])
    nearest = np.partition(distances, 1, axis=1)
    # Of the class that is the nearest, the other is the second.
    other = np.where(distances > nearest[:, :1], nearest[:, :1], nearest[:, 1:2])
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where((distances == 0) & (other == 0), 1.0, other / distances)


def conformal_sets(calibration: ArrayLike, strangeness: ArrayLike, *, alpha: float = 0.1) -> NDArray[np.bool_]:
    """Split-conformal sets of labels: the true one is in them for at least 1 − α of queries like those of calibration.

    Parameters
    ----------
    calibration : array of shape (n,)
        How strange the *true* label of each of n instances is that the classifier has not seen: more is stranger, such
        as the inverse of a distance ratio.
    strangeness : array of shape (m, c)
        How strange each label would be for each query, in the same way.
    alpha : float, default=0.1

    Returns
    -------
    sets : bool array of shape (m, c)
        Which labels are in the set of each query. All of them, where fewer than 1/α − 1 instances calibrate.

    Raises
    ------
    ArgumentError
        Without instances, on NaN, or unless 0 < α < 1.

    References
    ----------
    Vovk, Gammerman & Shafer, *Algorithmic learning in a random world* [vovk2005algorithmic], 2005; Angelopoulos &
    Bates, arXiv 2107.07511 [angelopoulos2021gentle].

    Examples
    --------
    >>> conformal_sets([0.1, 0.2, 0.3, 0.9], [[0.2, 1.5], [0.8, 0.85]], alpha=0.3)
    array([[ True, False],
           [ True,  True]])
    """
    scores, asked = np.asarray(calibration, dtype=float), np.asarray(strangeness, dtype=float)
    require(0.0 < alpha < 1.0, "alpha", "must be between 0 and 1", alpha)
    require(scores.ndim == 1 and len(scores) > 0, "calibration", "must have shape (n,), n at least 1", scores.shape)
    for name, values in (("calibration", scores), ("strangeness", asked)):
        if np.isnan(values).any():
            raise ArgumentError(name, "must hold numbers", float("nan"))
    # So many of the n + 1 must be at most as strange; without the margin, (n + 1)(1 − α) = 9 may be 9.000000000000002.
    rank = math.ceil((len(scores) + 1) * (1.0 - alpha) - 1e-9)
    return asked <= (np.sort(scores)[rank - 1] if rank <= len(scores) else np.inf)
