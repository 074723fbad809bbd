"""Lower bounds against arithmetic without rounding: no nearer point changes the vote, neither exactly nor in floats."""

from collections import Counter
from fractions import Fraction
from itertools import combinations

import numpy as np
import pytest

from certimetric import CertifiedKNeighborsClassifier, MahalanobisMetric
from certimetric.attacks import RegionAttack
from certimetric.geometry import resolve_norm


def fractions_of(rows):
    return [[Fraction(float(value)) for value in row] for row in rows]


class ExactVote:
    """The k-NN vote at a point of floating-point numbers, without any rounding; ties by index, then by label."""

    def __init__(self, L, X, y, k):
        self.L, self.y, self.k = fractions_of(L), y, k
        self.points = [self._embed(row) for row in fractions_of(X)]

    def _embed(self, row):
        return [sum(a * b for a, b in zip(line, row)) for line in self.L]

    def __call__(self, point):
        (x,) = fractions_of([point])
        x = self._embed(x)
        squared = [sum((a - b) ** 2 for a, b in zip(x, p)) for p in self.points]
        nearest = sorted(range(len(squared)), key=lambda j: (squared[j], j))[: self.k]
        counts = Counter(int(self.y[j]) for j in nearest)
        return min(label for label in counts if counts[label] == max(counts.values()))


def nearer(point, x, norm, size):
    """Whether ``‖point − x‖ < size``, exactly."""
    if np.isinf(size):
        return True
    (change,) = fractions_of([point])
    change = [abs(a - Fraction(float(b))) for a, b in zip(change, x)]
    if norm == "l2":
        return sum(c * c for c in change) < Fraction(float(size)) ** 2
    return (max(change) if norm == "linf" else sum(change)) < Fraction(float(size))


def corners(L, X, x):
    """Points nearest to x in l2 on one or two surfaces between instances: the minimal perturbation is one of them."""
    L, X, x = (np.asarray(a, np.longdouble) for a in (L, X, x))
    points, at = X @ L.T, x @ L.T
    first, second = np.array(list(combinations(range(len(X)), 2))).T
    rows = 2 * (points[first] - points[second]) @ L
    gaps = ((points[first] - points[second]) * (points[first] + points[second] - 2 * at)).sum(axis=1)
    sizes = np.sqrt((rows * rows).sum(axis=1))
    rows, gaps = rows[sizes > 0] / sizes[sizes > 0, None], gaps[sizes > 0] / sizes[sizes > 0]
    steps = [rows * gaps[:, None]]
    for i in range(len(rows) - 1):  # pairs, by Cramer's rule
        a, b, p, q = rows[i], rows[i + 1 :], gaps[i], gaps[i + 1 :]
        c = b @ a
        parallel = np.abs(1 - c * c) < 1e-18
        det = np.where(parallel, np.nan, 1 - c * c)
        steps.append(((p - c * q) / det)[:, None] * a + ((q - c * p) / det)[:, None] * b)
    steps = np.concatenate(steps)
    steps = steps[np.isfinite(steps).all(axis=1)]
    return np.concatenate([(x + steps * (1 + push)).astype(float) for push in (-1e-13, 1e-13, 1e-10, 1e-7)])


def hard_problems(seeds):
    """Small problems: metrics of any condition, ties, near duplicates, offsets, queries on boundaries."""
    for seed in seeds:
        rng = np.random.default_rng(seed)
        d, n, k = int(rng.integers(1, 4)), int(rng.integers(3, 11)), int(rng.integers(1, 6))
        X, x, y = rng.standard_normal((n, d)), rng.standard_normal(d), rng.integers(0, 3, n)
        y[:2] = 0, 1
        U, V = (np.linalg.qr(rng.standard_normal((d, d)))[0] for _ in range(2))
        L = U * 10.0 ** -np.linspace(0, rng.uniform(0, 6), d) @ V
        kind = seed % 5
        if kind == 1:
            X, x = np.round(X), np.round(2 * x) / 2
        elif kind == 2:
            X[n // 2 :] = X[: n - n // 2] + 10.0 ** rng.uniform(-15, -7) * rng.standard_normal((n - n // 2, d))
        elif kind == 3:
            offset = 10.0 ** rng.uniform(0, 8) * rng.standard_normal(d)
            X, x = X + offset, x + offset
        elif kind == 4:
            x = (X[0] + X[1]) / 2 + 10.0 ** rng.uniform(-18, -6) * rng.standard_normal(d)
        yield L, X, y, x, min(k, n), ("l2", "l2", "linf", "l1")[rng.integers(4)], rng


@pytest.mark.parametrize("part", range(4))
def test_nothing_nearer_than_the_lower_bound_changes_the_vote(part):
    for L, X, y, x, k, norm, rng in hard_problems(range(25 * part, 25 * part + 25)):
        knn = CertifiedKNeighborsClassifier(k, metric=MahalanobisMetric.from_components(L), norm=norm).fit(X, y)
        label, vote = knn.predict([x])[0], ExactVote(L, X, y, k)
        found = knn.minimal_perturbation([x], node_limit=100, time_limit=np.inf)
        lower, radius, witness = found.lower[0], found.radii[0], found.witnesses[0]
        assert lower <= radius
        # The flags say what they promise.
        assert found.proven[0] == (lower >= radius * (1 - 1e-6) if np.isfinite(radius) else np.isinf(lower))
        if found.verified[0]:
            assert knn.predict([witness])[0] != label
            assert not nearer(witness, x, norm, lower)
            assert nearer(witness, x, norm, radius * (1 + 1.001e-6) + found.tolerance[0] + 1e-300)
        if lower == 0:
            continue
        assert vote(x) == label
        points = [x + np.linspace(0, 1.001, 8)[:, None] * (witness - x), corners(L, X, x)]
        if np.isfinite(lower):
            shares = rng.choice([0.5, 1 - 1e-6, 1 - 1e-15], (50, 1))
            points.append(x + resolve_norm(norm).sample(rng, 50, len(x)) * lower * shares)
        attacked = RegionAttack()(knn, [x], threat=norm) if rng.random() < 0.2 else None
        if attacked is not None and attacked.success[0]:
            points.append(attacked.adversarial)
            # What is proven is no larger than any attack.
            assert not found.proven[0] or attacked.distances[0] >= radius * (1 - 1e-6)
        points = np.concatenate(points)
        sizes = resolve_norm(norm).norm(points - x)
        surely, barely = sizes < lower * (1 - 1e-12), (sizes < lower * (1 + 1e-12)) & (sizes >= lower * (1 - 1e-12))
        surely[barely] = [nearer(point, x, norm, lower) for point in points[barely]]
        points = points[surely]
        if not len(points):
            continue
        assert (knn.predict(points) == label).all()
        for point in points[rng.permutation(len(points))[:20]]:
            assert vote(point) == label


def test_a_flip_that_the_size_of_the_best_step_once_lay_above():
    X = [[0.55, -2.47], [-0.49, 0.87], [0.58, 0.85], [-0.29, 1.37], [0.32, -0.27], [0.39, -0.27], [-0.19, -0.6]]
    y = np.array([1, 0, 1, 0, 1, 0, 0])
    L = [[-0.0030720979447748753, 3.328617174937889e-05], [0.0009039740816840991, 0.08343094962620017]]
    x, flip = np.array([-0.44, -0.59]), np.array([5056.496562457078, -55.57867123208988])
    knn = CertifiedKNeighborsClassifier(2, metric=MahalanobisMetric.from_components(L)).fit(X, y)
    found = knn.minimal_perturbation([x], time_limit=np.inf)
    assert knn.predict([x])[0] != knn.predict([flip])[0]
    assert not nearer(flip, x, "l2", found.lower[0])
    assert found.proven[0]


@pytest.mark.parametrize("condition", [1e6, 1e9, 1e12])
@pytest.mark.parametrize("k", [2, 3])
def test_ill_conditioned_metrics_have_honest_brackets(condition, k):
    # cond(M) = condition: the corners of cells lie far off, and rounding moves them a good deal.
    for seed in range(4):
        rng = np.random.default_rng(seed)
        U, V = (np.linalg.qr(rng.standard_normal((2, 2)))[0] for _ in range(2))
        L = U * [1.0, condition**-0.5] @ V
        X, y, x = rng.standard_normal((7, 2)), np.arange(7) % 2, rng.standard_normal(2)
        knn = CertifiedKNeighborsClassifier(k, metric=MahalanobisMetric.from_components(L)).fit(X, y)
        found = knn.minimal_perturbation([x], node_limit=300, time_limit=np.inf)
        vote = ExactVote(L, X, y, k)
        label = vote(x)
        points = corners(L, X, x)
        points = points[np.linalg.norm(points - x, axis=1) < found.lower[0] * (1 + 1e-9)]
        below = [point for point in points if nearer(point, x, "l2", found.lower[0])]
        assert all(vote(point) == label for point in below)
        # The bracket is worth something: the bound meets the radius, unless that is thousands of times the data away.
        if found.verified[0]:
            assert vote(found.witnesses[0]) != label
        assert found.proven[0] or found.radii[0] > 1e3
