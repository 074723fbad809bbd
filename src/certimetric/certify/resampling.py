"""Intervals of rates by resampling subjects: pairs share instances, and are not independent."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import ArrayLike

from certimetric.base.arguments import ArgumentError, require
from certimetric.base.arrays import Array
from certimetric.certify.rates import OrderedPairs, VerificationCurve, check_kinds

_RESAMPLES = 1000


def class_intervals(
    distances: ArrayLike,
    subjects: ArrayLike,
    figures: Mapping[str, Callable[[VerificationCurve], float]],
    *,
    genuine: ArrayLike | None = None,
    confidence: float = 0.95,
    n_resamples: int = _RESAMPLES,
    random_state: int = 0,
) -> dict[str, dict[str, float]]:
    """Figures of a curve with intervals by resampling *subjects*: pairs share instances, and are not independent.

    Of each resample of the subjects, drawn with replacement, a pair of two subjects that were drawn v and w times
    counts v·w times, and one within a subject that was drawn w times counts w times (percentile bootstrap).

    Parameters
    ----------
    distances : array-like of shape (m,)
    subjects : array-like of shape (m, 2)
        The subject of either side of each pair: any labels.
    figures : mapping of str to function
        Each gives a number for a :class:`VerificationCurve`.
    genuine : array-like of shape (m,), optional
        As in :func:`verification_curve`; without it, pairs within one subject are.
    confidence : float, default=0.95
    n_resamples : int, default=1000
    random_state : int, default=0

    Returns
    -------
    intervals : dict of str to dict
        For each figure ``value``, ``low`` and ``high``. Resamples without a genuine or without an impostor pair are
        drawn again.

    Raises
    ------
    ArgumentError, ValueError
        As :func:`verification_curve`, and where there are fewer than two subjects.

    References
    ----------
    Bolle, Ratha & Pankanti, *Error analysis of pattern recognition systems: the subsets bootstrap* [bolle2004error],
    2004.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> subjects = rng.integers(0, 20, (500, 2))
    >>> distances = rng.random(500) + (subjects[:, 0] != subjects[:, 1])
    >>> found = class_intervals(distances, subjects, {"auc": lambda curve: curve.auc})["auc"]
    >>> found["low"] <= found["value"] <= found["high"]
    True
    """
    require(0.0 < confidence < 1.0, "confidence", "must be between 0 and 1", confidence)
    names, codes = np.unique(np.asarray(subjects), return_inverse=True)
    if np.ndim(subjects) != 2 or np.shape(subjects)[1] != 2:
        raise ArgumentError("subjects", "must have shape (m, 2), one for either side of each pair", np.shape(subjects))
    codes = codes.reshape(-1, 2)
    require(len(names) >= 2, "subjects", "must be at least 2, so that they can be resampled", len(names))
    within = codes[:, 0] == codes[:, 1]
    pairs = OrderedPairs.of(distances, within if genuine is None else genuine)
    require(len(codes) == len(pairs.order), "subjects", f"must be those of {len(pairs.order)} pairs", len(codes))

    def weights(draws: Array) -> Array:
        first = draws[codes[:, 0]]
        return np.where(within, first, first * draws[codes[:, 1]])

    whole = pairs.curve(None)
    found: dict[str, list[float]] = {name: [] for name in figures}
    for draws in drawn_classes(len(names), n_resamples, random_state, lambda draws: _both(pairs, weights(draws))):
        curve = pairs.curve(weights(draws))
        for name, figure in figures.items():
            found[name].append(figure(curve))
    return {name: _interval(figure(whole), found[name], confidence) for name, figure in figures.items()}


class ClassCounts:
    """Accepted pairs of each two classes at given thresholds: intervals for streams of pairs, by resampling classes.

    Parameters
    ----------
    thresholds : sequence of float
    n_classes : int
        Memory is 8 bytes for each threshold and each two classes.

    Examples
    --------
    >>> counts = ClassCounts([0.5], n_classes=3)
    >>> counts.add([0.1, 0.2, 0.9, 0.3, 0.8, 0.7], [0, 1, 2, 0, 1, 0], [0, 1, 2, 1, 2, 2])
    >>> far, tar = counts.rates()
    >>> far.round(3), tar.round(3)
    (array([0.333]), array([0.667]))
    """

    def __init__(self, thresholds: ArrayLike, n_classes: int):
        self.thresholds = np.asarray(thresholds, dtype=float)
        require(self.thresholds.ndim == 1 and not np.isnan(self.thresholds).any(), "thresholds", "must be distances",
                thresholds)  # fmt: skip
        require(n_classes >= 2, "n_classes", "must be at least 2, so that they can be resampled", n_classes)
        self.total = np.zeros((n_classes, n_classes))
        self.accepted = np.zeros((len(self.thresholds), n_classes, n_classes))

    def add(self, distances: ArrayLike, first: ArrayLike, second: ArrayLike) -> None:
        """Count a block of pairs, with the class codes of either side; three arrays that broadcast to one shape."""
        distances, first, second = (np.ravel(a) for a in np.broadcast_arrays(distances, first, second))
        n = len(self.total)
        cells = first.astype(np.int64) * n + second
        self.total += np.bincount(cells, minlength=n * n).reshape(n, n)
        for accepted, threshold in zip(self.accepted, self.thresholds):
            accepted += np.bincount(cells[distances <= threshold], minlength=n * n).reshape(n, n)

    def rates(self, draws: Array | None = None) -> tuple[Array, Array]:
        """FAR and TAR at each threshold, with every class as often as it was drawn."""
        draws = np.ones(len(self.total)) if draws is None else draws
        between, within = np.outer(draws, draws), np.diag(draws)
        np.fill_diagonal(between, 0.0)
        far, tar = (
            np.tensordot(self.accepted, weights) / (self.total * weights).sum() for weights in (between, within)
        )
        return far, tar

    def intervals(
        self, *, confidence: float = 0.95, n_resamples: int = _RESAMPLES, random_state: int = 0
    ) -> dict[str, list[dict[str, float]]]:
        """``far`` and ``tar`` at each threshold, with ``value``, ``low`` and ``high`` as in :func:`class_intervals`."""
        within = np.diagonal(self.total)
        between = self.total.sum() - within.sum()
        check_kinds(int(within.sum()), int(between))

        def both(draws: Array) -> bool:
            return bool(draws @ within > 0 and draws @ self.total @ draws - draws**2 @ within > 0)

        found = [self.rates(draws) for draws in drawn_classes(len(self.total), n_resamples, random_state, both)]
        return {
            name: [
                _interval(float(value), [rates[side][t] for rates in found], confidence)
                for t, value in enumerate(self.rates()[side])
            ]
            for side, name in enumerate(("far", "tar"))
        }


def drawn_classes(n: int, n_resamples: int, random_state: int, usable: Callable[[Array], bool]) -> list[Array]:
    """How often each of n classes occurs in each resample, shape (n,) each; those that are of no use drawn again."""
    require(n_resamples >= 1, "n_resamples", "must be at least 1", n_resamples)
    rng = np.random.default_rng(random_state)
    found: list[Array] = []
    while len(found) < n_resamples:
        draws = rng.multinomial(n, np.full(n, 1.0 / n)).astype(float)
        if usable(draws):
            found.append(draws)
    return found


def _both(pairs: OrderedPairs, weights: Array) -> bool:
    of_genuine = weights[pairs.order][pairs.genuine].sum()
    return bool(of_genuine > 0 and weights.sum() > of_genuine)


def _interval(value: float, found: list[float], confidence: float) -> dict[str, float]:
    low, high = np.quantile(found, [(1.0 - confidence) / 2.0, (1.0 + confidence) / 2.0])
    return {"value": float(value), "low": float(low), "high": float(high)}
