"""Tables in three formats, and the figures of the suites from results made by hand."""

from __future__ import annotations

import csv
import io
import re
from xml.etree import ElementTree

import numpy as np
import pytest

from certimetric.bench.comparison import Grid, label
from certimetric.bench.noise import KINDS
from certimetric.bench.suites import NAMES, find_suite
from certimetric.bench.suites.certified import robust_error
from certimetric.bench.suites.perturbation import ERROR, RADIUS
from certimetric.bench.tables import Table
from certimetric.report.bench.page import bench_svgs, render_bench
from certimetric.runs.key import Cell, Record

TABLE = Table(
    "t",
    "Error_rate [%]",
    ["data | set", "A & B", "ε"],
    [["a_b", "1.0 ± 0.1", "ℓ₂"], ["c", "2", "∞"]],
    [(0, 1)],
    "50 % of it.",
)


def test_markdown_has_equal_columns_and_marks_the_best():
    lines = TABLE.to_markdown().splitlines()
    rows = [line for line in lines if line.startswith("|")]
    assert len(rows) == 4
    assert len({len(row) for row in rows}) == 1
    assert all(len(re.findall(r"(?<!\\)\|", row)) == 4 for row in rows)
    assert "**1.0 ± 0.1**" in rows[2]
    assert lines[-1] == "50 % of it."


def test_csv_comes_back():
    assert list(csv.reader(io.StringIO(TABLE.to_csv()))) == [list(TABLE.header), *TABLE.rows]


def test_latex_escapes_what_is_special():
    text = TABLE.to_latex()
    assert r"Error\_rate [\%]" in text
    assert r"a\_b & \textbf{1.0 $\pm$ 0.1} & $\ell_2$ \\" in text
    assert r"A \& B" in text
    assert r"c & 2 & $\infty$ \\" in text
    assert text.isascii()
    assert text.count(r"\begin{") == text.count(r"\end{")


def tabular_result(error, radius):
    return {
        "error": error,
        "noise": {kind: [error, error, error + 0.01, error + 0.1] for kind in KINDS},
        "median_radius": radius,
        "median_margin": 0.5,
        "fit_seconds": 0.1,
        "n_train": 70,
        "n_test": 30,
        "duplicates": 0,
        "chosen": "lmnn",
    }


def records(suite, results):
    """One record for each (data set, learner, split): result."""
    cells = [
        (Cell(suite.name, name, "abc", name, spec, split, 0, "1", {"snr": [20.0, 15.0, 10.0, 5.0]}), result)
        for (name, spec, split), result in results.items()
    ]
    return [
        Record(cell, "done" if result else "failed", result, "" if result else "no luck", 1.0) for cell, result in cells
    ]


@pytest.fixture
def made(rng):
    suite = find_suite("quick")
    results = {
        (name, spec, split): tabular_result(0.1 * i + 0.02 * j + 0.002 * split, 1.0 + j)
        for i, name in enumerate(("iris", "wine", "digits"))
        for j, spec in enumerate(suite.learners)
        for split in range(2)
    }
    results["digits", "lmnn", 1] = None
    return suite, records(suite, results)


def test_only_splits_that_all_learners_finished_count(made):
    suite, found = made
    grid = Grid(found, suite.learners)
    assert [grid.splits(name) for name in grid.datasets] == [2, 2, 1]
    means = grid.means(ERROR)
    assert means[:2] == pytest.approx(np.array([[0.1 * i + 0.02 * j + 0.001 for j in range(5)] for i in range(2)]))
    assert means[2] == pytest.approx([0.2 + 0.02 * j for j in range(5)])
    table = grid.table(ERROR)
    assert table.rows[0][:3] == ["iris", "0.1 ± 0.1", "2.1 ± 0.1"]
    assert table.rows[2][1] == "20.0"
    assert table.rows[-1] == ["mean rank", "1.00", "2.00", "3.00", "4.00", "5.00"]
    assert (0, 1) in table.best and (0, 2) not in table.best
    assert grid.table(RADIUS).rows[-1][1:] == ["5.00", "4.00", "3.00", "2.00", "1.00"]


def test_a_data_set_without_a_common_split_is_told(made):
    suite, found = made
    grid = Grid([r for r in found if (r.cell.dataset, r.cell.learner) != ("wine", "scml")], suite.learners)
    assert grid.datasets == ["iris", "digits"]
    assert grid.partial == {"wine": ["SCML"]}


def test_pairs_say_who_won(made):
    suite, found = made
    told = suite.tell(found)
    pairs = next(table for table in told["tables"] if table.name == "pairs")
    assert pairs.rows[0][:4] == ["LMNN-PL against LMNN", "Error", "0 / 0 / 3", "0 %"]
    assert any(row[1:4] == ["Median certified radius", "3 / 0 / 0", "100 %"] for row in pairs.rows)
    assert len(told["summary"]) == 2
    assert "failures" in [table.name for table in told["tables"]]


def test_report_and_plots(made, document):
    suite, found = made
    told = document(suite, suite.tell(found), "A <b> title", {"vehicle": "it is <not> there"})
    page = render_bench(told)
    assert page == render_bench(told)
    assert "A &lt;b&gt; title" in page
    assert "it is &lt;not&gt; there" in page
    assert "1 failed" in page
    assert not re.search(r"(?:src|href)=\"(?:https?:)?//", page)
    plots = bench_svgs(told)
    assert {"ranks-error", "ranks-radius", "noise-uniform"} <= set(plots)
    for svg in plots.values():
        root = ElementTree.fromstring(svg.split("\n", 1)[1])
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert "var(--" not in svg
        assert label("lmnn+pl") in svg


def test_a_suite_tells_of_nothing(document):
    for name in NAMES:
        suite = find_suite(name)
        assert "<html" in render_bench(document(suite, suite.tell([])))


def test_certified_suite_brackets_the_robust_error(document):
    suite = find_suite("certified")
    rng = np.random.default_rng(0)
    results = {}
    for spec in suite.learners:
        radii = np.where(rng.random(40) < 0.1, -1.0, rng.uniform(0.1, 1.0, 40))
        robust = {
            "radii": radii.tolist(),
            "distances": np.where(radii < 0, -1.0, 1.2 * radii)[:20].tolist(),
            "violations": 0,
        }
        results["wine", spec, 0] = {"k": {"1": robust, "11": robust}}
    told = suite.tell(records(suite, results))
    assert told["summary"][-1] == "No attack succeeded inside a certified radius."
    assert len(told["figures"]) == 4
    assert render_bench(document(suite, told))


def test_robust_error_by_hand():
    radii = np.array([-1.0, 0.0, 0.5, np.inf])
    assert [robust_error(radii, eps, "radii") for eps in (0.0, 0.5, 0.6)] == [0.25, 0.5, 0.75]
    assert [robust_error(radii, eps, "distances") for eps in (0.0, 0.4, 0.5)] == [0.25, 0.5, 0.75]
