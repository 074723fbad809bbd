"""What a metric is: the Mahalanobis value, norms and their duals, SPD matrices, exact neighbours."""

from certimetric.geometry.mahalanobis import MahalanobisMetric
from certimetric.geometry.norms import L1, L2, Ellipsoid, Linf, Norm, resolve_norm

__all__ = ["L1", "L2", "Ellipsoid", "Linf", "MahalanobisMetric", "Norm", "resolve_norm"]
