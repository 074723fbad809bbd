"""``certimetric bench``: what it writes, how it goes on, and one sentence for what is wrong."""

from __future__ import annotations

import csv
import shutil
import sqlite3
from contextlib import closing

import pytest

from certimetric.bench import benchmark
from certimetric.bench.suites import NAMES
from certimetric.cli import main
from certimetric.runs.store import claimed


@pytest.fixture
def bench(toy, tmp_path, monkeypatch, capsys):
    """Run ``certimetric bench`` in an empty folder, with the toy suite besides the others."""
    original = benchmark.find_suite
    monkeypatch.setattr(benchmark, "find_suite", lambda name: toy.SUITE if name == "toy" else original(name))
    monkeypatch.setattr("certimetric.bench.suites.find_suite", benchmark.find_suite)
    monkeypatch.setattr(toy.SUITE, "folder", str(tmp_path), raising=False)
    monkeypatch.delenv("CERTIMETRIC_DATA", raising=False)
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        capsys.readouterr()
        code = main(["bench", *map(str, arguments)])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return call


def test_run_go_on_and_render_again(bench, toy, tmp_path, monkeypatch, runs):
    monkeypatch.setattr(toy.SUITE, "words", ("ok", "ok", "fail", "ok", "ok"), raising=False)
    code, out, _ = bench("toy", "--out", "o", "--jobs", 1)
    assert code == 0
    assert "3 cells computed, 0 reused, 1 failed" in out
    assert "ValueError: no such luck" in out
    folder = tmp_path / "o"
    rows = list(csv.DictReader((folder / "results.csv").open()))
    assert [row["status"] for row in rows] == ["done", "done", "failed", "done"]
    assert "| 3     | 9     |" in (folder / "tables.md").read_text()
    assert (folder / "tables" / "values.tex").is_file() and (folder / "tables" / "values.csv").is_file()
    page = (folder / "report.html").read_text()
    assert "Toy &lt;suite&gt;" in page
    assert "certimetric bench toy --out o --jobs 1" in page

    code, out, err = bench("toy", "--out", "o")
    assert (code, out) == (2, "")
    assert "'o' holds results already: add --resume" in err

    code, out, _ = bench("toy", "--out", "o", "--resume", "--splits", 5, "--jobs", 1)
    assert code == 0
    assert "1 cells computed, 4 reused, 1 failed" in out
    assert [runs(split) for split in range(5)] == [1] * 5

    before = (folder / "report.html").read_bytes()
    for name in ("report.html", "tables.md", "results.csv"):
        (folder / name).unlink()
    shutil.rmtree(folder / "tables")
    code, out, _ = bench("toy", "--out", "o", "--render")
    assert code == 0
    assert (folder / "report.html").read_bytes() == before
    assert (folder / "tables" / "values.md").is_file()

    code, _, err = bench("quick", "--out", "o", "--resume")
    assert code == 2
    assert "holds results of the suite 'toy'" in err


def test_results_of_an_earlier_version_are_left_alone(bench, tmp_path):
    """Neither mixed with new ones nor rendered by them: one sentence, and every file as it was."""
    folder = tmp_path / "o"
    folder.mkdir()
    with closing(sqlite3.connect(folder / "results.sqlite")) as database, database:
        database.execute("CREATE TABLE about (name TEXT PRIMARY KEY, value TEXT NOT NULL)")
        database.execute("INSERT INTO about VALUES ('schema', '\"certimetric.bench-store/1\"')")
    (folder / "report.html").write_text("of the earlier version")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    for option in ("--resume", "--render"):
        code, out, err = bench("toy", "--out", "o", option)
        assert (code, out) == (2, "")
        assert "was written by another version of certimetric" in err and err.count("\n") == 1
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_two_runs_at_once_in_one_folder(bench, tmp_path):
    with claimed(tmp_path / "o", "a benchmark"):
        code, out, err = bench("toy", "--out", "o", "--resume")
        assert (code, out) == (2, "")
        assert "another run is at work in 'o'" in err


def test_list_says_what_each_suite_needs(bench):
    code, out, _ = bench("--list")
    assert code == 0
    for name in NAMES:
        assert name in out
    assert out.count("Needs ") == len(NAMES)


BAD = {
    "unknown suite": (["perturbatoin"], "did you mean 'perturbation'"),
    "no suite": ([], "--list"),
    "jobs": (["quick", "--jobs", "0"], "--jobs"),
    "timeout": (["quick", "--timeout", "0"], "--timeout"),
    "splits": (["quick", "--splits", "0"], "--splits"),
    "seed": (["quick", "--seed", "-1"], "--seed"),
    "data root": (["perturbation", "--data-root", "nowhere"], "there is no folder 'nowhere'"),
    "retry alone": (["quick", "--retry"], "--resume"),
    "nothing to render": (["quick", "--render"], "holds no results"),
    "jobs and dask": (["quick", "--jobs", "2", "--dask", "tcp://127.0.0.1:1"], "one of them"),
    "out is a file": (["quick", "--out", "file"], "is a file"),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_input_is_one_sentence(bench, tmp_path, what):
    (tmp_path / "file").write_text("")
    arguments, culprit = BAD[what]
    code, out, err = bench(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("certimetric: error: ")
    assert err.count("\n") == 1
    assert culprit in err
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.slow
def test_quick_from_beginning_to_end(bench, tmp_path):
    code, out, _ = bench("quick", "--splits", 1)
    assert code == 0
    assert "15 cells computed, 0 reused, 0 failed" in out
    text = (tmp_path / "certimetric-bench" / "quick" / "tables.md").read_text()
    assert "LMNN-PL against LMNN" in text
    assert len(list((tmp_path / "certimetric-bench" / "quick" / "plots").glob("*.svg"))) == 6


@pytest.mark.slow
def test_certificates_hold_in_the_certified_suite():
    from certimetric.bench.datasets import WINE, find_datasets
    from certimetric.bench.suites.certified import SUITE

    found, _ = find_datasets((WINE,), None)
    for cell in SUITE.cells(found, seed=0, splits=1)[:2]:
        result = SUITE.run(cell)
        assert set(result["k"]) == {"1", "11"}
        assert all(measured["violations"] == 0 for measured in result["k"].values())
