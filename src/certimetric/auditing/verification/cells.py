"""One cell of an audit of verification: one learner on one split, its distances, its threshold and its radii."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from certimetric.auditing.tables.cells import measured
from certimetric.auditing.tables.subjects import Subject
from certimetric.auditing.verification.request import VerificationRequest, VerificationSplit
from certimetric.certify.rates import verification_curve
from certimetric.certify.verifier import PairVerifier
from certimetric.geometry import MahalanobisMetric
from certimetric.runs.key import Cell, canonical

PROTOCOL = "verification-cell/1"


def verification_cell(request: VerificationRequest, digest: str, subject: Subject, split: int) -> Cell:
    """The cell of a learner on a split: everything that its figures depend on."""
    return Cell(
        suite="verification",
        dataset=request.data.name,
        digest=digest,
        source=request.data.source,
        learner=subject.spec,
        split=split,
        seed=request.seed,
        protocol=PROTOCOL,
        parameters={
            "learner": canonical(subject.estimator),
            "imputed": canonical(request.data.imputed),
            "classes": list(request.classes),
            "test_size": request.test_size,
            "n_pairs": request.limit,
            "given": told_pairs(request),
            "far": request.far,
            "norm": canonical(request.norm),
        },
    )


def told_pairs(request: VerificationRequest) -> Any:
    """Given pairs as JSON values, None without any."""
    return None if request.given is None else canonical([request.given.rows, request.given.genuine])


def compute_cell(request: VerificationRequest, folder: Path | None, cell: Cell) -> dict[str, Any]:
    """Fit, calibrate, decide and certify; with a folder, save the metric with its threshold there.

    Returns
    -------
    found : dict
        ``threshold`` (None where nothing may be accepted), and arrays: ``calibration`` and ``distances`` of the two
        sets of pairs, ``radii`` of the decisions about the latter, and ``components``, the metric in original units.
    """
    return measured(request, folder, cell, partial(_decided, request))


def _decided(
    request: VerificationRequest, metric: MahalanobisMetric, part: VerificationSplit
) -> tuple[MahalanobisMetric, dict[str, Any]]:
    verifier = verifier_of(request, metric, part, 0.0)
    calibration = verifier.pair_distance(part.tuples(part.calibration_pairs))
    threshold = verification_curve(calibration, part.calibration_genuine).threshold_at(request.far)
    verifier = verifier_of(request, metric, part, threshold)
    pairs = part.tuples(part.pairs)
    found = {"calibration": calibration, "distances": verifier.pair_distance(pairs)}
    _, found["radii"] = verifier.predict_with_radius(pairs)
    accepts = bool(np.isfinite(threshold))
    calibrated = {"threshold": threshold, "far": request.far} if accepts else {}
    training = {**metric.training, "verification": calibrated}
    kept = MahalanobisMetric(metric.components, metric.feature_names, training)
    return kept, {**found, "threshold": float(threshold) if accepts else None}


def verifier_of(
    request: VerificationRequest, metric: MahalanobisMetric, part: VerificationSplit, threshold: float
) -> PairVerifier:
    """The verifier of a split in standardised units, from the metric in original units."""
    standardised = metric.compose(1.0 / part.scale)
    return PairVerifier(standardised, threshold, norm=request.norm).fit()
