"""Embeddings as a gallery: the certificates of the metric that made them, and what their errors cost."""

import numpy as np
import pytest

from certimetric import MahalanobisMetric
from certimetric.certify.embedded import EmbeddedSet, embedding_radii
from certimetric.certify.exact.minimal import smallest_changes
from certimetric.certify.radius import PredictedQueries, bound_radii
from certimetric.certify.reference import ReferenceSet
from certimetric.geometry.norms import resolve_norm


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    return rng.normal(size=(60, 7)), rng.integers(0, 3, size=60), rng.normal(size=(25, 7))


@pytest.mark.parametrize("k", [2, 7, 11])
@pytest.mark.parametrize("norm", ["l2", "linf", "l1"])
def test_embeddings_of_a_metric_are_certified_as_the_metric_is(data, k, norm):
    X, y, Z = data
    W = np.random.default_rng(k).normal(size=(k, 7))
    norm = resolve_norm(norm)
    reference = ReferenceSet(MahalanobisMetric.from_components(W), X, y)
    embedded = EmbeddedSet(X @ W.T + 3.0, y, W)  # wherever the origin is
    for n_neighbors in (1, 4):
        labels, expected = bound_radii(reference, Z, n_neighbors, norm)
        predicted, radii = embedding_radii(embedded, Z @ W.T + 3.0, norm, n_neighbors=n_neighbors, exact=False)
        np.testing.assert_array_equal(predicted, labels)
        np.testing.assert_allclose(radii, expected, rtol=1e-9, atol=1e-12)
    if norm.dual_order == 2:
        _, exact = embedding_radii(embedded, Z @ W.T + 3.0, norm)
        found = smallest_changes(PredictedQueries.of(reference, Z, 1), norm)
        np.testing.assert_allclose(exact, found.lower, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_without_a_map_the_embedding_itself_is_changed(data, norm):
    X, y, Z = data
    norm = resolve_norm(norm)
    reference = ReferenceSet(MahalanobisMetric.from_components(np.eye(7)), X, y)
    _, radii = embedding_radii(EmbeddedSet(X, y), Z, norm, exact=False)
    np.testing.assert_allclose(radii, bound_radii(reference, Z, 1, norm)[1], rtol=1e-9, atol=1e-12)


def test_errors_of_embeddings_are_taken_off(data):
    """Whoever moves a query by its error, and items by theirs, finds no larger radius than was certified."""
    X, y, Z = data
    norm, rng = resolve_norm("l2"), np.random.default_rng(1)
    _, plain = embedding_radii(EmbeddedSet(X, y), Z, norm)
    predicted, careful = embedding_radii(EmbeddedSet(X, y, errors=0.01), Z, norm, errors=0.02)
    assert (careful < plain).all() and (careful > 0).any()
    for _ in range(20):
        moved, items = (
            points + size * (step := rng.normal(size=points.shape)) / np.linalg.norm(step, axis=1, keepdims=True)
            for points, size in ((Z, 0.02), (X, 0.01))
        )
        after, radii = embedding_radii(EmbeddedSet(items, y), moved, norm)
        certain = careful > 0
        np.testing.assert_array_equal(after[certain], predicted[certain])
        assert (radii >= careful - 1e-12).all()


def test_what_embeddings_cannot_be_certified_in_is_named(data):
    X, y, Z = data
    gallery = EmbeddedSet(X, y)
    for norm in (resolve_norm(np.eye(7)), resolve_norm("l2").in_units(np.full(7, 2.0))):
        with pytest.raises(ValueError, match="in l2, linf or l1, got"):
            embedding_radii(gallery, Z, norm)
    with pytest.raises(ValueError, match="between 1e-100 and 1e100"):
        EmbeddedSet(X * 1e-120, y)


@pytest.mark.parametrize("norm", ["l2", "linf", "l1"])
def test_no_flip_up_to_the_radius_of_embeddings_far_off(data, norm):
    X, y, _ = data
    rng, norm = np.random.default_rng(2), resolve_norm(norm)
    for offset in (0.0, 1e6, 1e12):
        gallery = EmbeddedSet(X + offset, y)
        Z = (X[:30] + X[30:]) / 2 + offset
        predicted, radii = embedding_radii(gallery, Z, norm, exact=False)
        for _ in range(20):
            steps = norm.project(norm.sample(rng, 30, 7) * radii[:, None], np.inf)
            after, _ = embedding_radii(gallery, Z + steps * (1 - 1e-15), norm, exact=False)
            np.testing.assert_array_equal(after[radii > 0], predicted[radii > 0])
