"""Anchors: all rows are the whole fit; some of them are exact about themselves, and say how far they may be off."""

import numpy as np
import pytest

import certimetric.learners.anchors as anchors_module
from certimetric import LMNN, MLKR, NCA, SCML, CertifiedKNeighborsClassifier, PerturbationLoss
from certimetric.constraints import nearest_of_other_classes, nearest_triplets, target_neighbors
from certimetric.constraints.anchors import StratifiedSample
from certimetric.constraints.neighbors import neighbors_of_both_kinds
from certimetric.objectives import ImpostorHinge, MetricObjective, Pull
from certimetric.objectives import anchors as objective_of_anchors
from certimetric.objectives.anchors import AnchorObjective

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # few steps are meant


def classes_of_clusters(n=600, d=5, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, n)
    centers = 1.5 * rng.standard_normal((3, 2, d))
    return rng.standard_normal((n, d)) + centers[y, rng.integers(0, 2, n)], y


def learners(**settings):
    quick = {"max_iter": 10, "random_state": 0, **settings}
    made = [LMNN(**quick), SCML(**quick), NCA(**quick), LMNN(perturbation=PerturbationLoss(), **quick)]
    made += [SCML(perturbation=PerturbationLoss(), **quick), NCA(perturbation=PerturbationLoss(), **quick)]
    return [*made, MLKR(**quick), LMNN(n_impostors=5, **quick)]


def targets_of(learner, X, y):
    return X[:, 0] + y if isinstance(learner, MLKR) else y


@pytest.fixture
def small_tables_grow(monkeypatch):
    """As if these few hundred rows were many."""
    monkeypatch.setattr(anchors_module, "_ALL_ROWS", 100)
    monkeypatch.setattr(anchors_module, "_FIRST", 60)
    monkeypatch.setattr(anchors_module, "_PER_FEATURE", 5)
    monkeypatch.setattr(anchors_module, "_HELD_OUT", 80)


@pytest.mark.parametrize("number", range(8))
def test_all_rows_as_anchors_are_the_fit_without(number):
    # To the last bit: small tables are learned from as they always were.
    X, y = classes_of_clusters(200)
    wanted = learners(n_anchors=None)[number]
    wanted.fit(X, targets_of(wanted, X, y))
    for n_anchors in ("auto", len(X), 10**9):
        learner = learners(n_anchors=n_anchors)[number]
        learner.fit(X, targets_of(learner, X, y))
        np.testing.assert_array_equal(learner.components_, wanted.components_)
        assert (learner.n_anchors_, learner.objective_error_, learner.anchor_path_) == (len(X), 0.0, [])


@pytest.mark.parametrize("number", range(8))
def test_grown_samples_are_reproducible_and_threads_change_nothing(small_tables_grow, number):
    X, y = classes_of_clusters()
    learner, again = learners()[number], learners(n_jobs=3)[number]
    learner.fit(X, targets_of(learner, X, y))
    again.fit(X, targets_of(learner, X, y))
    np.testing.assert_array_equal(learner.components_, again.components_)
    assert learner.n_anchors_ == learner.anchor_path_[-1].n_anchors < len(X)
    assert len(learner.anchor_path_) >= 2
    assert all(size.error > 0 for size in learner.anchor_path_)
    assert learner.objective_error_ > 0
    assert learner.n_iter_ > 10 or learner.converged_  # of all sizes
    other = learners(random_state=1)[number].fit(X, targets_of(learner, X, y))
    assert not np.array_equal(learner.components_, other.components_)


@pytest.mark.parametrize("number", range(8))
def test_a_number_of_anchors_is_taken_as_it_is(number):
    X, y = classes_of_clusters()
    learner = learners(n_anchors=90)[number]
    learner.fit(X, targets_of(learner, X, y))
    assert abs(learner.n_anchors_ - 90) <= 2  # of every class its share, rounded
    assert learner.anchor_path_ == []
    assert (np.diff(learner.objective_path_) <= 1e-12).all()


def test_other_units_change_nothing(small_tables_grow):
    # Powers of two change no digit of the data.
    X, y = classes_of_clusters()
    for learner in (LMNN(random_state=0), LMNN(perturbation=PerturbationLoss(), random_state=0)):
        a = learner.fit(X, y)
        M, n_anchors, path = a.get_mahalanobis_matrix(), a.n_anchors_, [size.held_out for size in a.anchor_path_]
        radii = CertifiedKNeighborsClassifier(1, metric=a.metric_).fit(X, y).predict_with_radius(X[:50])[1]
        unit = 2.0**10 if learner.perturbation is not None else 1000.0
        b = learner.fit(unit * X, y)
        assert b.n_anchors_ == n_anchors
        np.testing.assert_allclose([size.held_out for size in b.anchor_path_], path, rtol=1e-5)
        if learner.perturbation is not None:
            np.testing.assert_allclose(b.get_mahalanobis_matrix() * unit**2, M, rtol=1e-6, atol=1e-9 * M.max())
            scaled = CertifiedKNeighborsClassifier(1, metric=b.metric_).fit(unit * X, y)
            np.testing.assert_allclose(scaled.predict_with_radius(unit * X[:50])[1], unit * radii, rtol=1e-5, atol=1e-9)


def test_growth_tells_its_progress(small_tables_grow, capsys):
    LMNN(verbose=True, random_state=0).fit(*classes_of_clusters())
    told = capsys.readouterr().out
    assert "anchors  held-out objective" in told
    assert "step   10  objective" in told or "step    " in told


def test_held_out_objective_tells_what_all_rows_say(small_tables_grow):
    X, y = classes_of_clusters(2000)
    grown, full = LMNN(random_state=0).fit(X, y), LMNN(n_anchors=None).fit(X, y)
    targets = target_neighbors(X, y, 3)
    i, a = np.nonzero(targets >= 0)
    objective = MetricObjective(X, [Pull(np.stack([i, targets[i, a]], 1), 0.5), ImpostorHinge(targets, y, 0.5)])
    objective.refresh(grown.components_)
    truth = objective.in_components(grown.components_)[0]
    last = grown.anchor_path_[-1]
    assert abs(last.held_out - truth) <= 4 * last.error
    assert full.objective_ <= truth <= 1.05 * full.objective_
    assert grown.n_anchors_ < len(X)


def test_classes_are_sampled_by_their_weights():
    y = np.repeat([0, 1, 2], [3000, 60, 6])
    weights = np.random.default_rng(0).random(len(y)) / np.bincount(y)[y]
    sample = StratifiedSample(y, np.random.RandomState(0), weights)
    held, rows = sample.hold_out(60), sample.grow(120)
    assert (np.abs(np.bincount(y[held]) - [20, 20, 2]) <= 2).all()
    found = np.bincount(y[rows])
    assert 30 < found[0] < 50 and 30 < found[1] <= 40 and found[2] == 4 and not np.intersect1d(held, rows).size
    of_rows = sample.weights(rows, y)
    assert of_rows.mean() == pytest.approx(1.0)
    expected = np.bincount(y)[y[rows]] / found[y[rows]] * weights[rows]  # what a row stands for, times its own
    np.testing.assert_allclose(of_rows, expected / expected.mean())


def test_rare_classes_are_represented_and_weigh_their_share():
    y = np.repeat([0, 1, 2], [9000, 990, 10])
    sample = StratifiedSample(y, np.random.RandomState(0))
    held_out = sample.hold_out(300)
    rows = np.concatenate([sample.grow(100), sample.grow(300)])
    assert len(np.unique(rows)) == len(rows)
    assert not np.isin(held_out, rows).any()
    assert np.bincount(y[rows]).tolist() == [270, 30, 5]
    assert np.bincount(y[held_out], minlength=3)[2] == 1
    weights = sample.weights(rows, y)
    assert weights.mean() == pytest.approx(1.0)
    share = np.bincount(y[rows], weights) / weights.sum()
    np.testing.assert_allclose(share, np.bincount(y) / len(y))


@pytest.mark.parametrize("shift", [0.0, 1e4])
def test_neighbors_of_both_kinds_are_those_of_the_searches(shift):
    # Integers have many ties, which are decided by number; a class of two has one target; a far origin costs digits.
    rng = np.random.default_rng(0)
    X, y = np.round(2 * rng.standard_normal((3000, 3))) + shift, rng.integers(0, 3, 3000)
    y[[5, 9]] = 3
    rows = np.concatenate([[5, 9], rng.permutation(3000)[:200]])
    for n_jobs in (1, 3):
        targets, impostors = neighbors_of_both_kinds(X, y, rows, 3, 4, n_jobs=n_jobs)
        np.testing.assert_array_equal(targets, target_neighbors(X, y, 3, rows=rows))
        np.testing.assert_array_equal(impostors, nearest_of_other_classes(X, y, 4, rows=rows))
        alone, none = neighbors_of_both_kinds(X, y, rows, 3, n_jobs=n_jobs)  # which looks at no other class
        np.testing.assert_array_equal(alone, targets)
        assert none.shape == (202, 0)


def anchored(X, y, rows, targets, **settings):
    return AnchorObjective(X, y, rows, targets, np.ones(len(rows)), 0.4, **settings)


def test_objective_over_all_rows_as_anchors_is_the_full_one():
    X, y = classes_of_clusters(300)
    targets = target_neighbors(X, y, 3)
    i, a = np.nonzero(targets >= 0)
    triplets, loss = nearest_triplets(X, y, 2, 3), PerturbationLoss(tau=1.0, relative=False)
    terms = [Pull(np.stack([i, targets[i, a]], 1), 0.6), ImpostorHinge(targets, y, 0.4), loss.bind(X, triplets)]
    full, mine = MetricObjective(X, terms), anchored(X, y, np.arange(300), targets, triplets=triplets, loss=loss.bind)
    for L in np.random.default_rng(0).standard_normal((4, 3, 5)):
        full.refresh(L)
        mine.refresh(L)
        value, gradient = full.in_components(L)
        assert mine.true_value(L) == pytest.approx(value, rel=1e-12)
        assert mine.values(L).mean() == pytest.approx(value, rel=1e-12)
        np.testing.assert_allclose(mine.in_components(L)[0], value, rtol=1e-12)
        np.testing.assert_allclose(mine.in_components(L)[1], gradient, rtol=1e-9, atol=1e-9 * np.abs(gradient).max())


def test_objective_of_some_anchors_counts_impostors_in_all_rows():
    X, y = classes_of_clusters(400)
    rows = np.random.default_rng(1).permutation(400)[:50]
    targets = target_neighbors(X, y, 3, rows=rows)
    objective, L = anchored(X, y, rows, targets), np.diag([1.0, 2.0, 0.5, 1.0, 0.1])
    squared = np.square((X[rows, None] - X[None]) @ L.T).sum(axis=-1)
    pull = np.take_along_axis(squared, targets, axis=1)
    hinge = np.maximum(1 + pull[:, :, None] - squared[:, None], 0) * (y != y[rows, None])[:, None]
    objective.refresh(L)
    assert objective.true_value(L) == pytest.approx(0.6 * pull.mean() + 0.4 * hinge.sum() / pull.size, rel=1e-12)
    assert objective.error(L) == pytest.approx(objective.values(L).std(ddof=1) / np.sqrt(50), rel=1e-9)


def test_lists_that_are_cut_stand_for_all_candidates():
    # Every candidate is as likely to be kept, so that the mean over seeds is the full value and gradient.
    X, y = classes_of_clusters(500)
    rows = np.arange(60)
    targets, L = target_neighbors(X, y, 3, rows=rows), 0.5 * np.eye(5)
    whole = anchored(X, y, rows, targets)
    whole.refresh(L)
    value, gradient = whole.in_components(L)
    values, gradients = [], []
    for seed in range(200):
        cut = anchored(X, y, rows, targets, seed=seed)
        cut.capacity = 20
        cut.refresh(L)
        assert cut.true_value(L) == pytest.approx(value, rel=1e-12)
        part = cut.in_components(L)
        values.append(part[0])
        gradients.append(part[1])
    error = np.std(values) / np.sqrt(len(values))
    assert 0 < error < 0.01 * value
    assert abs(np.mean(values) - value) < 4 * error
    errors = np.std(gradients, axis=0) / np.sqrt(len(values))
    assert (np.abs(np.mean(gradients, axis=0) - gradient) < 5 * errors + 1e-12).all()


def test_parts_of_the_rows_stand_for_all(monkeypatch):
    # Anchors search 120 of 500 rows, in three groups 40 each: over the seeds, the mean is the full value and gradient.
    monkeypatch.setattr(objective_of_anchors, "_CHEAP_PRODUCTS", 120 * 5**2)
    monkeypatch.setattr(objective_of_anchors, "_SEARCHED_PER_ANCHOR", 1)
    X, y = classes_of_clusters(500)
    rows = np.arange(60)
    targets, L = target_neighbors(X, y, 3, rows=rows), 0.5 * np.eye(5)
    wanted = anchored(X, y, rows, targets).values(L).mean()
    monkeypatch.setattr(objective_of_anchors, "_SEARCH_PRODUCTS", 60 * 40 * 5)
    monkeypatch.setattr(objective_of_anchors, "_FEWEST_ROWS", 1)
    values, slopes = [], []
    for seed in range(150):
        part = anchored(X, y, rows, targets, seed=seed)
        assert [len(part.searched[some]) for some in part._parts] == [40, 40, 40]
        part.refresh(L)
        values.append(part.true_value(L))
        slope = part.in_components(L)
        assert slope[0] == pytest.approx(values[-1], rel=1e-12)
        slopes.append(slope[1].sum())
        if seed < 3:
            threads = anchored(X, y, rows, targets, seed=seed, n_jobs=2)
            threads.refresh(L)
            assert threads.in_components(L)[0] == slope[0]
    error = np.std(values) / np.sqrt(len(values))
    assert 0 < error < 0.02 * wanted
    assert abs(np.mean(values) - wanted) < 4 * error
    full = MetricObjective(X, [ImpostorHinge(np.concatenate([targets, np.full((440, 3), -1)]), y, 0.4)])
    full.refresh(L)
    pull = MetricObjective(X, [Pull(np.stack([np.repeat(rows, 3), targets.ravel()], 1), 0.6)])
    slope = (full.in_components(L)[1] + pull.in_components(L)[1]).sum()
    assert abs(np.mean(slopes) - slope) < 4 * np.std(slopes) / np.sqrt(len(slopes))


def test_steps_in_single_precision_are_those_in_double(monkeypatch):
    X, y = classes_of_clusters(400)
    X += 1e5  # differences alone count
    rows = np.arange(50)
    targets = target_neighbors(X, y, 3, rows=rows)
    told = []
    for wide in (5, 6):
        monkeypatch.setattr(objective_of_anchors, "_WIDE", wide)
        objective = anchored(X, y, rows, targets)
        objective.refresh(np.eye(5))
        assert objective.X.dtype == (np.float32 if wide == 5 else np.float64)
        told.append((*objective.in_components(0.9 * np.eye(5)), objective.true_value(np.eye(5))))
    assert told[0][1].dtype == np.float64
    assert told[0][0] == pytest.approx(told[1][0], rel=1e-5)
    np.testing.assert_allclose(told[0][1], told[1][1], atol=1e-5 * np.abs(told[1][1]).max())
    assert told[0][2] == told[1][2]  # which no precision of the steps changes
    monkeypatch.setattr(objective_of_anchors, "_WIDE", 5)
    fits = [LMNN(n_anchors=200, random_state=0, n_jobs=n_jobs).fit(X, y) for n_jobs in (1, 2)]
    np.testing.assert_array_equal(fits[0].components_, fits[1].components_)
    assert fits[0].converged_ and fits[0].objective_path_[-1] < 0.9 * fits[0].objective_path_[0]
