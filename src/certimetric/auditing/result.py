"""The result of an audit, whatever its kind: a value around its document, that shows, saves and reads itself."""

from __future__ import annotations

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from certimetric.base.files import write_atomically
from certimetric.report import junit_xml, render_audit, render_audit_fragment, sarif_json, summary_table
from certimetric.report.views import view_of

if TYPE_CHECKING:
    import pandas as pd

RESULTS_FILE, REPORT_FILE = "results.json", "report.html"


class Documented(ABC):
    """A document with a verdict, told as JSON, page, JUnit XML and SARIF: that of an audit, or of two compared."""

    document: dict[str, Any]
    _files: ClassVar[tuple[str, str]]  # that document and page are saved as

    @property
    def status(self) -> str:
        """The verdict in a word.

        Of an audit FAIL, WARN, PASS, or REPORT where no threshold was declared and nothing is in doubt; of a comparison
        REGRESSION, NO REGRESSION, or NOT COMPARABLE where no figure compares.
        """
        return str(self.document["verdict"]["status"])

    @abstractmethod
    def to_html(self, *, title: str | None = None) -> str:
        """One HTML page that needs no network."""

    def to_json(self) -> str:
        """The document as JSON; an infinite number is the string "inf"."""
        return json.dumps(self.document, allow_nan=False, ensure_ascii=False, indent=1)

    def to_junit(self) -> str:
        """JUnit XML, for the test panes of CI: a missed threshold, an issue and what became worse are failures."""
        return junit_xml(self.document)

    def to_sarif(self) -> str:
        """SARIF 2.1.0, for the tools in which findings of security are kept."""
        return sarif_json(self.document, artifact=self._files[0])

    def save(self, folder: str | os.PathLike[str], *, title: str | None = None) -> tuple[Path, Path]:
        """Write document and page into a folder, which is made if need be.

        Returns
        -------
        document, page : Path
            ``results.json`` and ``report.html`` of an audit, ``compare.json`` and ``compare.html`` of two.

        Raises
        ------
        OSError
            If the folder cannot be written.
        """
        path = Path(folder)
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OSError(f"cannot make the folder {str(path)!r}: {error.strerror or error}") from None
        page, (document, shown) = self.to_html(title=title), (path / name for name in self._files)
        return write_atomically(document, self.to_json()), write_atomically(shown, page)


@dataclass(frozen=True, eq=False, repr=False)
class AuditResult(Documented):
    """What an audit found.

    Made by :func:`certimetric.audit`, :func:`certimetric.auditing.audit_retrieval`,
    :func:`certimetric.auditing.audit_embeddings` or :meth:`load`. In a notebook it shows its verdict and comparison.

    Parameters
    ----------
    document : dict
        All figures, from which the report is rendered. Its ``schema`` tells the kind of audit.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from certimetric import audit
    >>> X, y = load_iris(return_X_y=True)
    >>> result = audit(X, y, learners=["euclidean"], repeats=2)
    >>> result.to_frame()["learner"].tolist()
    ['euclidean', 'euclidean']
    >>> result.passed
    True
    """

    document: dict[str, Any]
    _files: ClassVar = (RESULTS_FILE, REPORT_FILE)

    @property
    def passed(self) -> bool:
        """Whether nothing failed: no threshold is missed and no certificate was broken (the status is not FAIL)."""
        return self.status != "FAIL"

    def to_dict(self) -> dict[str, Any]:
        """A copy of the document."""
        return dict(json.loads(self.to_json()))

    def to_frame(self) -> pd.DataFrame:
        """All figures, one row for each time that something was measured.

        Returns
        -------
        frame : DataFrame
            Of a table a row for each learner and split, with the columns ``learner``, ``split``, ``error``,
            ``balanced_accuracy``, ``noise_error@σ`` for every noise level, ``certified@ε`` for the quoted ε and every
            radius of the curve, ``median_radius``, ``fit_seconds``; NaN where a split failed.

            Of embedding models a row for each model, attack and ε: ``model``, ``attack``, ``eps``, then R@k, mAP@R and
            mAP. Attacks are "clean", each by its name, and "worst case", over which for each query the worst counts.
        """
        return view_of(self.document).to_frame()

    def summary(self) -> pd.DataFrame:
        """A row for each learner or model: the figures of the report's comparison, shares from 0 to 1."""
        return view_of(self.document).summary()

    def per_class(self) -> pd.DataFrame:
        """A row for each learner or model and class that was tested.

        Returns
        -------
        frame : DataFrame
            Of a table the columns ``learner``, ``class``, ``count``, ``recall``, ``precision`` (NaN where no instance
            was told to be of the class), ``certified`` (share certified right at the quoted ε) and ``median_radius``,
            over all splits, the worst class first. Of embedding
            models ``model``, ``class``, ``count``, ``recall`` (R@1) and ``attacked`` (R@1 at the quoted ε).
        """
        return view_of(self.document).per_class()

    def confusion_matrix(self, learner: str | None = None) -> pd.DataFrame:
        """How often each class was told as each class, over the test instances of all splits of a table.

        Parameters
        ----------
        learner : str, default=None
            Its specification; None for the recommended one.

        Returns
        -------
        counts : DataFrame
            A row for each true class, a column for each predicted one.

        Raises
        ------
        ValueError
            If there is no such learner, none is recommended, or the audit is not of a table.
        """
        return view_of(self.document).confusion_matrix(learner)

    def trust(self) -> pd.DataFrame:
        """How well scores of predictions tell the wrong ones, for the recommended metric on a table.

        Returns
        -------
        frame : DataFrame
            A row for each score, with the columns of :class:`certimetric.certify.ScoreFigures`; the last is
            "chance".

        Raises
        ------
        ValueError
            If nothing was recommended, the audit is not of a table, or of a version that did not measure it.
        """
        return view_of(self.document).trust()

    def to_html(self, *, title: str | None = None) -> str:
        """The report: one HTML page that needs no network."""
        return render_audit(self.document, title=title)

    def _repr_html_(self) -> str:
        return render_audit_fragment(self.document)

    def table(self) -> tuple[list[str], list[list[str]]]:
        """The comparison as text: a header and a row for each learner, the best of a column marked with ``*``."""
        return summary_table(self.document)

    def __repr__(self) -> str:
        header, rows = self.table()
        widths = [max(map(len, column)) for column in zip(header, *rows)]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in (header, *rows)]
        return "\n".join([f"{type(self).__name__} of {self.document['data']['name']}: {self.status}", *lines])

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> AuditResult:
        """Read ``results.json`` of an audit of any kind, or the folder that holds it.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If it is not the document of an audit.
        """
        file, document = read_document(path)
        try:
            view_of(document)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{str(file)!r} is not a results file of certimetric: {error}") from None
        return cls(dict(document))


def read_document(path: str | os.PathLike[str]) -> tuple[Path, Mapping[str, Any]]:
    """The file of results, given itself or by its folder, and the JSON in it."""
    file = Path(path) / RESULTS_FILE if Path(path).is_dir() else Path(path)
    if not file.exists():
        raise FileNotFoundError(f"there is no results file {str(file)!r}")
    try:
        return file, json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):  # text that is nested without end is none either
        raise ValueError(f"{str(file)!r} is not a results file of certimetric: it is not JSON") from None


def refuse_other_report(folder: Path, options: Mapping[str, Any]) -> None:
    """See that a folder holds no report, or that of an audit with the same options: none is written over in silence.

    Options are what the figures depend on, as JSON; the document keeps them as ``reproduction.options``.

    Raises
    ------
    ValueError
        If it holds the report of another audit; the message names what differs.
    """
    if (difference := _difference(folder, options)) is not None:
        raise ValueError(
            f"out: the folder {str(folder)!r} holds the report of another audit ({difference}): take another folder, "
            f"or remove {RESULTS_FILE} there to write over it"
        )


def own_folder(folder: Path, options: Mapping[str, Any]) -> Path:
    """The folder, or where it holds the report of another audit, the first of FOLDER-2, FOLDER-3, … that does not."""
    found, number = folder, 1
    while _difference(found, options) is not None:
        number += 1
        found = folder.with_name(f"{folder.name}-{number}")
    return found


def _difference(folder: Path, options: Mapping[str, Any]) -> str | None:
    """What differs between the audit whose report is in a folder and one with these options; None if nothing does."""
    try:
        _, document = read_document(folder / RESULTS_FILE)
        told = document["reproduction"]["options"]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError):
        return "whose options are not known"
    asked = json.loads(json.dumps(options))
    for name in dict.fromkeys([*asked, *told]):
        before, now = told.get(name), asked.get(name)
        if before != now:
            short = isinstance(before, (str, int, float)) and isinstance(now, (str, int, float)) and name != "data"
            return f"with {name} {before}, not {now}" if short else f"with other {name}"
    return None
