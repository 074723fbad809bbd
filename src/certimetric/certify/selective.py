"""Which predictions to trust: the risk of those that are kept, where the least trusted are left out first.

Needs which predictions are wrong, and a score of each, wherever they come from. Scores that are equal are left out in
no order: figures are their means over all orders, so that coarse scores gain and lose nothing by chance.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from certimetric.base.arguments import ArgumentError, require
from certimetric.base.arrays import Array, Indices
from certimetric.base.results import Columns

if TYPE_CHECKING:
    import pandas as pd

_RESAMPLES = 500
_MEMORY = 2**24  # entries of the blocks in which resamples are worked on


@dataclass(frozen=True, eq=False)
class RiskCoverageCurve(Columns):
    """What share of the predictions is wrong among those that are kept; made by :func:`risk_coverage_curve`.

    Parameters
    ----------
    coverage : array of shape (m,)
        1/m, 2/m, …, 1: the share of predictions that is kept, the most trusted.
    risk : array of shape (m,)
        Share of them that is wrong.

    Examples
    --------
    >>> curve = risk_coverage_curve([False, False, True, False], [0.9, 0.8, 0.1, 0.3])
    >>> curve.risk, curve.aurc, curve.excess
    (array([0.  , 0.  , 0.  , 0.25]), 0.0625, 0.0)
    """

    coverage: Array
    risk: Array

    @cached_property
    def aurc(self) -> float:
        """Area under the curve: the mean risk over all coverages. A score that says nothing has the error rate."""
        return float(self.risk.mean())

    @property
    def error(self) -> float:
        """Share of all predictions that is wrong."""
        return float(self.risk[-1])

    @cached_property
    def excess(self) -> float:
        """E-AURC: how far ``aurc`` is above that of a score that puts every wrong prediction last."""
        m = len(self.risk)
        wrong = round(self.error * m)
        return self.aurc - float((np.arange(1, wrong + 1) / np.arange(m - wrong + 1, m + 1)).sum()) / m

    @cached_property
    def excess_share(self) -> float:
        """``excess`` as a share of that of a score that says nothing: 0 is the best order, 1 is chance.

        NaN where all predictions are right, or all are wrong.
        """
        of_chance = self.error - (self.aurc - self.excess)
        return self.excess / of_chance if of_chance > 0 else float("nan")

    def risk_at(self, coverage: float) -> float:
        """Risk where so large a share is kept, rounded up to whole predictions.

        Raises
        ------
        ArgumentError
            Unless 0 < coverage ≤ 1.
        """
        require(0.0 < coverage <= 1.0, "coverage", "must be above 0 and at most 1", coverage)
        return float(self.risk[np.searchsorted(self.coverage, coverage * (1.0 - 1e-12))])


def risk_coverage_curve(errors: ArrayLike, score: ArrayLike) -> RiskCoverageCurve:
    """The risk of the predictions that are kept, against the share of them.

    Parameters
    ----------
    errors : bool array of shape (m,)
        Which predictions are wrong.
    score : array of shape (m,)
        How far each is trusted, more is better: a certified radius, a probability. Infinity is allowed.

    Returns
    -------
    curve : RiskCoverageCurve

    Raises
    ------
    ArgumentError
        On NaN, without predictions, or unless there is a score for each.

    References
    ----------
    Geifman, Uziel & El-Yaniv, arXiv 1805.08206 [geifman2019bias]: AURC, and its excess over the best order.

    Examples
    --------
    >>> risk_coverage_curve([True, False], [0.5, 0.5]).risk  # in either order
    array([0.5, 0.5])
    """
    wrong = _checked_errors(errors)
    ordered = _Ordered.of(wrong, _checked_score("score", score, len(wrong)))
    m = len(wrong)
    block = np.repeat(np.arange(len(ordered.starts)), ordered.sizes)
    before = np.concatenate([[0.0], np.cumsum(ordered.sums(wrong.astype(float)))])
    rate = np.diff(before) / ordered.sizes
    kept = np.arange(1, m + 1)
    return RiskCoverageCurve(kept / m, (before[block] + rate[block] * (kept - ordered.starts[block])) / kept)


@dataclass(frozen=True)
class ScoreFigures:
    """How well one score tells the wrong predictions: AURC, less is better, with 95 % intervals by resampling.

    ``difference`` is the AURC less that of the reference, of the same resamples: a score is better where ``high`` of it
    is below 0. Of the reference itself it is 0.

    Parameters
    ----------
    score : str
    aurc, aurc_low, aurc_high : float
        Area under the risk–coverage curve, and its interval.
    excess : float
        AURC less that of a score that puts every wrong prediction last.
    excess_share : float
        The excess, as a share of that of a score that says nothing.
    difference, difference_low, difference_high : float

    Examples
    --------
    >>> scores = {"good": [0.9, 0.1, 0.8, 0.7], "none": [1.0, 1.0, 1.0, 1.0]}
    >>> found = compare_scores([False, True, False, False], scores)
    >>> [(figures.score, figures.aurc) for figures in found.figures]
    [('good', 0.0625), ('none', 0.25)]
    """

    score: str
    aurc: float
    aurc_low: float
    aurc_high: float
    excess: float
    excess_share: float
    difference: float
    difference_low: float
    difference_high: float


@dataclass(frozen=True)
class ScoreComparison:
    """Scores of the same predictions side by side; made by :func:`compare_scores`.

    Parameters
    ----------
    reference : str
        The score from which the others differ.
    error : float
        Share of wrong predictions: the AURC of a score that says nothing.
    figures : tuple of ScoreFigures
        In the order in which scores were given.

    Examples
    --------
    >>> scores = {"good": [0.9, 0.1, 0.8, 0.7], "none": [1.0, 1.0, 1.0, 1.0]}
    >>> found = compare_scores([False, True, False, False], scores)
    >>> found.reference, found.error, len(found.figures)
    ('good', 0.25, 2)
    """

    reference: str
    error: float
    figures: tuple[ScoreFigures, ...]

    @property
    def better(self) -> tuple[str, ...]:
        """Scores that are better than the reference in all but 2.5 % of the resamples."""
        return tuple(each.score for each in self.figures if each.difference_high < 0)

    @property
    def worse(self) -> tuple[str, ...]:
        """Scores that are worse than the reference likewise."""
        return tuple(each.score for each in self.figures if each.difference_low > 0)

    def to_frame(self) -> pd.DataFrame:
        """One row a score, with the columns of :class:`ScoreFigures`."""
        import pandas as pd

        return pd.DataFrame([asdict(each) for each in self.figures], columns=[f.name for f in fields(ScoreFigures)])

    def to_json(self) -> str:
        """The figures as JSON; NaN is null."""
        told = asdict(self)
        for row in told["figures"]:
            row.update({key: None for key, value in row.items() if value != value})
        return json.dumps(told, allow_nan=False)


def compare_scores(
    errors: ArrayLike,
    scores: Mapping[str, ArrayLike],
    *,
    reference: str | None = None,
    parts: ArrayLike | None = None,
    instances: ArrayLike | None = None,
    n_resamples: int = _RESAMPLES,
    random_state: int = 0,
) -> ScoreComparison:
    """Whether one score tells wrong predictions better than others: a paired bootstrap over instances.

    Parameters
    ----------
    errors : bool array of shape (m,)
        Which predictions are wrong.
    scores : mapping of str to array of shape (m,)
        How far each prediction is trusted, more is better.
    reference : str, optional
        The score that the others are compared with; the first by default.
    parts : array of shape (m,), optional
        Which predictions were made by one classifier, such as those of one split: figures are means over the parts.
    instances : array of shape (m,), optional
        Which instance each prediction is about, where one is predicted in several parts. It is then drawn as a whole,
        since such predictions are not independent.
    n_resamples : int, default=500
    random_state : int, default=0

    Returns
    -------
    comparison : ScoreComparison
        Its intervals are about other instances for the same classifiers, not about other training sets.

    Raises
    ------
    ArgumentError
        As :func:`risk_coverage_curve`, or without scores.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> good = rng.random(300)
    >>> found = compare_scores(rng.random(300) > good, {"good": good, "noise": rng.random(300)})
    >>> found.worse
    ('noise',)
    """
    wrong = _checked_errors(errors)
    require(bool(scores), "scores", "must hold at least one score", dict(scores))
    values = {name: _checked_score(f"scores[{name!r}]", score, len(wrong)) for name, score in scores.items()}
    reference = next(iter(values)) if reference is None else reference
    require(reference in values, "reference", f"must be one of {', '.join(values)}", reference)
    require(n_resamples >= 1, "n_resamples", "must be at least 1", n_resamples)
    part_of = _codes("parts", parts, len(wrong), np.zeros(len(wrong), dtype=np.int64))
    drawn_of = _codes("instances", instances, len(wrong), np.arange(len(wrong)))
    rows_of = [np.flatnonzero(part_of == part) for part in range(part_of.max() + 1)]
    curves = {
        name: [risk_coverage_curve(wrong[rows], score[rows]) for rows in rows_of] for name, score in values.items()
    }
    whole = {name: float(np.mean([curve.aurc for curve in found])) for name, found in curves.items()}
    drawn = _resampled(wrong, values, rows_of, drawn_of, n_resamples, random_state)
    figures = []
    for name, found in curves.items():
        ends = [np.nanquantile(some, (0.025, 0.975)) for some in (drawn[name], drawn[name] - drawn[reference])]
        (low, high), (less, more) = ends
        excess = float(np.mean([curve.excess for curve in found]))
        shares = [curve.excess_share for curve in found]
        share = float(np.nanmean(shares)) if not np.isnan(shares).all() else float("nan")
        difference = whole[name] - whole[reference]
        told = (whole[name], float(low), float(high), excess, share, difference, float(less), float(more))
        figures.append(ScoreFigures(name, *told))
    error = float(np.mean([wrong[rows].mean() for rows in rows_of]))
    return ScoreComparison(reference, error, tuple(figures))


@dataclass(frozen=True, eq=False)
class _Ordered:
    """Predictions in the order in which they are kept; those of one score are a block."""

    order: Indices  # (m,)
    starts: Indices  # of the blocks, (b,)
    sizes: Indices

    @classmethod
    def of(cls, wrong: NDArray[np.bool_], score: Array) -> _Ordered:
        order = np.argsort(-score, kind="stable")
        ordered = score[order]
        starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
        return cls(order, starts, np.diff(np.append(starts, len(score))))

    def sums(self, values: Array) -> Array:
        """Sums of values (…, m) over each block, (…, b)."""
        return np.add.reduceat(values[..., self.order], self.starts, axis=-1)


def _resampled(
    wrong: NDArray[np.bool_],
    values: Mapping[str, Array],
    rows_of: list[Indices],
    drawn_of: Indices,
    n_resamples: int,
    random_state: int,
) -> dict[str, Array]:
    """AURC of every score, the mean over parts, in each resample of the instances: (n_resamples,) each."""
    rng = np.random.default_rng(random_state)
    n = int(drawn_of.max()) + 1
    blocks = [[_Ordered.of(wrong[rows], score[rows]) for rows in rows_of] for score in values.values()]
    at_once = max(1, _MEMORY // len(wrong))
    found: list[list[Array]] = [[] for _ in values]
    for start in range(0, n_resamples, at_once):
        size = min(at_once, n_resamples - start)
        draws = rng.multinomial(n, np.full(n, 1.0 / n), size=size)
        weights = [draws[:, drawn_of[rows]].astype(float) for rows in rows_of]
        for of_score, ordered in zip(found, blocks):
            areas = [_area(each, some, wrong[rows]) for each, some, rows in zip(ordered, weights, rows_of)]
            of_score.append(np.nanmean(areas, axis=0))
    return {name: np.concatenate(areas) for name, areas in zip(values, found)}


def _area(ordered: _Ordered, weights: Array, wrong: NDArray[np.bool_]) -> Array:
    """AURC of resamples in which predictions count as whole numbers of times, (r, m) to (r,); NaN for none at all.

    A block of s predictions, e of them wrong, that comes after N with E wrong adds, the mean over its orders,
    ``Σ_{j ≤ s} (E + j e/s) / (N + j) = e + (E − N e/s) (H(N + s) − H(N))`` with the harmonic numbers H.
    """
    sizes, errors = ordered.sums(weights), ordered.sums(weights * wrong)
    upto = np.cumsum(sizes, axis=1)
    before, wrong_before = upto - sizes, np.cumsum(errors, axis=1) - errors
    harmonic = np.concatenate([[0.0], np.cumsum(1.0 / np.arange(1, int(upto[:, -1].max(initial=0)) + 1))])
    rate = np.divide(errors, sizes, out=np.zeros_like(errors), where=sizes > 0)
    steps = harmonic[upto.astype(np.int64)] - harmonic[before.astype(np.int64)]
    area = (errors + (wrong_before - before * rate) * steps).sum(axis=1)
    total = upto[:, -1]
    return np.divide(area, total, out=np.full(len(area), np.nan), where=total > 0)


def _checked_errors(errors: ArrayLike) -> NDArray[np.bool_]:
    wrong = np.asarray(errors)
    fits = wrong.ndim == 1 and len(wrong) > 0 and bool(np.isin(wrong, (0, 1)).all())
    require(fits, "errors", "must be a bool for each of at least one prediction", wrong.shape)
    return wrong.astype(bool)


def _checked_score(name: str, score: ArrayLike, m: int) -> Array:
    values = np.asarray(score, dtype=float)
    if values.shape != (m,):
        raise ArgumentError(name, f"must hold one number for each of the {m} predictions", values.shape)
    require(not np.isnan(values).any(), name, "must hold numbers", float("nan"))
    return values


def _codes(name: str, values: ArrayLike | None, m: int, default: Indices) -> Indices:
    if values is None:
        return default
    if np.shape(values) != (m,):
        raise ArgumentError(name, f"must hold one for each of the {m} predictions", np.shape(values))
    return np.unique(np.asarray(values), return_inverse=True)[1].astype(np.int64)
