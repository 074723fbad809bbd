"""A training set in the coordinates of the programs whose solutions are minimal perturbations."""

from __future__ import annotations

import numpy as np
from scipy.sparse import issparse

from certimetric.base.arrays import Array
from certimetric.certify.reference import PointSet
from certimetric.geometry.norms import Norm


class DualProgram:
    """The training set in the coordinates of the programs (see :mod:`certimetric.certify.exact.kernels`).

    Parameters
    ----------
    reference : PointSet
    norm : Norm
    whole : bool, default=False
        Whether steps have a coordinate for each feature that can change, as limits of features need it.

    Attributes
    ----------
    dual : array of shape (n, p)
        Rows D.
    map : array or sparse array of shape (r, p)
        Takes a step η to the move of the query in the metric's coordinates.
    lift : array or sparse array of shape (p, d)
        Takes a step η to a change of the features, ``η @ lift``.
    data : tuple
        What the compiled kernels read.
    """

    def __init__(self, reference: PointSet, norm: Norm, whole: bool = False):
        self.reference, self.order = reference, float(norm.dual_order)
        self.map, self.lift = reference.dual_map(norm, whole), reference.lift_map(norm, whole)
        self.data = reference.kernel_data(norm, whole)
        self.dual = self.data[3]

    def steps_of(self, moves: Array) -> Array:
        """Shortest steps η in l2 that move the query, in the metric's coordinates, as nearly so as they can."""
        if not issparse(self.map):
            return np.asarray(moves @ np.linalg.pinv(self.map).T)
        # One weight in each column.
        weights = self.map.sum(axis=0)
        squares = weights * weights
        return np.divide(moves @ self.map, squares, out=np.zeros((len(moves), len(weights))), where=squares > 0)
