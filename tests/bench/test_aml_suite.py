"""The suite ``aml``: its plan, each kind of cell on small data, and what it tells of results."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from xml.etree import ElementTree

import numpy as np
import pytest

from certimetric.bench.benchmark import raw_figures
from certimetric.bench.convergence import SOLVERS, relative_excess
from certimetric.bench.datasets import BREAST_CANCER, IRIS, WINE, find_datasets
from certimetric.bench.sampling_bias import toy_sample
from certimetric.bench.suites import find_suite
from certimetric.bench.tuning import UNTUNED
from certimetric.learners import AML, GMML
from certimetric.learners.specs import make_learner
from certimetric.report.bench.figures import bench_figure
from certimetric.report.bench.page import bench_svgs, render_bench
from certimetric.runs.key import Cell, Record

SUITE = find_suite("aml")
SMALL = {"draws": 2, "alpha": [0.1, 1.0], "beta": [4.0, 8.0], "fit_rows": 120}


def small(cell):
    """The same cell with less to do."""
    changed = {name: value for name, value in SMALL.items() if name in cell.parameters}
    return dataclasses.replace(cell, parameters={**cell.parameters, **changed})


@pytest.fixture(scope="module")
def plan():
    found, _ = find_datasets((WINE, BREAST_CANCER, IRIS), None, network=False)
    return SUITE.cells(found, seed=0, splits=2)


def of(cells, part, dataset=None, split=0):
    return [
        cell
        for cell in cells
        if cell.parameters["part"] == part and cell.split == split and dataset in (None, cell.dataset)
    ]


@pytest.fixture(scope="module")
def records(plan):
    """All parts of the first split, run: the toy, wine, and iris."""
    chosen = [
        *map(small, of(plan, "toy")),
        *of(plan, "tabular", "iris"),
        *(cell for part in ("tabular", "convergence", "sensitivity") for cell in of(plan, part, "wine")),
    ]
    return [Record(cell, "done", json.loads(json.dumps(SUITE.run(cell))), "", 1.0) for cell in chosen]


@pytest.fixture(scope="module")
def told(records):
    return SUITE.tell(records)


def test_plan_has_every_part_and_no_cell_twice(plan):
    assert len({cell.key for cell in plan}) == len(plan)
    for split in (0, 1):
        assert [cell.learner for cell in of(plan, "toy", split=split)] == list(SUITE.learners)
        assert len(of(plan, "tabular", split=split)) == 3 * len(SUITE.learners)
        assert [cell.learner for cell in of(plan, "convergence", "wine", split)] == list(SOLVERS)
        assert len(of(plan, "sensitivity", "breast_cancer", split)) == 2
    assert all(Cell(**json.loads(json.dumps(cell.to_mapping()))).key == cell.key for cell in plan)


@pytest.mark.parametrize("part", ["toy", "tabular", "convergence", "sensitivity"])
def test_a_cell_is_a_pure_function(plan, part):
    cell = small(of(plan, part, "toy" if part == "toy" else "wine")[-1])

    def untimed(value):
        if isinstance(value, dict):
            return {key: untimed(item) for key, item in value.items() if not key.endswith("_seconds")}
        return value

    assert untimed(SUITE.run(cell)) == untimed(SUITE.run(cell))


def test_untuned_learners_have_their_defaults_and_no_choice(plan):
    for part in ("toy", "tabular"):
        alone = [cell for cell in of(plan, part) if cell.parameters["candidates"] == [""]]
        assert {cell.learner for cell in alone} - {"euclidean"} == set(UNTUNED)
    assert [make_learner(spec).get_params() for spec in UNTUNED] == [made.get_params() for made in (GMML(), AML())]


def test_learners_are_judged_by_the_same_pairs(plan):
    """The number of pairs and the Euclidean AUC cannot depend on the learner; the test part is the same too."""
    results = [SUITE.run(small(cell)) for cell in of(plan, "tabular", "iris")]
    assert len({(result["n_pairs"], result["n_test"]) for result in results}) == 1
    for result in results:
        assert 0.5 < result["auc"] <= 1.0
        assert (np.diff(result["roc"]) >= 0).all() and result["roc"][-1] == 1.0


def test_only_the_training_part_of_the_toy_is_biased():
    biased, unbiased = (toy_sample(kind, 400, 500, np.random.default_rng(3)) for kind in (True, False))
    train, test = biased[2]
    assert not set(train) & set(test) and len(train) == 800 and len(test) == 1000
    assert np.array_equal(biased[0][test], unbiased[0][test])
    assert np.array_equal(biased[0][train, 1], unbiased[0][train, 1])
    within = [X[rows][codes[rows] == 0, 0].std() for (X, codes, _), rows in ((biased, train), (unbiased, train))]
    assert within[0] == pytest.approx(within[1] / 4.0)


@pytest.mark.slow
def test_sensitivity_at_no_adversary_is_gmml(records, plan):
    """With α = 0 the objective is GMML’s, whose minimiser has a closed form."""
    X = np.random.default_rng(0).normal(size=(60, 3)) * [1, 2, 3]
    y = (X[:, 0] > 0).astype(int)
    assert AML(alpha=0.0).fit(X, y).metric_.matrix == pytest.approx(GMML().fit(X, y).metric_.matrix, rel=1e-4)
    cell = dataclasses.replace(of(plan, "tabular", "wine")[3], parameters=of(plan, "sensitivity", "wine")[0].parameters)
    cell = dataclasses.replace(cell, parameters={**cell.parameters, "part": "tabular", "candidates": ["t=0.5"]})
    gmml = SUITE.run(cell)
    none = next(r.result for r in records if r.cell.parameters["part"] == "sensitivity")
    assert none["error"]["none"] == gmml["error"]
    assert none["auc"]["none"] == pytest.approx(gmml["auc"], abs=1e-3)


@pytest.mark.slow
def test_the_objective_never_rises(records):
    paths = [record.result["path"] for record in records if record.cell.parameters["part"] == "convergence"]
    assert len(paths) == 4
    assert all((np.diff(path) <= 0).all() for path in paths)
    excess = relative_excess(paths)
    assert min(path.min() for path in excess) == 0.0
    assert all((path >= 0).all() for path in excess)


@pytest.mark.slow
def test_solvers_are_compared_within_their_objective(told):
    # The two confusions minimise different things: with either, one of the solvers has no excess.
    table = next(table for table in told["tables"] if table.name == "convergence")
    rows = {row[1]: [float(value) for value in row[4].split(", ")] for row in table.rows}
    for confusion in ("opposite", "ascent"):
        assert min(rows[f"{confusion}, bilevel"][0], rows[f"{confusion}, alternating"][0]) == 0.0


def test_tells_of_every_part(told):
    assert [table.name for table in told["tables"]] == [
        "toy", "error", "auc", "pairs", "friedman", "convergence", "sensitivity", "sensitivity-sets",
        "sensitivity-ascent", "sensitivity-ascent-sets", "datasets",
    ]  # fmt: skip
    assert [figure["name"] for figure in told["figures"]] == [
        "toy", "ranks-error", "ranks-auc", "roc", "roc-wine", "convergence-wine", "sensitivity-error",
        "sensitivity-auc", "sensitivity-ascent-error", "sensitivity-ascent-auc",
    ]  # fmt: skip
    toy = told["tables"][0]
    assert [row[0] for row in toy.rows] == ["biased sample", "unbiased sample"]
    # The spread that training does not show must cost every learner something.
    assert all(float(a.split()[0]) > float(b.split()[0]) for a, b in zip(toy.rows[0][1:], toy.rows[1][1:]))
    assert len(told["summary"]) == 7


def test_failures_are_told(records):
    failed = [dataclasses.replace(record, status="failed", result=None, error="no luck") for record in records]
    told = SUITE.tell(failed[:1] + records[1:])
    assert told["tables"][-1].name == "failures"
    assert "toy" not in [table.name for table in told["tables"]]
    assert [table.name for table in SUITE.tell(failed)["tables"]] == ["datasets", "failures"]


def test_raw_figures_leave_pictures_out(records):
    names = next(csv.reader(io.StringIO(raw_figures(records))))
    assert {"errors.biased.0", "roc.0", "path.1", "error.grid.0.0"} <= set(names)
    assert not any("picture" in name for name in names)


@pytest.mark.slow
def test_report_and_plots(told, document):
    page = render_bench(document(SUITE, told))
    assert "Three metrics learned from a biased sample" in page
    plots = bench_svgs(document(SUITE, told))
    for svg in plots.values():
        assert "var(--" not in svg
        assert ElementTree.fromstring(svg.split("\n", 1)[1]).tag == "{http://www.w3.org/2000/svg}svg"
    assert "adversarial pair" in plots["toy"]


def test_ellipses_are_the_balls_of_their_metrics(told, monkeypatch):
    """Every drawn point of a ball has the same distance from the middle, and all balls have one area."""
    drawn = {}
    from certimetric.report.bench import figures as bench_figures

    monkeypatch.setattr(bench_figures, "draw_line", lambda axes, look, x, y: drawn.update({look.label: (x, y)}))
    figure = next(figure for figure in told["figures"] if figure["kind"] == "ellipses")
    assert [row[0] for row in bench_figure(figure).rows] == list(drawn) == ["Euclidean", "GMML", "AML"]
    middle = np.mean(figure["points"], axis=0)
    for learner in figure["learners"]:
        if learner["matrix"] is not None:
            x, y = drawn[learner["label"]]
            away = np.stack([x, y], axis=1) - middle
            distance = np.einsum("ij,jk,ik->i", away, np.array(learner["matrix"]), away)
            assert np.ptp(distance) < 1e-9 * distance[0]
            area = 0.5 * abs((away[:-1, 0] * away[1:, 1] - away[1:, 0] * away[:-1, 1]).sum())
            assert area == pytest.approx(np.pi, rel=1e-3)


def test_adversarial_pairs_keep_their_middle(told):
    figure = next(figure for figure in told["figures"] if figure["kind"] == "ellipses")
    before, after = np.array(figure["pairs"]), np.array(figure["adversarial"])
    assert before.shape == after.shape
    assert after.mean(axis=1) == pytest.approx(before.mean(axis=1), abs=1e-3)
    # Under the opposite label every pair comes closer.
    assert (np.linalg.norm(np.diff(after, axis=1), axis=2) < np.linalg.norm(np.diff(before, axis=1), axis=2)).all()


def test_unknown_figures_are_refused():
    with pytest.raises(ValueError, match="'pie'; expected one of 'ranks', 'curves', 'descents', 'ellipses'"):
        bench_figure({"kind": "pie", "name": "p"})
