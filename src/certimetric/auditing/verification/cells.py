"""One cell of an audit of verification: one learner on one split, its distances, its threshold and its radii."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np

from certimetric.auditing.tables.cells import learned, outcome_of
from certimetric.auditing.tables.subjects import Subject
from certimetric.auditing.verification.request import VerificationRequest, VerificationSplit
from certimetric.base.threads import single_threaded
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
    subject = next(subject for subject in request.subjects if subject.spec == cell.learner)
    with single_threaded(), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        part = request.part(cell.split)
        metric, fitted = learned(request, subject, cell.split, part)
        verifier = verifier_of(request, metric, part, 0.0)
        calibration = verifier.pair_distance(part.tuples(part.calibration_pairs))
        threshold = verification_curve(calibration, part.calibration_genuine).threshold_at(request.far)
        verifier = verifier_of(request, metric, part, threshold)
        pairs = part.tuples(part.pairs)
        distances = verifier.pair_distance(pairs)
        _, radii = verifier.predict_with_radius(pairs)
    accepts = bool(np.isfinite(threshold))
    calibrated = {"threshold": threshold, "far": request.far} if accepts else {}
    training = {**metric.training, "verification": calibrated}
    kept = MahalanobisMetric(metric.components, metric.feature_names, training)
    return {
        **fitted,
        **outcome_of(kept, subject, cell.split, caught, folder),
        "threshold": float(threshold) if accepts else None,
        "calibration": calibration,
        "distances": distances,
        "radii": radii,
    }


def verifier_of(
    request: VerificationRequest, metric: MahalanobisMetric, part: VerificationSplit, threshold: float
) -> PairVerifier:
    """The verifier of a split in standardised units, from the metric in original units."""
    standardised = metric.compose(1.0 / part.scale)
    return PairVerifier(standardised, threshold, norm=request.norm).fit()
