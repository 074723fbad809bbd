"""Pruned, edited and condensed training sets: the optimum by brute force, and what each promises of what it keeps."""

from itertools import combinations

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from certimetric import CertifiedKNeighborsClassifier, MahalanobisMetric
from certimetric.certify import adversarial_pruning, condensed_neighbors, edited_neighbors
from certimetric.geometry import resolve_norm


def sample(rng, n, n_classes, d=2):
    return rng.standard_normal((n, d)), rng.integers(0, n_classes, n)


def metric_of(rng, d):
    return MahalanobisMetric.from_components(rng.standard_normal((d, d)) + np.eye(d))


def conflicts(X, y, radius, M, norm):
    """By the definition, pair by pair."""
    return {
        (a, b)
        for a, b in combinations(range(len(X)), 2)
        if y[a] != y[b] and (X[a] - X[b]) @ M @ (X[a] - X[b]) < 2 * radius * norm.dual_norm(M @ (X[a] - X[b]))
    }


def largest(n, pairs):
    """Size of the largest set of rows without a conflict, by all subsets."""
    masks = [(1 << a) | (1 << b) for a, b in pairs]
    return max(bin(s).count("1") for s in range(1 << n) if not any(s & mask == mask for mask in masks))


@pytest.mark.parametrize("norm", ["l2", "linf", "l1"])
@pytest.mark.parametrize("n_classes", [2, 4])
def test_pruning_against_all_subsets(n_classes, norm):
    rng = np.random.default_rng(n_classes)
    shortfall = 0
    for _ in range(5):
        X, y = sample(rng, 11, n_classes)
        metric, radius = metric_of(rng, 2), float(rng.uniform(0.2, 0.8))
        pairs = conflicts(X, y, radius, metric.matrix, resolve_norm(norm))
        pruned, best = adversarial_pruning(X, y, radius, metric=metric, norm=norm), largest(11, pairs)
        assert pruned.n_conflicts == len(pairs)
        assert not any({a, b} <= set(pruned.rows.tolist()) for a, b in pairs)
        assert len(pruned.rows) <= best <= pruned.at_most
        assert 11 - len(pruned.rows) <= 2 * (11 - best)
        shortfall += pruned.at_most - len(pruned.rows)
    assert n_classes > 2 or shortfall == 0  # of two classes it is the largest, and said to be


@pytest.mark.parametrize("norm", ["l2", "linf", "l1", "ellipsoid"])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_rows_that_are_kept_are_certified_over_themselves(n_classes, norm):
    rng = np.random.default_rng(5)
    X, y = sample(rng, 120, n_classes, 3)
    A = rng.standard_normal((3, 3))
    norm = A @ A.T + np.eye(3) if norm == "ellipsoid" else norm
    for metric in (None, metric_of(rng, 3)):
        pruned = adversarial_pruning(X, y, 0.2, metric=metric, norm=norm)
        assert 3 <= len(pruned.rows) < 120
        kept, labels = X[pruned.rows], y[pruned.rows]
        knn = CertifiedKNeighborsClassifier(1, metric=metric, norm=norm).fit(kept, labels)
        assert (knn.correctness_radius(kept, labels) >= 0.2 * (1 - 1e-9)).all()
        # Nothing that was dropped could be added: it has a conflict with a row that was kept.
        for row in np.setdiff1d(np.arange(120), pruned.rows):
            more = np.append(pruned.rows, row)
            knn.fit(X[more], y[more])
            assert (knn.correctness_radius(X[more], y[more]) < 0.2).any()


def test_pruning_does_not_depend_on_units_or_names():
    rng = np.random.default_rng(0)
    X, y = sample(rng, 80, 2)
    rows = adversarial_pruning(X, y, 0.3).rows
    np.testing.assert_array_equal(
        adversarial_pruning(X * 2.0**90, np.array(["b", "a"])[1 - y], 0.3 * 2.0**90).rows, rows
    )
    np.testing.assert_array_equal(
        adversarial_pruning(X, y, 0.3, metric=MahalanobisMetric.from_matrix(4 * np.eye(2))).rows, rows
    )


def test_extremes_of_pruning():
    X, y = np.array([[0.0], [0.0], [1.0], [1.0]]), np.array([0, 1, 1, 0])
    assert len(adversarial_pruning(X, y, 0.0).rows) == 4
    assert len(adversarial_pruning(X, y, 1e-9).rows) == 2  # of equal rows with two labels one has to go
    assert len(set(y[adversarial_pruning(X, y, 1e6).rows])) == 1
    assert len(adversarial_pruning(X, np.zeros(4), 1e6).rows) == 4
    # A metric that does not see the difference cannot keep the two apart.
    blind = MahalanobisMetric.from_components([[0.0, 1.0]])
    assert len(adversarial_pruning([[0.0, 0.0], [5.0, 0.0]], [0, 1], 0.1, metric=blind).rows) == 1


def test_editing_is_leave_one_out_voting():
    rng = np.random.default_rng(1)
    X, y = sample(rng, 60, 3)
    metric = metric_of(rng, 2)
    Z = metric.transform(X)
    for k in (1, 3):
        right = [
            KNeighborsClassifier(k).fit(np.delete(Z, i, 0), np.delete(y, i)).predict(Z[i : i + 1])[0] == y[i]
            for i in range(60)
        ]
        np.testing.assert_array_equal(edited_neighbors(X, y, k, metric=metric), np.flatnonzero(right))


def test_condensing_gives_every_row_its_label():
    rng = np.random.default_rng(2)
    X, y = sample(rng, 200, 2)
    y = (X[:, 0] + 0.3 * rng.standard_normal(200) > 0).astype(int)
    metric = metric_of(rng, 2)
    rows = condensed_neighbors(X, y, metric=metric)
    assert 2 <= len(rows) < 150
    knn = CertifiedKNeighborsClassifier(1, metric=metric).fit(X[rows], y[rows])
    np.testing.assert_array_equal(knn.predict(X), y)
    assert condensed_neighbors(X, np.zeros(200)).tolist() == [0]
    assert condensed_neighbors(np.zeros((4, 2)), [0, 1, 0, 1]).tolist() == [0]  # nothing tells them apart, and it ends


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda X, y: adversarial_pruning(X, y, -1.0), "radius must be a size of at least 0, got -1.0"),
        (lambda X, y: adversarial_pruning(X, y, np.nan), "radius must be"),
        (lambda X, y: adversarial_pruning(X, y, "big"), "radius must be"),
        (lambda X, y: adversarial_pruning(X, y, 1.0, norm="l3"), "norm must be"),
        (lambda X, y: edited_neighbors(X, y, 4), "n_neighbors must be between 1 and"),
        (lambda X, y: condensed_neighbors(X[:2], y), "one label for each of the 2 instances, got 4"),
        (lambda X, y: condensed_neighbors(X * np.nan, y), "NaN"),
        (lambda X, y: condensed_neighbors(X, y, metric=MahalanobisMetric.from_matrix(np.eye(3))), "3 features"),
    ],
)
def test_bad_input_is_named_in_one_line(call, message):
    with pytest.raises(ValueError, match=message) as error:
        call(np.arange(8.0).reshape(4, 2), np.array([0, 1, 0, 1]))
    assert "\n" not in str(error.value).split(". ")[0]
