"""Operating points of "accept where the distance is at most t": how often the right and the wrong pairs are accepted.

Needs distances and which pairs are genuine, wherever they come from: tables, embedding models, templates.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from certimetric.base.arguments import ArgumentError, require
from certimetric.base.arrays import Array, Indices

if TYPE_CHECKING:
    import pandas as pd

_BITS = 20  # of the number of histogram bins on either side of 0
_TAIL = 2**20  # smallest distances of each kind that are kept as they are
_RESAMPLES = 1000


@dataclass(frozen=True, eq=False)
class VerificationCurve:
    """What each threshold accepts; made by :func:`verification_curve` or :class:`StreamedDistances`.

    A pair is accepted where its distance is at most the threshold. Every operating point that is listed is exact. The
    curve of given pairs lists every distance that occurs; that of a stream lists every one below ``exact_below``, and
    from there on those of a fine grid.

    Parameters
    ----------
    thresholds : array of shape (p,)
        Increasing. The first is −infinity, which accepts nothing.
    far, tar : array of shape (p,)
        Share of the impostor pairs (false accept rate) and of the genuine pairs (true accept rate) that each accepts.
    n_genuine, n_impostor : int or float
        Numbers of pairs, or sums of their weights.
    exact_below : float, default=inf
        Below it no threshold is missing.

    Examples
    --------
    >>> curve = verification_curve([0.1, 0.4, 0.2, 0.9], [True, True, False, False])
    >>> curve.auc, curve.eer, curve.threshold_at(0.5), curve.tar_at(0.5)
    (0.75, 0.5, 0.4, 1.0)
    >>> curve.at(0.15)
    (0.0, 0.5)
    """

    thresholds: Array
    far: Array
    tar: Array
    n_genuine: float
    n_impostor: float
    exact_below: float = np.inf

    @cached_property
    def auc(self) -> float:
        """Area under the ROC curve, equal distances counting half; of a stream, right to ``auc_error``."""
        return float(np.diff(self.far) @ (self.tar[1:] + self.tar[:-1])) / 2.0

    @property
    def auc_error(self) -> float:
        """Bound on the error of ``auc``: what lies between two listed thresholds may be in any order."""
        steps = self.thresholds[1:] >= self.exact_below
        return float(np.diff(self.far)[steps] @ np.diff(self.tar)[steps]) / 2.0

    @cached_property
    def _balance(self) -> Array:
        return self.far + self.tar - 1.0  # false accepts less false rejects: increasing, from −1 to 1

    @cached_property
    def eer(self) -> float:
        """Equal error rate: FAR where it is 1 − TAR, between two operating points on the straight line."""
        after = int(np.argmax(self._balance >= 0.0))
        below, above = -self._balance[after - 1], self._balance[after]
        share = below / (below + above)
        return float(self.far[after - 1] + share * (self.far[after] - self.far[after - 1]))

    @cached_property
    def eer_threshold(self) -> float:
        """The threshold whose two error rates are nearest to each other; the smaller of two."""
        return float(self.thresholds[np.argmin(np.abs(self._balance))])

    def threshold_at(self, far: float) -> float:
        """The largest threshold whose false accept rate is at most ``far``; pairs of equal distance go together.

        −infinity where even the smallest distance accepts more: nothing may be accepted then.

        Raises
        ------
        ArgumentError
            Unless 0 < far ≤ 1.
        """
        return float(self.thresholds[self._place(far)])

    def tar_at(self, far: float) -> float:
        """True accept rate at :meth:`threshold_at` of a false accept rate."""
        return float(self.tar[self._place(far)])

    def _place(self, far: float) -> int:
        return int(np.searchsorted(self.far, check_far(far), side="right")) - 1

    def at(self, threshold: float) -> tuple[float, float]:
        """FAR and TAR of the largest listed threshold that is not above ``threshold``.

        Raises
        ------
        ArgumentError
            If it is NaN.
        """
        require(not np.isnan(threshold), "threshold", "must be a distance", threshold)
        place = int(np.searchsorted(self.thresholds, threshold, side="right")) - 1
        return float(self.far[place]), float(self.tar[place])

    def thinned(self, n_points: int = 400) -> VerificationCurve:
        """At most about ``n_points`` operating points of it, for a picture: even in the logarithm of either error.

        Its own areas and thresholds are coarse: take these from the whole curve.
        """
        kept = [np.array([0, len(self.far) - 1])]
        for errors in (self.far, (1.0 - self.tar)[::-1]):
            least = errors[errors > 0].min(initial=1.0)
            levels = np.geomspace(least, 1.0, max(2, n_points // 2))
            places = np.searchsorted(errors, levels, side="right") - 1
            kept.append(places if errors is self.far else len(errors) - 1 - places)
        rows = np.unique(np.concatenate(kept))
        points = (self.thresholds[rows], self.far[rows], self.tar[rows])
        return VerificationCurve(*points, self.n_genuine, self.n_impostor, float(self.thresholds[rows[0]]))

    def to_frame(self) -> pd.DataFrame:
        """One row an operating point: threshold, far, tar."""
        import pandas as pd

        return pd.DataFrame({"threshold": self.thresholds, "far": self.far, "tar": self.tar})

    def to_json(self) -> str:
        """The curve as JSON; an infinite number is null."""
        arrays = {"thresholds": self.thresholds, "far": self.far, "tar": self.tar}
        document: dict[str, Any] = {
            name: [value if np.isfinite(value) else None for value in values.tolist()]
            for name, values in arrays.items()
        }
        document |= {"n_genuine": self.n_genuine, "n_impostor": self.n_impostor}
        document["exact_below"] = self.exact_below if np.isfinite(self.exact_below) else None
        return json.dumps(document, allow_nan=False)


def verification_curve(distances: ArrayLike, genuine: ArrayLike, weights: ArrayLike | None = None) -> VerificationCurve:
    """All operating points of given pairs.

    Parameters
    ----------
    distances : array-like of shape (m,)
        The smaller, the more alike. Any finite numbers: similarities with their sign changed, say.
    genuine : array-like of shape (m,)
        Which pairs are of one subject: bool, or labels +1 and −1 (0).
    weights : array-like of shape (m,), optional
        Of at least 0.

    Raises
    ------
    ArgumentError, ValueError
        On NaN and infinity, lengths that differ, or pairs of one kind only.
    """
    return _Ordered.of(distances, genuine).curve(None if weights is None else np.asarray(weights, dtype=float))


@dataclass(frozen=True, eq=False)
class IdentificationCurve:
    """What each threshold makes of probes of enrolled subjects and of others; made by :func:`identification_curve`.

    Parameters
    ----------
    thresholds : array of shape (p,)
        Increasing, of the distance to the nearest enrolled instance; the first is −infinity.
    fpir, dir : array of shape (p,)
        Share of the probes of unknown subjects that are accepted (false-positive identification rate), and of those of
        known ones that are accepted as who they are (detection and identification rate).
    n_known, n_unknown : int
    """

    thresholds: Array
    fpir: Array
    dir: Array
    n_known: int
    n_unknown: int

    def threshold_at(self, fpir: float) -> float:
        """The largest threshold whose false-positive identification rate is at most ``fpir``; −infinity for none."""
        return float(self.thresholds[self._place(fpir)])

    def dir_at(self, fpir: float) -> float:
        """Detection and identification rate at :meth:`threshold_at` of a false-positive identification rate."""
        return float(self.dir[self._place(fpir)])

    def _place(self, fpir: float) -> int:
        return int(np.searchsorted(self.fpir, check_far(fpir, "fpir"), side="right")) - 1

    def to_frame(self) -> pd.DataFrame:
        """One row an operating point: threshold, fpir, dir."""
        import pandas as pd

        return pd.DataFrame({"threshold": self.thresholds, "fpir": self.fpir, "dir": self.dir})

    def to_json(self) -> str:
        """The curve as JSON; the first threshold is null."""
        points = {"thresholds": [None, *self.thresholds[1:].tolist()]}
        points |= {"fpir": self.fpir.tolist(), "dir": self.dir.tolist()}
        return json.dumps({**points, "n_known": self.n_known, "n_unknown": self.n_unknown}, allow_nan=False)


def identification_curve(distances: ArrayLike, right: ArrayLike, known: ArrayLike) -> IdentificationCurve:
    """All operating points of open-set identification.

    Parameters
    ----------
    distances : array-like of shape (m,)
        To the nearest enrolled instance.
    right : bool array-like of shape (m,)
        Whether the subject that would be answered is that of the probe.
    known : bool array-like of shape (m,)
        Whether the subject of the probe is enrolled; some are, and some are not.

    Examples
    --------
    >>> curve = identification_curve([0.1, 0.2, 0.3, 0.9], [True, False, True, False], [True, True, True, False])
    >>> curve.dir_at(0.5).__round__(3), curve.threshold_at(0.5)
    (0.667, 0.3)
    """
    known = np.asarray(known, dtype=bool)
    distances, right = _checked(distances, right)
    if known.shape != distances.shape:
        raise ArgumentError("known", f"must say it of each of the {len(distances)} probes", known.shape)
    if not known.any() or known.all():
        missing = "a known" if not known.any() else "an unknown"
        raise ValueError(f"open-set identification needs probes of known and of unknown subjects: {missing} one lacks")
    pairs = _Ordered.of(distances, known)
    counts = [np.append(0, np.cumsum(kind[pairs.order])[pairs.last]) for kind in (~known, known & right)]
    n_known = int(known.sum())
    n_unknown = len(known) - n_known
    return IdentificationCurve(pairs.thresholds, counts[0] / n_unknown, counts[1] / n_known, n_known, n_unknown)


@dataclass(frozen=True, eq=False)
class _Ordered:
    """Pairs by their distance, once for many weights."""

    order: Indices
    genuine: NDArray[np.bool_]  # in this order
    last: Indices  # place of the last of equal distances
    thresholds: Array

    @classmethod
    def of(cls, distances: ArrayLike, genuine: ArrayLike) -> _Ordered:
        distances, genuine = _checked(distances, genuine)
        check_kinds(int(genuine.sum()), int((~genuine).sum()))
        order = np.argsort(distances, kind="stable")
        values = distances[order]
        last = np.flatnonzero(np.append(values[1:] != values[:-1], True))
        return cls(order, genuine[order], last, np.append(-np.inf, values[last]))

    def curve(self, weights: Array | None) -> VerificationCurve:
        if weights is not None and weights.shape != self.order.shape:
            raise ArgumentError("weights", f"must be one for each of the {len(self.order)} pairs", weights.shape)
        counts = []
        for kind in (self.genuine, ~self.genuine):
            # Whole numbers stay whole: counts are exact.
            of_kind = kind.astype(np.int64) if weights is None else kind * weights[self.order]
            counts.append(np.append(0, np.cumsum(of_kind)[self.last]))
        accepted, false = counts
        n_genuine, n_impostor = accepted[-1].item(), false[-1].item()
        check_kinds(n_genuine, n_impostor)
        return VerificationCurve(self.thresholds, false / n_impostor, accepted / n_genuine, n_genuine, n_impostor)


class StreamedDistances:
    """Counts of distances that come in blocks, over hundreds of millions of pairs in bounded memory.

    The smallest distances of each kind are kept as they are: where thresholds for small false accept rates lie, the
    curve is that of :func:`verification_curve`, to the last digit. All others are counted in bins of equal width, whose
    ends are exact operating points. The result depends neither on blocks nor on their order.

    Parameters
    ----------
    tail : int, default=1048576
        Distances of each kind that are kept: with 10⁸ impostor and 10⁶ genuine pairs, thresholds for FAR up to 1 % are
        those of all pairs; for others the nearest grid point below.
    bits : int, default=20
        There are ``2^bits`` bins or half as many between 0 and the largest distance, and as many below 0.

    Examples
    --------
    >>> stream = StreamedDistances()
    >>> stream.add([0.1, 0.4], [True, True])
    >>> stream.add([0.2, 0.9], [False, False])
    >>> stream.curve().auc
    0.75
    """

    def __init__(self, tail: int = _TAIL, bits: int = _BITS):
        require(tail >= 1, "tail", "must be at least 1", tail)
        require(1 <= bits <= 26, "bits", "must be between 1 and 26", bits)
        self._tail, self._half = tail, 2**bits
        self._exponent: int | None = None  # of the power of two that no distance is beyond
        self._counts = np.zeros((2, 2 * self._half + 1), dtype=np.int64)  # bin b holds (b − half − 1, b − half]
        self._smallest = [np.empty(0), np.empty(0)]
        self._pending: list[list[Array]] = [[], []]
        self._cut = [np.inf, np.inf]

    def add(self, distances: ArrayLike, genuine: ArrayLike) -> None:
        """Count a block of pairs, as :func:`verification_curve` takes them; of any shape."""
        distances, genuine = _checked(np.ravel(distances), np.ravel(genuine))
        if not len(distances):
            return
        if largest := float(np.abs(distances).max()):  # zeros are in the same bin whatever the range
            self._make_room(int(np.frexp(largest)[1]))
        for kind, values in enumerate((distances[~genuine], distances[genuine])):
            bins = np.ceil(np.ldexp(values, self._shift)).astype(np.int64) + self._half
            self._counts[kind] += np.bincount(bins, minlength=self._counts.shape[1])
            self._pending[kind].append(values[values <= self._cut[kind]])
            if sum(map(len, self._pending[kind])) > self._tail:
                self._settle(kind)

    @property
    def n_genuine(self) -> int:
        """Genuine pairs counted so far."""
        return int(self._counts[1].sum())

    @property
    def n_impostor(self) -> int:
        """Impostor pairs counted so far."""
        return int(self._counts[0].sum())

    @property
    def _shift(self) -> int:
        return self._half.bit_length() - 1 - (self._exponent or 0)

    def _make_room(self, exponent: int) -> None:
        """Join pairs of bins until the range holds ``2^exponent``."""
        if self._exponent is None:
            self._exponent = exponent
        half = self._half
        if exponent - self._exponent > half.bit_length():  # bins are joined into the two around 0 long before
            self._join(np.repeat([half, half + 1], [half + 1, half]))
            self._exponent = exponent
        while self._exponent < exponent:
            self._join(np.ceil(np.arange(-half, half + 1) / 2.0).astype(np.int64) + half)
            self._exponent += 1

    def _join(self, into: Indices) -> None:
        joined = np.zeros_like(self._counts)
        for of_kind, counts in zip(joined, self._counts):
            np.add.at(of_kind, into, counts)
        self._counts = joined

    def _settle(self, kind: int) -> None:
        """Keep the smallest of what has come."""
        values = np.concatenate([self._smallest[kind], *self._pending[kind]])
        if len(values) > self._tail:
            values = np.partition(values, self._tail - 1)[: self._tail]
            self._cut[kind] = float(values.max())
        self._smallest[kind], self._pending[kind] = values, []

    def curve(self) -> VerificationCurve:
        """The operating points of all pairs so far.

        Raises
        ------
        ValueError
            If there were pairs of one kind only.
        """
        totals = self._counts.sum(axis=1)
        check_kinds(int(totals[1]), int(totals[0]))
        for kind in (0, 1):
            self._settle(kind)
        # Of distances equal to the largest that is kept, some may have been dropped.
        exact_below = min(self._cut)
        kept = [np.sort(values[values < exact_below]) for values in self._smallest]
        listed = np.unique(np.concatenate(kept))
        filled = self._counts.any(axis=0)
        ends = np.ldexp(np.arange(-self._half, self._half + 1, dtype=float), -self._shift)
        grid = filled & (ends >= exact_below)
        thresholds = np.concatenate([[-np.inf], listed, ends[grid]])
        shares = []
        for values, counts, total in zip(kept, self._counts, totals):
            below = np.searchsorted(values, listed, side="right")
            shares.append(np.concatenate([[0], below, np.cumsum(counts)[grid]]) / total)
        return VerificationCurve(thresholds, shares[0], shares[1], int(totals[1]), int(totals[0]), exact_below)


def claimable_far(n_impostor: float) -> float:
    """The smallest false accept rate that so many impostor pairs can support.

    Where n independent pairs gave no false accept, the rate is below 3/n with 95 % confidence (the rule of three).

    Examples
    --------
    >>> claimable_far(30_000)
    0.0001
    """
    require(n_impostor > 0, "n_impostor", "must be a positive number of pairs", n_impostor)
    return 3.0 / n_impostor


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
    Bolle, Ratha & Pankanti, *Error analysis of pattern recognition systems: the subsets bootstrap*, 2004.

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
    pairs = _Ordered.of(distances, within if genuine is None else genuine)
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


def check_far(far: float, name: str = "far") -> float:
    """A false accept rate as a target.

    Raises
    ------
    ArgumentError
        Unless it is above 0 and at most 1: no number of pairs shows a rate of 0.
    """
    require(bool(0.0 < far <= 1.0), name, "must be a rate of false accepts above 0 and at most 1", far)
    return float(far)


def check_kinds(n_genuine: float, n_impostor: float) -> None:
    """Raise a ValueError unless there are pairs of both kinds."""
    if n_genuine > 0 and n_impostor > 0:
        return
    missing = "impostor pair (of two subjects)" if n_genuine > 0 else "genuine pair (of one subject)"
    raise ValueError(f"verification needs pairs of both kinds, but there is no {missing}")


def _checked(distances: ArrayLike, genuine: ArrayLike) -> tuple[Array, NDArray[np.bool_]]:
    distances, genuine = np.asarray(distances, dtype=np.float64), np.asarray(genuine)
    require(distances.ndim == 1, "distances", "must have shape (m,)", distances.shape)
    if genuine.shape != distances.shape:
        raise ArgumentError("genuine", f"must say it of each of the {len(distances)} pairs", genuine.shape)
    if not np.isfinite(distances).all():
        raise ArgumentError("distances", "must be finite", float(distances[~np.isfinite(distances)][0]))
    if genuine.dtype != bool and not np.isin(genuine, (-1, 0, 1)).all():
        raise ArgumentError("genuine", "must be bool, or labels +1 and -1", genuine[~np.isin(genuine, (-1, 0, 1))][0])
    return distances, genuine == 1 if genuine.dtype != bool else genuine


def _both(pairs: _Ordered, weights: Array) -> bool:
    of_genuine = weights[pairs.order][pairs.genuine].sum()
    return bool(of_genuine > 0 and weights.sum() > of_genuine)


def _interval(value: float, found: list[float], confidence: float) -> dict[str, float]:
    low, high = np.quantile(found, [(1.0 - confidence) / 2.0, (1.0 + confidence) / 2.0])
    return {"value": float(value), "low": float(low), "high": float(high)}
