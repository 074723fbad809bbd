"""The result of an audit of embedding models, and reading a result of either kind."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from certimetric.auditing.saved import SavedResult, read_document
from certimetric.auditing.tables.result import AuditResult
from certimetric.report.document import RETRIEVAL_SCHEMA
from certimetric.report.retrieval.page import render_retrieval, render_retrieval_fragment, retrieval_table

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False, repr=False)
class RetrievalAudit(SavedResult):
    """What an audit of embedding models found.

    Made by :func:`certimetric.auditing.audit_retrieval` or :meth:`load`. In a notebook it shows its verdict and
    comparison.

    Parameters
    ----------
    document : dict
        Schema ``certimetric.retrieval-audit/1``: all figures, from which the report is rendered.
    """

    schema: ClassVar[str] = RETRIEVAL_SCHEMA

    def to_frame(self) -> pd.DataFrame:
        """A row for each model, attack and ε: ``model``, ``attack``, ``eps``, then R@k, mAP@R and mAP.

        Attacks are "clean", each by its name, and "worst case", over which for each query the worst counts.
        """
        import pandas as pd

        rows: list[dict[str, Any]] = []
        for learner in self.document["learners"]:
            told = [("clean", 0.0, learner["clean"])]
            for entry in learner["attacked"]:
                told += [(name, entry["eps"], figures) for name, figures in entry["attacks"].items()]
                told.append(("worst case", entry["eps"], entry["worst"]))
            for attack, eps, figures in told:
                row = {"model": learner["spec"], "attack": attack, "eps": eps}
                rows.append(row | {name: f["mean"] for name, f in figures.items() if isinstance(f, dict)})
        return pd.DataFrame(rows)

    def to_html(self, *, title: str | None = None) -> str:
        """The report: one HTML page that needs no network."""
        return render_retrieval(self.document, title=title)

    def _repr_html_(self) -> str:
        return render_retrieval_fragment(self.document)

    def table(self) -> tuple[list[str], list[list[str]]]:
        """The comparison as text: a header and a row for each learner, the best of a column marked with ``*``."""
        return retrieval_table(self.document)


def load_audit(path: str | os.PathLike[str]) -> AuditResult | RetrievalAudit:
    """Read ``results.json`` of an audit of either kind, or the folder that holds it.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is not the document of an audit.
    """
    _, document = read_document(path)
    if isinstance(document, dict) and document.get("schema") == RETRIEVAL_SCHEMA:
        return RetrievalAudit.load(path)
    return AuditResult.load(path)
