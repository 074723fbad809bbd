"""What an audit of verification on a table is asked to do, checked before any work starts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from certimetric.auditing.request import whole
from certimetric.auditing.tables.table_request import TableRequest, checked_share
from certimetric.auditing.thresholds import Threshold
from certimetric.auditing.verification.given import GivenPairs, names_file
from certimetric.base.arrays import Array, Indices
from certimetric.base.wording import counted, listing
from certimetric.runs.splits import Split, subject_parts

if TYPE_CHECKING:
    from certimetric.constraints.tuples import Tuples
    from certimetric.geometry.threat_models import BoundThreat, ThreatModel

# What thresholds may ask for, and whether it is taken at a size: a false accept rate, or an ε.
FIGURES = {"auc": False, "tar": True, "certified": True, "rejected": True}
DEFAULT_LEARNERS = ("euclidean", "lmnn", "lmnn+pl", "gmml", "itml", "arml")
PAIR_STREAM = 3
MAX_BYTES = 4 * 2**30
"""Pairs whose figures would need more are refused."""

# Held at once, as measured: of a pair its rows and kind; of each learner its distances, radii and what is made of them.
_PAIR_BYTES, _DECIDED_BYTES = 32, 80


@dataclass(frozen=True, eq=False)
class VerificationSplit(Split):
    """One split, whose calibration part has the pairs that thresholds are chosen on.

    Pairs hold rows of the whole table; ``genuine`` says which are of one subject.
    """

    calibration: Indices
    apart: bool  # whether no subject is in two parts
    calibration_pairs: Indices
    calibration_genuine: NDArray[np.bool_]
    pairs: Indices
    genuine: NDArray[np.bool_]
    standardised: Array  # all instances

    def tuples(self, pairs: Indices) -> Tuples:
        """Pairs of rows as verifiers take them."""
        from certimetric.constraints.tuples import Tuples

        return Tuples(self.standardised, pairs)


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class VerificationRequest(TableRequest):
    """An audit of verification, checked; :func:`certimetric.auditing.audit_verification` has the same parameters.

    Parameters
    ----------
    far : float
        False accept rate that thresholds are calibrated to.

        Attacks and certificates are about the decisions of these thresholds.
    pairs : int, "all", path, DataFrame or array-like of shape (m, 2) or (m, 3)
        So many pairs of each kind, genuine and impostor, are drawn of a part where it has more; or a CSV or Parquet
        file of the pairs to test: two columns of row numbers from 0 (or ids), probe and enrolled, and as a third, if
        the labels do not tell it, 1 for genuine and 0 for impostor.

        Given pairs are tested in every split; learners and thresholds see none of their rows.
    ids : array-like of shape (n,)
        What given pairs call each row. None for row numbers.
    test_size : float
        Share of the subjects whose pairs are tested; on as many others thresholds are calibrated.

        Where the classes are too few for subjects of its own in every part, the instances of each class are shared out.
        Where pairs are given, it is the share that thresholds are calibrated on of the subjects that are left.
    threat : str or ThreatModel
        What an attacker may change: l2, linf or l1, and of bounds=LOW..HIGH, immutable=A+B, integer=A+B and
        one_hot=A+B/C+D those that hold. None for any change in the norm.

        It is meant in original units, and sizes of changes in standardised ones. Attacks keep to all of it.
        Certificates know which features cannot change; they allow for values beyond bounds and between whole numbers.
    groups : array-like of shape (n,)
        A group of each instance, by which rates are told too. None for none.
    fail_under : str or sequence of str
        Thresholds ``FIGURE=VALUE`` or ``LEARNER.FIGURE=VALUE`` with the FIGURE ``auc``, ``tar@FAR`` (true accept rate
        at the threshold that is calibrated to a false accept rate; ``tar@far=1e-3:0.9`` is ``tar@1e-3=0.9``),
        ``certified@EPS`` (share of genuine pairs that stay accepted within ε) or ``rejected@EPS`` (share of impostor
        pairs that stay rejected).

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> VerificationRequest(*load_iris(return_X_y=True), learners=["gmml"], far=0.05).far
    0.05
    """

    options = {
        "far": "--far RATE",
        "pairs": "--pairs [N|all|FILE]",
        "test_size": "--test-size SHARE",
        "threat": "--threat NORM[:OPTION=…,…]",
    }

    learners: str | Iterable[Any] | Mapping[str, Any] = DEFAULT_LEARNERS
    far: float = 0.01
    pairs: Any = 30_000
    ids: Any = None
    test_size: float = 0.3
    threat: Any = None
    groups: Any = None
    limit: int | None = field(init=False)  # derived: of pairs of each kind; None for all
    given: GivenPairs | None = field(init=False)
    bound: BoundThreat | None = field(init=False)  # the threat model for these features
    group_names: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        threat = self._threat()
        super().__post_init__()
        from certimetric.certify.rates import check_far

        bound = None if threat is None else threat.bind(self.data.n_features, self.data.feature_names)
        if bound is not None:
            bound.check_instances(self.data.X)
            self._settle(norm=bound.norm.restrict(bound.mutable), norm_name=bound.norm.name)
        self._settle(threat=threat, bound=bound)
        size = checked_share("test_size", self.test_size)
        if size >= 0.5:
            raise ValueError(f"test_size must leave something to learn from: below 0.5, got {size:g}")
        limit, given = self._pairs()
        groups, names = self._groups()
        self._settle(
            far=check_far(self.far), test_size=size, limit=limit, given=given, groups=groups, group_names=names
        )
        self._parts(0)  # says what is missing
        self._check_memory()
        specs = [subject.spec for subject in self.subjects]
        self._settle(fail_under=told_rates(self.fail_under))
        self._judge_by(specs, FIGURES)
        rates_of(self.far, self.thresholds)  # says that one is none

    def _threat(self) -> ThreatModel | None:
        """The threat model, whose norm is that of the audit."""
        if self.threat is None:
            return None
        from certimetric.geometry.threat_models import resolve_threat

        threat = resolve_threat(self.threat)
        if threat.eps is not None:
            raise ValueError(f"threat takes no eps, got {threat.eps:g}: the sizes of changes are those of eps")
        texts = isinstance(self.norm, str), isinstance(threat.norm, str)
        if not (texts[0] and (self.norm == type(self).norm or (texts[1] and self.norm == threat.norm))):
            raise ValueError("norm and threat name different norms: say it in threat alone")
        self._settle(norm=threat.norm)
        return threat

    def _pairs(self) -> tuple[int | None, GivenPairs | None]:
        """The most pairs of a kind that are drawn, and those that are given."""
        pairs = self.pairs
        if names_file(pairs) or not isinstance(pairs, str | Integral):
            default = type(self).pairs
            return default, GivenPairs.read(pairs, self.codes, self.ids)
        if self.ids is not None:
            raise ValueError(f"ids are what given pairs call the rows, and pairs is {pairs!r}")
        if pairs == "all":
            return None, None
        if isinstance(pairs, str) and not pairs.strip().isdigit():
            raise ValueError(
                f"pairs must be a whole number of at least 1, all, or a CSV or Parquet file, got {pairs!r}"
            )
        return whole("pairs", int(pairs) if isinstance(pairs, str) else pairs, 1), None

    def _parts(self, split: int) -> tuple[tuple[Indices, ...], bool]:
        """Rows to learn from, to calibrate on and to test, and whether no subject is in two of them."""
        if self.given is None:
            return subject_parts(self.codes, [self.test_size, self.test_size], self.seed, split)
        left, test = self.given.others(len(self.codes)), np.unique(self.given.rows)
        own = self.codes[left]
        try:
            (train, calibration), apart = subject_parts(own, [self.test_size], self.seed, split)
        except ValueError:
            able = int((np.bincount(own, minlength=1) > 1).sum())
            raise ValueError(
                f"pairs leave {len(left)} of {counted(len(self.codes), 'row')}, {able} of their subjects with two "
                f"instances or more, which are too few to learn from some and to calibrate on others: give pairs of "
                f"fewer rows"
            ) from None
        return (left[train], left[calibration], test), apart and not np.isin(self.codes[test], own).any()

    def _check_memory(self) -> None:
        """Refuse what would not fit: figures of all pairs of all splits are held at once, for intervals over them."""
        (_, calibration, test), _ = self._parts(0)
        tuned = self._number_of_pairs(calibration)
        tested = self._number_of_pairs(test) if self.given is None else len(self.given.rows)
        each = _PAIR_BYTES * (tuned + tested) + _DECIDED_BYTES * len(self.subjects) * (tuned + tested)
        if (size := self.repeats * each) > MAX_BYTES:
            most = MAX_BYTES // (4 * self.repeats * (_PAIR_BYTES + _DECIDED_BYTES * len(self.subjects)))
            fewer = "fewer pairs" if self.given else f"at most {10 ** (len(str(most)) - 1)} pairs of a kind"
            raise ValueError(
                f"{tuned + tested} pairs a split are about {size / 2**30:.0f} GiB for "
                f"{counted(len(self.subjects), 'learner')} and {counted(self.repeats, 'split')}, more than "
                f"{MAX_BYTES / 2**30:.0f} GiB: take {fewer}, fewer learners or fewer repeats"
            )

    def _number_of_pairs(self, rows: Indices) -> int:
        sizes = np.bincount(self.codes[rows])
        genuine = int((sizes * (sizes - 1) // 2).sum())
        impostor = len(rows) * (len(rows) - 1) // 2 - genuine
        return sum(count if self.limit is None else min(self.limit, count) for count in (genuine, impostor))

    def _groups(self) -> tuple[Indices | None, tuple[str, ...]]:
        if self.groups is None:
            return None, ()
        return coded_groups(self.groups, self.data.n_samples, "rows of X, got shape")

    @property
    def limits(self) -> list[str]:
        """What the threat model does not let an attacker do, for people."""
        if (bound := self.bound) is None:
            return []
        names = np.array(self.data.feature_names, dtype=object)
        told = [f"{listing(names[~bound.mutable])} cannot change"] if not bound.mutable.all() else []
        if bound.boxed:
            low, high = np.unique(bound.low), np.unique(bound.high)
            told_ends = ((f"at least {low[0]:g}", low[0]), (f"at most {high[0]:g}", high[0]))
            ends = [text for text, end in told_ends if np.isfinite(end)]
            one = len(low) == len(high) == 1
            told.append(f"values stay {' and '.join(ends)}" if one else "values stay within their bounds")
        told += [f"{listing(names[bound.integer])} stay whole"] if bound.integer.any() else []
        return told + [f"one of {listing(names[group])} is 1" for group in bound.one_hot]

    @property
    def rates(self) -> tuple[float, ...]:
        """False accept rates of the table of operating points."""
        return rates_of(self.far, self.thresholds)

    def part(self, split: int) -> VerificationSplit:
        """One split in standardised units and its pairs, the same for every learner."""
        from certimetric.constraints.pairs import all_pairs
        from certimetric.runs.splits import make_split, stream

        codes = self.codes
        (train, calibration, test), apart = self._parts(split)
        made = make_split(self.data.X, train, test, self.data.imputed)
        rng = stream(self.seed, split, PAIR_STREAM)
        tuned, tuned_genuine = all_pairs(codes[calibration], self.limit, rng)
        if self.given is None:
            tested, genuine = all_pairs(codes[test], self.limit, rng)
            pairs = test[tested]
        else:
            pairs, genuine = self.given.rows, self.given.genuine
        return VerificationSplit(
            **vars(made),
            calibration=calibration,
            apart=apart,
            calibration_pairs=calibration[tuned],
            calibration_genuine=tuned_genuine,
            pairs=pairs,
            genuine=genuine,
            standardised=np.ascontiguousarray((made.original - made.mean) / made.scale),
        )


def coded_groups(groups: Any, n: int, told: str) -> tuple[Indices, tuple[str, ...]]:
    """Codes of groups, and their names; a ValueError, which is ``told`` of what they are, if they are none of n."""
    given = np.asarray(groups)
    if given.shape != (n,):
        raise ValueError(f"groups must hold one for each of the {n} {told} {given.shape}")
    names, codes = np.unique(given.astype(str), return_inverse=True)
    if len(names) < 2:
        raise ValueError(f"groups must hold at least two groups, got {str(names[0])!r} only")
    return codes.astype(np.int64), tuple(names.tolist())


def rates_of(far: float, thresholds: Iterable[Threshold]) -> tuple[float, ...]:
    """False accept rates that are told: some round ones, that of an audit, and those of its thresholds, checked."""
    from certimetric.certify.rates import check_far

    asked = [check_far(threshold.at or 0.0) for threshold in thresholds if threshold.figure == "tar"]
    return tuple(sorted({0.1, 0.01, 0.001, 0.0001, far, *asked}, reverse=True))


def told_rates(texts: Iterable[str]) -> tuple[str, ...]:
    """Thresholds with ``tar@far=1e-3:0.9`` as ``tar@1e-3=0.9``."""
    return tuple(re.sub(r"\btar@far\s*=\s*([^:=]+):\s*", r"tar@\1=", text) for text in texts)
