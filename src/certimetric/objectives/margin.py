"""The margin loss of adversarially robust metric learning: adversarial margins as they are, negative ones too."""

from __future__ import annotations

from typing import Any, ClassVar

import numba as nb
import numpy as np

from certimetric.base.arrays import Array, Indices
from certimetric.geometry.norms import Norm
from certimetric.objectives.triplet_margin import TripletMarginLoss, TripletMarginTerm

KINDS = ("linear", "hinge", "exponential")
MARGINS = ("certified", "triplet")
SMOOTHING = 0.1  # of the soft minimum and maximum, in units of the scale
_LARGEST_EXPONENT = 50.0  # the exponential goes on as its tangent from here, so that it never overflows
INDISTINCT = 1e-24  # of the largest ‖M(x_l − x_j)‖²: below that, rounding is all there is


class MarginLoss(TripletMarginLoss):
    """Margin loss: enlarge the *signed* adversarial margins of instances, or of triplets one by one.

    For a triplet (x_i, x_j, x_l) the signed margin is ::

        r_jl = [d²(x_i, x_l) − d²(x_i, x_j)] / (2 ‖M (x_l − x_j)‖_*)

    with the dual norm ‖·‖_*: where positive, the size of the smallest perturbation of x_i that makes the impostor x_l
    as near as the target neighbour x_j; where negative, minus the size of the smallest one that puts the two right.
    So a triplet in the wrong order has a gradient too, unlike in the perturbation loss. The loss is the mean of
    ``φ(r / scale)`` over instances, r being a smooth lower bound of the certified radius ``min_l max_j r_jl`` of
    1-NN, or over triplets. It does not depend on the scale of M, and plugs into every learner that takes a perturbation
    loss: ``LMNN(perturbation=MarginLoss())``.

    Parameters
    ----------
    kind : {"linear", "hinge", "exponential"}, default="linear"
        φ(r) is −r, [1 − r]_+ or exp(−r).
    weight : float, default=1.0
        Factor of the loss in the learner's objective.
    scale : float or "auto", default="auto"
        Unit of the margins, in units of the data. "auto" reads it off the data: the upper quartile of the margins
        that the triplets have in the Euclidean metric, or where the loss comes in if that is larger.
    norm : {"l2", "linf", "l1"}, array-like of shape (d, d) or Norm, default="l2"
        How a perturbation is measured; a matrix A stands for ``√(δᵀAδ)``.
    margin : {"certified", "triplet"}, default="certified"
        "certified" is one margin for each instance, that of the triplets that bind its certificate; "triplet" treats
        all triplets alike, as published.

    References
    ----------
    Wang, Liu, Yi, Jiang, Hsieh (2020), *Provably robust metric learning*, NeurIPS, arXiv 2006.07024 [wang2020provably].

    Examples
    --------
    >>> from certimetric import MahalanobisMetric, MarginLoss
    >>> X = [[0.0, 0.0], [1.0, 0.0], [4.0, 0.0]]
    >>> metric = MahalanobisMetric.from_matrix([[1.0, 0.0], [0.0, 1.0]])
    >>> MarginLoss().signed_margin(metric, X, [[0, 1, 2], [0, 2, 1]])
    array([ 2.5, -2.5])
    """

    aim = ("scale", 1)
    choices: ClassVar = {"kind": KINDS, "margin": MARGINS}

    def __init__(
        self,
        kind: str = "linear",
        weight: float = 1.0,
        scale: float | str = "auto",
        norm: Any = "l2",
        margin: str = "certified",
    ):
        self.kind = kind
        self.weight = weight
        self.scale = scale
        self.norm = norm
        self.margin = margin

    def _term(self, triplets: Indices, norm: Norm, aim: float, objective: float, weights: Array | None) -> MarginTerm:
        return MarginTerm(triplets, norm, self.kind, aim, float(self.weight), self.margin, weights)


class MarginTerm(TripletMarginTerm):
    """The margin loss over fixed triplets, as a term (made by ``MarginLoss.bind``)."""

    def __init__(
        self,
        triplets: Indices,
        norm: Norm,
        kind: str,
        scale: float,
        weight: float,
        margin: str,
        weights: Array | None = None,
    ):
        if margin == "certified":
            triplets = triplets[np.lexsort((triplets[:, 2], triplets[:, 0]))]
            i, _, l = triplets.T
            self.instances = np.flatnonzero(np.diff(i, prepend=-1))
            self.opponents = np.flatnonzero((np.diff(i, prepend=-1) != 0) | (np.diff(l, prepend=-1) != 0))
        super().__init__(triplets, norm, weight, weights)
        if margin == "certified":  # instances count once, however many triplets they have
            self.counts = self.counts[self.instances]
            self.weight = weight / (self.counts.sum() or 1.0)
        self.kind, self.scale, self.margin = kind, scale, margin

    def _loss(self, gap: Array, dual_squared: Array) -> tuple[float, Array, Array]:
        """With ``r = a/(2b)``: ``∂r/∂a = 1/(2b)`` and ``∂r/∂b² = −a/(4b³)``."""
        # Points j and l that the metric cannot tell apart have a margin of 0 that nothing changes.
        distinct = dual_squared > INDISTINCT * dual_squared.max(initial=0.0)
        on_gap = np.zeros_like(gap)
        on_gap[distinct] = 0.5 / (self.scale * np.sqrt(dual_squared[distinct]))
        r = gap * on_gap
        if self.margin == "certified":
            r_instances, share = soft_certificate(r, self.opponents, self.instances, SMOOTHING)
            value, slope = loss_of_margins(r_instances, self.kind, self.counts)
            share *= np.repeat(slope, np.diff(self.instances, append=len(r)))
        else:
            value, share = loss_of_margins(r, self.kind, self.counts)
        on_dual = np.zeros_like(gap)
        on_dual[distinct] = -0.5 * share[distinct] * r[distinct] / dual_squared[distinct]
        return value, share * on_gap, on_dual


def loss_of_margins(r: Array, kind: str, counts: Array) -> tuple[float, Array]:
    """Sum of φ(r), each counted so much, and its derivatives."""
    return _loss(r, KINDS.index(kind), counts)


@nb.njit(cache=True, nogil=True)
def _loss(r, kind, counts):
    value, slope = 0.0, np.zeros_like(r)
    for t in range(r.shape[0]):
        if kind == 0:
            value -= counts[t] * r[t]
            slope[t] = -counts[t]
        elif kind == 1:
            if r[t] < 1.0:
                value += counts[t] * (1.0 - r[t])
                slope[t] = -counts[t]
        else:
            slope[t] = -counts[t] * np.exp(min(-r[t], _LARGEST_EXPONENT))
            value -= slope[t] * (1.0 + max(-r[t] - _LARGEST_EXPONENT, 0.0))
    return value, slope


@nb.njit(cache=True, nogil=True)
def soft_certificate(r, opponents, instances, smoothing):
    """A smooth lower bound of ``min_l max_j r_jl`` of every instance.

    With smoothing s the maximum is ``s log mean exp(r/s)`` and the minimum ``−s log Σ exp(−r/s)``, so that the bound is
    at most ``s (log J + log N)`` below, J and N being the numbers of target neighbours and opponents.

    Parameters
    ----------
    r : array of shape (m,)
        Margins, ordered by instance and by opponent l.
    opponents, instances : int arrays
        Where a new (instance, opponent) and where a new instance begins.
    smoothing : float

    Returns
    -------
    bounds : array of shape (n_instances,)
    share : array of shape (m,)
        Derivative of the bound of its instance in each margin; sums to 1 over an instance.
    """
    m, n_opponents, n_instances = r.shape[0], opponents.shape[0], instances.shape[0]
    bounds, share = np.empty(n_instances), np.empty(m)
    reach = np.empty(n_opponents)
    group = 0
    for i in range(n_instances):
        stop = instances[i + 1] if i + 1 < n_instances else m
        first = group
        nearest = np.inf
        while group < n_opponents and opponents[group] < stop:
            low = opponents[group]
            high = opponents[group + 1] if group + 1 < n_opponents else m
            top = r[low:high].max()
            total = 0.0
            for t in range(low, high):
                share[t] = np.exp((r[t] - top) / smoothing)
                total += share[t]
            share[low:high] /= total
            reach[group] = top + smoothing * np.log(total / (high - low))
            nearest = min(nearest, reach[group])
            group += 1
        total = 0.0
        for g in range(first, group):
            total += np.exp((nearest - reach[g]) / smoothing)
        for g in range(first, group):
            high = opponents[g + 1] if g + 1 < n_opponents else m
            share[opponents[g] : high] *= np.exp((nearest - reach[g]) / smoothing) / total
        bounds[i] = nearest - smoothing * np.log(total)
    return bounds, share
