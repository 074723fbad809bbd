"""Searches over what is near: nothing is left out that could be a neighbour, and nothing is found that is not there."""

import numpy as np
import pytest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from certimetric import CertifiedKNeighborsClassifier, MahalanobisMetric, in_original_units
from certimetric.attacks import ThreatModel
from certimetric.certify import reference as reference_module
from certimetric.certify.exact import nearby
from certimetric.certify.exact.minimal import smallest_changes
from certimetric.certify.radius import PredictedQueries, prepare_reference
from certimetric.geometry import resolve_norm


@pytest.fixture(autouse=True)
def few(monkeypatch):
    """Sets of more than 40 instances count as large ones, and searches begin with 20 of them."""
    for name, value in {"MANY": 40, "_NEAREST": 20, "_OPPONENTS": 10, "_MOST": 1.0}.items():
        monkeypatch.setattr(nearby, name, value)


def problem(seed, n, decimals):
    rng, d = np.random.default_rng(seed), 3
    X = np.round(rng.standard_normal((n, d)), decimals)
    y = (X[:, 0] + 0.5 * rng.standard_normal(n) > 0).astype(int) + (X[:, 1] > 0.8)
    metric = MahalanobisMetric.from_components(rng.standard_normal((d, d)))
    return prepare_reference(metric, X, y), X, rng


@pytest.mark.parametrize("norm", ["l2", "linf", "l1", np.diag([1.0, 4.0, 0.25])])
def test_what_is_left_out_is_no_neighbour_after_any_change(norm):
    reference, X, rng = problem(0, 400, 1)  # with ties and duplicates
    norm = resolve_norm(norm)
    for k, size, query in ((1, 0.3, X[3]), (3, 0.1, X[5] + 0.03), (5, 0.5, rng.standard_normal(3))):
        queries = PredictedQueries.of(reference, query[None], k)
        nearest = reference.neighbors(queries.points, k)[0][0]
        data, order = reference.kernel_data(norm), float(norm.dual_order)
        asked = (queries.points[0], float(queries.errors[0]), nearest, size, data, order)
        may = nearby.can_be_neighbors(*asked)
        assert may[nearest].all() and may.sum() < len(may)
        moved = query + size * norm.sample(rng, 300, 3) * rng.choice([0.5, 1.0], 300)[:, None]
        assert may[reference.neighbors(reference.embed(moved)[0], k)[0]].all()
        assert (may >= nearby.can_be_neighbors(*asked[:3], size / 2, *asked[4:])).all()


@pytest.mark.parametrize("kind", ["any", "wanted", "excluded", "threat"])
def test_changes_are_those_over_all_instances(kind, monkeypatch):
    reference, X, _ = problem(1, 120, 16)
    exclude, options, norm, k, queries = None, {}, "l2", 3, X[:4] + 0.01
    if kind == "excluded":
        exclude, queries = np.arange(4), X[:4]
    if kind == "wanted":
        options["wanted"] = np.array([0, 1, 2, 0])
    if kind == "threat":
        norm, k = "linf", 1
        options["threat"] = ThreatModel(norm, bounds=(-2.0, 2.0), direction={0: "increase"}, eps=0.8).bind(3)
    asked, searched, among = PredictedQueries.of(reference, queries, k, exclude=exclude), [], nearby._among
    monkeypatch.setattr(nearby, "_among", lambda some, rows: (searched.append(len(rows)), among(some, rows))[1])
    found = smallest_changes(asked, resolve_norm(norm), time_limit=np.inf, **options)
    assert searched and max(searched) < len(X)
    monkeypatch.setattr(nearby, "MANY", len(X))
    wanted = smallest_changes(asked, resolve_norm(norm), time_limit=np.inf, **options)
    assert found.proven.any() and (found.proven == wanted.proven).all()
    np.testing.assert_allclose(found.radii, wanted.radii, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(found.lower, wanted.lower, rtol=1e-6, atol=1e-9)
    labels = asked.at(found.witnesses)
    reached = labels != asked.predicted if kind != "wanted" else labels == options["wanted"]
    assert reached[found.verified].all() and found.verified.any()


def test_behind_a_scaler_and_with_cells(monkeypatch):
    reference, X, _ = problem(2, 120, 16)
    for name in ("_MANY_ROWS", "_MANY_QUERIES"):
        monkeypatch.setattr(reference_module, name, 1)
    knn = in_original_units(make_pipeline(StandardScaler(), CertifiedKNeighborsClassifier(3)).fit(X, reference.y))
    queries = X[:3] + 0.01
    before = knn.predict(queries)
    found = knn.minimal_perturbation(queries, time_limit=np.inf)
    assert (knn.predict(found.witnesses) != before).all() and found.verified.all()
    monkeypatch.setattr(nearby, "MANY", len(X))
    np.testing.assert_allclose(found.radii, knn.minimal_perturbation(queries, time_limit=np.inf).radii, rtol=1e-6)


def test_nothing_is_said_beyond_the_budget():
    """Of a threat model nothing is proven beyond what was searched for."""
    reference, X, _ = problem(1, 120, 16)
    threat = ThreatModel("l2", eps=1e-3).bind(3)
    far = reference.neighbors(reference.points, 1, exclude=np.arange(len(X)))[0][:, 0]
    asked = PredictedQueries.of(reference, X[reference.y == reference.y[far]][:3], 1)
    found = smallest_changes(asked, resolve_norm("l2"), threat=threat, time_limit=np.inf)
    assert np.isinf(found.radii).all() and (found.lower <= 1.1e-3).all()
