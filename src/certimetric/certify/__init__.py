"""Certified nearest neighbours: predictions with the size of perturbation that they withstand."""

from certimetric.certify.classifier import CertifiedKNeighborsClassifier
from certimetric.certify.exact.minimal import minimal_perturbation
from certimetric.certify.exact.pairs import minimal_pair_changes
from certimetric.certify.exact.witnesses import MinimalPerturbation
from certimetric.certify.open_set import CertifiedIdentification, OpenSetKNeighborsClassifier
from certimetric.certify.pairs import pair_radii
from certimetric.certify.pruning import PrunedSet, adversarial_pruning, condensed_neighbors, edited_neighbors
from certimetric.certify.radius import certified_radius
from certimetric.certify.rates import (
    IdentificationCurve,
    VerificationCurve,
    claimable_far,
    identification_curve,
    verification_curve,
)
from certimetric.certify.resampling import ClassCounts, class_intervals
from certimetric.certify.search import MetricSearchCV
from certimetric.certify.streams import StreamedDistances
from certimetric.certify.units import in_original_units
from certimetric.certify.verifier import CertifiedRates, PairVerifier

__all__ = [
    "CertifiedIdentification",
    "CertifiedKNeighborsClassifier",
    "CertifiedRates",
    "ClassCounts",
    "IdentificationCurve",
    "MetricSearchCV",
    "MinimalPerturbation",
    "OpenSetKNeighborsClassifier",
    "PairVerifier",
    "PrunedSet",
    "StreamedDistances",
    "VerificationCurve",
    "adversarial_pruning",
    "certified_radius",
    "claimable_far",
    "class_intervals",
    "condensed_neighbors",
    "edited_neighbors",
    "identification_curve",
    "in_original_units",
    "minimal_pair_changes",
    "minimal_perturbation",
    "pair_radii",
    "verification_curve",
]
