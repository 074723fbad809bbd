"""The view of an audit of metrics on a table."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from certimetric.base.wording import counted
from certimetric.report.blocks import classes_view, threat_view
from certimetric.report.comparison import Column
from certimetric.report.document import AUDIT_SCHEMA, BASELINE, number, quoted_eps, splits_done
from certimetric.report.formatting import MISSING, duration, percent, plain, unit_name
from certimetric.report.tables.anatomy import anatomy_view
from certimetric.report.tables.comparison import baseline_row, comparison, confusion_groups
from certimetric.report.tables.figures import curves, robustness_figures
from certimetric.report.tables.instances import fragile_view
from certimetric.report.tables.search import search_view
from certimetric.report.tables.threats import threats, untried
from certimetric.report.tables.trust import trust_view
from certimetric.report.view import Block, View, figures_block, of_document

if TYPE_CHECKING:
    import pandas as pd

_FEATURES = 100  # so many are told on the page; the document has them all
_BRACKETS = (
    "Accuracy under changes of growing size ε of the query, on one sample of test instances for each metric. What "
    "attacks found bounds the truth from above and what is certified bounds it from below, so that the truth lies in "
    "the shaded bracket; with one neighbour it is known exactly. Random changes of the same size are milder than "
    "chosen ones."
)


def _threat(view: TableView) -> dict[str, Any] | None:
    told, protocol = threat_view(view), view.document["protocol"]
    if told is None:
        return None
    radii = [float(eps) for eps in protocol.get("eps") or []]
    wanted, index = float(protocol["report_eps"]), quoted_eps(view.document)
    note = ""
    if index is None:
        note = f"ε = {plain(wanted)} lies beyond the radii that were measured, so the table does not quote it."
    elif abs(radii[index] - wanted) > 1e-9:
        told["eps"] = plain(radii[index])
        note = f"ε = {plain(wanted)} was asked for; the table quotes the next larger radius that was measured."
    noise = [plain(number(level)) for level in protocol.get("noise") or []]
    features = view.document["data"].get("features") or []
    rows = [
        (each["name"], each["kind"], [plain(number(each[key]), 4) for key in ("std", "low", "high")])
        for each in features[:_FEATURES]
    ]
    more = max(len(features) - _FEATURES, 0)
    sample = _sample(protocol.get("sizes") or {})
    return told | {
        "note": note,
        "noise": noise,
        "sample": sample,
        "features": {"rows": rows, "more": more} if rows else None,
    }


def _sample(sizes: Mapping[str, Any]) -> str:
    """Which part of the rows of a split was looked at, and how it was drawn; "" for all of them, or where unknown."""
    if not sizes or (sizes["train"], sizes["test"]) == (sizes["of_train"], sizes["of_test"]):
        return ""
    budget = sizes["budget_seconds"]
    why = f" They are what a budget of {duration(budget)} allowed." if budget else ""
    return (
        f"{sizes['train']:,} of {sizes['of_train']:,} training rows are learned from and vote; {sizes['test']:,} of "
        f"{sizes['of_test']:,} test rows are predicted and certified, {sizes['attacked']} attacked. Both are drawn at "
        f"random, of every class its share; intervals of a single split are those of such a sample.{why}"
    )


def _learner(learner: Mapping[str, Any]) -> dict[str, Any]:
    done, total = splits_done(learner)
    return {
        "label": learner["label"],
        "spec": learner["spec"],
        "parameters": [(key, _value(value)) for key, value in (learner.get("parameters") or {}).items()],
        "splits": f"{done} of {total}",
        "failures": [(split["split"], split["failed"]) for split in learner["splits"] if "failed" in split],
    }


def _value(value: Any) -> str:
    """A parameter as a person would type it."""
    if isinstance(value, float):
        return plain(value, 4)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _class_cell(row: Mapping[str, Any]) -> tuple[float, str, str]:
    """Error of a class, its recall as text, and its precision, certified share and median radius."""
    error = number(row["error"]) or 0.0
    precision, certified = (percent(number(row.get(key))) for key in ("precision", "certified"))
    return error, percent(1.0 - error), f"{precision} · {certified} · {plain(number(row['median_radius']), 2)}"


def _size(data: Mapping[str, Any]) -> str:
    return f"{data['n_samples']} instances × {data['n_features']} features, {len(data.get('classes') or [])} classes"


def _gaps(imputed: Mapping[str, int] | None) -> str:
    """How missing values were treated."""
    if imputed is None:
        return MISSING  # a document from before this was told
    if not imputed:
        return "none"
    told = ", ".join(f"{name} ({count})" for name, count in list(imputed.items())[:8])
    more = f" and {len(imputed) - 8} more features" if len(imputed) > 8 else ""
    return f"{told}{more}: each is the median of its feature in the training part of the split"


def _classes(view: TableView) -> dict[str, Any]:
    told = classes_view(view.learners, _class_cell)
    return told | {"confusions": confusion_groups(view.document), "radius": unit_name(view.document)}


def _comparison(view: TableView) -> dict[str, Any]:
    return {"learners": [*map(_learner, view.learners)], "splits": _splits_told(view.document["protocol"])[0]}


def _splits_told(protocol: Mapping[str, Any]) -> tuple[str, str, str]:
    """Which splits they are in short; and how many there are and what each holds out."""
    repeats, kind, column = protocol["repeats"], protocol.get("split", "random"), protocol.get("split_by")
    share, by = percent(protocol["test_size"], 0), "" if column is None else f" by {column}"
    noun = "split" if repeats == 1 else "splits"
    if kind == "latest":
        return f"1 split{by or ' by time'}", "1", f"the latest {share} of the rows{by}"
    if kind == "given":
        return "1 given split", "1", f"the {protocol['sizes']['of_test']} rows that were given for it"
    if kind == "groups":
        what = f"about {share} held out, no {column or 'group'} in both parts"
        return f"{repeats} random {noun} of groups", f"{repeats} at random", what
    return f"{repeats} random {noun}", f"{repeats} at random", f"{share} held out"


class TableView(View):
    """Verdict, curves, classes, fragile instances and anatomy of metrics on a table."""

    schema, folder = AUDIT_SCHEMA, "tables"
    corner = "Metric"
    twins = ("CM004", "CM005")
    baseline = BASELINE
    threats_of, untried_of = staticmethod(threats), staticmethod(untried)
    blocks = (
        Block("threat", "threat", "Threat model", _threat),
        figures_block("curves", "robustness", "Noise and certificate", curves, empty="No metric has results to draw."),
        figures_block("curves", "brackets", "Attacked, exact, certified", robustness_figures, _BRACKETS),
        Block("comparison", "comparison", "Comparison", _comparison),
        Block("comparison", "search", "What was searched", of_document(search_view)),
        Block("classes", "classes", "Classes", _classes, heading="Classes, worst first"),
        Block("classes", "trust", "Which predictions to trust", of_document(trust_view)),
        Block("instances", "fragile", "Fragile instances", of_document(fragile_view)),
        Block("anatomy", "anatomy", "Anatomy of the metrics", of_document(anatomy_view)),
    )

    @cached_property
    def columns(self) -> list[Column]:
        return comparison(self.document)

    def last_row(self) -> dict[str, Any] | None:
        return baseline_row(self.document, self.columns)

    def lede(self) -> list[str]:
        """Size of the data, number of metrics and splits."""
        return [
            _size(self.document["data"]),
            counted(len(self.learners), "metric"),
            _splits_told(self.document["protocol"])[0],
        ]

    def facts(self) -> list[tuple[str, str]]:
        """Data, splits and predictor."""
        data, protocol = self.document["data"], self.document["protocol"]
        return [
            ("Size", _size(data)),
            ("Missing values", _gaps(data.get("imputed"))),
            ("Seed", str(protocol["seed"])),
            ("Splits", ", ".join(_splits_told(protocol)[1:])),
            ("Predictor", f"{protocol['n_neighbors']} nearest neighbours"),
        ]

    def _figures(self, told: Mapping[str, Any], eps: list[float], certified: list[float]) -> dict[str, Any]:
        """Figures of a split, or their means, by the names of columns; ``certified`` are those at ``eps``."""
        noise = zip(self.document["protocol"]["noise"], told["noise_error"])
        return {
            "error": told["error"],
            "balanced_accuracy": told.get("balanced_accuracy"),
            **{f"noise_error@{level:g}": error for level, error in noise},
            **{f"certified@{size:g}": share for size, share in zip(eps, certified)},
            "median_radius": float(told["median_radius"]),
            "fit_seconds": told["fit_seconds"],
        }

    def to_frame(self) -> pd.DataFrame:
        """A row for each learner and split, with all its figures."""
        import pandas as pd

        protocol, rows = self.document["protocol"], []
        for learner in self.learners:
            for split in learner["splits"]:
                done = "failed" not in split
                figures = self._figures(split, protocol["eps"], split["certified_accuracy"]) if done else {}
                rows.append({"learner": learner["spec"], "split": split["split"], **figures})
        columns = ["learner", "split", "error", "balanced_accuracy"]
        columns += [f"noise_error@{level:g}" for level in protocol["noise"]]
        columns += [f"certified@{eps:g}" for eps in protocol["eps"]]
        return pd.DataFrame(rows, columns=[*columns, "median_radius", "fit_seconds"])

    def summary(self) -> pd.DataFrame:
        """A row for each learner: means over splits, under every noise and at the quoted ε."""
        import pandas as pd

        protocol, rows = self.document["protocol"], []
        quoted = protocol["eps"].index(protocol["report_eps"])
        for learner in self.learners:
            means = {
                key: [each["mean"] for each in told] if isinstance(told, list) else told["mean"]
                for key, told in (learner["summary"] or {}).items()
            }
            certified = means.pop("certified_accuracy", [])[quoted : quoted + 1]
            rows.append(
                {"learner": learner["spec"]}
                | (self._figures(means, [protocol["report_eps"]], certified) if means else {})
            )
        return pd.DataFrame(rows)

    def per_class(self) -> pd.DataFrame:
        """Recall, precision, certified share and median radius of each class, over all splits, the worst first."""
        columns = ["learner", "class", "count", "recall", "precision", "certified", "median_radius"]
        return super().per_class().reindex(columns=columns).astype(dict.fromkeys(columns[3:], float))

    def trust(self) -> pd.DataFrame:
        """How well scores of predictions tell the wrong ones; see :meth:`certimetric.AuditResult.trust`."""
        import pandas as pd

        if not (told := self.document.get("trust")):
            raise ValueError("the document of this audit does not tell which predictions to trust")
        return pd.DataFrame(told["scores"]).drop(columns="label").astype({"excess_share": float})

    def confusion_matrix(self, learner: str | None = None) -> pd.DataFrame:
        """How often each class was told as each class; see :meth:`certimetric.AuditResult.confusion_matrix`."""
        import pandas as pd

        spec = self.document["verdict"].get("recommended") if learner is None else learner
        specs = [each["spec"] for each in self.learners]
        if spec not in specs:
            raise ValueError(f"learner must be one of {', '.join(specs)}, got {spec!r}")
        classes = self.document["data"]["classes"]
        counts = np.zeros((len(classes), len(classes)), dtype=int)
        for true, predicted, count in self.learners[specs.index(spec)]["confusions"]:
            counts[true, predicted] = count
        return pd.DataFrame(counts, pd.Index(classes, name="true"), pd.Index(classes, name="predicted"))
