"""Certificates, exact radii and attacks in this order: the bracket that every instance is in."""

from itertools import product

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer

from certimetric import GMML, CertifiedKNeighborsClassifier
from certimetric.attacks import BestOf, RegionAttack, SmoothedVoteAttack
from certimetric.certify.exact.witnesses import PROVEN
from certimetric.datasets import load
from certimetric.geometry import resolve_norm


@pytest.fixture(scope="module")
def tables(wine, iris):
    X, y = load_breast_cancer(return_X_y=True)
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    return {"wine": wine, "iris": iris, "breast cancer": (X[:150], y[:150])}


@pytest.fixture(scope="module")
def metrics(tables):
    return {name: GMML().fit(X[::2], y[::2]).metric_ for name, (X, y) in tables.items()}


# All pairs take long: every norm with one number of neighbours, and each of those, is enough for every day.
VOTES = [
    pytest.param(
        norm, k, marks=[] if (norm, k) in {("l2", 2), ("linf", 3), ("l1", 1), ("ellipsoid", 3)} else [pytest.mark.slow]
    )
    for norm, k in product(("l2", "linf", "l1", "ellipsoid"), (1, 2, 3))
]


@pytest.mark.parametrize(("norm", "k"), VOTES)
def test_certificate_is_never_above_the_attack(tables, metrics, attack, norm, k, make_norm):
    # Soundness: a certified radius is a lower bound on the distance of any point with another prediction.
    for name, (X, y) in tables.items():
        norm_ = make_norm(norm, X.shape[1])
        knn = CertifiedKNeighborsClassifier(k, metric=metrics[name], norm=norm_).fit(X[::2], y[::2])
        X = X[1::30]
        labels, radii = knn.predict_with_radius(X)
        result = attack(knn, X, threat=norm_)
        assert result.success.all()
        assert (result.labels != labels).all()
        np.testing.assert_array_equal(knn.predict(result.adversarial), result.labels)
        np.testing.assert_allclose(result.distances, resolve_norm(norm_).norm(result.adversarial - X), rtol=1e-12)
        assert (radii <= result.distances).all()


# With three neighbours, and on digits in l1 and l∞, the search takes seconds: smaller tables are enough for every day.
SEARCHED = {("iris", "l2"), ("iris", "linf")}
ORDERED = [
    pytest.param(
        name,
        norm,
        k,
        marks=[pytest.mark.slow]
        if (k == 3 and (name, norm) not in SEARCHED) or (name == "digits" and norm != "l2")
        else [],
    )
    for name, norm, k in product(["iris", "wine", "breast_cancer", "digits"], ["l2", "linf", "l1"], [1, 3])
]


@pytest.mark.parametrize(("name", "norm", "k"), ORDERED)
def test_certified_exact_and_attacked_in_this_order(name, norm, k):
    # The bracket holds for every instance: certified ≤ proven lower bound ≤ smallest change, and attacks stay above.
    data = load(name)
    X = (data.X - data.X.mean(axis=0)) / np.maximum(data.X.std(axis=0), 1e-12)
    test = np.arange(0, len(X), max(3, len(X) // 6 // 3 * 3))
    train = np.setdiff1d(np.arange(len(X)), np.arange(0, len(X), 3))
    knn = CertifiedKNeighborsClassifier(k, metric=GMML(), norm=norm).fit(X[train], data.y[train])
    _, certified = knn.predict_with_radius(X[test])
    found = knn.minimal_perturbation(X[test], time_limit=0.1)
    attacked = BestOf([RegionAttack(), SmoothedVoteAttack(steps=20)])(knn, X[test], threat=norm)
    assert attacked.success.all()
    assert (certified <= found.lower * (1 + 1e-9)).all()
    assert (found.lower <= found.radii).all()
    assert (found.lower <= attacked.distances).all()
    # What is proven to be the smallest change is no larger than any attack: the check of an audit says the same.
    assert (found.radii * (1 - PROVEN) <= attacked.distances)[found.proven].all()
    if k == 1:
        assert found.proven.all()
        assert np.median(found.radii / attacked.distances) > 0.95


@pytest.mark.parametrize("norm", ["l2", "linf", "l1"])
def test_nothing_is_nearer_than_a_proven_radius_at_the_boundary(iris, attack, norm):
    # Half way between instances of two classes, where any step may do: infinity was once proven here.
    X, y = iris
    knn = CertifiedKNeighborsClassifier(1, norm=norm).fit(X, y)
    squared = ((X[50::8, None] - X) ** 2).sum(axis=2)
    squared[y[50::8, None] == y] = np.inf
    queries = (X[50::8] + X[squared.argmin(axis=1)]) / 2
    found, result = knn.minimal_perturbation(queries), attack(knn, queries, threat=norm)
    assert found.proven.all()
    assert (found.lower <= found.radii).all()
    assert (found.radii * (1 - PROVEN) <= result.distances).all()
