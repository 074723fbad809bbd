"""Attack on k-NN by projection onto the region where a group of opponents outvotes the predicted class."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linprog, nnls
from sklearn.utils.validation import check_array

from certimetric.attacks.base import AttackResult
from certimetric.certify.classifier import CertifiedKNeighborsClassifier
from certimetric.certify.reference import ReferenceSet
from certimetric.geometry.norms import Norm, resolve_norm

Array = NDArray[np.float64]
Indices = NDArray[np.int64]

_ROUNDS = 60  # of constraint generation; each adds the most violated constraint
_OVERSHOOT = (1e-9, 1e-6, 1e-3)  # how far beyond the boundary a point is pushed to lie on the other side
_BISECTIONS = 24


class ProjectionAttack:
    """Minimal-norm attack on a :class:`CertifiedKNeighborsClassifier` with full knowledge of it.

    For each of the nearest opponents, the query is projected onto the set of points where that opponent and its
    nearest classmates, enough of them for a majority, are all nearer than the predicted class: linear constraints,
    added one by one as they are violated. The projection is a quadratic program for l2 and ellipsoid norms and a linear
    one for l∞ and l1. Every point is checked with ``predict`` and then drawn back towards the query as far as it stays
    adversarial.

    Parameters
    ----------
    n_opponents : int, default=8
        Opponents tried for each query, nearest first.

    References
    ----------
    In the spirit of the region-based attack of Yang et al., arXiv 1906.03310, and GeoAdEx, arXiv 2011.09719.

    Examples
    --------
    >>> import numpy as np
    >>> from certimetric import CertifiedKNeighborsClassifier
    >>> knn = CertifiedKNeighborsClassifier(n_neighbors=1).fit([[0.0], [4.0]], ["a", "b"])
    >>> result = ProjectionAttack()(knn, [[1.0]])
    >>> result.success, result.distances.round(6)
    (array([ True]), array([1.]))
    """

    def __init__(self, n_opponents: int = 8):
        self.n_opponents = n_opponents

    def __call__(
        self, classifier: CertifiedKNeighborsClassifier, X: ArrayLike, y: ArrayLike | None = None
    ) -> AttackResult:
        """Attack queries in the norm of the classifier.

        Parameters
        ----------
        classifier : CertifiedKNeighborsClassifier
            Fitted.
        X : array-like of shape (m, d)
        y : array-like of shape (m,), optional
            True labels: a query that is misclassified already counts as attacked at distance 0. Without them the
            aim is to change the prediction.
        """
        X = check_array(X, dtype=np.float64, input_name="X")
        norm = resolve_norm(classifier.norm)
        predicted = classifier.predict(X)
        goal = predicted if y is None else np.asarray(y)
        codes = np.searchsorted(classifier.classes_, predicted)
        best, size = X.copy(), np.where(predicted != goal, 0.0, np.inf)
        queries, candidates = self._candidates(classifier, norm, X, codes, np.flatnonzero(size > 0))
        if len(queries):
            flips = classifier.predict(candidates) != goal[queries]
            queries, candidates = queries[flips], candidates[flips]
        if len(queries):
            candidates = _draw_back(classifier, X[queries], candidates, goal[queries])
            distances = norm.norm(candidates - X[queries])
            for row in np.argsort(distances, kind="stable")[::-1]:
                best[queries[row]], size[queries[row]] = candidates[row], distances[row]
        return AttackResult(best, np.isfinite(size), size)

    def _candidates(
        self, classifier: CertifiedKNeighborsClassifier, norm: Norm, X: Array, codes: Indices, rows: Indices
    ) -> tuple[Indices, Array]:
        """Points that ought to be adversarial, and the query that each belongs to."""
        reference, k = classifier._reference, classifier.n_neighbors
        points, _ = reference.embed(X)
        queries: list[int] = []
        candidates: list[Array] = []
        for i in rows:
            squared = ((reference.points - points[i]) ** 2).sum(axis=1)
            own = np.flatnonzero(reference.y == codes[i])
            others = np.flatnonzero(reference.y != codes[i])
            others = others[np.argsort(squared[others], kind="stable")]
            # The k − |group| nearest of the own class may stay among the neighbours: they are in the minority.
            own = own[np.argsort(squared[own], kind="stable")]
            for group in _groups(reference, others, k // 2 + 1, self.n_opponents):
                rest = own[max(k - len(group), 0) :]
                step = _project(reference, norm, squared, group, rest)
                if step is None:
                    continue
                towards = classifier._training[group].mean(axis=0) - X[i]
                for overshoot in _OVERSHOOT:
                    # Scaling crosses a boundary that has a normal; a nudge to the opponents crosses any other.
                    queries += [i, i]
                    candidates += [X[i] + step * (1 + overshoot), X[i] + step + overshoot * (towards - step)]
        return np.array(queries, dtype=np.int64), np.array(candidates).reshape(-1, X.shape[1])


def _groups(reference: ReferenceSet, others: Indices, size: int, n_groups: int) -> list[Indices]:
    """Each of the nearest opponents with its nearest classmates: enough for a majority of k votes."""
    groups = []
    for opponent in others[:n_groups]:
        mates = others[reference.y[others] == reference.y[opponent]]
        distances = ((reference.points[mates] - reference.points[opponent]) ** 2).sum(axis=1)
        groups.append(mates[np.argsort(distances, kind="stable")[:size]])
    return groups


def _project(reference: ReferenceSet, norm: Norm, squared: Array, group: Indices, rest: Indices) -> Array | None:
    """Smallest δ with ``2 δᵀM(x_l − x_j) ≥ d²_l − d²_j`` for all l of the group and j of the rest; None if none."""
    d = reference.metric.n_features
    active: list[tuple[int, int]] = []
    step = np.zeros(d)
    for _ in range(_ROUNDS):
        moved = reference.metric.components @ step
        # d²(x+δ, x_p) up to a constant in p: the worst l must come before the nearest j.
        score_group = squared[group] - 2 * reference.points[group] @ moved
        score_rest = squared[rest] - 2 * reference.points[rest] @ moved
        if not len(rest):
            return step
        worst = (int(group[score_group.argmax()]), int(rest[score_rest.argmin()]))
        tolerance = 1e-10 * (1.0 + abs(squared[worst[1]]))
        if score_group.max() <= score_rest.min() + tolerance or worst in active:
            return step
        active.append(worst)
        l, j = np.array(active).T
        A = 2 * (reference.points[l] - reference.points[j]) @ reference.metric.components
        smallest = _smallest_step(A, squared[l] - squared[j], norm)
        if smallest is None:
            return None
        step = smallest
    return step


def _smallest_step(A: Array, b: Array, norm: Norm) -> Array | None:
    """Smallest δ with ``A δ ≥ b``; None if there is none."""
    if norm.dual_order == 2:
        return _least_distance(A, b, norm)
    m, d = A.shape
    if norm.dual_order == 1:  # l∞: bound every |δ_t| by one variable
        cost = np.append(np.zeros(d), 1.0)
        ones = np.ones((d, 1))
        rows = np.block([[-A, np.zeros((m, 1))], [np.eye(d), -ones], [-np.eye(d), -ones]])
        result = linprog(cost, rows, np.concatenate([-b, np.zeros(2 * d)]), bounds=[(None, None)] * d + [(0, None)])
        return result.x[:d] if result.status == 0 else None
    # l1: positive and negative parts
    result = linprog(np.ones(2 * d), np.hstack([-A, A]), -b, bounds=(0, None))
    return result.x[:d] - result.x[d:] if result.status == 0 else None


def _least_distance(A: Array, b: Array, norm: Norm) -> Array | None:
    """Least-distance programming by non-negative least squares (Lawson and Hanson, 1974, chapter 23)."""
    whitened = norm.dual_coordinates(A)  # η with δ = C⁻ᵀη has ‖η‖₂ = ‖δ‖
    scale = np.linalg.norm(whitened, axis=1)
    if not (scale > 0).all():
        return None if (b[scale == 0] > 0).any() else _least_distance(A[scale > 0], b[scale > 0], norm)
    if not len(A):
        return np.zeros(A.shape[1])
    G, h = whitened / scale[:, None], b / scale
    size = np.abs(h).max()
    if size == 0:
        return np.zeros(A.shape[1])
    E = np.vstack([G.T, h / size])
    f = np.zeros(len(E))
    f[-1] = 1.0
    u, residual = nnls(E, f)
    if residual < 1e-9:
        return None
    r = E @ u - f
    eta = -r[:-1] / r[-1] * size
    return norm.dual_coordinates(np.eye(A.shape[1])) @ eta


def _draw_back(classifier: CertifiedKNeighborsClassifier, X: Array, adversarial: Array, goal: NDArray[Any]) -> Array:
    """Bisect between each query and its adversarial point, keeping the nearest point that is adversarial."""
    low, high = np.zeros(len(X)), np.ones(len(X))
    direction = adversarial - X
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        flips = classifier.predict(X + middle[:, None] * direction) != goal
        high, low = np.where(flips, middle, high), np.where(flips, low, middle)
    # The untouched point where bisection did not help: it is known to be adversarial, digit for digit.
    return np.where((high < 1)[:, None], X + high[:, None] * direction, adversarial)
