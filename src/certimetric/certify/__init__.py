"""Certified nearest neighbours: predictions with the size of perturbation that they withstand."""

from certimetric.certify.blocks import certified_radii_over_blocks
from certimetric.certify.classifier import CertifiedKNeighborsClassifier
from certimetric.certify.confidence import PredictionScores, conformal_sets, prediction_scores
from certimetric.certify.counterfactuals import Counterfactuals, counterfactuals
from certimetric.certify.exact.minimal import minimal_perturbation
from certimetric.certify.exact.pairs import minimal_pair_changes
from certimetric.certify.exact.witnesses import MinimalPerturbation
from certimetric.certify.open_set import CertifiedIdentification, OpenSetKNeighborsClassifier
from certimetric.certify.pairs import pair_radii
from certimetric.certify.per_class import CertifiedClasses
from certimetric.certify.pruning import PrunedSet, adversarial_pruning, condensed_neighbors, edited_neighbors
from certimetric.certify.radius import certified_radius
from certimetric.certify.rates import (
    IdentificationCurve,
    VerificationCurve,
    claimable_far,
    identification_curve,
    verification_curve,
)
from certimetric.certify.regressor import CertifiedKNeighborsRegressor
from certimetric.certify.resampling import ClassCounts, class_intervals
from certimetric.certify.search import MetricSearchCV
from certimetric.certify.selective import (
    RiskCoverageCurve,
    ScoreComparison,
    ScoreFigures,
    compare_scores,
    risk_coverage_curve,
)
from certimetric.certify.streams import StreamedDistances
from certimetric.certify.units import in_original_units
from certimetric.certify.verifier import CertifiedRates, PairVerifier

__all__ = [
    "CertifiedClasses",
    "CertifiedIdentification",
    "CertifiedKNeighborsClassifier",
    "CertifiedKNeighborsRegressor",
    "CertifiedRates",
    "ClassCounts",
    "Counterfactuals",
    "IdentificationCurve",
    "MetricSearchCV",
    "MinimalPerturbation",
    "OpenSetKNeighborsClassifier",
    "PairVerifier",
    "PredictionScores",
    "PrunedSet",
    "RiskCoverageCurve",
    "ScoreComparison",
    "ScoreFigures",
    "StreamedDistances",
    "VerificationCurve",
    "adversarial_pruning",
    "certified_radii_over_blocks",
    "certified_radius",
    "claimable_far",
    "class_intervals",
    "compare_scores",
    "condensed_neighbors",
    "conformal_sets",
    "counterfactuals",
    "edited_neighbors",
    "identification_curve",
    "in_original_units",
    "minimal_pair_changes",
    "minimal_perturbation",
    "pair_radii",
    "prediction_scores",
    "risk_coverage_curve",
    "verification_curve",
]
