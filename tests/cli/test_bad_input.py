"""Bad input at the command line: exit code 2 and one line on stderr that names the culprit."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import save_file

from certimetric import MahalanobisMetric

GOOD = "u,v,class\n" + "".join(f"{i % 7},{i % 5},{'ab'[i % 2]}\n" for i in range(30))


def lines(*rows: str) -> str:
    return "u,v,class\n" + "\n".join([*rows, *GOOD.splitlines()[1:]]) + "\n"


def assert_refused(outcome, culprit):
    assert outcome.code == 2
    assert outcome.out == ""
    assert outcome.err.startswith("certimetric: error: ")
    assert outcome.err.count("\n") == 1
    assert outcome.err.endswith("\n")
    assert culprit in outcome.err
    assert "Traceback" not in outcome.err


FILES = {
    "nan": (lines("1,,a"), "'v'"),
    "inf": (lines("1,inf,a"), "'v'"),
    "one class": ("u,v,class\n1,2,a\n3,4,a\n5,6,a\n", "class"),
    "text column": (lines("red,2,a"), "'u'"),
    "empty": ("", "data.csv"),
    "header only": ("u,v,class\n", "data.csv"),
    "binary": ("\x00\x01\x02", "data.csv"),
    "no target": (GOOD.replace("class", "colour"), "'colour'"),
    "a dirty cell": (lines("1,2a,a"), "'2a' in data row 1"),
    "a thousands separator": (lines('1,"1,234",a'), "'1,234' in data row 1"),
    "a value near 1e300": (lines("1e300,2,a"), "'u' (1 row, first data row 1)"),
    "an integer beyond 64 bits": (lines("18446744073709551616,2,a"), "18446744073709551616"),
    "a label beyond 64 bits": ("u,class\n1,18446744073709551616\n2,1\n", "18446744073709551616"),
    "classes that differ in a space": ("u,class\n1,a\n2,a \n3,b\n", "'a '"),
    "a class called None": ("u,class\n1,a\n2,None\n3,b\n", "None are missing"),
}


@pytest.mark.parametrize("command", ["audit", "fit"])
@pytest.mark.parametrize("what", FILES)
def test_bad_files(run, tmp_path, command, what):
    content, culprit = FILES[what]
    (tmp_path / "data.csv").write_text(content)
    extra = ["--learner", "lmnn"] if command == "fit" else []
    assert_refused(run(command, "data.csv", *extra), culprit)
    assert [path.name for path in tmp_path.iterdir()] == ["data.csv"]


OPTIONS = {
    "k larger than n": (["--neighbors", "100"], "100"),
    "unknown learner": (["--learner", "lmn"], "did you mean 'lmnn'"),
    "unknown option of a learner": (["--learner", "lmnn:depth=3"], "depth"),
    "option without its loss": (["--learner", "lmnn:tau=3"], "+pl"),
    "bad value of an option": (["--learner", "lmnn:n_neighbors=many"], "n_neighbors"),
    "learner twice": (["--learner", "lmnn", "--learner", "lmnn"], "more than once"),
    "missing target column": (["--target", "colour"], "'colour'"),
    "negative eps": (["--eps", "-0.5"], "-0.5"),
    "text as eps": (["--eps", "0.1,small"], "'small'"),
    "negative noise": (["--noise", "-1"], "noise"),
    "infinite noise": (["--noise", "inf"], "inf"),
    "unknown norm": (["--norm", "l3"], "l3"),
    "no repeats": (["--repeats", "0"], "repeats"),
    "text as a number": (["--repeats", "many"], "--repeats"),
    "test size": (["--test-size", "1.5"], "1.5"),
    "jobs": (["--jobs", "0"], "--jobs"),
    "jobs and dask": (["--jobs", "2", "--dask", "tcp://127.0.0.1:9"], "--dask is for a cluster"),
    "threshold": (["--fail-under", "accuracy>0.9"], "accuracy>0.9"),
    "threshold of another learner": (["--fail-under", "nca.accuracy=0.9"], "'nca'"),
    "threshold at another noise": (["--fail-under", "noise@0.3=0.9"], "0.3"),
    "threshold on an unknown class": (["--fail-under", "recall@c=0.9"], "names the class 'c'"),
    "threshold that is no share": (["--fail-under", "recall@a=90"], "between 0 and 1, got 90"),
    "balanced accuracy that is no share": (["--fail-under", "balanced_accuracy=-0.1"], "-0.1"),
    "unknown option": (["--colour", "red"], "--colour"),
    "output below a file": (["--out", "data.csv/out"], "data.csv/out"),
    "output in a file": (["--out", "data.csv"], "data.csv"),
    "junit below a file": (["--junit", "data.csv/junit.xml"], "junit.xml"),
}


@pytest.mark.parametrize("what", OPTIONS)
def test_bad_options(run, tmp_path, what):
    options, culprit = OPTIONS[what]
    (tmp_path / "data.csv").write_text(GOOD)
    assert_refused(run("audit", "data.csv", *options), culprit)
    assert not list(tmp_path.rglob("*.safetensors"))


NAMED = {  # what a function says of its argument is said of the option
    "drop": (["--read", "drop=w"], "--read drop names the column 'w', which is not there"),
    "encoding": (["--read", "encoding=ebcdic"], "--read encoding must be one that Python knows"),
    "two marks": (["--read", "decimal=comma,thousands=comma"], "--read thousands and decimal must be different"),
    "category": (["--read", "category=w"], "--read category names the column 'w'"),
    "ordinal": (["--read", "ordinal=w=a<b"], "--read ordinal names the column 'w'"),
    "rate": (["--far", "2"], "--far must be a rate of false accepts"),
    "seed": (["--seed", "-1"], "--seed must be a whole number of at least 0"),
    "parameter of a learner": (["-l", "lmnn:n_neighbors=0"], "The 'n_neighbors' parameter of LMNN"),
}


@pytest.mark.parametrize("what", NAMED)
def test_errors_name_the_option_that_was_typed(run, tmp_path, what):
    options, culprit = NAMED[what]
    (tmp_path / "data.csv").write_text(GOOD)
    refused = run("fit", "data.csv", "--learner", "gmml", "--verify", *options)
    assert_refused(refused, culprit)
    assert [path.name for path in tmp_path.iterdir()] == ["data.csv"]


def test_what_is_said_by_read_is_no_option(run, tmp_path):
    (tmp_path / "data.csv").write_text(GOOD)
    refused = run("fit", "data.csv", "--learner", "gmml", "--drop", "u")
    assert_refused(refused, "certimetric fit has no option --drop: it is --read drop=VALUE")


def test_a_label_for_each_row_is_no_class(run, tmp_path):
    (tmp_path / "data.csv").write_text("u,v,name\n" + "".join(f"{i % 7},{i},n{i}\n" for i in range(30)))
    refused = run("fit", "data.csv", "--target", "name", "--learner", "lmnn")
    assert_refused(refused, "each of the 30 rows of 'data' has a label of its own")
    assert run("fit", "data.csv", "--target", "name", "--learner", "euclidean").code == 0  # which asks for no labels


def test_no_scheduler(run, tmp_path, monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr("certimetric.runs.cluster.CONNECT_TIMEOUT", 0.5)
    (tmp_path / "data.csv").write_text(GOOD)
    refused = run("audit", "data.csv", "--dask", "tcp://127.0.0.1:9")
    assert_refused(refused, "no Dask scheduler answers at 'tcp://127.0.0.1:9'")
    assert [path.name for path in tmp_path.iterdir()] == ["data.csv"]


@pytest.mark.parametrize(
    ("arguments", "culprit"),
    [
        (["audit", "irs"], "did you mean 'iris'"),
        (["audit", "missing.csv"], "missing.csv"),
        (["audit", "."], "."),
        (["audit"], "DATA"),
        (["audits", "iris"], "audits"),
        (["fit", "iris"], "--learner"),
        (["fit", "iris", "--learner", "lmnn", "-o", "missing/m.safetensors"], "missing/m.safetensors"),
        (["fit", "iris", "--learner", "lmnn", "--neighbors", "150"], "150"),
        (["report", "missing.json"], "missing.json"),
    ],
)
def test_bad_arguments(run, arguments, culprit):
    assert_refused(run(*arguments), culprit)


@pytest.fixture
def metric(tmp_path):
    made = MahalanobisMetric.from_components(np.eye(2), feature_names=["u", "v"], training={"scale": [1.0, 2.0]})
    made.save(tmp_path / "good.safetensors")
    (tmp_path / "train.csv").write_text(GOOD)
    (tmp_path / "queries.csv").write_text("v,u\n1,2\n")
    return tmp_path


BAD_METRICS = {
    "missing": (lambda path: None, "bad.safetensors"),
    "empty": (lambda path: path.write_bytes(b""), "bad.safetensors"),
    "truncated": (
        lambda path: path.write_bytes((path.parent / "good.safetensors").read_bytes()[:-9]),
        "truncated",
    ),
    "text": (lambda path: path.write_text("u,v,class\n"), "bad.safetensors"),
    "foreign": (lambda path: save_file({"weight": np.eye(2)}, path), "not a metric of certimetric"),
    "a folder": (lambda path: path.mkdir(), "folder"),
    "other features": (
        lambda path: MahalanobisMetric.from_components(np.eye(1), feature_names=["w"]).save(path),
        "'w'",
    ),
    "more features": (lambda path: MahalanobisMetric.from_components(np.eye(3)).save(path), "3 features"),
    "a bad scale": (
        lambda path: MahalanobisMetric.from_components(np.eye(2), training={"scale": [1.0, 0.0]}).save(path),
        "scale",
    ),
}


@pytest.mark.parametrize("what", BAD_METRICS)
def test_bad_metric_files(run, metric, what):
    make, culprit = BAD_METRICS[what]
    make(metric / "bad.safetensors")
    assert_refused(run("certify", "bad.safetensors", "train.csv", "queries.csv"), culprit)
    assert not (metric / "radii.csv").exists()


@pytest.mark.parametrize(
    ("options", "queries", "culprit"),
    [
        (["--neighbors", "31"], "u,v\n1,2\n", "31"),
        (["-o", "missing/radii.csv"], "u,v\n1,2\n", "missing/radii.csv"),
        ([], "u,w\n1,2\n", "'v'"),
        ([], "u,v\n1,nan\n", "'v'"),
        ([], "u,v\n1,red\n", "'v'"),
        ([], "", "queries.csv"),
    ],
)
def test_bad_queries(run, metric, options, queries, culprit):
    (metric / "queries.csv").write_text(queries)
    assert_refused(run("certify", "good.safetensors", "train.csv", "queries.csv", *options), culprit)


@pytest.mark.parametrize(
    ("train", "culprit"), [("u,v\n1,2\n3,4\n", "--target"), ("u,v,class\n1,2,a\n3,4,a\n5,6,a\n", "class")]
)
def test_bad_training_data(run, metric, train, culprit):
    (metric / "train.csv").write_text(train)
    assert_refused(run("certify", "good.safetensors", "train.csv", "queries.csv"), culprit)


def test_standardised_units_need_a_scale(run, metric):
    MahalanobisMetric.from_components(np.eye(2)).save(metric / "plain.safetensors")
    assert_refused(
        run("certify", "plain.safetensors", "train.csv", "queries.csv", "--units", "standardised"),
        "plain.safetensors",
    )


@pytest.mark.parametrize("content", ["", "{", json.dumps({"schema": "other/1"})])
def test_foreign_results(run, tmp_path, content):
    (tmp_path / "results.json").write_text(content)
    assert_refused(run("report", "results.json"), "results.json")


def test_nothing_but_the_line_on_stderr_of_a_process(tmp_path):
    """Warnings of libraries would come before the line; in this process pytest catches them."""
    (tmp_path / "data.csv").write_text("u,v,class\n" + "".join(f"{i},{i},{i}\n" for i in range(9)))
    code = "import sys; from certimetric.cli import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", code, "audit", "data.csv"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("certimetric: error: ")


ATTACKS = {
    "unknown norm of a threat": (["--threat", "l3"], "'l3'"),
    "unknown option of a threat": (["--threat", "l2:immutabel=u"], "'immutabel'"),
    "unknown feature": (["--threat", "l2:immutable=w"], "'w'"),
    "negative budget": (["--threat", "l2:eps=-1"], "-1"),
    "bounds without dots": (["--threat", "l2:bounds=3"], "bounds"),
    "instances outside of the bounds": (["--threat", "l2:bounds=100..200"], "bounds"),
    "unknown attack": (["--attack", "magic"], "'magic'"),
    "a folder of rules": (["--features", "."], "Is a directory"),
    "nothing left to change": (["--threat", "l2:immutable=u+v"], "at least one feature"),
}


@pytest.mark.parametrize("what", ATTACKS)
def test_bad_threats(run, tmp_path, what):
    options, culprit = ATTACKS[what]
    (tmp_path / "data.csv").write_text(GOOD)
    assert run("fit", "data.csv", "--learner", "euclidean").code == 0
    assert_refused(run("attack", "metric.safetensors", "data.csv", "data.csv", *options), culprit)
    assert not (tmp_path / "attack.csv").exists()


EXPLAINED = {
    "unknown class": (["--wanted", "maybe"], "--wanted must be one of"),
    "unknown feature": (["--threat", "l1:increase=w"], "'w'"),
    "a cost without a number": (["--threat", "l1:cost=u"], "'cost'"),
    "no change at all": (["-n", "0"], "-n must be at least 1"),
    "no time": (["--time-limit", "0"], "--time-limit"),
}


@pytest.mark.parametrize("what", EXPLAINED)
def test_bad_questions(run, tmp_path, what):
    options, culprit = EXPLAINED[what]
    (tmp_path / "data.csv").write_text(GOOD)
    assert run("fit", "data.csv", "--learner", "euclidean").code == 0
    assert_refused(run("explain", "metric.safetensors", "data.csv", "data.csv", *options), culprit)
    assert not (tmp_path / "changes.csv").exists()


def test_bad_time_limit(run, tmp_path):
    (tmp_path / "data.csv").write_text(GOOD)
    assert run("fit", "data.csv", "--learner", "euclidean").code == 0
    rows = ["metric.safetensors", "data.csv", "data.csv"]
    assert_refused(run("certify", *rows, "--exact", "--time-limit", "0"), "--time-limit must be a positive number")
    assert_refused(run("certify", *rows, "--time-limit", "3"), "needs --exact")


def test_no_command_writes_over_what_it_reads(run, tmp_path):
    data = tmp_path / "data.csv"
    data.write_text(GOOD)
    assert run("fit", "data.csv", "--learner", "euclidean").code == 0
    rows = ["metric.safetensors", "data.csv", "data.csv"]
    for command in (
        ["fit", "data.csv", "--learner", "euclidean"],
        ["certify", *rows],
        ["attack", *rows],
        ["explain", *rows],
        ["match", *rows, "--threshold", "1"],
    ):
        assert_refused(run(*command, "-o", tmp_path / "data.csv"), "overwritten")
    assert_refused(run("audit", "data.csv", "--junit", tmp_path / "data.csv"), "overwritten")
    (tmp_path / "pairs.csv").write_text("first,second,same\n")
    assert_refused(run("verify", "data.csv", "--pairs", "pairs.csv", "--sarif", tmp_path / "pairs.csv"), "overwritten")
    (tmp_path / "rules.toml").write_text("[u]\nimmutable = true\n")
    assert_refused(run("explain", *rows, "--features", "rules.toml", "-o", tmp_path / "rules.toml"), "overwritten")
    assert data.read_text() == GOOD


def test_a_rate_of_false_accepts_needs_a_threshold(run, tmp_path):
    (tmp_path / "data.csv").write_text(GOOD)
    assert_refused(run("fit", "data.csv", "--learner", "euclidean", "--far", "0.1"), "--verify")
