"""Which predictions of the recommended metric to trust: scores of every test instance, and what they are worth."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from certimetric.auditing.tables.cells import fitted_classifier
from certimetric.auditing.tables.request import Request
from certimetric.auditing.tables.summary import true_codes
from certimetric.base.arrays import Array, Indices
from certimetric.base.threads import single_threaded
from certimetric.certify.confidence import class_distances, conformal_sets, distance_ratios
from certimetric.certify.selective import ScoreComparison, compare_scores, risk_coverage_curve
from certimetric.geometry import MahalanobisMetric
from certimetric.runs.key import Cell
from certimetric.runs.splits import TRUST_STREAM, Split, split_indices, stream

PROTOCOL = "audit-trust/1"
ALPHA = 0.1
LABELS = {
    "radius": "certified radius",
    "vote_share": "share of votes",
    "distance_ratio": "distance ratio",
    "probability": "calibrated probability",
    "set_size": "size of the conformal set",
    "chance": "no score",
}
KEPT = 0.8  # the coverage that the sentence quotes
_COVERAGES = np.linspace(0.05, 1.0, 20)
_CALIBRATED_ROWS = 5000  # at most, of the training part, for the calibrated classifier
_FOLDS = 3
_ISOTONIC_ROWS = 1000  # from so many on scikit-learn advises isotonic regression


def trust_cell(request: Request, cell: Cell) -> Cell:
    """The scores of the predictions of a cell: a cell too."""
    further = {"cell": cell.key, "alpha": ALPHA, "classes": list(request.classes)}
    return replace(cell, suite="audit trust", protocol=PROTOCOL, parameters=further)


def compute_trust(request: Request, components: Mapping[int, Array], cell: Cell) -> dict[str, Any]:
    """Scores of the test instances of a split; ``components`` holds by split the metric in original units.

    Found are ``vote_share``, ``distance_ratio`` and ``probability`` of the label that the k-NN tells, each (n_test,),
    ``set_size`` and ``covered``: how many labels the conformal set has, and whether the true one is in it.
    """
    with single_threaded(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        part = request.part(cell.split)
        metric = MahalanobisMetric.from_components(components[cell.split])
        classifier = fitted_classifier(request, metric, part)
        votes = classifier.predict_proba(part.X_test)
        predicted, rows = votes.argmax(axis=1), np.arange(len(votes))
        ratios = distance_ratios(class_distances(classifier, part.X_test))
        rng = stream(request.seed, cell.split, TRUST_STREAM)
        with np.errstate(divide="ignore"):
            strangeness = 1.0 / ratios
        sizes, covered = _conformal(strangeness, request.codes[part.test], rng)
        return {
            "vote_share": votes[rows, predicted],
            "distance_ratio": ratios[rows, predicted],
            "probability": _probabilities(request, part, rng)[rows, predicted],
            "set_size": sizes,
            "covered": covered,
        }


def _conformal(strangeness: Array, codes: Indices, rng: np.random.Generator) -> tuple[Indices, Indices]:
    """Sizes of the sets, and whether each holds the true label: either half of the test part calibrates the other.

    Neither half was learned from, so that the promise holds for each.
    """
    order = rng.permutation(len(codes))
    halves = order[: len(order) // 2], order[len(order) // 2 :]
    sizes, covered = np.full(len(codes), strangeness.shape[1]), np.ones(len(codes), dtype=np.int64)
    for calibration, asked in (halves, halves[::-1]):
        if len(calibration):
            sets = conformal_sets(strangeness[calibration, codes[calibration]], strangeness[asked], alpha=ALPHA)
            sizes[asked], covered[asked] = sets.sum(axis=1), sets[np.arange(len(asked)), codes[asked]]
    return sizes, covered


def _probabilities(request: Request, part: Split, rng: np.random.Generator) -> Array:
    """Calibrated probability of every class, (n_test, n_classes): logistic regression of the standardised features.

    It is calibrated by cross-validation in the training part: by a sigmoid, from 1000 rows on by isotonic regression.
    Classes with fewer rows than folds have the probability 0.
    """
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.linear_model import LogisticRegression

    rows = rng.permutation(len(part.train))[:_CALIBRATED_ROWS]
    codes = request.codes[part.train[rows]]
    counts = np.bincount(codes, minlength=len(request.classes))
    able = counts >= _FOLDS
    found = np.zeros((len(part.test), len(counts)))
    if able.sum() < 2:
        found[:, counts.argmax()] = 1.0
        return found
    kept = able[codes]
    method = "isotonic" if kept.sum() >= _ISOTONIC_ROWS else "sigmoid"
    calibrated = CalibratedClassifierCV(LogisticRegression(), method=method, cv=_FOLDS, ensemble=False)
    calibrated.fit(part.X_train[rows[kept]], codes[kept])
    found[:, calibrated.classes_] = calibrated.predict_proba(part.X_test)
    return found


def tell_trust(
    request: Request,
    learner: Mapping[str, Any],
    cells: Sequence[Mapping[str, Any]],
    scored: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """What the document has of the scores of a learner: ``cells`` are its finished ones, ``scored`` their scores."""
    wrong, parts, instances, values = _pooled(request, cells, scored)
    compared = compare_scores(wrong, values, parts=parts, instances=instances, random_state=request.seed)
    rows_of = [parts == part for part in np.unique(parts)]
    risk = {}
    for name, score in values.items():
        curves = [risk_coverage_curve(wrong[rows], score[rows]) for rows in rows_of]
        risk[name] = [float(np.mean([curve.risk_at(share) for curve in curves])) for share in _COVERAGES]
    sizes = np.concatenate([each["set_size"] for each in scored])
    figures = [asdict(each) | {"label": LABELS[each.score]} for each in compared.figures]
    for row in figures:
        row.update({key: None for key, value in row.items() if value != value})
    return {
        "learner": learner["spec"],
        "tested": len(wrong),
        "error": compared.error,
        "alpha": ALPHA,
        "scores": figures,
        "curve": {"coverage": _COVERAGES.tolist(), "risk": risk},
        "conformal": {
            "coverage": float(np.mean(np.concatenate([each["covered"] for each in scored]))),
            "size": float(sizes.mean()),
            "single": float((sizes == 1).mean()),
        },
        "sentence": _sentence(learner["label"], compared, risk),
    }


def _pooled(
    request: Request, cells: Sequence[Mapping[str, Any]], scored: Sequence[Mapping[str, Any]]
) -> tuple[NDArray[np.bool_], Indices, Indices, dict[str, Array]]:
    """Which predictions are wrong, their splits, their rows of the data, and their scores, of all splits."""
    wrong = [np.array(cell["predicted"]) != true_codes(request, dict(cell)) for cell in cells]
    tested = [split_indices(request.codes, request.test_size, request.seed, cell["split"])[1] for cell in cells]
    parts = np.repeat([cell["split"] for cell in cells], [len(rows) for rows in tested])
    values = {
        name: np.concatenate([np.array(each[name], dtype=float) for each in scored]) for name in list(LABELS)[1:-1]
    }
    # The smaller a set, the surer; but where no label fits, nothing is sure.
    sizes = values["set_size"]
    values["set_size"] = -np.where(sizes > 0, sizes, len(request.classes) + 1.0)
    radii = np.concatenate([[float(radius) for radius in cell["radii"]] for cell in cells])
    scores = {"radius": radii, **values, "chance": np.zeros(len(radii))}
    return np.concatenate(wrong), parts, np.concatenate(tested), scores


def _sentence(label: str, compared: ScoreComparison, risk: Mapping[str, Sequence[float]]) -> str:
    """Whether the radius tells the wrong predictions better than the other scores do, said as it is."""
    if compared.error == 0:
        return f"Every prediction of {label} was right, so that no score can tell wrong ones."
    kept = risk["radius"][int(np.argmin(np.abs(_COVERAGES - KEPT)))]
    told = (
        f"Of the {100 * KEPT:.0f} % of predictions with the largest certified radius {100 * kept:.1f} % are wrong, of "
        f"all {100 * compared.error:.1f} %"
    )
    if "chance" not in compared.worse:
        return f"{told}: on so few wrong predictions, or such ones, the certified radius is no better than no score."
    better, worse = (
        [LABELS[name] for name in names if name != "chance"] for names in (compared.better, compared.worse)
    )
    alike = [label for label in list(LABELS.values())[1:-1] if label not in better + worse]
    parts = [
        f"{how} {' and '.join(', '.join(names).rsplit(', ', 1))}"
        for how, names in (("worse than", better), ("better than", worse), ("about as well as", alike))
        if names
    ]
    return f"{told}. The certified radius tells wrong predictions {'; '.join(parts)}."
