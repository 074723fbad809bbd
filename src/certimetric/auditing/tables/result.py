"""The result of an audit: a value around its document, that shows itself, saves itself and is read again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from certimetric.auditing.saved import SavedResult
from certimetric.report import render_audit, render_audit_fragment, summary_table

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False, repr=False)
class AuditResult(SavedResult):
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

    def to_frame(self) -> pd.DataFrame:
        """A row for each learner and split, with all its figures.

        Returns
        -------
        frame : DataFrame
            Columns ``learner``, ``split``, ``error``, ``balanced_accuracy``, ``noise_error@σ`` for every noise level,
            ``certified@ε`` for the quoted ε and every radius of the curve, ``median_radius``, ``fit_seconds``; NaN
            where a split failed.
        """
        import pandas as pd

        protocol = self.document["protocol"]
        rows = []
        for learner in self.document["learners"]:
            for split in learner["splits"]:
                row = {"learner": learner["spec"], "split": split["split"]}
                if "failed" not in split:
                    row["error"] = split["error"]
                    row["balanced_accuracy"] = split.get("balanced_accuracy")
                    row |= _named("noise_error", protocol["noise"], split["noise_error"])
                    row |= _named("certified", protocol["eps"], split["certified_accuracy"])
                    row["median_radius"] = float(split["median_radius"])
                    row["fit_seconds"] = split["fit_seconds"]
                rows.append(row)
        columns = ["learner", "split", "error", "balanced_accuracy"]
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
                row["balanced_accuracy"] = told.get("balanced_accuracy", {}).get("mean")
                row |= _named("noise_error", protocol["noise"], [entry["mean"] for entry in told["noise_error"]])
                row[f"certified@{protocol['report_eps']:g}"] = told["certified_accuracy"][quoted]["mean"]
                row["median_radius"] = float(told["median_radius"]["mean"])
                row["fit_seconds"] = told["fit_seconds"]["mean"]
            rows.append(row)
        return pd.DataFrame(rows)

    def per_class(self) -> pd.DataFrame:
        """A row for each learner and class that was tested, over all splits, the worst class first.

        Returns
        -------
        frame : DataFrame
            Columns ``learner``, ``class``, ``count``, ``recall``, ``precision`` (NaN where no instance was told to be
            of the class), ``median_radius``.
        """
        import pandas as pd

        columns = ["learner", "class", "count", "recall", "precision", "median_radius"]
        rows = [
            {"learner": learner["spec"], **row, "median_radius": float(row["median_radius"])}
            for learner in self.document["learners"]
            for row in learner["per_class"]
        ]
        return pd.DataFrame(rows, columns=columns).astype({"recall": float, "precision": float})

    def confusion_matrix(self, learner: str | None = None) -> pd.DataFrame:
        """How often each class was told as each class, over the test instances of all splits.

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
            If there is no such learner, or none is recommended.
        """
        import pandas as pd

        spec = self.document["verdict"].get("recommended") if learner is None else learner
        specs = [each["spec"] for each in self.document["learners"]]
        if spec not in specs:
            raise ValueError(f"learner must be one of {', '.join(specs)}, got {spec!r}")
        classes = self.document["data"]["classes"]
        counts = np.zeros((len(classes), len(classes)), dtype=int)
        for true, predicted, count in self.document["learners"][specs.index(spec)]["confusions"]:
            counts[true, predicted] = count
        return pd.DataFrame(counts, pd.Index(classes, name="true"), pd.Index(classes, name="predicted"))

    def to_html(self, *, title: str | None = None) -> str:
        """The report: one HTML page that needs no network."""
        return render_audit(self.document, title=title)

    def _repr_html_(self) -> str:
        return render_audit_fragment(self.document)

    def table(self) -> tuple[list[str], list[list[str]]]:
        """The comparison as text: a header and a row for each learner, the best of a column marked with ``*``."""
        return summary_table(self.document)


def _named(name: str, sizes: list[float], values: list[float]) -> dict[str, float]:
    return {f"{name}@{size:g}": value for size, value in zip(sizes, values)}
