"""Two audits compared: what changed from one to the other, and whether it became worse."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from certimetric.auditing.result import AuditResult, Documented
from certimetric.report.changes.compare import compare_documents
from certimetric.report.changes.page import comparison_table, render_comparison
from certimetric.report.document import number

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False, repr=False)
class AuditComparison(Documented):
    """What changed from one audit to another; made by :func:`compare_audits`.

    Parameters
    ----------
    document : dict
        ``figures``, each with ``before``, ``after``, ``change``, ``p`` and ``outcome``; ``rules``: thresholds and
        checks that fell or were mended; ``remarks``, and the ``verdict``.

    Examples
    --------
    >>> AuditComparison({"verdict": {"status": "NO REGRESSION", "judged": 3}}).comparable
    True
    """

    document: dict[str, Any]
    _files: ClassVar = ("compare.json", "compare.html")

    @property
    def regressed(self) -> bool:
        """Whether a figure became worse, or a threshold or check that held does not any more."""
        return self.status == "REGRESSION"

    @property
    def comparable(self) -> bool:
        """Whether any figure could be judged."""
        return bool(self.document["verdict"]["judged"])

    def to_frame(self) -> pd.DataFrame:
        """A row for each figure of each learner: before, after, change with its interval, p-value and outcome."""
        import pandas as pd

        rows = []
        for each in self.document["figures"]:
            told = {key: each[key] for key in ("learner", "key", "qualifier", "better")}
            told |= {side: number((each[side] or {}).get("mean")) for side in ("before", "after")}
            change = each["change"] or {}
            told |= {"change": number(change.get("mean")), "low": number(change.get("low"))}
            rows.append(told | {"high": number(change.get("high")), "p": each["p"], "outcome": each["outcome"]})
        return pd.DataFrame(rows)

    def to_html(self, *, title: str | None = None) -> str:
        """One HTML page that needs no network."""
        return render_comparison(self.document, title=title)

    def __repr__(self) -> str:
        return f"{type(self).__name__}: {self.status}. {self.document['verdict']['sentence']}"

    def table(self) -> tuple[list[str], list[list[str]]]:
        """The figures as text: a header, and a row for each figure of each learner."""
        return comparison_table(self.document)


def compare_audits(
    before: AuditResult | str | os.PathLike[str],
    after: AuditResult | str | os.PathLike[str],
    *,
    tolerance: float = 0.01,
    command: str = "",
) -> AuditComparison:
    """Compare two audits of one kind: figures with their significance, thresholds, checks, and what does not compare.

    Learners are matched by their names; where each audit has one that the other lacks, these two are. Figures of other
    data, sizes of change, norms or attacks do not compare. On the same rows outcomes are compared in pairs, by an exact
    test; else by the intervals of both. P-values are corrected for the number of figures.

    Parameters
    ----------
    before, after : AuditResult or path
        Results, or their ``results.json`` or folder.
    tolerance : float, default=0.01
        By how much a share may become worse, from 0 to 1; of a figure with a unit, the share of what it was.
    command : str
        How to repeat the comparison, for the page.

    Returns
    -------
    comparison : AuditComparison

    Raises
    ------
    ValueError
        If the audits are of different kinds, nothing is in both, or the tolerance is not from 0 to 1.
    FileNotFoundError
        If there are no results.

    References
    ----------
    McNemar (1947), Psychometrika 12 [mcnemar1947note]; Newcombe (1998), Statistics in Medicine 17
    [newcombe1998interval]; Holm (1979), Scandinavian Journal of Statistics 6 [holm1979simple].

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from certimetric.auditing import audit, compare_audits
    >>> X, y = load_iris(return_X_y=True)
    >>> before, after = (audit(X, y, learners=["euclidean"], n_neighbors=k, repeats=2, eps=[0.3]) for k in (5, 1))
    >>> comparison = compare_audits(before, after)
    >>> comparison.status, comparison.to_frame().set_index("key").loc["error", "outcome"]
    ('NO REGRESSION', 'no evidence')
    """
    if isinstance(tolerance, bool) or not isinstance(tolerance, (int, float)) or not 0 <= tolerance <= 1:
        raise ValueError(f"tolerance must be a share from 0 to 1, got {tolerance!r}")
    first, second = (each if isinstance(each, AuditResult) else AuditResult.load(each) for each in (before, after))
    return AuditComparison(
        compare_documents(first.document, second.document, tolerance=float(tolerance), command=command)
    )
