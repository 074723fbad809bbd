"""The evidence of an audit of a table: cells, attacks on certificates, figures over splits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np

from certimetric.auditing.run import Evidence, Gathered
from certimetric.auditing.tables import data_checks  # noqa: F401 (registers its checks)
from certimetric.auditing.tables.cells import (
    audit_cell,
    compute_all,
    compute_cell,
    compute_elsewhere,
    data_told,
    examine_first,
    keeping_files,
    metric_files,
    options_told,
    split_told,
)
from certimetric.auditing.tables.checks import Observed
from certimetric.auditing.tables.evidence import compute_evidence, describe_metric, evidence_cell
from certimetric.auditing.tables.feature_kinds import describe_features
from certimetric.auditing.tables.intervals import sampling_intervals
from certimetric.auditing.tables.plan import LARGE, stages, told_sizes
from certimetric.auditing.tables.request import Request
from certimetric.auditing.tables.robustness import ATTACKS
from certimetric.auditing.tables.summary import (
    Array,
    Cell,
    choose_eps,
    confusions,
    correctness_radii,
    finished,
    is_imbalanced,
    majority_baseline,
    outcomes,
    per_class,
    radius_quantiles,
    summarise,
    tell_split,
    tested,
)
from certimetric.auditing.tables.trust import compute_trust, tell_trust, trust_cell
from certimetric.auditing.tables.verdict import observe, recommend, say
from certimetric.auditing.thresholds import Threshold
from certimetric.datasets import Dataset
from certimetric.report.document import AUDIT_SCHEMA
from certimetric.runs.cluster import attempt_alone, count_workers, on_dask
from certimetric.runs.key import canonical, told
from certimetric.runs.scheduling import Compute, Execute, in_workers, run_cells
from certimetric.runs.splits import Split
from certimetric.runs.store import Store


class TableEvidence(Evidence):
    """The evidence of an audit of a table."""

    asked = Request
    scope = "table"
    schema = AUDIT_SCHEMA

    def options(self) -> dict[str, Any]:
        request = self.request
        return {
            **options_told(request, request.digest, request.norm),
            "n_neighbors": request.n_neighbors,
            "noise": list(request.noise),
            "test_rows": request.test_rows,
            "budget": request.budget,
            **split_told(request),
            **({} if request.features is None else {"features": canonical(asdict(request.features))}),
            **({} if request.ids is None else {"ids": canonical(list(request.ids))}),
        }

    def command(self) -> str:
        request = self.request
        learners = ", ".join(repr(subject.spec) for subject in request.subjects)
        eps = "" if request.eps is None else f", eps={list(request.eps)}"
        budget = "" if request.budget is None else f", budget={request.budget:g}"
        said = [name for name in ("groups", "times", "test", "ids", "features") if getattr(request, name) is not None]
        splits = "".join(f", {name}={name}" for name in said)
        return (
            f"certimetric.audit(X, y, learners=[{learners}], n_neighbors={request.n_neighbors}, "
            f"norm={request.norm_name!r}, noise={list(request.noise)}{eps}, repeats={request.repeats}, "
            f"test_size={request.test_size:g}, test_rows={request.test_rows}{budget}{splits}, seed={request.seed})"
        )

    def remarks(self) -> list[str]:
        if self.request.dask is not None:
            count_workers(self.request.dask)  # a cluster that does not answer is told before there is a folder
        return super().remarks()

    def stages(self, store: Store, say: Callable[[str], None]) -> Iterator[TableEvidence]:
        request = self.request
        if request.budget is None and request.data.n_samples <= LARGE:
            yield self
        else:
            yield from map(TableEvidence, stages(request, store, say))

    def gather(self, store: Store, counting: Any) -> Gathered:
        """Fit and certify every learner on every split, and attack the certificates of one."""
        request, data = self.request, self.request.data
        found = find(request, store, progress=counting)
        part = lru_cache(maxsize=1)(request.part)
        radii = [[correctness_radii(request, cell) for cell in finished(cells)] for cells in found.cells]
        eps, quoted = choose_eps(request, radii)
        learners = [_learner(request, found, i, radii[i], eps, quoted, part) for i in range(len(request.subjects))]
        warnings = [sorted({text for cell in finished(cells) for text in cell["warnings"]}) for cells in found.cells]
        also: dict[str, Any] = {"baseline": majority_baseline(request)}
        if (best := recommend(learners, eps.index(quoted), balanced=is_imbalanced(request))) is not None:
            also["trust"] = _trust(request, store, counting, learners[best], found, best)
        return Gathered(
            data={
                **data_told(request),
                "class_counts": np.bincount(request.codes, minlength=len(request.classes)).tolist(),
                "features": describe_features(request, part(0)),
                "imputed": _imputed(data),
                "sha256": request.digest,
                "tested": tested(request),
            },
            protocol={
                "n_neighbors": request.n_neighbors,
                "norm": request.norm_name,
                "test_size": request.test_size,
                "split": request.splitting.kind,
                "split_by": request.split_by,
                "repeats": request.repeats,
                "seed": request.seed,
                "sizes": told_sizes(request),
                "units": "standardised",
                "noise": list(request.noise),
                "attacks": [repr(attack) for attack in ATTACKS],
                "eps": eps,
                "report_eps": quoted,
                "judged_by": "balanced" if is_imbalanced(request) else "all",
            },
            learners=learners,
            observed=Observed(request, learners, found.evidence, warnings, eps.index(quoted), radii),
            cells=found.counts,
            also=also,
            traces={"metric_files": metric_files(request.subjects, found.cells)},
        )

    def recommend(self, found: Gathered) -> int | None:
        return recommend(found.learners, found.observed.quoted, balanced=is_imbalanced(self.request))

    def observe(self, found: Gathered, threshold: Threshold, position: int) -> float | str | None:
        value = observe(self.request, threshold, found.learners[position], found.observed.radii[position])
        return None if value is None else told(value)

    def say(self, found: Gathered, recommended: int | None) -> list[str]:
        quoted, eps = found.observed.quoted, found.protocol["report_eps"]
        return say(self.request, found.learners, recommended, quoted, eps, found.also["baseline"])


@dataclass
class Findings:
    """What the work gave, learner by learner."""

    cells: list[list[Cell]]  # one for each split; one that failed is {"split": …, "failed": …}
    evidence: list[Cell | None]  # {"failed": …} where it failed, None where there was no fitted metric
    counts: dict[str, int]  # how many cells were computed, reused and failed


def find(request: Request, store: Store, *, progress: bool = False) -> Findings:
    """Compute every (learner, split) cell that is not in the store, then the evidence about each learner."""
    digest = request.digest
    # Split by split, so that every learner has figures early.
    cells = [audit_cell(request, digest, subject, i) for i in range(request.repeats) for subject in request.subjects]
    execute = _where(request, partial(compute_cell, request, store.folder))
    if request.dask is not None and store.folder is not None:
        execute = keeping_files(_where(request, partial(compute_elsewhere, request)), store.folder)
    outcome, told = compute_all(request, store, cells, execute, progress)

    def examine(fitted: dict[str, Any]) -> Execute:
        components = {spec: found["components"] for spec, found in fitted.items()}
        return _where(request, partial(compute_evidence, request, components))

    evidence = examine_first(request, store, outcome.records, partial(evidence_cell, request), examine, progress)
    return Findings(told, evidence, outcome.counts)


def _where(request: Request, compute: Compute) -> Execute:
    """Cells in processes of this machine, or on the workers of a cluster."""
    if request.dask is None:
        return in_workers(compute, request.n_jobs)
    return on_dask(partial(attempt_alone, compute), request.dask)


def _trust(
    request: Request, store: Store, progress: bool, learner: dict[str, Any], found: Findings, best: int
) -> dict[str, Any] | None:
    """Which predictions of the recommended learner to trust; None where that failed in some split."""
    done = finished(found.cells[best])
    digest, subject = request.data.sha256(), request.subjects[best]
    cells = [trust_cell(request, audit_cell(request, digest, subject, cell["split"])) for cell in done]
    components = {cell["split"]: cell["components"] for cell in done}
    outcome = run_cells(
        cells,
        store,
        _where(request, partial(compute_trust, request, components)),
        usable=lambda record: record.done,
        progress=progress,
        name="trust",
    )
    if not all(record.done for record in outcome.records):
        return None
    return tell_trust(request, learner, done, [record.result or {} for record in outcome.records])


def _imputed(data: Dataset) -> dict[str, int]:
    """How many cells of each feature were missing, and hold the median of the training part of each split."""
    counts = [] if data.imputed is None else data.imputed.sum(axis=0).tolist()
    return {name: count for name, count in zip(data.feature_names, counts) if count}


def _learner(
    request: Request,
    found: Findings,
    i: int,
    radii: list[Array],
    eps: list[float],
    quoted: float,
    part: Callable[[int], Split],
) -> dict[str, Any]:
    subject, cells = request.subjects[i], found.cells[i]
    done = finished(cells)
    left = iter(radii)
    splits = [tell_split(request, cell, None if "failed" in cell else next(left), eps) for cell in cells]
    evidence, ids = found.evidence[i], request.ids
    fragile = (evidence or {}).get("fragile", [])
    return {
        "spec": subject.spec,
        "label": subject.label,
        "parameters": subject.parameters,
        "splits": splits,
        "summary": summarise(splits, sampling_intervals(request, done, radii, eps)),
        "outcomes": outcomes(request, radii, quoted),
        "radius_quantiles": radius_quantiles(radii),
        "per_class": per_class(request, done, radii, quoted),
        "confusions": confusions(request, done),
        "metric": describe_metric(request, done[0], part(done[0]["split"])) if done else None,
        "fragile": [{**each, **({} if ids is None else {"id": ids[each["index"]]})} for each in fragile],
        "robustness": None if evidence is None else evidence.get("robustness"),
    }
