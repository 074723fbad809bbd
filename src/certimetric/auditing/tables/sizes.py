"""How much of a table an audit looks at, and what each size costs as smaller ones tell."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from certimetric.base.wording import counted

ATTACKED = 100  # test instances of one split
FRAGILE = 6  # besides: those with the smallest radii
TEST_ROWS = 5000
_FEWEST, _FEW_TESTED, _FEW_ATTACKED = 5000, 1000, 20  # of the smallest audit of a large table
# What grows with the rows may begin to grow late: of the last cost, so much at least for as many rows again.
_LEAST_SLOPE = 0.1


@dataclass(frozen=True)
class Sizes:
    """Rows of the training part, which are learned from and vote, test instances, those attacked, and splits."""

    train: int
    test: int
    attacked: int
    repeats: int

    def ladder(self) -> list[Sizes]:
        """These sizes, and smaller ones before them: first of fewer training rows, for these change the predictor."""
        first = replace(self, test=min(self.test, _FEW_TESTED), attacked=min(self.attacked, _FEW_ATTACKED), repeats=1)
        rungs, train = [], _FEWEST
        while train < self.train:
            rungs.append(replace(first, train=train))
            train *= 2
        rungs += [first, replace(first, test=min(self.test, 2 * _FEW_TESTED), attacked=min(self.attacked, 40))]
        rungs += [replace(self, repeats=count) for count in range(1, self.repeats + 1)]
        return list(dict.fromkeys(rungs))

    def told(self, full: Sizes) -> str:
        """In words, beside the sizes of everything."""
        return (
            f"{self.train:,} of {full.train:,} training rows learn and vote, {self.test:,} of {full.test:,} test rows "
            f"are predicted and certified, {self.attacked} attacked, {counted(self.repeats, 'split')}"
        )


@dataclass
class Law:
    """Seconds of something by training rows, as they were measured: a line through the last two."""

    points: dict[int, float] = field(default_factory=dict)

    def at(self, train: int) -> float:
        """Seconds that so many rows would take; 0 where nothing was measured.

        Examples
        --------
        >>> law = Law({1000: 1.0, 3000: 2.0})
        >>> law.at(5000), law.at(2000), law.at(1)
        (3.0, 1.5, 0.5005)
        """
        if not self.points:
            return 0.0
        rows = sorted(self.points)
        last = self.points[rows[-1]]
        slope = _LEAST_SLOPE * last / rows[-1]
        if len(rows) > 1:
            slope = max(slope, (last - self.points[rows[-2]]) / (rows[-1] - rows[-2]))
        return max(last + slope * (train - rows[-1]), 0.0)


@dataclass
class Costs:
    """Laws of a learner: a fit, a test instance, and an attacked one."""

    fit: Law = field(default_factory=Law)
    test: Law = field(default_factory=Law)
    attack: Law = field(default_factory=Law)

    def seconds(self, sizes: Sizes) -> float:
        """Of one process, for all splits."""
        each = self.fit.at(sizes.train) + sizes.test * self.test.at(sizes.train)
        return sizes.repeats * each + (sizes.attacked + FRAGILE) * self.attack.at(sizes.train)


def expected(costs: Mapping[str, Costs], sizes: Sizes, processes: int) -> float:
    """Seconds of an audit of all learners: what the processes share, but no less than the longest cell."""
    each = [cost.seconds(sizes) for cost in costs.values()]
    longest = max(cost.seconds(replace(sizes, repeats=1)) for cost in costs.values())
    return max(sum(each) / processes, longest)


def largest_within(rungs: Iterable[Sizes], cost: Callable[[Sizes], float], seconds: float) -> Sizes | None:
    """The last of the sizes that takes no longer; None if none does."""
    return next((sizes for sizes in reversed(list(rungs)) if cost(sizes) <= seconds), None)
