"""The objective of learned prototypes: the certified radii of instances whose class is that of the nearest one."""

from __future__ import annotations

import numpy as np

from certimetric.base.arrays import Array, Indices
from certimetric.base.chunks import DEFAULT_MEMORY, chunk_slices
from certimetric.constraints.neighbors import class_members
from certimetric.geometry.norms import Norm
from certimetric.objectives.gradient import MetricObjective
from certimetric.objectives.margin import INDISTINCT, SMOOTHING, loss_of_margins, soft_certificate
from certimetric.objectives.pairs import counts_of


class PrototypeMargins(MetricObjective):
    """Mean loss of the certified radii that instances have in the nearest-prototype rule, and of wrong ones negative.

    With prototypes w_j of the class of instance x and w_l of other classes, ::

        r = min_l max_j [d²(x, w_l) − d²(x, w_j)] / (2 ‖M (w_l − w_j)‖_*)

    is the certified radius of 1-NN over the prototypes, exact where each class has one; the loss is the mean of
    ``φ(r / scale)``, minimum and maximum smooth as in :class:`MarginLoss`. It is a function of the components and the
    prototypes together: ``in_components`` takes them stacked, L of shape (k, d) above W of shape (p, d).

    Parameters
    ----------
    X : array of shape (n, d)
    y : int array of shape (n,)
        Class codes.
    labels : int array of shape (p,)
        Class codes of the prototypes.
    kind : {"linear", "hinge", "exponential"}
        φ.
    scale : float
        Unit of the radii, in units of X.
    norm : Norm
        How a perturbation is measured.
    weights : array of shape (n,), optional
        Of the instances, in the mean.
    memory : int
        Bytes for blocks of margins.
    """

    def __init__(
        self,
        X: Array,
        y: Indices,
        labels: Indices,
        kind: str,
        scale: float,
        norm: Norm,
        weights: Array | None = None,
        memory: int = DEFAULT_MEMORY,
    ):
        super().__init__(X, [])
        self.labels, self.kind, self.scale, self.norm, self.memory = labels, kind, scale, norm, memory
        counts = counts_of(np.arange(len(X)), weights)
        self.weights = counts / counts.sum()
        self.members = [(rows, labels == y[rows[0]]) for rows in class_members(y)]
        self.first, self.second = np.nonzero(np.triu(labels[:, None] != labels))

    def stacked(self, L: Array, W: Array) -> Array:
        """Components and prototypes as one array."""
        return np.concatenate([L, W])

    def split(self, stacked: Array) -> tuple[Array, Array]:
        """The components, (k, d), and the prototypes, (p, d)."""
        k = len(stacked) - len(self.labels)
        return stacked[:k], stacked[k:]

    def in_components(self, L: Array) -> tuple[float, Array]:
        """Value and gradient with respect to the components above the prototypes, shape (k + p, d)."""
        L, W = self.split(L)
        Z, P = self.X @ L.T, W @ L.T
        squared = np.einsum("ij,ij->i", Z, Z)[:, None] + np.einsum("ij,ij->i", P, P) - 2.0 * (Z @ P.T)
        apart = P[self.first] - P[self.second]
        V = apart @ L
        dual = self.norm.dual_norm(V)
        value, on_squared, on_dual = self._margins(squared, self._square(dual))
        on_Z = 2.0 * (on_squared.sum(axis=1)[:, None] * Z - on_squared @ P)
        on_P = 2.0 * (on_squared.sum(axis=0)[:, None] * P - on_squared.T @ Z)
        # V = M (w_l − w_j), whose dual norm is in the margins, depends on L twice.
        on_V = (on_dual + on_dual.T)[self.first, self.second, None] * self.norm.dual_vector(V)
        on_apart = on_V @ L.T
        np.add.at(on_P, self.first, on_apart)
        np.subtract.at(on_P, self.second, on_apart)
        return value, self.stacked(on_Z.T @ self.X + on_P.T @ W + apart.T @ on_V, on_P @ L)

    def _square(self, values: Array) -> Array:
        """What is known of pairs of prototypes as a symmetric matrix, shape (p, p)."""
        p = len(self.labels)
        matrix = np.zeros((p, p))
        matrix[self.first, self.second] = matrix[self.second, self.first] = values
        return matrix

    def _margins(self, squared: Array, dual: Array) -> tuple[float, Array, Array]:
        """The mean loss, and its derivatives in squared distances, (n, p), and dual norms of (w_l, w_j), (p, p)."""
        value, on_squared, on_dual = 0.0, np.zeros_like(squared), np.zeros_like(dual)
        # Prototypes that the metric cannot tell apart have a margin of 0 that nothing changes.
        distinct = dual**2 > INDISTINCT * np.square(dual).max(initial=0.0)
        inverse = np.divide(0.5, self.scale * dual, out=np.zeros_like(dual), where=distinct)
        for members, own in self.members:
            to_own, to_other = np.flatnonzero(own), np.flatnonzero(~own)
            factor = inverse[np.ix_(to_other, to_own)]
            for part in chunk_slices(len(members), 40.0 * factor.size, self.memory):
                rows = members[part]
                gap = squared[np.ix_(rows, to_other)][:, :, None] - squared[np.ix_(rows, to_own)][:, None, :]
                r = gap * factor
                opponents = np.arange(0, r.size, len(to_own))
                bounds, share = soft_certificate(r.ravel(), opponents, np.arange(0, r.size, factor.size), SMOOTHING)
                loss, slope = loss_of_margins(bounds, self.kind, self.weights[rows])
                value += loss
                on_margin = share.reshape(r.shape) * slope[:, None, None]
                on_gap = on_margin * factor
                on_squared[np.ix_(rows, to_other)] += on_gap.sum(axis=2)
                on_squared[np.ix_(rows, to_own)] -= on_gap.sum(axis=1)
                # ∂r/∂b = −r/b, and 1/b is 2 · scale · inverse.
                on_dual[np.ix_(to_other, to_own)] -= 2.0 * self.scale * factor * (on_margin * r).sum(axis=0)
        return value, on_squared, on_dual
