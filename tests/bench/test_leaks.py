"""No leak: what is fitted, chosen and drawn does not change when the test part does."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from certimetric.bench import tabular
from certimetric.bench.datasets import WINE, NamedSet
from certimetric.bench.noise import KINDS, noise
from certimetric.bench.tuning import BUDGET, CANDIDATES, candidates_of, choose
from certimetric.learners.specs import LEARNERS as ALL_LEARNERS
from certimetric.runs.key import Cell
from certimetric.runs.splits import Preparation, class_draw, honest_split

LEARNERS = (*ALL_LEARNERS, "lmnn+pl")


def cell(learner, **changed):
    """Two candidates and two folds: enough for a choice to see what it must not."""
    changed = {"candidates": candidates_of(learner)[:2], "folds": 2, **changed}
    named = NamedSet("toy", "", 0, 0, ())
    return Cell("toy", "toy", "0", "toy", learner, 0, 3, "1", tabular.settings(learner, named, snr=[5.0], **changed))


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(7)
    codes = np.repeat([0, 1, 2], [40, 30, 20])
    X = rng.normal(size=(90, 5)) * [1, 10, 0.1, 3, 1] + codes[:, None] * [2, 20, 0.1, 4, 0]
    return X, codes


def test_instances_of_unit_length(data):
    """Of each part by itself, after scales or components of the training part; the centre stays where it is."""
    X, _ = data
    for pca in (0, 3):
        plain, unit = Preparation.fit(X[:60], pca), Preparation.fit(X[:60], pca, unit_length=True)
        expected = plain(X) / np.linalg.norm(plain(X), axis=1, keepdims=True)
        np.testing.assert_allclose(unit(X), expected, rtol=1e-12)
        np.testing.assert_allclose(unit(X[60:]), unit(X)[60:], rtol=1e-9)
    assert not Preparation(np.zeros(5), np.ones(5), None, unit_length=True)(np.zeros((1, 5))).any()


@pytest.mark.parametrize("pca", [0, 3])
@pytest.mark.parametrize("learner", LEARNERS)
def test_fitted_things_do_not_see_the_test_part(data, learner, pca):
    """Scales, components, the choice of parameters, constraints and the metric: hash for hash the same."""
    X, codes = data
    asked = cell(learner, pca=pca)
    _, test = honest_split(X, codes, 0.3, asked.seed, asked.split)
    changed = X.copy()
    changed[test] = 100.0 * np.random.default_rng(1).normal(size=(len(test), X.shape[1]))
    before, after = tabular.measure(X, codes, asked), tabular.measure(changed, codes, asked)
    for fact in ("fitted", "chosen", "candidates"):
        assert before[fact] == after[fact]
    assert before["median_radius"] != after["median_radius"]


@pytest.mark.parametrize("learner", LEARNERS)
def test_the_hash_would_show_a_leak(data, learner):
    """The same test with a training instance in place of test instances must fail, or it tests nothing."""
    X, codes = data
    asked = cell(learner)
    train, _ = honest_split(X, codes, 0.3, asked.seed, asked.split)
    changed = X.copy()
    changed[train[0]] += 0.5
    assert tabular.measure(X, codes, asked)["fitted"] != tabular.measure(changed, codes, asked)["fitted"]


def test_scales_of_the_cross_validation_are_those_of_its_training_folds(data, monkeypatch):
    """Every preparation inside of the choice is fitted on two thirds, never on the fold that judges."""
    X, codes = data
    seen = []
    original = Preparation.fit.__func__

    def spy(cls, part, *how):
        seen.append(len(part))
        return original(cls, part, *how)

    monkeypatch.setattr(Preparation, "fit", classmethod(spy))
    choose("gmml", CANDIDATES["gmml"], X, codes, pca=0, n_neighbors=3, folds=3, limit=500, seed=0)
    assert seen == [60, 60, 60]


def test_duplicates_are_not_tested(data):
    X, codes = data
    X = np.vstack([X, X[:30]])
    codes = np.concatenate([codes, codes[:30]])
    train, test = honest_split(X, codes, 0.3, 0, 0)
    assert not {row.tobytes() for row in X[train]} & {row.tobytes() for row in X[test]}
    assert 0 < len(test) < 36
    assert not set(train) & set(test)


def test_all_learners_have_the_same_budget():
    for learner, candidates in CANDIDATES.items():
        assert len(set(candidates)) == len(candidates) == (1 if learner == "euclidean" else BUDGET)


def test_candidates_are_those_of_the_cell(data):
    """A worker whose own list is another one does what the plan says."""
    X, codes = data
    result = tabular.measure(X, codes, cell("gmml", candidates=["t=0.25", "t=0.75"]))
    assert set(result["candidates"]) == {"gmml:t=0.25", "gmml:t=0.75"}
    assert result["chosen"] in result["candidates"]


def test_a_cell_is_a_pure_function(data):
    X, codes = data
    first, second = (tabular.measure(X, codes, cell("scml+pl")) for _ in range(2))
    timed = ("fit_seconds", "tune_seconds")
    assert {k: v for k, v in first.items() if k not in timed} == {k: v for k, v in second.items() if k not in timed}


def test_a_worker_with_other_data_refuses():
    asked = dataclasses.replace(cell("lmnn"), dataset="wine", source="wine", digest="something else")
    with pytest.raises(ValueError, match="its content has changed"):
        tabular.load_cell(asked, WINE)


@pytest.mark.parametrize("kind", KINDS)
def test_noise_has_the_ratio_that_it_says(kind):
    """SNR in decibels, by definition; and a level is a multiple of every other."""
    signal = 2.5
    strong = noise(kind, (4000, 6), signal, 5.0, 0, 0)
    assert 10 * np.log10(signal / (strong**2).mean()) == pytest.approx(5.0, abs=0.2)
    weak = noise(kind, (4000, 6), signal, 15.0, 0, 0)
    assert strong == pytest.approx(weak * np.sqrt(10.0))
    spread = strong.std(axis=0)
    assert (spread.max() / spread.min() > 1.5) == (kind == "anisotropic")


def test_draws_keep_classes():
    codes = np.repeat([0, 1, 2], [1000, 100, 3])
    rows = class_draw(codes, 100, np.random.default_rng(0))
    assert np.bincount(codes[rows]).tolist() == [91, 9, 2]
    assert (np.diff(rows) > 0).all()
