"""Learners of anchors on Dask arrays: what they learn of the same rows in memory, whatever the blocks."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.base import clone

from certimetric import LMNN, MLKR, NCA, SCML, PerturbationLoss
from certimetric.base.lazy_rows import LazyRows
from certimetric.constraints.neighbors import neighbors_of_both_kinds
from certimetric.learners.chunks import scatter_of_blocks
from certimetric.learners.coordinates import Coordinates
from certimetric.objectives.anchors import AnchorObjective
from certimetric.objectives.block_neighborhood import BlockNeighbors
from certimetric.objectives.gradient import MetricObjective, MetricState
from certimetric.objectives.neighborhood import KernelRegression, StochasticNeighbors

da = pytest.importorskip("dask.array")
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # few steps are meant
NAMES = np.array(["ash", "birch", "elm"])


def sample(n=600, d=4):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, n)
    return rng.standard_normal((n, d)) + 1.5 * rng.standard_normal((3, d))[y], y


@pytest.mark.parametrize("blocks", [600, (1, 0, 400, 199), 40])
def test_neighbours_of_blocks_are_those_of_all_rows(blocks):
    X, y = sample()
    X[300:310] = X[5]  # ties, that numbers decide
    rows = np.array([5, 17, 301, 599])
    lazy = LazyRows(da.from_array(X, chunks=(blocks, 4)))
    for wanted, found in zip(neighbors_of_both_kinds(X, y, rows, 3, 7), neighbors_of_both_kinds(lazy, y, rows, 3, 7)):
        np.testing.assert_array_equal(found, wanted)
    np.testing.assert_array_equal(lazy[rows[::-1]], X[rows[::-1]])


@pytest.mark.parametrize("capacity", [0, 5, 600])
def test_impostors_of_blocks_are_those_of_all_rows(capacity, monkeypatch):
    """The objective and the number of candidates are those of all rows; so are the lists."""
    X, y = sample()
    anchors = np.arange(0, 600, 20)
    targets, _ = neighbors_of_both_kinds(X, y, anchors, 3)
    made = [
        AnchorObjective(rows, y, anchors, targets, np.ones(len(anchors)), 0.5, seed=3)
        for rows in (X, LazyRows(da.from_array(X, chunks=(70, 4))))
    ]
    L = np.eye(4) * 0.5
    (push, found, kept), (lazy_push, lazy_found, lazy_kept) = (each._search(L, capacity) for each in made)
    np.testing.assert_allclose(lazy_push, push, rtol=1e-12)
    np.testing.assert_array_equal(lazy_found, found)
    listed = np.minimum(found, capacity)
    for i, count in enumerate(listed):
        rows = lazy_kept[i, :count].tolist()
        assert len(set(rows)) == count
        assert rows == kept[i, :count].tolist()
        if found[i] > capacity:
            d = np.linalg.norm((X - X[anchors[i]]) @ L.T, axis=1)
            reach = np.sqrt(made[0].slack * (1 + max(d[targets[i]] ** 2)))
            assert all(y[row] != y[anchors[i]] and d[row] < reach for row in rows)


@pytest.mark.parametrize(
    "learner",
    [
        LMNN(n_anchors=80),
        LMNN(n_anchors=80, n_impostors=5),
        LMNN(n_anchors=80, perturbation=PerturbationLoss()),
        SCML(n_anchors=80),
        SCML(n_anchors=80, perturbation=PerturbationLoss()),
        NCA(n_anchors=80),
        NCA(n_anchors=80, n_components=2, init="random", perturbation=PerturbationLoss()),
    ],
    ids=["lmnn", "fixed impostors", "lmnn+pl", "scml", "scml+pl", "nca", "nca+pl"],
)
def test_the_metric_is_that_of_the_rows_in_memory(learner):
    X, y = sample()
    learner.set_params(max_iter=20, random_state=0)
    wanted = clone(learner).fit(X, NAMES[y])
    found = clone(learner).fit(da.from_array(X, chunks=(170, 2)), da.from_array(NAMES[y], chunks=99))
    np.testing.assert_allclose(found.get_mahalanobis_matrix(), wanted.get_mahalanobis_matrix(), rtol=1e-6, atol=1e-9)
    assert found.n_anchors_ == wanted.n_anchors_ and found.classes_.tolist() == wanted.classes_.tolist()
    assert found.objective_ == pytest.approx(wanted.objective_) and found.n_features_in_ == 4
    assert found.metric_.training["n_samples"] == 600


def test_numbers_are_learned_of_in_blocks():
    X, y = sample()
    numbers = X @ [1.0, -2.0, 0.5, 0.0] + y
    learner = MLKR(n_anchors=80, max_iter=10, random_state=0)
    wanted = clone(learner).fit(X, numbers)
    found = clone(learner).fit(da.from_array(X, chunks=(170, 4)), numbers)
    np.testing.assert_allclose(found.get_mahalanobis_matrix(), wanted.get_mahalanobis_matrix(), rtol=1e-6, atol=1e-9)
    assert found.objective_error_ == pytest.approx(wanted.objective_error_) and found.n_anchors_ == 80
    few = clone(learner).set_params(n_anchors=None).fit(da.from_array(X[:60], chunks=(20, 4)), numbers[:60])
    assert few.n_anchors_ == 60
    with pytest.raises(ValueError, match="y contains NaN"):
        learner.fit(da.from_array(X, chunks=(170, 4)), np.where(y == 1, np.nan, numbers))


@pytest.mark.parametrize("numbers", [False, True])
def test_chances_of_blocks_are_those_of_all_rows(numbers):
    """Value and gradient of neighbours picked by chance, with a far row and an anchor alone in its block."""
    X, y = sample(300)
    X[0] += 1e3
    y = X[:, 0] + y if numbers else y
    anchors = np.array([0, 7, 150, 299])
    order = np.concatenate([anchors, np.setdiff1d(np.arange(300), anchors)])
    L = np.random.default_rng(1).standard_normal((3, 4)) / 2
    term = (KernelRegression if numbers else StochasticNeighbors)(y[order], 1, 4)
    wanted = MetricObjective(X[order], [term]).in_components(L)
    lazy = LazyRows(da.from_array(X, chunks=((1, 0, 150, 149), 4)))
    blocks = BlockNeighbors(lazy, y, anchors, not numbers)
    found = MetricObjective(X[anchors], [blocks]).in_components(L)
    assert found[0] == pytest.approx(wanted[0], rel=1e-12)
    np.testing.assert_allclose(found[1], wanted[1], rtol=1e-9, atol=1e-12 * np.abs(wanted[1]).max())
    state = MetricState(X[anchors], L)
    np.testing.assert_allclose(
        blocks.batch_means(state, 3), term.batch_means(MetricState(X[order], L), 3), rtol=1e-9, atol=1e-300
    )


def test_units_are_those_of_the_rows_in_memory():
    X, y = sample()
    for learner in (LMNN(n_anchors=80), LMNN(n_anchors=80, perturbation=PerturbationLoss())):
        learner.set_params(max_iter=10, random_state=0)
        wanted = clone(learner).fit(1000 * X + 7, y).get_mahalanobis_matrix()
        found = clone(learner).fit(da.from_array(1000 * X + 7, chunks=(200, 4)), y).get_mahalanobis_matrix()
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6 * abs(wanted).max())


def test_coordinates_are_those_of_the_rows_in_memory_where_the_unit_is_1():
    # Features of deviation 1 to the last digit: the grid of rounding is about their mean nevertheless.
    X = 2.0 * np.random.default_rng(0).integers(0, 2, size=(256, 4)) - 1.0
    X = np.vstack([X, -X]) + 8.0
    blocks = da.from_array(X, chunks=(200, 4))
    scatter = scatter_of_blocks(blocks, np.repeat([0, 1], 256))
    found = Coordinates.of_blocks(blocks, scatter, perturbation=PerturbationLoss())
    wanted = Coordinates.of(X, rescale=True, perturbation=PerturbationLoss())
    assert found.unit == wanted.unit == 1.0
    np.testing.assert_allclose(found.X[np.arange(512)], wanted.X, atol=1e-8)


def test_few_rows_are_learned_in_memory():
    X, y = sample(200)
    wanted = LMNN(max_iter=5).fit(X, y)
    found = LMNN(max_iter=5).fit(da.from_array(X, chunks=(70, 4)), y)
    np.testing.assert_array_equal(found.components_, wanted.components_)


@pytest.mark.parametrize(
    ("settings", "change", "message"),
    [
        ({"init": "lda"}, {}, "init must be the identity, 'random' or an array for rows in a Dask array"),
        ({"n_components": 2}, {}, "got 'auto' with n_components=2"),
        ({"n_neighbors": 600}, {}, "n_neighbors must be less than the number of instances, 600, got 600"),
        ({}, {"nan": True}, "NaN"),
        ({}, {"y": None}, "requires y"),
        ({}, {"one": True}, "only 1 class"),
    ],
)
def test_bad_input_is_refused(settings, change, message):
    X, y = sample()
    if change.get("nan"):
        X[400, 1] = np.nan
    y = None if "y" in change else y * 0 if change.get("one") else y
    with pytest.raises(ValueError, match=message):
        LMNN(n_anchors=50, **settings).fit(da.from_array(X, chunks=(170, 4)), y)


@pytest.mark.slow
def test_a_worker_may_die(cluster, fatal_rows):
    X, y = sample()
    learner = LMNN(n_anchors=80, max_iter=10, random_state=0)
    wanted = clone(learner).fit(X, y)
    lazy, died = fatal_rows(X, 100)
    found = clone(learner).fit(lazy, y)
    assert died()
    np.testing.assert_allclose(found.get_mahalanobis_matrix(), wanted.get_mahalanobis_matrix(), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("learner", [LMNN(n_anchors=80), SCML(n_anchors=80), NCA(n_anchors=80), MLKR(n_anchors=80)])
def test_weights_are_refused(learner):
    X, y = sample()
    rows = da.from_array(X, chunks=(170, 4))
    with pytest.raises(ValueError, match="sample_weight must be None for rows in a Dask array: weights are taken of"):
        learner.fit(rows, y, sample_weight=np.arange(len(y)))
    if "class_weight" in learner.get_params():
        with pytest.raises(ValueError, match="class_weight must be None for rows in a Dask array"):
            clone(learner).set_params(class_weight="balanced").fit(rows, y)
