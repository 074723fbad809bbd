"""The comparison of defenses: every one of them runs, and the report tells robustness, accuracy and cost."""

from __future__ import annotations

import dataclasses
import types

import pytest

pytest.importorskip("torch", reason="torch is not installed: the extra 'deep' has it")
pytest.importorskip(
    "pytorch_metric_learning", reason="pytorch-metric-learning is not installed: the extra 'deep' has it"
)

from certimetric import deep
from certimetric.base.wording import PIXELS
from certimetric.bench.datasets import Found
from certimetric.bench.image_cells import CLEAN, WORST, trained
from certimetric.bench.image_sets import DIGITS, MNIST, OMNIGLOT
from certimetric.bench.suites import defenses, find_suite
from certimetric.deep.defenses import DEFENSES as KINDS
from certimetric.report.bench.page import bench_svgs, render_bench
from certimetric.runs.containment import load_reference
from certimetric.runs.key import Record
from certimetric.training import run

SUITE = defenses.SUITE


def small(cell):
    """The cell with a small network, one epoch and few queries."""
    changed = dict(cell.parameters)
    if changed["config"]:
        changed["config"] = _small(changed["config"])
    if "sources" in changed:
        changed["sources"] = [_small(source) for source in changed["sources"]]
    return dataclasses.replace(cell, parameters={**changed, "queries": 20})


def _small(config):
    return {
        **config,
        "model": {"name": "small-cnn", "dim": 8, "width": 8, "depth": 1},
        "training": {**config["training"], "epochs": 1, "batch_size": 60, "per_class": 6},
    }


@pytest.fixture(scope="module")
def cells():
    return SUITE.cells([DIGITS.find(None, network=False)], seed=0, splits=1)


def test_every_defense_is_compared(cells):
    compared = {cell.parameters["config"]["defense"]["kind"] for cell in cells if cell.learner != PIXELS}
    assert compared == set(KINDS)
    sections = [cell.parameters["config"]["defense"] for cell in cells if cell.learner != PIXELS]
    assert {section["eps"] for section in sections if "eps" in section} == {defenses.RADII["linf"]["digits"]}


def test_suites_differ_in_the_norm_alone():
    """Whatever is perturbed, in training or of the queries, is perturbed in the norm of the suite."""
    assert find_suite("defenses-l2") is load_reference(defenses.SUITE_L2.reference) is defenses.SUITE_L2
    found = [DIGITS.find(None, network=False)]
    for cell, other in zip(
        SUITE.cells(found, seed=0, splits=1), defenses.SUITE_L2.cells(found, seed=0, splits=1), strict=True
    ):
        assert (cell.learner, cell.split, cell.digest) == (other.learner, other.split, other.digest)
        for told, norm in ((cell.parameters, "linf"), (other.parameters, "l2")):
            eps = defenses.RADII[norm]["digits"]
            assert {entry["norm"] for entry in told["attacks"]} == {norm}
            assert max(entry["eps"] for entry in told["attacks"]) == eps
            section = {} if told["config"] is None else told["config"]["defense"]
            if section.get("kind") not in (None, "none", "noise"):
                assert section["norm"] == norm
                assert section.get("eps", section.get("radius")) == eps


# All of them train a model: every third is enough for every day.
EVERY = [pytest.param(name, marks=[pytest.mark.slow] if i % 3 else []) for i, name in enumerate(SUITE.learners)]


@pytest.mark.parametrize("learner", EVERY)
def test_every_cell_runs(cells, learner, monkeypatch):
    monkeypatch.setattr(defenses, "robustness_score", lambda *asked: {"ers": 50.0})  # it takes its time
    result = SUITE.run(small(next(cell for cell in cells if cell.learner == learner)))
    recall = result["recall_at_1"]
    assert recall[WORST] <= min(recall["PGD ε"], recall["APGD ε"]) <= recall[CLEAN]
    assert (result["train_seconds"] > 0) == (learner != PIXELS)
    assert result["ers"] == 50.0


def test_ensembles_attack_with_a_model_that_is_trained_first(cells, monkeypatch):
    cell = small(next(cell for cell in cells if cell.learner == "ensemble"))
    made = []
    original = run.make_defense
    monkeypatch.setattr(run, "make_defense", lambda config, sources: made.append(sources) or original(config, sources))
    model, told = trained(cell, DIGITS)
    first, (source,) = made
    assert list(first) == []
    assert not source.training
    assert any((a != b).any() for a, b in zip(source.state_dict().values(), model.state_dict().values()))
    assert told["train_seconds"] > told["epoch_seconds"] > 0


def test_the_score_is_measured(cells, monkeypatch):
    asked = []

    def score(model, queries, gallery=None, *, n_queries, seed):
        asked.append((len(queries), len(gallery), n_queries, seed))
        return types.SimpleNamespace(score={"mean": 42.0}, components=[{"name": "CA+", "scaled": 1.0}])

    monkeypatch.setattr(deep, "empirical_robustness_score", score)
    cell = small(SUITE.cells([DIGITS.find(None, network=False)], seed=0, splits=1)[0])
    assert cell.parameters["ers_queries"] == defenses.ERS_QUERIES
    result = SUITE.run(cell)
    assert asked == [(20, 896, defenses.ERS_QUERIES, 0)]
    assert (result["ers"], result["ers_components"]) == (42.0, {"CA+": 1.0})


def records(without=()):
    """Made up: the i-th learner loses a point of clean R@1 and gains a point under attack."""
    found = [Found(named, "", named.name) for named in (DIGITS, MNIST, OMNIGLOT)]
    for cell in SUITE.cells(found, seed=0, splits=2):
        if cell.learner in without:
            yield Record(cell, "failed", None, "no luck", 1.0)
            continue
        i = SUITE.learners.index(cell.learner)
        recall = {CLEAN: 0.9 - 0.01 * i, "PGD ε / 2": 0.7, "PGD ε": 0.5, "APGD ε": 0.5, WORST: 0.4 + 0.01 * i}
        cost = {"epoch_seconds": float(i), "train_seconds": 10.0 * i}
        told = {"recall_at_1": recall, "map_at_r": recall, **cost, "ers": 50.0 - i}
        yield Record(cell, "done", told, "", 1.0)


def test_report(document):
    told = SUITE.tell(list(records()))
    (table,) = told["tables"]
    assert [row[1] for row in table.rows] == 3 * list(SUITE.learners)
    assert table.rows[0][2:] == ["90.0 ± 0.0"] * 2 + ["70.0 ± 0.0"] + ["40.0 ± 0.0"] * 2 + ["50.0 ± 0.0", "–", "–"]
    best = {(table.rows[i][1], table.header[j]) for i, j in table.best}
    assert {(PIXELS, "R@1"), (SUITE.learners[-1], "R@1, worst at ε"), (PIXELS, "ERS")} <= best
    # Of those at most five points below the reference, learner 3, the eighth withstands most.
    reference = SUITE.learners.index(defenses.REFERENCE)
    winner = SUITE.learners[reference + 5]
    assert (
        f"{winner} withstands most: R@1 48.0 % under attack, tuple (positive) 43.0 %, 1.1 times" in told["summary"][0]
    )
    assert "natural has the highest ERS, 49.0 against 47.0" in told["summary"][0]
    page = document(SUITE, told)
    svgs = bench_svgs(page)
    assert set(svgs) == {"digits-tradeoff", "mnist-tradeoff", "omniglot-tradeoff"}
    assert "time of an epoch" in render_bench(page)
    figure = told["figures"][0]["learners"]
    assert [point["cost"] for point in figure[1:4]] == [1.0, 2.0, 3.0] and figure[0]["cost"] == 0.0


def test_report_of_a_part(document):
    without = (defenses.NATURAL, "ACT")
    told = SUITE.tell(list(records(without)))
    assert [table.name for table in told["tables"]] == ["defenses", "failures"]
    assert not {row[1] for row in told["tables"][0].rows} & set(without)
    assert all(point["cost"] is None for point in told["figures"][0]["learners"])  # nothing to set it beside
    assert bench_svgs(document(SUITE, told))
    assert SUITE.tell([])["tables"] == []
