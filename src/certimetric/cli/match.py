"""``certimetric match``: who of the enrolled each query is, or none, under a metric and a threshold of a file."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from certimetric.cli.inputs import writable
from certimetric.cli.options import Metric, NormOption, Queries, Target, UnitsOption
from certimetric.cli.tables import FileOptions, with_table

if TYPE_CHECKING:
    from certimetric.base.arrays import Array
    from certimetric.cli.queries import Rows
    from certimetric.geometry import MahalanobisMetric

EPILOG = "Example: `certimetric match people.safetensors people.csv new.csv -o matches.csv`"


@with_table
def match(
    metric: Metric,
    enrolled: Annotated[str, typer.Argument(metavar="ENROLLED", help="Enrolled instances, with labels.")],
    queries: Queries,
    out: Annotated[Path, typer.Option("-o", "--out", metavar="FILE", help="CSV file to write.")] = Path("matches.csv"),
    target: Target = None,
    *,
    files: FileOptions,
    threshold: Annotated[
        float | None,
        typer.Option("--threshold", metavar="T", help="Largest distance of a match. [default: that of the file]"),
    ] = None,
    unknown: Annotated[
        str, typer.Option("--unknown", metavar="WORD", help="The answer for none of the enrolled.")
    ] = "unknown",
    norm: NormOption = "l2",
    units: UnitsOption = None,
) -> None:
    """Match queries to the nearest enrolled instance within the threshold, or to none, with certified radii.

    The threshold is what `certimetric fit --verify` put into the metric file.
    """
    from certimetric.cli.queries import read_rows, tell

    writable("--out", out, metric, enrolled, queries)
    rows = read_rows(metric, enrolled, queries, target, units, files.reading())
    limit = _threshold(rows.metric, metric) if threshold is None else threshold
    if not limit >= 0:
        raise ValueError(f"--threshold must be a distance of at least 0, got {limit:g}")
    if not unknown.strip():
        raise ValueError(f"--unknown must be a word, got {unknown!r}")
    if unknown in rows.y:
        raise ValueError(f"--unknown must be no label of the enrolled instances, but {unknown!r} is one")
    tell(out, "Matches", *_matched(rows, limit, unknown, norm))


def _threshold(metric: MahalanobisMetric, file: Path) -> float:
    """The calibrated threshold in a metric file."""
    known = metric.training.get("verification")
    if not isinstance(known, dict) or "threshold" not in known:
        raise ValueError(
            f"the metric file {str(file)!r} holds no threshold: learn it with certimetric fit --verify, or give "
            "--threshold"
        )
    found = known["threshold"]
    if isinstance(found, bool) or not isinstance(found, (int, float)) or not math.isfinite(found):
        raise ValueError(f"the metric file {str(file)!r} is damaged: its threshold is {found!r}")
    return float(found)


def _matched(rows: Rows, threshold: float, unknown: str, norm: str) -> tuple[dict[str, Any], list[str]]:
    """Answers, distances and radii. A query that is an enrolled row does not find itself."""
    from certimetric.certify import OpenSetKNeighborsClassifier
    from certimetric.certify.open_set_radii import open_set_answers
    from certimetric.cli.queries import measured

    same = rows.same
    if len(rows.X) == 1 and (same >= 0).any():
        raise ValueError("a query is the only enrolled row, so that there is nothing to match it with")
    measure = measured(norm, rows.scale)
    knn = OpenSetKNeighborsClassifier(1, metric=rows.metric, threshold=threshold, unknown=unknown, norm=measure)
    knn.fit(rows.X, np.array(rows.y))
    reference = knn.reference_
    queries = np.ascontiguousarray(rows.queries)
    exclude = same if (same >= 0).any() else None
    found = open_set_answers(reference, 1, threshold, measure, queries, exclude=exclude)
    accepted = found.codes >= 0
    answers = np.where(accepted, knn.classes_[np.maximum(found.codes, 0)], unknown)
    columns: dict[str, Any] = {"match": answers}
    if rows.labels is not None:
        columns["label"] = rows.labels
    columns |= {"distance": found.distances, "radius": found.radii, "enrolled_row": found.nearest}
    return columns, [*rows.told, *_lines(rows, answers, accepted, found.radii, threshold, f"{rows.unit}, {norm} norm")]


def _lines(rows: Rows, answers: Any, accepted: Any, radii: Array, threshold: float, unit: str) -> list[str]:
    within = "at any distance" if math.isinf(threshold) else f"at most {threshold:.4g} from it"
    lines = [
        f"{int(accepted.sum())} of {len(answers)} queries match one of {len(set(rows.y))} enrolled subjects, "
        f"{within if threshold else 'at distance 0'}; median certified radius {float(np.median(radii)):.3g} ({unit})"
    ]
    if rows.labels is not None:
        labels = np.array(rows.labels)
        known = np.isin(labels, rows.y)
        if known.any():
            share = 100 * (answers[known] == labels[known]).mean()
            lines.append(f"Of {int(known.sum())} queries of enrolled subjects {share:.1f} % are matched with their own")
        if not known.all():
            share = 100 * accepted[~known].mean()
            lines.append(f"Of {int((~known).sum())} queries of others {share:.1f} % are matched, which is wrong")
    if n_same := int((rows.same >= 0).sum()):
        lines.append(f"{n_same} of {len(answers)} queries are enrolled rows: each was matched without itself")
    return lines
