"""The result of an audit: a value around its document, that shows itself, saves itself and is read again."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from certimetric.geometry.files import write_atomically
from certimetric.report import render_audit, render_audit_fragment, summary_table
from certimetric.report.document import check_document

if TYPE_CHECKING:
    import pandas as pd

RESULTS_FILE, REPORT_FILE = "results.json", "report.html"


@dataclass(frozen=True, eq=False, repr=False)
class AuditResult:
    """What an audit found.

    Made by :func:`certimetric.audit` or :meth:`load`. In a notebook it shows its verdict and comparison.

    Parameters
    ----------
    document : dict
        Audit document, schema ``certimetric.audit/1``: all figures, from which the report is rendered.

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

    @property
    def status(self) -> str:
        """PASS, WARN or FAIL."""
        return str(self.document["verdict"]["status"])

    @property
    def passed(self) -> bool:
        """Whether every threshold holds and no certificate was broken: the status is not FAIL."""
        return self.status != "FAIL"

    def to_frame(self) -> pd.DataFrame:
        """A row for each learner and split, with all its figures.

        Returns
        -------
        frame : DataFrame
            Columns ``learner``, ``split``, ``error``, ``noise_error@σ`` for every noise level, ``certified@ε`` for the
            quoted ε and every radius of the curve, ``median_radius``, ``fit_seconds``; NaN where a split failed.
        """
        import pandas as pd

        protocol = self.document["protocol"]
        rows = []
        for learner in self.document["learners"]:
            for split in learner["splits"]:
                row = {"learner": learner["spec"], "split": split["split"]}
                if "failed" not in split:
                    row["error"] = split["error"]
                    row |= _named("noise_error", protocol["noise"], split["noise_error"])
                    row |= _named("certified", protocol["eps"], split["certified_accuracy"])
                    row["median_radius"] = float(split["median_radius"])
                    row["fit_seconds"] = split["fit_seconds"]
                rows.append(row)
        columns = ["learner", "split", "error"]
        columns += [f"noise_error@{level:g}" for level in protocol["noise"]]
        columns += [f"certified@{eps:g}" for eps in protocol["eps"]]
        return pd.DataFrame(rows, columns=[*columns, "median_radius", "fit_seconds"])

    def summary(self) -> pd.DataFrame:
        """A row for each learner: the mean over splits of what the report's table shows."""
        import pandas as pd

        protocol = self.document["protocol"]
        quoted = protocol["eps"].index(protocol["report_eps"])
        rows = []
        for learner in self.document["learners"]:
            row: dict[str, Any] = {"learner": learner["spec"]}
            if (told := learner["summary"]) is not None:
                row["error"] = told["error"]["mean"]
                row |= _named("noise_error", protocol["noise"], [entry["mean"] for entry in told["noise_error"]])
                row[f"certified@{protocol['report_eps']:g}"] = told["certified_accuracy"][quoted]["mean"]
                row["median_radius"] = float(told["median_radius"]["mean"])
                row["fit_seconds"] = told["fit_seconds"]["mean"]
            rows.append(row)
        return pd.DataFrame(rows)

    def to_dict(self) -> dict[str, Any]:
        """A copy of the document."""
        return dict(json.loads(self.to_json()))

    def to_json(self) -> str:
        """The document as JSON; infinite radii are the string "inf"."""
        return json.dumps(self.document, allow_nan=False, ensure_ascii=False, indent=1)

    def to_html(self, *, title: str | None = None) -> str:
        """The report: one HTML page that needs no network."""
        return render_audit(self.document, title=title)

    def _repr_html_(self) -> str:
        return render_audit_fragment(self.document)

    def __repr__(self) -> str:
        header, rows = summary_table(self.document)
        widths = [max(map(len, column)) for column in zip(header, *rows)]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in (header, *rows)]
        verdict = self.document["verdict"]
        return "\n".join([f"AuditResult of {self.document['data']['name']}: {verdict['status']}", *lines])

    def save(self, folder: str | os.PathLike[str], *, title: str | None = None) -> tuple[Path, Path]:
        """Write ``results.json`` and ``report.html`` into a folder, which is made if need be.

        Returns
        -------
        results, report : Path

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
        report = self.to_html(title=title)
        return write_atomically(path / RESULTS_FILE, self.to_json()), write_atomically(path / REPORT_FILE, report)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> AuditResult:
        """Read ``results.json``, or the folder that holds it.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If it is not the document of an audit.
        """
        file = Path(path) / RESULTS_FILE if Path(path).is_dir() else Path(path)
        if not file.exists():
            raise FileNotFoundError(f"there is no results file {str(file)!r}")
        try:
            document = json.loads(file.read_text(encoding="utf-8"))
        except ValueError:
            raise ValueError(f"{str(file)!r} is not a results file of certimetric: it is not JSON") from None
        try:
            check_document(document)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{str(file)!r} is not a results file of certimetric: {error}") from None
        return cls(document)


def _named(name: str, sizes: list[float], values: list[float]) -> dict[str, float]:
    return {f"{name}@{size:g}": value for size, value in zip(sizes, values)}
