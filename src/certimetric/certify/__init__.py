"""Certified nearest neighbours: predictions with the size of perturbation that they withstand."""

from certimetric.certify.classifier import CertifiedKNeighborsClassifier
from certimetric.certify.minimal import minimal_perturbation
from certimetric.certify.radius import certified_radius
from certimetric.certify.units import in_original_units
from certimetric.certify.witnesses import MinimalPerturbation

__all__ = [
    "CertifiedKNeighborsClassifier",
    "MinimalPerturbation",
    "certified_radius",
    "in_original_units",
    "minimal_perturbation",
]
