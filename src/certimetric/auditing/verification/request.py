"""What an audit of verification on a table is asked to do, checked before any work starts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from certimetric.auditing.request import whole
from certimetric.auditing.tables.request import TableRequest, checked_share
from certimetric.base.arrays import Array, Indices
from certimetric.runs.splits import Split, subject_parts

if TYPE_CHECKING:
    from certimetric.constraints.tuples import Tuples

# What thresholds may ask for, and whether it is taken at a size: a false accept rate, or an ε.
FIGURES = {"auc": False, "tar": True, "certified": True, "rejected": True}
DEFAULT_LEARNERS = ("euclidean", "lmnn", "lmnn+pl", "gmml", "itml", "arml")
PAIR_STREAM = 3


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
    n_pairs : int or "all"
        So many pairs of each kind, genuine and impostor, are drawn of a part where it has more.
    test_size : float
        Share of the subjects whose pairs are tested; on as many others thresholds are calibrated.

        Where the classes are too few for subjects of its own in every part, the instances of each class are shared out.
    groups : array-like of shape (n,)
        A group of each instance, by which rates are told too. None for none.
    fail_under : str or sequence of str
        Thresholds ``FIGURE=VALUE`` or ``LEARNER.FIGURE=VALUE`` with the FIGURE ``auc``, ``tar@FAR`` (true accept rate
        at the threshold that is calibrated to a false accept rate; ``tar@far=1e-3:0.9`` is ``tar@1e-3=0.9``),
        ``certified@EPS`` (share of genuine pairs that stay accepted within ε) or ``rejected@EPS`` (share of impostor
        pairs that stay rejected).

    Raises
    ------
    ValueError, TypeError
        On the first thing that is wrong, in one sentence.
    """

    options = {"far": "--far RATE", "n_pairs": "--pairs [N|all]", "test_size": "--test-size SHARE"}

    learners: str | Iterable[Any] | Mapping[str, Any] = DEFAULT_LEARNERS
    far: float = 0.01
    n_pairs: Any = 30_000
    test_size: float = 0.3
    groups: Any = None
    limit: int | None = field(init=False)  # derived: of pairs of each kind; None for all
    group_names: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        from certimetric.certify.rates import check_far

        size = checked_share("test_size", self.test_size)
        if size >= 0.5:
            raise ValueError(f"test_size must leave something to learn from: below 0.5, got {size:g}")
        limit = None if self.n_pairs == "all" else whole("n_pairs", _counted(self.n_pairs), 1)
        groups, names = self._groups()
        self._settle(far=check_far(self.far), test_size=size, limit=limit, groups=groups, group_names=names)
        subject_parts(self.codes, self._shares, self.seed, 0)  # says what is missing
        specs = [subject.spec for subject in self.subjects]
        self._settle(fail_under=told_rates(self.fail_under))
        self._judge_by(specs, FIGURES)
        for threshold in self.thresholds:
            if threshold.figure == "tar":
                check_far(threshold.at or 0.0)

    @property
    def _shares(self) -> list[float]:
        return [self.test_size, self.test_size]

    def _groups(self) -> tuple[Indices | None, tuple[str, ...]]:
        if self.groups is None:
            return None, ()
        given = np.asarray(self.groups)
        if given.shape != (self.data.n_samples,):
            raise ValueError(
                f"groups must hold one for each of the {self.data.n_samples} rows of X, got shape {given.shape}"
            )
        names, codes = np.unique(given.astype(str), return_inverse=True)
        if len(names) < 2:
            raise ValueError(f"groups must hold at least two groups, got {str(names[0])!r} only")
        return codes.astype(np.int64), tuple(names.tolist())

    @property
    def rates(self) -> tuple[float, ...]:
        """False accept rates of the table of operating points."""
        asked = [threshold.at or 0.0 for threshold in self.thresholds if threshold.figure == "tar"]
        return tuple(sorted({0.1, 0.01, 0.001, 0.0001, self.far, *asked}, reverse=True))

    def part(self, split: int) -> VerificationSplit:
        """One split in standardised units and its pairs, the same for every learner."""
        from certimetric.constraints.pairs import all_pairs
        from certimetric.datasets import fill_gaps
        from certimetric.runs.splits import Preparation, stream

        X, codes = self.data.X, self.codes
        (train, calibration, test), apart = subject_parts(codes, self._shares, self.seed, split)
        if self.data.imputed is not None:
            X = fill_gaps(X, self.data.imputed, train)
        standardise = Preparation.fit(X[train])
        scaled = standardise(X)
        rng = stream(self.seed, split, PAIR_STREAM)
        (tuned, tuned_genuine), (tested, genuine) = (
            all_pairs(codes[rows], self.limit, rng) for rows in (calibration, test)
        )
        return VerificationSplit(
            train,
            test,
            scaled[train],
            scaled[test],
            standardise.mean,
            standardise.scale,
            X,
            calibration=calibration,
            apart=apart,
            calibration_pairs=calibration[tuned],
            calibration_genuine=tuned_genuine,
            pairs=test[tested],
            genuine=genuine,
            standardised=scaled,
        )


def told_rates(texts: Iterable[str]) -> tuple[str, ...]:
    """Thresholds with ``tar@far=1e-3:0.9`` as ``tar@1e-3=0.9``."""
    return tuple(re.sub(r"\btar@far\s*=\s*([^:=]+):\s*", r"tar@\1=", text) for text in texts)


def _counted(value: Any) -> Any:
    """What an option says as text, as a number."""
    return int(value) if isinstance(value, str) and value.strip().isdigit() else value
