"""An audit from request to document: cells, evidence, figures, checks, verdict."""

from __future__ import annotations

import hashlib
import json
import os
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from certimetric.auditing.saved import refuse_other_report
from certimetric.auditing.tables import data_checks  # noqa: F401 (registers its checks)
from certimetric.auditing.tables.checks import Evidence, run_checks
from certimetric.auditing.tables.evidence import describe_metric
from certimetric.auditing.tables.feature_kinds import describe_features
from certimetric.auditing.tables.findings import Findings, find
from certimetric.auditing.tables.request import Request
from certimetric.auditing.tables.result import AuditResult
from certimetric.auditing.tables.robustness import ATTACKS
from certimetric.auditing.tables.summary import (
    Array,
    choose_eps,
    confusions,
    correctness_radii,
    finished,
    majority_baseline,
    per_class,
    radius_quantiles,
    summarise,
    tell_split,
)
from certimetric.auditing.tables.verdict import conclude, judge_thresholds, recommend
from certimetric.datasets import Dataset
from certimetric.report.document import SCHEMA
from certimetric.report.formatting import NORMS
from certimetric.runs.environment import environment
from certimetric.runs.key import canonical
from certimetric.runs.store import claimed


def run_audit(
    request: Request,
    *,
    out: str | os.PathLike[str] | None = None,
    command: str | None = None,
    title: str | None = None,
    progress: bool = False,
) -> AuditResult:
    """Carry out a validated audit.

    Parameters
    ----------
    request : Request
    out : path, optional
        Folder of cells, metrics, results and report.
    command : str, optional
        How to repeat the audit, for the report; by default the call in Python.
    title : str, optional
        Heading of the report.
    progress : bool
        Show a progress bar on stderr.

    Raises
    ------
    ValueError
        If the folder holds the report of an audit with other options.
    """
    started, clock = datetime.now(timezone.utc), time.perf_counter()
    folder = None if out is None else Path(out)
    options = audit_options(request)
    if folder is not None:
        refuse_other_report(folder, options)
    with claimed(folder, "an audit") as store:
        found = find(request, store, progress=progress)
        document = _figures(request, found)
        document["reproduction"] = {
            "command": command or _call(request),
            "options": options,
            "started": started.isoformat(timespec="seconds"),
            "wall_seconds": time.perf_counter() - clock,
            **environment(),
            "cells": {"computed": found.computed, "reused": found.reused, "failed": found.failed},
            "metric_files": [
                {"learner": s.spec, "split": cell["split"], "file": file, "sha256": cell["metric_sha256"]}
                for s, cells in zip(request.subjects, found.cells)
                for cell in finished(cells)
                if (file := cell.get("metric_file")) is not None
            ],
        }
        result = AuditResult(document)
        if folder is not None:
            result.save(folder, title=title)
    return result


def audit_options(request: Request) -> dict[str, Any]:
    """What tells one audit from another: all that its figures depend on, but not what they are judged by."""
    norm = hashlib.sha256(json.dumps(canonical(request.norm)).encode()).hexdigest()[:12]
    return {
        "data": request.data.sha256(),
        "imputed": canonical(request.data.imputed),
        "classes": list(request.classes),
        "image_shape": None if request.data.image_shape is None else list(request.data.image_shape),
        "learners": [[subject.spec, canonical(subject.estimator)] for subject in request.subjects],
        "n_neighbors": request.n_neighbors,
        "norm": request.norm_name if request.norm_name in NORMS else f"{request.norm_name} ({norm})",
        "noise": list(request.noise),
        "eps": None if request.eps is None else list(request.eps),
        "repeats": request.repeats,
        "test_size": request.test_size,
        "seed": request.seed,
    }


def _figures(request: Request, found: Findings) -> dict[str, Any]:
    """The document but for its reproduction: a function of the request and the findings alone."""
    radii: list[list[Array]] = [[correctness_radii(request, cell) for cell in finished(cells)] for cells in found.cells]
    eps, quoted_eps = choose_eps(request, radii)
    quoted = eps.index(quoted_eps)
    learners = [_learner(request, found, i, radii[i], eps) for i in range(len(request.subjects))]
    warnings = [sorted({text for cell in finished(cells) for text in cell["warnings"]}) for cells in found.cells]
    checks = run_checks(Evidence(request, learners, found.evidence, warnings, quoted))
    recommended = recommend(learners, quoted)
    thresholds = judge_thresholds(request, learners, radii, recommended)
    data, baseline = request.data, majority_baseline(request)
    return {
        "schema": SCHEMA,
        "data": {
            "name": data.name,
            "source": data.source,
            "n_samples": data.n_samples,
            "n_features": data.n_features,
            "classes": list(request.classes),
            "class_counts": np.bincount(request.codes, minlength=len(request.classes)).tolist(),
            "feature_names": list(data.feature_names),
            "image_shape": None if data.image_shape is None else list(data.image_shape),
            "features": describe_features(request),
            "imputed": _imputed(data),
            "sha256": data.sha256(),
        },
        "protocol": {
            "n_neighbors": request.n_neighbors,
            "norm": request.norm_name,
            "test_size": request.test_size,
            "repeats": request.repeats,
            "seed": request.seed,
            "units": "standardised",
            "noise": list(request.noise),
            "attacks": [repr(attack) for attack in ATTACKS],
            "eps": eps,
            "report_eps": quoted_eps,
        },
        "baseline": baseline,
        "learners": learners,
        "checks": checks,
        "thresholds": thresholds,
        "verdict": conclude(request, learners, checks, thresholds, recommended, quoted, quoted_eps, baseline),
    }


def _imputed(data: Dataset) -> dict[str, int]:
    """How many cells of each feature were missing, and hold the median of the training part of each split."""
    counts = [] if data.imputed is None else data.imputed.sum(axis=0).tolist()
    return {name: count for name, count in zip(data.feature_names, counts) if count}


def _learner(request: Request, found: Findings, i: int, radii: list[Array], eps: list[float]) -> dict[str, Any]:
    subject, cells = request.subjects[i], found.cells[i]
    done = finished(cells)
    left = iter(radii)
    splits = [tell_split(request, cell, None if "failed" in cell else next(left), eps) for cell in cells]
    evidence = found.evidence[i]
    return {
        "spec": subject.spec,
        "label": subject.label,
        "parameters": subject.parameters,
        "splits": splits,
        "summary": summarise(splits),
        "radius_quantiles": radius_quantiles(radii),
        "per_class": per_class(request, done, radii),
        "confusions": confusions(request, done),
        "metric": describe_metric(request, done[0]) if done else None,
        "fragile": [] if evidence is None else evidence.get("fragile", []),
        "robustness": None if evidence is None else evidence.get("robustness"),
    }


def _call(request: Request) -> str:
    learners = ", ".join(repr(subject.spec) for subject in request.subjects)
    eps = "" if request.eps is None else f", eps={list(request.eps)}"
    return (
        f"certimetric.audit(X, y, learners=[{learners}], n_neighbors={request.n_neighbors}, "
        f"norm={request.norm_name!r}, noise={list(request.noise)}{eps}, repeats={request.repeats}, "
        f"test_size={request.test_size:g}, seed={request.seed})"
    )
