"""What a suite is: a plan of cells, a pure function that runs one, and the telling of the results."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from certimetric.runs.key import Cell, Record

if TYPE_CHECKING:
    from certimetric.bench.datasets import Found, Named


class Suite(ABC):
    """A published protocol: a subclass in a module of this package, of which an instance there is a suite.

    Attributes
    ----------
    name, title : str
    about : str
        One or two sentences: what is measured, and after which paper.
    needs : str
        Data and packages.
    minutes : float
        Time that it takes on two cores, about.
    splits : int
        Splits, if no other number is asked for.
    instance : str
        Name of the instance in its module.
    """

    name: str
    title: str
    about: str
    needs: str
    minutes: float
    splits: int
    instance = "SUITE"

    @property
    def reference(self) -> str:
        """Where a worker finds this suite."""
        return f"{type(self).__module__}:{self.instance}"

    @abstractmethod
    def datasets(self) -> Sequence[Named]:
        """The data sets that the suite asks for; those that are missing are told."""

    def further(self) -> Sequence[Named]:
        """Data sets that are used where they are at hand."""
        return ()

    def named(self, cell: Cell) -> Any:
        """The entry of the data set of a cell, for workers."""
        return next(named for named in (*self.datasets(), *self.further()) if named.name == cell.dataset)

    @abstractmethod
    def cells(self, data: Sequence[Found], *, seed: int, splits: int) -> list[Cell]:
        """The plan, split by split, so that all learners have figures early."""

    @abstractmethod
    def run(self, cell: Cell) -> Mapping[str, Any]:
        """Figures of one cell: JSON values, a pure function of the cell."""

    @abstractmethod
    def tell(self, records: Sequence[Record]) -> dict[str, Any]:
        """``{"summary": […], "tables": […], "figures": […]}`` of what is there, for the report.

        Sentences; tables (see :mod:`certimetric.bench.tables`); figures as the report draws them.
        """
