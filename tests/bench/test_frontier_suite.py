"""The suite ``frontier``: what its rules are made of, that the test part has no say in them, and what is told."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from certimetric.bench import rules
from certimetric.bench.datasets import IRIS, find_datasets
from certimetric.bench.suites import frontier
from certimetric.bench.suites.frontier import FRACTIONS, GOAL, SUITE
from certimetric.report.bench.page import bench_svgs
from certimetric.runs.key import Record
from certimetric.runs.splits import honest_split


@pytest.fixture(scope="module")
def records():
    """Every learner on a part of iris, with fewer prototypes to choose among."""
    found, _ = find_datasets([IRIS], None, network=False)
    cells = SUITE.cells(found, seed=0, splits=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rules, "PROTOTYPES", rules.PROTOTYPES[1:3])
        cells = [dataclasses.replace(cell, parameters={**cell.parameters, "subset": 75, "folds": 2}) for cell in cells]
        return [Record(cell, "done", SUITE.run(cell), "", 1.0) for cell in cells]


@pytest.mark.slow
def test_figures_of_the_rules(records):
    for record in records:
        result = record.result
        families = ["prototypes"] if record.cell.learner == "gmlvq" else list(rules.FAMILIES)
        assert list(result["rules"]) == families
        for family, rule in result["rules"].items():
            radii = np.array([float(radius) for radius in rule["radii"]])
            shares = result["certified_fraction"][family]
            assert shares == [(radii >= fraction * result["unit"]).mean() for fraction in FRACTIONS]
            assert 0 <= rule["validated"] <= 1
            assert (rule["rows"] == result["n_train"]) if family == "all" else (3 <= rule["rows"] <= result["n_train"])
        if "condensed" in families:
            assert result["rules"]["condensed"]["rows"] < result["n_train"] / 2
    assert len({record.result["unit"] for record in records}) == 1  # the unit is that of the data, whatever the learner


def test_the_test_part_has_no_say(records, monkeypatch):
    record = next(each for each in records if each.cell.learner == "euclidean")
    X, codes = frontier.load_cell(record.cell, IRIS)
    _, test = honest_split(X, codes, 0.3, record.cell.seed, record.cell.split)
    changed = X.copy()
    changed[test] += np.random.default_rng(0).normal(size=(len(test), X.shape[1]))
    monkeypatch.setattr(frontier, "load_cell", lambda *_: (changed, codes))
    again = SUITE.run(record.cell)
    assert again["unit"] == record.result["unit"]
    for family, rule in record.result["rules"].items():
        other = again["rules"][family]
        assert [other[name] for name in ("chosen", "validated", "rows")] == [
            rule[name] for name in ("chosen", "validated", "rows")
        ]
    assert again["rules"]["all"]["radii"] != record.result["rules"]["all"]["radii"]


def test_what_is_told(records, document):
    told = SUITE.tell(records)
    goal, means = told["tables"]
    *shown, which, chosen, envelope = goal.rows[0][2:]
    shown = [float(text) for text in shown]
    assert float(envelope) == pytest.approx(max(shown[:5]) / shown[1], abs=0.01)
    assert float(chosen) == pytest.approx(shown[5] / shown[1], abs=0.01)
    assert float(chosen) <= float(envelope)
    best = max(
        (record.result["rules"][family]["validated"], -record.result["rules"][family]["rows"], label(record, family))
        for record in records
        for family in record.result["rules"]
    )
    assert which == best[2]
    assert len(means.rows) == 3 * 4 + 1 + 1
    assert goal.rows[-1][0] == "median"
    assert means.header[2 + GOAL] == "1"
    assert f"{goal.rows[-1][-1]} with the best rule in hindsight" in told["summary"][0]
    assert set(bench_svgs(document(SUITE, told))) == {"frontier", "cost"}


def label(record, family):
    return frontier.rule_label((record.cell.learner, family))


def test_nothing_is_told_of_nothing():
    assert SUITE.tell([])["tables"] == []
    assert len({named.name for named in (*SUITE.datasets, *SUITE.further)}) >= 25
