"""Certified nearest neighbours: predictions with the size of perturbation that they withstand."""

from certimetric.certify.classifier import CertifiedKNeighborsClassifier
from certimetric.certify.exact.minimal import minimal_perturbation
from certimetric.certify.exact.witnesses import MinimalPerturbation
from certimetric.certify.radius import certified_radius
from certimetric.certify.search import MetricSearchCV
from certimetric.certify.units import in_original_units

__all__ = [
    "CertifiedKNeighborsClassifier",
    "MetricSearchCV",
    "MinimalPerturbation",
    "certified_radius",
    "in_original_units",
    "minimal_perturbation",
]
