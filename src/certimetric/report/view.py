"""What a kind of audit adds to the page that all share: its columns, its blocks, and its figures as frames."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from certimetric.report.comparison import Column, best_figure
from certimetric.report.document import check_document, printable, splits_done
from certimetric.report.formatting import plain
from certimetric.report.page import figure_view
from certimetric.report.plots import Figure
from certimetric.report.series import assign
from certimetric.report.threats import Threat

if TYPE_CHECKING:
    import pandas as pd

# The order in which a page is read, whatever the kind of audit.
PLACES = (
    "verdict",
    "threats",
    "threat",
    "curves",
    "checks",
    "comparison",
    "classes",
    "instances",
    "anatomy",
    "reproduction",
)


@dataclass(frozen=True)
class Block:
    """A section of the page."""

    place: str  # one of ``PLACES``: where it is read; blocks of one place keep their order
    name: str  # its identifier on the page; a kind's block replaces the shared one of its name
    title: str  # its line in the contents
    # Of the view: what the template shows beside what all blocks share; None where the block is left out.
    make: Callable[[Any], Mapping[str, Any] | None]
    template: str = ""  # name of its template, by default its own: of the folder of the view, or else of those shared
    heading: str = ""  # above it on the page, by default its title

    def templates(self, folder: str) -> list[str]:
        """Where the template may be, below the package ``certimetric.report``."""
        return [f"{place}/{self.template or self.name}.html.j2" for place in (folder, "templates") if place]


class View(ABC):
    """One kind of document as people see it.

    A subclass is a kind's place in the report: it says which columns are compared, and adds blocks to those that every
    page has.
    """

    schema: ClassVar[str]
    folder: ClassVar[str] = ""  # of its templates
    noun: ClassVar[str] = "learner"  # what is compared, in frames and text
    corner: ClassVar[str] = "Learner"  # and at the head of the comparison on the page
    baseline: ClassVar[str | None] = None  # beside which the best figures are told
    twins: ClassVar[tuple[str, ...]] = ()  # codes of the checks that look for near-duplicates
    unsteady: ClassVar[tuple[str, ...]] = ()  # columns that move by chance, of which nothing tells how far
    untold: ClassVar[tuple[str, ...]] = ()  # columns whose best figure is no headline
    blocks: ClassVar[tuple[Block, ...]] = ()
    # Of the document: what could be done, by whom, and what it does to each learner; and what was not tried.
    threats_of: Callable[[Mapping[str, Any]], list[Threat]] = staticmethod(lambda document: [])
    untried_of: Callable[[Mapping[str, Any]], list[str]] = staticmethod(lambda document: [])
    size: Callable[[float], str] = staticmethod(plain)  # how a size of attack is written

    def __init__(self, document: Mapping[str, Any]) -> None:
        check_document(document, self.schema)
        self.document: dict[str, Any] = printable(document)  # without characters that no page may hold
        self.learners: list[dict[str, Any]] = self.document["learners"]
        self.looks = assign(self.learners)  # how each of them is drawn

    @cached_property
    @abstractmethod
    def columns(self) -> list[Column]:
        """The comparison, the best of each column marked."""

    @property
    def title(self) -> str:
        """The heading of the page, where the caller gives none."""
        return f"Audit of {self.document['data']['name']}"

    def rests_on(self, column: Column) -> dict[str, Any]:
        """What of the protocol a column depends on besides its size: figures of other ones do not compare."""
        names = ("norm", "units", "limits") if "ε" in column.qualifier or "radius" in column.key else ()
        names = (*names, "attacks", "objective", "surrogate") if "attacked" in column.key else names
        return {name: self.document["protocol"].get(name) for name in names}

    def trouble(self, learner: Mapping[str, Any]) -> str:
        """How many splits are left of a learner where some failed, beside its name."""
        done, total = splits_done(learner)
        return "" if done == total else f"{done} of {total} splits" if done else "failed"

    def last_row(self) -> dict[str, Any] | None:
        """``label`` and ``cells`` of a row below the comparison."""
        return None

    def threats(self) -> list[Threat]:
        """What could be done, by whom, and what it does to each learner."""
        return self.threats_of(self.document)

    def untried(self) -> list[str]:
        """What could be done and was not tried, a clause each."""
        return self.untried_of(self.document)

    def lede(self) -> list[str]:
        """What was audited, in the words below the heading."""
        return []

    def facts(self) -> list[tuple[str, str]]:
        """What the reproduction block tells of data and protocol."""
        return []

    def spread(self) -> dict[str, Any]:
        """Names, columns and best figures, as page and notebook show them."""
        specs = [learner["spec"] for learner in self.learners]
        labels = [learner["label"] for learner in self.learners]
        baseline = specs.index(self.baseline) if self.baseline in specs else None
        headlines = [column for column in self.columns if column.better and column.key not in self.untold]
        return {
            "corner": self.corner,
            "data": self.document["data"],
            "protocol": self.document["protocol"],
            "columns": self.columns,
            "baseline": self.last_row(),
            "names": [{"label": each["label"], "failed": self.trouble(each)} for each in self.learners],
            "looks": self.looks,
            "tiles": [tile for column in headlines if (tile := best_figure(labels, column, baseline))],
        }

    # Figures as frames.

    def to_frame(self) -> pd.DataFrame:
        """A row for each learner and whatever it was measured under; by default that of :meth:`summary`."""
        return self.summary()

    def summary(self) -> pd.DataFrame:
        """A row for each learner: the figures of the comparison, shares from 0 to 1."""
        import pandas as pd

        rows = [
            {self.noun: learner["spec"], **{column.key: column.cells[i].value for column in self.columns}}
            for i, learner in enumerate(self.learners)
        ]
        return pd.DataFrame(rows)

    def per_class(self) -> pd.DataFrame:
        """A row for each learner and class; empty where classes were not told apart."""
        import pandas as pd

        rows = [
            {self.noun: learner["spec"], **row} for learner in self.learners for row in learner.get("per_class") or []
        ]
        return pd.DataFrame(rows)

    def trust(self) -> pd.DataFrame:
        """How well scores of predictions tell the wrong ones."""
        raise ValueError("an audit of this kind does not tell which predictions to trust")

    def confusion_matrix(self, learner: str | None = None) -> pd.DataFrame:
        """How often each class was told as each class."""
        raise ValueError("an audit of this kind does not tell which class is told as which")


def of_document(make: Callable[[Mapping[str, Any]], Any]) -> Callable[[View], Any]:
    """What a block shows, where that is a function of the document alone."""
    return lambda view: make(view.document)


def figures_block(
    place: str,
    name: str,
    title: str,
    draw: Callable[[Mapping[str, Any]], Sequence[Figure]],
    intro: str | Callable[[Any], str] = "",
    empty: str = "",
) -> Block:
    """A block of figures of the document and nothing else.

    ``intro`` stands above them, where it is a callable asked with the view. ``empty`` stands in place of figures;
    without it a block that has none is left out.
    """

    def make(view: Any) -> dict[str, Any] | None:
        figures = [figure_view(figure) for figure in draw(view.document)]
        if not figures and not empty:
            return None
        above = intro(view) if callable(intro) else intro
        return {"intro": above, "figures": figures, "empty": empty}

    return Block(place, name, title, make, "figures")
