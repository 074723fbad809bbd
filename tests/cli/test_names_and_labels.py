"""Names, labels, gaps and training rows at the command line: what it prints runs, and what does not fit is told."""

from __future__ import annotations

import json
import shlex

import numpy as np
import pandas as pd
import pytest

from certimetric import MahalanobisMetric, datasets

FIRST = "certimetric: error: "
REGION = ["--attack", "region"]


def customers(n=40, seed=0):
    """Customers with a text column and gaps, told apart by age and size."""
    rng = np.random.default_rng(seed)
    yes = np.arange(n) % 2
    frame = pd.DataFrame(
        {
            "age": np.round(40 + 6 * yes + rng.normal(size=n), 2),
            "job": np.where(rng.random(n) < 0.3 + 0.4 * yes, "clerk", "smith"),
            "size": np.round(rng.normal(size=n) + 2 * yes, 3),
            "churned": np.array(["no", "yes"])[yes],
        }
    )
    frame.loc[frame.index % 9 == 4, "age"] = np.nan
    return frame


@pytest.fixture
def files(tmp_path):
    customers().to_csv(tmp_path / "customers.csv", index=False)
    customers(10, seed=1).to_csv(tmp_path / "new.csv", index=False)
    plain = customers().drop(columns="job").fillna(40).rename(columns={"churned": "class"})
    plain.to_csv(tmp_path / "plain.csv", index=False)
    plain.iloc[:10, ::-1].assign(age=lambda frame: frame["age"] + 0.01).to_csv(tmp_path / "queries.csv", index=False)
    return tmp_path


FITS = {
    "bundled": ["wine", "--learner", "gmml"],
    "a file": ["plain.csv", "--learner", "euclidean", "-o", "m.safetensors"],
    "a target": ["plain.csv", "--learner", "gmml", "--target", "class", "-k", "5", "--seed", "3"],
    "encoded": ["customers.csv", "--learner", "gmml", "--target", "churned", "--encode", "-k", "1"],
    "a file with a space": ["plain.csv", "--learner", "gmml", "-o", "my metric.safetensors"],
}


def next_commands(text):
    lines = [line.partition("Next:")[2] for line in text.splitlines() if "Next:" in line]
    assert lines
    return [shlex.split(line)[1:] for line in lines if shlex.split(line)[0] == "certimetric"]


@pytest.mark.parametrize("what", FITS)
def test_next_commands_run_as_they_are_printed(run, files, what):
    first = run("fit", *FITS[what])
    assert first.code == 0
    (command,) = next_commands(first.out)
    told = run(*command)
    assert (told.code, told.err) == (0, "")
    assert (files / "radii.csv").exists()
    # Leave-one-out, as the error that fit told.
    wrong = float(first.out.partition(": ")[2].split(" %")[0].split(": ")[-1])
    assert f"Accuracy {100 - wrong:.1f} %" in told.out


@pytest.mark.slow
def test_the_next_command_of_a_training_runs(run, tmp_path):
    pytest.importorskip("lightning", reason="the extra 'deep' has lightning")
    (tmp_path / "small.toml").write_text(
        '[data]\nname = "digits"\n[model]\ndim = 8\nwidth = 8\n[training]\nepochs = 1\naccelerator = "cpu"\n'
    )
    first = run("train", "small.toml", "--out", "run")
    (command,) = next_commands(first.out)
    assert run(*command).code == 0


def test_an_encoded_metric_is_used_with_what_it_learned(run, files):
    assert run("fit", "customers.csv", "--learner", "gmml", "--target", "churned", "--encode").code == 0
    metric = MahalanobisMetric.load(files / "metric.safetensors")
    encoder = datasets.TableEncoder.from_dict(metric.training["encoding"])
    assert encoder.feature_names == metric.feature_names
    told = run("certify", "metric.safetensors", "customers.csv", "new.csv", "--target", "churned")
    assert (told.code, told.err) == (0, "")
    median = customers()["age"].median()
    assert f"customers.csv: 4 missing values filled by medians: 'age' (4, by {median:g})" in told.out
    assert f"new.csv: 1 missing value filled by medians: 'age' (1, by {median:g})" in told.out
    # The same radii where the gap is the median by hand and the columns come in another order.
    first = pd.read_csv(files / "radii.csv")
    new = customers(10, seed=1)
    filled = new.assign(age=new["age"].fillna(median))
    filled.iloc[:, ::-1].to_csv(files / "filled.csv", index=False)
    assert run("certify", "metric.safetensors", "customers.csv", "filled.csv", "--target", "churned").code == 0
    there = new["age"].notna()
    np.testing.assert_array_equal(pd.read_csv(files / "radii.csv")["radius"][there], first["radius"][there])
    attacked = run("attack", "metric.safetensors", "customers.csv", "new.csv", "--target", "churned", *REGION)
    assert attacked.code == 0
    table = pd.read_csv(files / "attack.csv")
    assert (first["radius"][table["distance"] > 0] <= table["distance"][table["distance"] > 0]).all()


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        ({"job": "baker"}, "holds 'baker', expected one of 'clerk', 'smith'"),
        ({"age": "old"}, "'age' (such as 'old' in data row 1)"),
        ({"job": None}, "'job' of 'new.csv' has no value"),
    ],
)
def test_what_an_encoded_metric_does_not_know(run, files, spoil, told):
    assert run("fit", "customers.csv", "--learner", "gmml", "--target", "churned", "--encode").code == 0
    customers(4).assign(**spoil).to_csv(files / "new.csv", index=False)
    outcome = run("certify", "metric.safetensors", "customers.csv", "new.csv", "--target", "churned")
    assert outcome.code == 2
    assert outcome.err.startswith(FIRST)
    assert outcome.err.count("\n") == 1
    assert told in outcome.err


@pytest.mark.parametrize("damage", [{"columns": 3}, {"columns": [{"name": "u"}]}, "text", {"columns": []}])
def test_a_damaged_encoding(run, files, damage):
    metric = MahalanobisMetric.from_components(np.eye(1), feature_names=["u"], training={"encoding": damage})
    metric.save(files / "bad.safetensors")
    outcome = run("certify", "bad.safetensors", "plain.csv", "plain.csv")
    assert outcome.code == 2
    assert "'bad.safetensors' is damaged" in outcome.err


@pytest.mark.usefixtures("light_attacks", "undrawn")
@pytest.mark.usefixtures("light_attacks", "undrawn")
def test_an_encoded_audit_says_what_was_filled_and_leaves_metrics_to_use(run, files):
    few = customers(20)
    few.to_csv(files / "few.csv", index=False)
    options = ["--target", "churned", "--encode", "--learner", "gmml", "--repeats", "1", "--jobs", "1", "--out", "out"]
    outcome = run("audit", "few.csv", *options)
    # Each split has medians of its own, of its training part.
    assert "few.csv: 2 missing values filled by medians of the training part of each split" in outcome.out
    # The metric takes the table as it is, and fills gaps as its training part did.
    metric = "out/metrics/gmml-0.safetensors"
    outcome = run("certify", metric, "few.csv", "few.csv", "--target", "churned")
    assert (outcome.code, outcome.err) == (0, "")
    fill = MahalanobisMetric.load(files / metric).training["encoding"]["columns"][0]["fill"]
    assert f"few.csv: 2 missing values filled by medians: 'age' (2, by {fill:g})" in outcome.out
    assert fill != few["age"].median()


def test_fit_says_what_was_filled(run, files):
    told = f"customers.csv: 4 missing values filled by medians: 'age' (4, by {customers()['age'].median():g})"
    outcome = run("fit", "customers.csv", "--learner", "euclidean", "--target", "churned", "--encode")
    assert told in outcome.out


def test_training_rows_among_the_queries_do_not_see_themselves(run, files):
    """Labels at random: by themselves all are right, without themselves about half."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(60, 3)), columns=list("uvw")).assign(y=rng.permutation(60) % 2)
    frame.to_csv(files / "random.csv", index=False)
    frame.iloc[:20].to_csv(files / "some.csv", index=False)
    frame.iloc[:20, :3].to_csv(files / "unlabelled.csv", index=False)
    assert run("fit", "random.csv", "--learner", "euclidean", "-k", "1").code == 0
    outcome = run("certify", "metric.safetensors", "random.csv", "random.csv", "-k", "1", "--exact")
    assert "60 of 60 queries are training rows: each was predicted without itself" in outcome.out
    whole = pd.read_csv(files / "radii.csv")
    assert 0.2 < whole["correct"].mean() < 0.8
    assert (whole["radius"] <= whole["exact"]).all()
    # The figures are those of the library's leave-one-out.
    metric = MahalanobisMetric.load(files / "metric.safetensors")
    X = frame[list("uvw")].to_numpy() / np.array(metric.training["scale"])
    from certimetric import certified_radius

    scaled = MahalanobisMetric.from_components(np.eye(3))
    np.testing.assert_allclose(whole["radius"], certified_radius(scaled, X, frame["y"]), rtol=1e-6, atol=1e-12)
    assert run("certify", "metric.safetensors", "random.csv", "some.csv", "-k", "1").code == 0
    np.testing.assert_array_equal(pd.read_csv(files / "radii.csv")["radius"], whole["radius"][:20])
    # Without labels nobody can tell that they are the same rows: they are new ones.
    outcome = run("certify", "metric.safetensors", "random.csv", "unlabelled.csv", "-k", "1")
    assert "training rows" not in outcome.out
    outcome = run("attack", "metric.safetensors", "random.csv", "some.csv", "-k", "1", *REGION)
    assert "20 of 20 queries are training rows and their own nearest neighbours" in outcome.out
    outcome = run("certify", "metric.safetensors", "random.csv", "some.csv", "-k", "60")
    assert outcome.code == 2
    assert "less the query itself" in outcome.err


LABELS = {
    "case": (lambda y: y.str.capitalize(), "'Yes' (probably 'yes')"),
    "space": (lambda y: y + " ", "'yes ' (probably 'yes')"),
    "numbers": (lambda y: (y == "yes").astype(int), "'1'"),
    "another class": (lambda y: y.where(y.index > 0, "maybe"), "1 of 10 rows of 'queries.csv' have a label unknown"),
}


@pytest.mark.parametrize("command", ["certify", "attack"])
@pytest.mark.parametrize("what", LABELS)
def test_labels_that_do_not_match(run, files, command, what):
    spoil, told = LABELS[what]
    assert run("fit", "plain.csv", "--learner", "euclidean").code == 0
    frame = pd.read_csv(files / "queries.csv")
    frame.assign(**{"class": spoil(frame["class"])}).to_csv(files / "queries.csv", index=False)
    outcome = run(command, "metric.safetensors", "plain.csv", "queries.csv")
    assert outcome.code == 2
    assert outcome.out == ""
    assert outcome.err.count("\n") == 1
    assert told in outcome.err


def test_labels_with_leading_zeros(run, files):
    """Read as numbers in one file, as text in the other: told, not an accuracy of 0 %."""
    frame = pd.read_csv(files / "plain.csv")
    codes = np.where(frame["class"] == "yes", "01", "02")
    frame.assign(**{"class": codes}).to_csv(files / "train.csv", index=False)
    assert run("fit", "train.csv", "--learner", "euclidean").code == 0
    frame[:4].assign(age=1.0, **{"class": ["01", "02", "01", "x"]}).to_csv(files / "queries.csv", index=False)
    outcome = run("certify", "metric.safetensors", "train.csv", "queries.csv")
    assert outcome.code == 2
    assert "'01' (probably '1')" in outcome.err


@pytest.mark.parametrize("command", ["fit", "audit", "certify", "attack"])
def test_labels_that_would_merge_in_a_file(run, files, command):
    frame = pd.read_csv(files / "plain.csv")
    codes = np.where(frame["class"] == "yes", "1", "2").astype(object)
    frame.assign(**{"class": codes}).to_csv(files / "train.csv", index=False)
    assert run("fit", "train.csv", "--learner", "euclidean").code == 0
    codes[5] = f"0{codes[5]}"
    frame.assign(age=1.0, **{"class": codes}).to_csv(files / "mixed.csv", index=False)
    given = ["mixed.csv"] if command in ("fit", "audit") else ["metric.safetensors", "train.csv", "mixed.csv"]
    outcome = run(command, *given, *(["--learner", "euclidean"] if command == "fit" else []))
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith(FIRST)
    assert outcome.err.count("\n") == 1
    assert "target column 'class' of 'mixed.csv'" in outcome.err
    assert "'1' and '01'" in outcome.err or "'2' and '02'" in outcome.err


@pytest.mark.parametrize("command", ["audit", "fit"])
@pytest.mark.parametrize("encode", [False, True])
@pytest.mark.parametrize(
    ("cell", "told"),
    [
        ("12a", "'12a' in data row 3"),
        ('"1,234"', "'1,234' in data row 3"),
        ("n/a ", "'n/a ' in data row 3"),
        ("1e300", "data row 3"),
        ("18446744073709551616", "64 bits"),
    ],
)
def test_dirty_cells(run, files, command, encode, cell, told):
    rows = [f"{i},{i % 5},{'ab'[i % 2]}" for i in range(20)]
    rows[2] = f"{cell},2,a"
    (files / "dirty.csv").write_text("\n".join(["u,v,class", *rows]) + "\n")
    options = ["--learner", "euclidean"] + (["--encode"] if encode else [])
    outcome = run(command, "dirty.csv", *options)
    assert outcome.code == 2
    assert outcome.err.count("\n") == 1
    assert told in outcome.err
    assert "'u'" in outcome.err


def test_the_encoding_is_data(run, files):
    assert run("fit", "customers.csv", "--learner", "gmml", "--target", "churned", "--encode").code == 0
    from safetensors import safe_open

    with safe_open(str(files / "metric.safetensors"), framework="numpy") as file:
        training = json.loads(file.metadata()["training"])
    assert training["encoding"]["columns"][1] == {
        "name": "job",
        "categories": ["clerk", "smith"],
        "fill": None,
        "indicator": False,
        "kind": "category",
    }


def test_an_encoded_table_of_openml(run, files, monkeypatch):
    """The Next command of a fetched table runs, too."""
    from sklearn.utils import Bunch

    answer = Bunch(frame=customers(), target_names=["churned"], details={"version": "1"})
    monkeypatch.setattr("sklearn.datasets.fetch_openml", lambda *given, **options: answer)
    first = run("fit", "openml:customers", "--learner", "gmml", "--encode")
    assert (first.code, first.err) == (0, "")
    (command,) = next_commands(first.out)
    told = run(*command)
    assert (told.code, told.err) == (0, "")
    assert "openml:customers: 4 missing values filled by medians" in told.out
    answer.frame = customers().assign(job="baker")
    outcome = run("certify", "metric.safetensors", "customers.csv", "openml:customers", "--target", "churned")
    assert outcome.code == 2
    assert "'baker', expected one of 'clerk', 'smith'" in outcome.err


def test_the_base_rate_is_told(run, tmp_path):
    """An accuracy of 95 % is none where a class of 5 % is always missed."""
    rng = np.random.RandomState(0)
    frame = pd.DataFrame(rng.randn(100, 2), columns=["u", "v"]).assign(
        target=["fraud" if i % 20 == 0 else "none" for i in range(100)]
    )
    frame.to_csv(tmp_path / "train.csv", index=False)
    frame[["u", "v", "target"]].assign(u=frame["u"] + 9).to_csv(tmp_path / "new.csv", index=False)
    said = (
        "Balanced accuracy 50.0 %, never found: 'fraud'; always answering 'none', the most frequent class, is right on "
        "95.0 %"
    )
    told = [
        run("fit", "train.csv", "--learner", "euclidean", "-k", "7"),
        run("certify", "metric.safetensors", "train.csv", "new.csv", "-k", "7"),
        run("attack", "metric.safetensors", "train.csv", "new.csv", "-k", "7", *REGION),
    ]
    assert [outcome.code for outcome in told] == [0, 0, 0]
    assert all(said in outcome.out for outcome in told)
