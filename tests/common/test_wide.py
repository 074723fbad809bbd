"""Far more features than instances: the same results in the span of the instances, and no matrix of d × d numbers."""

import tracemalloc

import numpy as np
import pytest
from sklearn.base import clone

from certimetric import (
    AML,
    ARML,
    GMML,
    ITML,
    LMNN,
    LSML,
    MMC,
    NCA,
    SCML,
    CertifiedKNeighborsClassifier,
    Covariance,
    Euclidean,
    MahalanobisMetric,
    PerturbationLoss,
)
from certimetric.certify.reference import ReferenceSet
from certimetric.constraints import nearest_triplets
from certimetric.geometry import Ellipsoid, resolve_norm
from certimetric.geometry.diagonal import DiagonalMetric
from certimetric.learners.coordinates import Coordinates
from certimetric.learners.specs import learner_variants
from certimetric.objectives import MarginLoss, MetricState

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

# SCML takes its basis from other axes, and Adam, of mini-batches, steps along other axes: these two are not the same.
SAME = [
    NCA(max_iter=8),
    NCA(2, max_iter=8),
    NCA(2, init="pca", max_iter=8),
    NCA(2, init="identity", max_iter=8),  # not reduced: its rows leave the span
    NCA(max_iter=8, perturbation=PerturbationLoss()),
    LMNN(max_iter=8),
    LMNN(2, n_components=2, max_iter=8),
    LMNN(max_iter=8, perturbation=PerturbationLoss(tau=4.0)),
    ARML(max_iter=8),
    GMML(),
    GMML(0.3),
    AML(),
    ITML(random_state=0),
    ITML(random_state=0, prior="covariance"),
    LSML(random_state=0),
    MMC(evenness=0, random_state=0),  # the evenness is about the directions of the span
]


def wide(n=30, d=60, seed=0):
    """Classes that differ in some of the features, whose coordinates in the span have a usual unit."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 3
    X = rng.standard_normal((n, d))
    X[:, :5] += 2 * rng.standard_normal((3, 5))[y]
    return X + 5, y


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("learner", SAME, ids=repr)
def test_predictions_and_radii_are_those_of_all_features(learner, norm, monkeypatch):
    # In the span of the instances an objective over their differences is the same function. What lies outside of it
    # is common to all distances of a query, and in no difference of training instances.
    X, y = wide()
    reduced = clone(learner).fit(X[:24], y[:24])
    of = Coordinates.of
    monkeypatch.setattr(Coordinates, "of", lambda X, **options: of(X, **{**options, "reduce": False}))
    full = clone(learner).fit(X[:24], y[:24])
    results = []
    for fitted in (reduced, full):
        knn = CertifiedKNeighborsClassifier(3, metric=fitted, norm=norm).fit(X[:24], y[:24])
        results.append(knn.predict_with_radius(X[24:]))
    np.testing.assert_array_equal(results[0][0], results[1][0])
    np.testing.assert_allclose(results[0][1], results[1][1], rtol=1e-3, atol=1e-6)
    i, j = np.triu_indices(24, 1)
    found, expected = (fitted.metric_.distance(X[i], X[j]) for fitted in (reduced, full))
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    if hasattr(full, "objective_") and not isinstance(learner, AML):  # whose scatters have a ridge beyond the span
        assert reduced.objective_ == pytest.approx(full.objective_, rel=1e-6)


@pytest.mark.parametrize("norm", ["l2", "linf", "l1", np.diag(np.linspace(0.5, 2, 60))], ids=str)
def test_losses_in_the_span_are_those_of_all_features(norm):
    # Under a norm that no rotation keeps, the metric is sought among those in the span; its loss is the true one.
    X, y = wide()
    arml = ARML(2, n_impostors=3, norm=norm, max_iter=20).fit(X, y)
    triplets = nearest_triplets(arml.transform(X), y, 2, 3)
    term = MarginLoss(scale=arml.scale_, norm=norm).bind(X, triplets)
    assert term.evaluate(MetricState(X - X.mean(axis=0), arml.components_)).value == pytest.approx(arml.objective_)
    assert arml.objective_ < arml.objective_path_[0]
    loss = PerturbationLoss(tau=0.5, norm=norm)
    lmnn = LMNN(max_iter=10, push_weight=0.0, perturbation=loss).fit(X * 1e3, y)  # X × 10³ has another unit
    coordinates = Coordinates.of(X * 1e3, rescale=True)
    assert coordinates.unit == 1e3
    triplets = nearest_triplets(X, y, 3, 10)
    margins = loss.adversarial_margin(lmnn, X * 1e3, triplets)
    inside = coordinates.loss(loss)
    again = inside.adversarial_margin(
        MahalanobisMetric.from_components(1e3 * lmnn.components_ @ coordinates.axes.T), coordinates.X, triplets
    )
    np.testing.assert_allclose(1e3 * again, margins, rtol=1e-6, atol=1e-9)
    assert inside.tau == pytest.approx(0.5e-6)


def test_components_keep_the_number_that_was_asked_for():
    X, y = wide()
    assert LMNN(max_iter=2).fit(X, y).components_.shape == (29, 60)  # the rank of 30 centred instances
    assert LMNN(n_components=40, max_iter=2).fit_transform(X, y).shape == (30, 40)
    assert NCA(n_components=2, init="pca", max_iter=2).fit_transform(X, y).shape == (30, 2)
    given = np.eye(3, 60)
    assert LMNN(init=given, max_iter=1).fit(X, y).components_.shape == (3, 60)
    with pytest.raises(ValueError, match="at most the number of features, 60, got 61"):
        LMNN(n_components=61).fit(X, y)


def test_scml_is_its_basis_in_all_features():
    X, y = wide()
    scml = SCML(random_state=0).fit(X, y)
    assert scml.basis_.shape[1] == 60
    np.testing.assert_allclose(np.linalg.norm(scml.basis_, axis=1), 1)
    M = (scml.basis_.T * scml.weights_) @ scml.basis_
    np.testing.assert_allclose(scml.get_mahalanobis_matrix(), M, atol=1e-10 * np.abs(M).max())
    assert scml.objective_ < 0.5 * scml.objective_path_[0] or scml.objective_ < 0.01


def test_scatters_and_adversarial_pairs_are_told_in_all_features(monkeypatch):
    X, y = wide()
    pairs, labels = X[[[0, 1], [0, 3], [4, 8]]], [-1, 1, -1]
    reduced = AML().fit(X, y)
    of = Coordinates.of
    monkeypatch.setattr(Coordinates, "of", lambda X, **options: of(X, **{**options, "reduce": False}))
    full = AML().fit(X, y)
    np.testing.assert_allclose(reduced.scatter_.similar, full.scatter_.similar, atol=1e-9)
    np.testing.assert_allclose(reduced.scatter_.dissimilar, full.scatter_.dissimilar, atol=1e-9)
    np.testing.assert_allclose(reduced.confuse_pairs(pairs, labels), full.confuse_pairs(pairs, labels), rtol=1e-4)
    more = np.random.default_rng(1).standard_normal((6, 2, 60))
    a, b = (learner.partial_fit_pairs(more, [1, -1] * 3) for learner in (reduced, full))
    np.testing.assert_allclose(a.get_mahalanobis_matrix(), b.get_mahalanobis_matrix(), atol=1e-9)


def peak_of(function):
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


D = 4000
MATRIX = 8 * D * D  # bytes of d × d numbers


@pytest.mark.parametrize("learner", learner_variants(random_state=0, max_iter=3), ids=repr)
def test_fits_take_no_matrix_of_all_features(learner):
    X, y = wide(30, D)
    learner = clone(learner)
    assert peak_of(lambda: learner.fit(X, y).transform(X)) < MATRIX / 4
    knn = CertifiedKNeighborsClassifier(3, metric=learner).fit(X, y)
    assert peak_of(lambda: knn.predict_with_radius(X)) < MATRIX / 4


@pytest.mark.parametrize("norm", ["l2", "linf", "l1"])
def test_certificates_of_the_euclidean_distance_take_no_matrix(norm):
    X, y = wide(30, D)
    knn = CertifiedKNeighborsClassifier(3, norm=norm)
    assert peak_of(lambda: knn.fit(X[:20], y[:20]).predict_with_radius(X[20:])) < MATRIX / 4


def diagonal_norms():
    d = 12
    scale, mutable = np.linspace(0.2, 3, d), np.arange(d) % 3 > 0
    for name in ("l2", "linf", "l1"):
        norm = resolve_norm(name)
        yield from (norm, norm.in_units(scale), norm.restrict(mutable), norm.in_units(scale).restrict(mutable))
    yield Ellipsoid(np.diag(scale))


@pytest.mark.parametrize("norm", list(diagonal_norms()), ids=repr)
def test_a_diagonal_metric_is_certified_as_its_matrix_is(norm, rng):
    X, y = rng.standard_normal((40, 12)) * 3, rng.integers(0, 3, 40)
    weights = rng.uniform(-2, 2, 12)
    diagonal, dense = DiagonalMetric(weights), MahalanobisMetric.from_components(np.diag(weights))
    results = [
        CertifiedKNeighborsClassifier(3, metric=metric, norm=norm).fit(X[:30], y[:30]).predict_with_radius(X[30:])
        for metric in (diagonal, dense)
    ]
    np.testing.assert_array_equal(results[0][0], results[1][0])
    np.testing.assert_allclose(results[0][1], results[1][1], rtol=1e-9, atol=1e-12)
    # The bounds that the certificate rests on hold: of dual coordinates, and of dual norms over distances.
    reference = ReferenceSet(diagonal, X, y)
    coordinates, errors = reference.dual_points(norm)
    weights = reference.metric.weights  # in the units of its coordinates
    exact = np.asarray(norm.dual_coordinates((X.astype(np.longdouble) - reference.center) * weights**2))
    assert (np.linalg.norm((coordinates - exact).astype(float), norm.dual_order, axis=1) <= errors).all()
    per_distance = reference.per_distance(norm)
    differences = rng.standard_normal((200, 12))
    sizes = np.linalg.norm(norm.dual_coordinates(differences * weights), norm.dual_order, axis=1)
    assert (sizes <= per_distance * np.linalg.norm(differences, axis=1)).all()


def test_a_diagonal_metric_is_the_metric_of_its_matrix(rng, tmp_path):
    import pickle

    weights = np.array([2.0, -0.5, 0.0])
    names = ["a", "b", "c"]
    metric = DiagonalMetric(weights, names, {"learner": "none"})
    dense = MahalanobisMetric.from_components(np.diag(weights), feature_names=names)
    X, Z = rng.standard_normal((5, 3)), rng.standard_normal((5, 3))
    for value in (metric, pickle.loads(pickle.dumps(metric))):
        assert value == dense
        assert dense == value
        assert hash(value) == hash(dense)
        assert value.feature_names == ("a", "b", "c")
    np.testing.assert_array_equal(metric.transform(X), dense.transform(X))
    np.testing.assert_array_equal(metric.distance(X, Z), dense.distance(X, Z))
    np.testing.assert_allclose(metric.pairwise(X, Z), dense.pairwise(X, Z), rtol=1e-12)
    np.testing.assert_array_equal(metric.matrix, dense.matrix)
    np.testing.assert_allclose(metric.spectrum(), dense.spectrum())
    assert (metric.n_features, metric.n_components) == (3, 3)
    assert metric.compose([1.0, 2.0, 4.0]) == dense.compose([1.0, 2.0, 4.0])
    metric.save(tmp_path / "metric")
    assert MahalanobisMetric.load(tmp_path / "metric") == dense
    with pytest.raises(ValueError, match="3 features, got 2"):
        metric.transform([[1.0, 2.0]])
    with pytest.raises(ValueError, match="weights must be finite"):
        DiagonalMetric([1.0, np.nan])
    with pytest.raises(ValueError, match="read-only"):
        metric.weights[0] = 1.0


def test_the_euclidean_learner_is_the_identity(rng):
    X = rng.standard_normal((4, 3))
    euclidean = Euclidean().fit(X)
    assert euclidean.metric_ == MahalanobisMetric.from_components(np.eye(3))
    np.testing.assert_array_equal(euclidean.components_, np.eye(3))
    np.testing.assert_array_equal(euclidean.transform(X), X)
    assert not hasattr(Euclidean(), "components_")
    assert Covariance().fit(X).converged_
