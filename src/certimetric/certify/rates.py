"""Operating points of "accept where the distance is at most t": how often the right and the wrong pairs are accepted.

Needs distances and which pairs are genuine, wherever they come from: tables, embedding models, templates.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from numbers import Real
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from certimetric.base.arguments import ArgumentError, require
from certimetric.base.arrays import Array, Indices
from certimetric.base.results import Told

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class VerificationCurve(Told):
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

    Examples
    --------
    >>> curve = verification_curve([0.1, 0.4, 0.2, 0.9], [1, 1, -1, -1])
    >>> curve.tar_at(0.5), curve.threshold_at(0.5)
    (1.0, 0.4)
    """
    return OrderedPairs.of(distances, genuine).curve(None if weights is None else np.asarray(weights, dtype=float))


@dataclass(frozen=True, eq=False)
class IdentificationCurve(Told):
    """What each threshold makes of probes of enrolled subjects and of others; made by :func:`identification_curve`.

    Parameters
    ----------
    thresholds : array of shape (p,)
        Increasing, of the distance to the nearest enrolled instance; the first is −infinity.
    fpir, dir : array of shape (p,)
        Share of the probes of unknown subjects that are accepted (false-positive identification rate), and of those of
        known ones that are accepted as who they are (detection and identification rate).
    n_known, n_unknown : int

    Examples
    --------
    >>> curve = identification_curve([0.1, 0.2, 0.3, 0.9], [True, False, True, False], [True, True, True, False])
    >>> curve.n_known, curve.n_unknown, curve.fpir.tolist()
    (3, 1, [0.0, 0.0, 0.0, 0.0, 1.0])
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
    distances, right = checked_distances(distances, right)
    if known.shape != distances.shape:
        raise ArgumentError("known", f"must say it of each of the {len(distances)} probes", known.shape)
    if not known.any() or known.all():
        missing = "a known" if not known.any() else "an unknown"
        raise ValueError(f"open-set identification needs probes of known and of unknown subjects: {missing} one lacks")
    pairs = OrderedPairs.of(distances, known)
    counts = [np.append(0, np.cumsum(kind[pairs.order])[pairs.last]) for kind in (~known, known & right)]
    n_known = int(known.sum())
    n_unknown = len(known) - n_known
    return IdentificationCurve(pairs.thresholds, counts[0] / n_unknown, counts[1] / n_known, n_known, n_unknown)


@dataclass(frozen=True, eq=False)
class OrderedPairs:
    """Pairs by their distance, once for many weights."""

    order: Indices
    genuine: NDArray[np.bool_]  # in this order
    last: Indices  # place of the last of equal distances
    thresholds: Array

    @classmethod
    def of(cls, distances: ArrayLike, genuine: ArrayLike) -> OrderedPairs:
        distances, genuine = checked_distances(distances, genuine)
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


def claimable_far(n_impostor: float) -> float:
    """The smallest false accept rate that so many impostor pairs can support.

    Where n independent pairs gave no false accept, the rate is below 3/n with 95 % confidence (the rule of three).

    Parameters
    ----------
    n_impostor : float
        Impostor pairs, or independent ones among them.

    Examples
    --------
    >>> claimable_far(30_000)
    0.0001
    """
    require(n_impostor > 0, "n_impostor", "must be a positive number of pairs", n_impostor)
    return 3.0 / n_impostor


def check_far(far: float, name: str = "far") -> float:
    """A false accept rate as a target.

    Raises
    ------
    ArgumentError
        Unless it is above 0 and at most 1: no number of pairs shows a rate of 0.
    """
    holds = isinstance(far, Real) and 0.0 < far <= 1.0
    what = "false accepts" if name == "far" else "false positive identifications"
    require(bool(holds), name, f"must be a rate of {what} above 0 and at most 1", far)
    return float(far)


def check_kinds(n_genuine: float, n_impostor: float) -> None:
    """Raise a ValueError unless there are pairs of both kinds."""
    if n_genuine > 0 and n_impostor > 0:
        return
    missing = "impostor pair (of two subjects)" if n_genuine > 0 else "genuine pair (of one subject)"
    raise ValueError(f"verification needs pairs of both kinds, but there is no {missing}")


def checked_distances(distances: ArrayLike, genuine: ArrayLike) -> tuple[Array, NDArray[np.bool_]]:
    """Finite distances of shape (m,), and which of the pairs are genuine.

    Raises
    ------
    ArgumentError
        If an argument is anything else.
    """
    distances, genuine = np.asarray(distances, dtype=np.float64), np.asarray(genuine)
    require(distances.ndim == 1, "distances", "must have shape (m,)", distances.shape)
    if genuine.shape != distances.shape:
        raise ArgumentError("genuine", f"must say it of each of the {len(distances)} pairs", genuine.shape)
    if not np.isfinite(distances).all():
        raise ArgumentError("distances", "must be finite", float(distances[~np.isfinite(distances)][0]))
    if genuine.dtype != bool and not np.isin(genuine, (-1, 0, 1)).all():
        raise ArgumentError("genuine", "must be bool, or labels +1 and -1", genuine[~np.isin(genuine, (-1, 0, 1))][0])
    return distances, genuine == 1 if genuine.dtype != bool else genuine
