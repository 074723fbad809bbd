"""Attack on k-NN by the nearest points of regions where a group of opponents outvotes the predicted class."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from certimetric.attacks.base import Attack, Search
from certimetric.attacks.predictors import nearest_neighbor_classifier
from certimetric.base.arrays import Array
from certimetric.certify.classifier import CertifiedKNeighborsClassifier
from certimetric.certify.exact.dual_program import DualProgram
from certimetric.certify.exact.limits import Limits
from certimetric.certify.exact.regions import Regions
from certimetric.certify.radius import PredictedQueries
from certimetric.geometry.neighbors import nearest_neighbors

_OVERSHOOT = (1e-9, 1e-7, 1e-5)  # of a step, so that the point lies inside of the region
_DECOYS = 3  # training instances whose whole features are tried
_MARGIN = 1e-6  # distance that the inner points of a region keep from its boundaries, relative to a step


class RegionAttack(Attack):
    """White-box attack on a k-NN classifier, the strongest here: near regions are measured exactly.

    For each of the nearest opponents, the query is projected onto the set of points where the opponent and its nearest
    classmates, enough of them for a majority, are nearer than the predicted class: a quadratic program for l2 and
    ellipsoid norms, a linear one for l∞ and l1, with the bounds of the features as further constraints. For k > 1 a
    local search exchanges instances as long as the projection comes nearer. Features that cannot be changed are left
    out of the program; whole and one-hot features are rounded, fixed, and the rest projected again.

    Parameters
    ----------
    n_opponents : int, default=8
        Opponents tried for each query, nearest first.

    References
    ----------
    In the spirit of the region-based attack of Yang et al., arXiv 1906.03310 [yang2019robustness], and GeoAdEx, arXiv
    2011.09719 [sitawarin2020adversarial].

    Examples
    --------
    >>> from certimetric import CertifiedKNeighborsClassifier
    >>> knn = CertifiedKNeighborsClassifier(n_neighbors=1).fit([[0.0], [4.0]], ["a", "b"])
    >>> result = RegionAttack()(knn, [[1.0]])
    >>> result.success, result.distances.round(6)
    (array([ True]), array([1.]))
    """

    def __init__(self, n_opponents: int = 8):
        if n_opponents < 1:
            raise ValueError(f"n_opponents must be at least 1, got {n_opponents}")
        self.n_opponents = n_opponents

    def propose(self, search: Search) -> None:
        classifier = nearest_neighbor_classifier(search.predictor)
        threat, mutable = search.threat, search.threat.mutable
        nearest = self._project(search, classifier, search.X, mutable)
        decoys = self._decoys(classifier, search.X)
        if threat.discrete:
            # Rounding may have led out of the region: with whole features as they are there, or as decoys have them,
            # the others are projected again.
            whole = threat.whole
            for values in (nearest, *decoys):
                starts = np.where(whole, threat.repair(search.X, values.copy()), search.X)
                search.offer(search.open, starts[search.open])
                if (mutable & ~whole).any():
                    self._project(search, classifier, starts, mutable & ~whole)
        # Regions that only touch at a point have no inside: there, what lies farther off is drawn back.
        for values in decoys:
            rows = np.flatnonzero(np.isinf(search.distances))
            search.offer(rows, values[rows])
            hit = rows[np.isfinite(search.distances[rows])]
            search.draw_back(hit, search.adversarial[hit])

    def _project(
        self, search: Search, classifier: CertifiedKNeighborsClassifier, starts: Array, mutable: NDArray[np.bool_]
    ) -> Array:
        """Offer the nearest points of regions to ``starts``, by changes of the mutable features; gives the nearest."""
        threat = replace(search.threat, mutable=mutable)
        program = DualProgram(classifier.reference_, threat.norm.restrict(mutable), threat.limited)
        limits = Limits.of(program, threat, starts) if threat.limited else [None] * len(starts)
        queries = PredictedQueries.of(classifier.reference_, starts, classifier.n_neighbors)
        rows: list[int] = []
        steps: list[Array] = []
        nearest = starts.copy()
        for i in search.open:
            if classifier.classes_[queries.predicted[i]] != search.goal[i]:
                continue
            regions = Regions.of(program, queries, i, limits[i])
            found = regions.search(self.n_opponents)
            for step, neighbors in found:
                inner = regions.inward(step, neighbors, _MARGIN)
                for overshoot in _OVERSHOOT:
                    rows += [i, i]
                    steps += [step.eta * (1.0 + overshoot), step.eta + overshoot / _MARGIN * inner]
            if found:
                nearest[i] += found[0][0].eta @ program.lift
        if rows:
            index = np.array(rows)
            search.offer(index, starts[index] + np.array(steps) @ program.lift)
            hit = search.open[np.isfinite(search.distances[search.open])]
            search.draw_back(hit, search.adversarial[hit], starts[hit])
        return nearest

    def _decoys(self, classifier: CertifiedKNeighborsClassifier, X: Array) -> list[Array]:
        """The nearest training instances where another label is predicted, one array of shape (m, d) for each rank."""
        reference, k = classifier.reference_, classifier.n_neighbors
        points, _ = reference.embed(X)
        predicted, at_training = reference.predict(points, k), reference.predict(reference.points, k)
        found = [X.copy() for _ in range(_DECOYS)]
        for code in np.unique(predicted):
            rows, others = np.flatnonzero(predicted == code), np.flatnonzero(at_training != code)
            n_found = min(_DECOYS, len(others))
            if n_found:
                indices, _ = nearest_neighbors(points[rows], reference.points[others], n_found)
                for rank in range(n_found):
                    found[rank][rows] = classifier.X_[others[indices[:, rank]]]
        return found
