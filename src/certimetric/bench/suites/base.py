"""What a suite is: a plan of cells, a pure function that runs one, and the telling of the results."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from certimetric.bench.comparison import failures_table
from certimetric.runs.key import Cell, Record

if TYPE_CHECKING:
    from certimetric.bench.datasets import Found, Named


class Suite(ABC):
    """A published protocol: a subclass in a module of this package, of which an instance there is a suite."""

    name: str
    title: str
    about: str  # one or two sentences: what is measured, and after which paper
    needs: str  # data and packages
    minutes: float  # that it takes on two cores, about
    splits: int  # if no other number is asked for
    protocol: str  # its version: it changes when the meaning of a figure does
    datasets: Sequence[Named]  # that it asks for; those that are missing are told
    further: Sequence[Named] = ()  # data sets that are used where they are at hand
    instance = "SUITE"  # its name in its module

    @property
    def reference(self) -> str:
        """Where a worker finds this suite."""
        return f"{type(self).__module__}:{self.instance}"

    def named(self, cell: Cell) -> Any:
        """The entry of the data set of a cell, for workers."""
        return next(named for named in (*self.datasets, *self.further) if named.name == cell.dataset)

    @property
    def learners(self) -> tuple[str, ...]:
        raise NotImplementedError

    def cells(self, data: Sequence[Found], *, seed: int, splits: int) -> list[Cell]:
        """The plan, split by split and small tables first, so that all learners have figures early."""
        data = sorted(data, key=lambda found: found.named.numbers)
        return [cell for split in range(splits) for cell in self.cells_of(data, seed, split)]

    def cells_of(self, data: Sequence[Found], seed: int, split: int) -> list[Cell]:
        """The plan of one split: every learner on every data set."""
        return [
            found.cell(self.name, learner, split, seed, self.protocol, self.parameters(found, learner))
            for found in data
            for learner in self.learners_on(found)
        ]

    def learners_on(self, found: Found) -> Sequence[str]:
        """The learners that are compared on a data set."""
        return self.learners

    def parameters(self, found: Found, learner: str) -> dict[str, Any]:
        """What the figures of a cell depend on besides its data, learner, split and seed; JSON values."""
        raise NotImplementedError

    @abstractmethod
    def run(self, cell: Cell) -> Mapping[str, Any]:
        """Figures of one cell: JSON values, a pure function of the cell."""

    def tell(self, records: Sequence[Record]) -> dict[str, Any]:
        """``{"summary": […], "tables": […], "figures": […], "learners": […]}`` of what is there, for the report."""
        told = self.describe(records)
        if (failures := failures_table(records)) is not None:
            told["tables"].append(failures)
        return told

    @abstractmethod
    def describe(self, records: Sequence[Record]) -> dict[str, Any]:
        """The same without the table of failures.

        Sentences; tables (see :mod:`certimetric.bench.tables`); figures as the report draws them.
        """
