"""Certified nearest neighbours: predictions with the size of perturbation that they withstand."""

from certimetric.certify.classifier import CertifiedKNeighborsClassifier
from certimetric.certify.radius import certified_radius
from certimetric.certify.units import in_original_units

__all__ = ["CertifiedKNeighborsClassifier", "certified_radius", "in_original_units"]
