"""Whether new rows are like those that a metric was learned on: distances, radii, columns, rows far from everything."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import betabinom, ks_2samp

from certimetric.auditing.drift.columns import MAJOR, Finding, compare_columns
from certimetric.base.arguments import require
from certimetric.base.arrays import Array, Indices
from certimetric.base.wording import counted
from certimetric.certify.open_set_radii import open_set_rows
from certimetric.certify.radius import bound_radii, check_n_neighbors, prepare_reference
from certimetric.certify.reference import PointSet
from certimetric.datasets import TableEncoder
from certimetric.datasets.tables.column_code import DATE
from certimetric.datasets.tables.columns import kind_of
from certimetric.datasets.tables.encoding import encode_features, encode_like
from certimetric.geometry import Norm, resolve_norm
from certimetric.geometry.diagonal import DiagonalMetric
from certimetric.geometry.mahalanobis import as_metric

if TYPE_CHECKING:
    import pandas as pd

_NEAR = 0.99  # of the training rows have another one within the distance beyond which a row is an outlier
_LEAST_DISTANCE = 0.15  # between two distributions: a smaller Kolmogorov–Smirnov distance is no alarm, however certain
_TOLD = 10  # findings that are no alarm, and outliers, in the text


@dataclass(frozen=True)
class Outlier:
    """A new row without a training row near it; ``radius`` is the change within which that is certain to stay so.

    Parameters
    ----------
    row : int
        Of the new rows, from 0.
    distance : float
        To the nearest training row, in the learned metric.
    radius : float
        Every change of at most this size leaves the row an outlier.

    Examples
    --------
    >>> Outlier(row=4, distance=9.5, radius=7.25)
    Outlier(row=4, distance=9.5, radius=7.25)
    """

    row: int  # from 0
    distance: float  # to the nearest training row
    radius: float


@dataclass(frozen=True)
class DriftCheck:
    """What a check of new rows found; made by :func:`certimetric.check_drift`.

    Parameters
    ----------
    n_train, n_new, n_compared : int
        Rows; of the new ones those that could be compared, as they hold nothing that training does not know.
    alpha : float
        Probability of a false alarm, at most; each of the tests has its part of it.
    near : float
        Distance within which 99 % of the training rows have another one.
    eps : float
        Size of change that a certified outlier withstands.
    unit : str
        Of ``eps`` and of radii, in words.
    findings : tuple of Finding
        Alarms first, the worst shifts first.
    outliers : tuple of Outlier
        Rows farther than ``near`` from every training row, the farthest first.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from certimetric import Euclidean, check_drift
    >>> X, y = load_iris(return_X_y=True)
    >>> metric = Euclidean().fit(X[::2], y[::2])
    >>> check_drift(metric, X[::2], y[::2], X[1::2]).alarm
    False
    >>> found = check_drift(metric, X[::2], y[::2], X[1::2] + [0, 0, 0, 3])
    >>> found.alarm, len(found.outliers)
    (True, 75)
    """

    n_train: int
    n_new: int
    n_compared: int
    alpha: float
    near: float
    eps: float
    unit: str
    findings: tuple[Finding, ...]
    outliers: tuple[Outlier, ...]

    @property
    def alarms(self) -> tuple[Finding, ...]:
        """The findings that are alarms."""
        return tuple(each for each in self.findings if each.alarm)

    @property
    def alarm(self) -> bool:
        """Whether anything is an alarm."""
        return bool(self.alarms)

    @property
    def certified_outliers(self) -> tuple[Outlier, ...]:
        """Outliers that stay so under every change of size ``eps``."""
        return tuple(each for each in self.outliers if each.radius >= self.eps)

    @property
    def figures(self) -> dict[str, float]:
        """What thresholds may be about, shares from 0 to 1: rows that are ``comparable``, rows that are ``near`` a
        training row, and columns that are ``stable`` (PSI below 0.25)."""
        shifts = [each.value for each in self.findings if each.test == "shift"]
        return {
            "comparable": self.n_compared / self.n_new,
            "near": (self.n_compared - len(self.outliers)) / self.n_new,
            "stable": float(np.mean([value < MAJOR for value in shifts])) if shifts else 0.0,
        }

    def to_frame(self) -> pd.DataFrame:
        """One row a finding, with the columns of :class:`certimetric.auditing.Finding`."""
        import pandas as pd

        return pd.DataFrame([asdict(each) for each in self.findings], columns=[f.name for f in fields(Finding)])

    def to_json(self) -> str:
        """All of it as JSON; an infinite radius is null."""
        told = asdict(self) | {"alarm": self.alarm, "figures": self.figures}
        for row in told["outliers"]:
            row["radius"] = row["radius"] if math.isfinite(row["radius"]) else None
        return json.dumps(told, allow_nan=False, ensure_ascii=False, indent=1)

    def __str__(self) -> str:
        n_alarms = len(self.alarms)
        lines = [
            f"{counted(self.n_new, 'new row')}, {self.n_compared} of them comparable, against {self.n_train} training "
            f"rows: {counted(n_alarms, 'alarm') if n_alarms else 'no alarm'}",
            *(f"ALARM {each.test}: {each.message}" for each in self.alarms),
        ]
        calm = [each for each in self.findings if not each.alarm]
        lines += [f"  {each.test}: {each.message}" for each in calm[:_TOLD]]
        if len(calm) > _TOLD:
            lines.append(f"  and {len(calm) - _TOLD} further findings without an alarm")
        if self.outliers:
            rows = ", ".join(str(each.row) for each in self.outliers[:_TOLD])
            more = f" and {len(self.outliers) - _TOLD} more" if len(self.outliers) > _TOLD else ""
            lines.append(f"  farthest rows: {rows}{more} (counted from 0)")
        return "\n".join(lines)


def check_drift(
    metric: Any,
    train: pd.DataFrame | ArrayLike,
    y: ArrayLike,
    new: pd.DataFrame | ArrayLike,
    *,
    n_neighbors: int = 3,
    norm: Any = "l2",
    unit: str = "units of the norm",
    eps: float | None = None,
    alpha: float = 0.01,
    max_rows: int = 2000,
    random_state: int = 0,
) -> DriftCheck:
    """See whether new rows are like those that a metric was learned on.

    Distances to the nearest training row, and certified radii, are compared with those of training rows that do not see
    themselves (two-sample Kolmogorov–Smirnov tests), in the learned metric and in the plain distance of standardised
    features: what only the learned one sees may be its fit, and is told but no alarm. Every column is compared by its
    population stability index, its range, categories and gaps. Rows like those of training make any alarm with a
    probability of about ``alpha``: each test has its share of it.

    Parameters
    ----------
    metric : MahalanobisMetric or fitted learner
        An encoding that it holds, as files from ``certimetric fit --encode`` do, is applied.
    train : DataFrame or array-like of shape (n, d)
        The rows that it was learned on, text and gaps as they came.
    y : array-like of shape (n,)
        Their labels.
    new : DataFrame or array-like of shape (m, d)
    n_neighbors : int, default=3
        k of the predictions whose radii are compared.
    norm : {"l2", "linf", "l1"} or Norm, default="l2"
        How the size of a change is measured.
    unit : str
        What sizes are called in the text.
    eps : float, optional
        Size of change under which a row has to stay far from all training rows to be a certified outlier. By default
        the median certified radius of training rows.
    alpha : float, default=0.01
    max_rows : int, default=2000
        Training rows, drawn at random, that are compared without themselves, and new rows whose radii are compared.
    random_state : int, default=0

    Returns
    -------
    check : DriftCheck

    Raises
    ------
    ArgumentError, ValueError
        On values that no reader accepts (infinity, dates of a metric that holds no encoding), or if training rows
        do not fit the metric.

    References
    ----------
    Yurdakul, *Statistical properties of the population stability index* [yurdakul2018statistical], 2018: why a fixed
    limit alone raises false alarms on few rows.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from certimetric import Euclidean, check_drift
    >>> X, y = load_iris(return_X_y=True)
    >>> metric = Euclidean().fit(X[::2], y[::2])
    >>> found = check_drift(metric, X[::2], y[::2], X[1::2] + 3.0)
    >>> found.alarm, len(found.outliers) > 0
    (True, True)
    """
    require(0.0 < alpha < 1.0, "alpha", "must be between 0 and 1", alpha)
    require(max_rows >= 2, "max_rows", "must be at least 2", max_rows)
    require(eps is None or 0 <= eps < math.inf, "eps", "must be a size of at least 0", eps)
    given, metric, norm = metric, as_metric(metric), resolve_norm(norm)
    names = metric.feature_names
    train, new = (_framed(rows, names, name) for rows, name in ((train, "train"), (new, "new")))
    needed = [str(column) for column in train.columns if names is None or _makes(str(column), names)]
    known = metric.training.get("encoding")
    encoder = None if known is None else TableEncoder.from_dict(known)
    X_train = _encoded(train[needed], names, encoder, "train")
    learned = prepare_reference(given, X_train, y)
    check_n_neighbors(n_neighbors, len(X_train) - 1)
    level = alpha / (2 * len(needed) + 3)
    dates = [] if encoder is None else [column.name for column in encoder.columns if column.kind == DATE]
    found, comparable = compare_columns(train[needed], new, level, dates)
    if encoder is None:  # what a gap would have been filled with is not known
        numbers = [name for name in needed if name in new.columns and kind_of(train[name]) != "text"]
        comparable &= ~np.asarray(new[numbers].isna().any(axis=1), dtype=bool)
    rows = np.flatnonzero(comparable)
    X = _encoded(new.iloc[rows], names, encoder, "new", like=needed) if len(rows) else X_train[:0]
    rng = np.random.default_rng(random_state)
    sample = np.sort(rng.permutation(len(X_train))[:max_rows]), np.sort(rng.permutation(len(X))[:max_rows])
    seen = _Seen.of(learned, X_train, X, n_neighbors, norm, *sample)
    middle = float(np.median(seen.radii))
    eps = (middle if math.isfinite(middle) else 0.0) if eps is None else eps
    outliers: list[Outlier] = []
    if len(rows):
        # A learned metric may have drawn its training rows together, and then every new row looks far. The plain
        # distance was not learned: what it does not see as well is no alarm.
        spread = X_train.std(axis=0)
        plain = prepare_reference(DiagonalMetric(1.0 / np.where(spread > 0, spread, 1.0)), X_train, y)
        both = seen, _Seen.of(plain, X_train, X, n_neighbors, norm, *sample)
        outliers = _outliers(learned, norm, X, rows, seen)
        certified = sum(each.radius >= eps for each in outliers)
        told = (
            f"{len(outliers)} of {counted(len(X), 'row')} have no training row within {seen.near:.3g}, where 1 % is "
            f"expected; {certified} of them are certified outliers: none comes that near by a change of size {eps:.3g} "
            f"({unit})"
        )
        farther = [_compared(each.within, each.distances, sides=1) for each in both]
        found.append(_joined("distance", "distances to the nearest training row", farther, level))
        found.append(_joined("radius", "certified radii", [_other_radii(each) for each in both], level))
        p_value = max(_too_many(each) for each in both)
        found.append(Finding("outliers", "", float(len(outliers)), p_value, p_value < level, told))
        if copies := int((seen.distances == 0).sum()):
            told = f"{counted(copies, 'row')} as near as can be to a training row: copies of it, perhaps"
            found.append(Finding("copies", "", float(copies), None, False, told))
    found.sort(key=lambda each: (not each.alarm, each.test == "shift", -each.value if each.test == "shift" else 0.0))
    sizes = len(X_train), len(new), len(rows)
    return DriftCheck(*sizes, alpha, seen.near, float(eps), unit, tuple(found), tuple(outliers))


@dataclass(frozen=True, eq=False)
class _Seen:
    """Training rows, each without itself, and new rows as a metric sees them: how far the nearest is, and radii."""

    within: Array  # distances of a sample of training rows
    radii: Array  # and their certified radii
    distances: Array  # of all new rows
    radii_new: Array  # of a sample of them
    alone: NDArray[np.bool_]  # which of that sample equal no training row

    @classmethod
    def of(
        cls, reference: PointSet, X_train: Array, X: Array, k: int, norm: Norm, sample: Indices, sample_new: Indices
    ) -> _Seen:
        _, radii = bound_radii(reference, X_train[sample], k, norm, exclude=sample)
        distances = _nearest(reference, X, None)
        _, radii_new = bound_radii(reference, X[sample_new], k, norm)
        within = _nearest(reference, X_train[sample], sample)
        return cls(within, radii, distances, radii_new, distances[sample_new] > 0)

    @property
    def place(self) -> int:
        return math.ceil(_NEAR * len(self.within))

    @property
    def near(self) -> float:
        return float(np.sort(self.within)[self.place - 1])


_Compared = tuple[float, float, Array, Array]
"""Kolmogorov–Smirnov distance of two samples, its p-value, and the samples."""


def _compared(before: Array, now: Array, *, sides: int = 2) -> _Compared:
    """Training rows count as half of so many: two that are each other's nearest tell one distance between them.

    For large samples the p-value is then at most what is given here (the limit of Smirnov's distribution).
    """
    size = float(ks_2samp(before, now, alternative="greater" if sides == 1 else "two-sided", method="asymp").statistic)
    n, m = len(before) / 2, len(now)
    return size, min(1.0, sides * math.exp(-2.0 * n * m / (n + m) * size**2)), before, now


def _other_radii(seen: _Seen) -> _Compared:
    """A row that has an equal one in training is surer than any other: such rows are left out on both sides."""
    before, now = seen.radii[seen.within > 0], seen.radii_new[seen.alone]
    if not len(before) or not len(now):
        before, now = seen.radii[:1], seen.radii[:1]  # nothing to compare: no difference
    return _compared(before, now)


def _too_many(seen: _Seen) -> float:
    """Probability of as many new rows, or more, beyond what 99 % of the training rows have near them.

    Of rows like those of training, the share beyond the value at a given place in the order of n has a Beta
    distribution; they count as half of so many, as in :func:`_compared`.
    """
    n, far = len(seen.within), int((seen.distances > seen.near).sum())
    return float(betabinom.sf(far - 1, len(seen.distances), (n - seen.place) / 2 + 1, seen.place / 2))


def _joined(test: str, what: str, tests: list[_Compared], level: float) -> Finding:
    """What the learned metric says of two samples; an alarm where the plain distance says so too, of no trifle."""
    (size, p_value, before, now), (plain, p_plain, *_) = tests
    p_value = max(p_value, p_plain)
    told = (
        f"the median of {what} is {np.median(now):.3g}, in training {np.median(before):.3g} (KS {size:.2f}, in the "
        f"plain distance {plain:.2f}, p {p_value:.2g})"
    )
    alarm = p_value < level and min(size, plain) >= _LEAST_DISTANCE
    return Finding(test, "", size, p_value, alarm, told)


def _outliers(reference: PointSet, norm: Norm, X: Array, rows: NDArray[Any], seen: _Seen) -> list[Outlier]:
    far = np.flatnonzero(seen.distances > seen.near)
    if not len(far):
        return []
    found = open_set_rows(reference, 1, seen.near, norm, X[far])
    told = [
        Outlier(int(rows[place]), float(seen.distances[place]), float(radius))
        for place, (code, radius) in zip(far, found)
        if code < 0  # the open-set predictor, whose radius it is, rejects it
    ]
    return sorted(told, key=lambda each: -each.distance)


def _framed(rows: Any, names: Sequence[str] | None, argument: str) -> pd.DataFrame:
    import pandas as pd

    if isinstance(rows, pd.DataFrame):
        require(len(rows) > 0, argument, "must have at least one row", rows.shape)
        return rows.rename(columns=str)
    values = np.asarray(rows)
    require(values.ndim == 2 and len(values) > 0, argument, "must have shape (n, d), n at least 1", values.shape)
    if names is not None and len(names) == values.shape[1]:
        return pd.DataFrame(values, columns=list(names))
    return pd.DataFrame(values, columns=[f"x{i}" for i in range(values.shape[1])])


def _makes(column: str, names: Sequence[str]) -> bool:
    """Whether a column is, or is encoded as, some of the features of a metric."""
    return any(name in (column, f"{column} is missing") or name.startswith(f"{column}=") for name in names)


def _encoded(
    frame: pd.DataFrame,
    names: Sequence[str] | None,
    encoder: TableEncoder | None,
    where: str,
    *,
    like: Sequence[str] = (),
) -> Array:
    """The features of a metric in their order."""
    if encoder is not None:
        return encoder.transform(frame, where=where)[0]
    if names is None:
        return encode_features(frame[list(like)] if like else frame, where=where)[0]
    return encode_like(frame, names, where=where, encode=True)


def _nearest(reference: PointSet, X: Array, exclude: Indices | None) -> Array:
    """Distances to the nearest training row."""
    if not len(X):
        return np.zeros(0)
    squared = reference.neighbors(reference.embed(X)[0], 1, exclude=exclude)[1]
    return np.ldexp(np.sqrt(squared[:, 0]), reference.exponent)
