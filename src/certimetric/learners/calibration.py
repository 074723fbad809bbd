"""The distance up to which pairs are called similar, chosen on labelled pairs by a criterion."""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from certimetric.base.arrays import Array, Indices

_LARGEST_BETA = 1e100  # whose square, times numbers of pairs, is a number

STRATEGIES = ("accuracy", "f_beta", "max_tpr", "max_tnr")


def check_calibration(strategy: Any = "accuracy", min_rate: Any = None, beta: Any = 1.0) -> None:
    """Refuse a strategy that is not known, and a rate or β that it cannot use.

    Raises
    ------
    ValueError
    """
    if strategy not in STRATEGIES:
        raise ValueError(f"strategy must be one of {', '.join(STRATEGIES)}, got {strategy!r}")
    if strategy in ("max_tpr", "max_tnr") and not (_is_number(min_rate) and 0 <= min_rate <= 1):
        raise ValueError(f"min_rate must be a number in [0, 1] for strategy {strategy!r}, got {min_rate!r}")
    if strategy == "f_beta" and not (_is_number(beta) and 0 <= beta <= _LARGEST_BETA):
        raise ValueError(f"beta must be a number from 0 to {_LARGEST_BETA:g} for strategy 'f_beta', got {beta!r}")


def calibrated_threshold(
    distances: ArrayLike,
    y: Indices,
    strategy: str = "accuracy",
    min_rate: float | None = None,
    beta: float = 1.0,
) -> float:
    """The distance t for which "similar where d ≤ t" is best on labelled pairs.

    Parameters
    ----------
    distances : array-like of shape (m,)
    y : int array of shape (m,)
        +1 for similar, −1 for dissimilar pairs; at least one of each.
    strategy : {"accuracy", "f_beta", "max_tpr", "max_tnr"}
        Largest accuracy; largest F score; largest rate of true positives at a rate of true negatives of at least
        ``min_rate``; or the other way round. Of equally good thresholds the smallest: it accepts the fewest.
    min_rate : float
        For "max_tpr" and "max_tnr".
    beta : float
        Weight of recall in the F score.

    Returns
    -------
    threshold : float
        A distance that occurs, or :func:`below_all` of them where it is best to accept none.

    Raises
    ------
    ValueError
        On parameters that cannot be used, distances that are not finite, or pairs of one kind only.

    Examples
    --------
    >>> calibrated_threshold([1.0, 2.0, 3.0, 4.0], np.array([1, 1, -1, 1]))
    2.0
    """
    check_calibration(strategy, min_rate, beta)
    distances = np.asarray(distances, dtype=np.float64)
    if not np.isfinite(distances).all():
        raise ValueError("a threshold cannot be chosen: not all distances of the pairs are finite")
    n_similar, n_dissimilar = int((y == 1).sum()), int((y == -1).sum())
    if not n_similar or not n_dissimilar:
        raise ValueError(
            f"a threshold needs pairs of both kinds, got {n_similar} similar and {n_dissimilar} dissimilar ones"
        )
    # Pairs of one distance are accepted together: thresholds are distinct distances, and one below all of them.
    values, place = np.unique(distances, return_inverse=True)
    true_positive, false_positive = (_accepted(place[y == label], len(values)) for label in (1, -1))
    recall, specificity = true_positive / n_similar, 1.0 - false_positive / n_dissimilar
    rate = 0.0 if min_rate is None else float(min_rate)
    if strategy == "accuracy":
        figure: Array = true_positive + (n_dissimilar - false_positive)
    elif strategy == "f_beta":
        weight = float(beta) ** 2
        found = weight * n_similar + true_positive + false_positive
        figure = (1.0 + weight) * true_positive / np.maximum(found, 1e-300)
    elif strategy == "max_tpr":
        figure = np.where(specificity >= rate, recall, -1.0)
    else:
        figure = np.where(recall >= rate, specificity, -1.0)
    best = int(np.argmax(figure))
    return float(values[best - 1]) if best else below_all(float(values[0]))


def below_all(smallest: float) -> float:
    """A threshold that accepts none: below the smallest distance, whatever its unit, and below 0.

    Finite, so that a decision function that is relative to it still ranks.

    Examples
    --------
    >>> below_all(3.0), below_all(0.0), below_all(1e20)
    (-7.0, -1.0, -2e+20)
    """
    return -2.0 * abs(smallest) - 1.0


def _accepted(place: Array, n_values: int) -> Array:
    """How many pairs lie at or below each distance, after 0 for none."""
    return np.concatenate([[0.0], np.cumsum(np.bincount(place, minlength=n_values), dtype=np.float64)])


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and bool(np.isfinite(float(value)))
