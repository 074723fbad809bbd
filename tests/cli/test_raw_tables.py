"""A table as a bank has it, through the commands: raw rows go in everywhere, and come out as they are written."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from certimetric import MahalanobisMetric


@pytest.fixture
def bank(tmp_path):
    """bank.csv with labels, new.csv without: semicolons, decimal commas, thousands, dates, words, gaps."""
    rng = np.random.default_rng(0)
    n = 90
    income, age, job = rng.normal(3000, 900, n).clip(400), rng.integers(18, 80, n), rng.choice(["clerk", "smith"], n)
    frame = pd.DataFrame(
        {
            "customer": [f"C{i:03d}" for i in range(n)],
            "age": age,
            "income": [f"{x:,.1f}".translate(str.maketrans(",.", ".,")) for x in income],
            "job": job,
            "owner": rng.choice(["yes", "no"], n),
            "opened": (pd.Timestamp("2015-01-01") + pd.to_timedelta(rng.permutation(n), unit="D")).strftime("%Y-%m-%d"),
            "branch": rng.choice(list("ABCDE"), n),
            "status": np.where(income + 20 * age + 400 * (job == "smith") > 4000, "good", "bad"),
        }
    )
    frame.loc[3, "income"] = "n.v."
    frame.loc[5, "job"] = ""
    frame[:70].to_csv(tmp_path / "bank.csv", sep=";", index=False, encoding="utf-8-sig")
    frame[70:75].drop(columns="status").to_csv(tmp_path / "new.csv", sep=";", index=False, encoding="utf-8-sig")
    frame[70:].to_csv(tmp_path / "later.csv", sep=";", index=False)
    return frame


MARKS = ["--read", "decimal=comma,thousands=point", "--read", "na=n.v."]
READ = ["--target", "status", "--encode", *MARKS]


def test_raw_rows_go_in_and_come_out(run, bank, tmp_path):
    fitted = run("fit", "bank.csv", "-l", "gmml", *READ, "--read", "drop=customer,drop=branch", "-o", "m.safetensors")
    assert (fitted.code, fitted.err) == (0, "")
    assert MahalanobisMetric.load(tmp_path / "m.safetensors").feature_names == (
        "age", "income", "income is missing", "job=clerk", "job=smith", "job is missing", "owner", "opened"
    )  # fmt: skip
    # How the file is written is in the metric file: nothing is said again.
    certified = run("certify", "m.safetensors", "bank.csv", "new.csv", "--target", "status")
    assert (certified.code, certified.err) == (0, "")
    attacked = run("attack", "m.safetensors", "bank.csv", "new.csv", "--target", "status", "--attack", "region")
    assert (attacked.code, attacked.err) == (0, "")
    changed = pd.read_csv(tmp_path / "attack.csv")
    assert set(changed["job"].dropna()) <= {"clerk", "smith"}
    assert set(changed["owner"]) <= {"yes", "no"}
    assert changed["age"].dtype.kind == "i"
    assert changed["opened"].str.fullmatch(r"\d{4}-\d\d-\d\d").all()
    # The same file in other marks, said once.
    text = (tmp_path / "new.csv").read_text(encoding="utf-8-sig").replace(".", "").replace(",", ".").replace(";", "|")
    (tmp_path / "points.csv").write_text(text)
    train = pd.read_csv(tmp_path / "bank.csv", sep=";", decimal=",", thousands=".", na_values="n.v.")
    train.to_csv(tmp_path / "train.csv", index=False)
    again = run(
        "certify", "m.safetensors", "train.csv", "points.csv", "--target", "status", "--read", "na=nv", "-o", "b.csv"
    )
    assert (again.code, again.err) == (0, "")
    np.testing.assert_allclose(pd.read_csv("b.csv")["radius"], pd.read_csv("radii.csv")["radius"])


def test_rules_by_name(run, bank, tmp_path):
    run("fit", "bank.csv", "-l", "euclidean", *READ, "--read", "drop=customer,drop=branch")
    (tmp_path / "rules.toml").write_text(
        "[job]\nimmutable = true\n[age]\nbounds = [18, 90]\n[owner]\nimmutable = true\n"
    )
    options = ["metric.safetensors", "bank.csv", "new.csv", "--target", "status", "--attack", "region"]
    assert run("attack", *options, "--features", "rules.toml").code == 0
    changed, before = pd.read_csv(tmp_path / "attack.csv"), bank[70:75].reset_index(drop=True)
    assert (changed["job"] == before["job"]).all()
    assert (changed["owner"] == before["owner"]).all()
    assert changed["age"].between(18, 90).all()
    (tmp_path / "rules.toml").write_text("[jobs]\nimmutable = true\n")
    refused = run("attack", *options, "--features", "rules.toml")
    assert refused.code == 2
    assert refused.err.count("\n") == 1
    assert "did you mean 'job'" in refused.err


@pytest.mark.usefixtures("light_attacks", "undrawn")
@pytest.mark.parametrize(
    ("options", "kind", "told"),
    [
        (["--time", "opened"], "latest", "the latest 30 % of the rows by opened"),
        (["--group", "branch"], "groups", "no branch in both parts"),
        (["--test", "later.csv"], "given", "the 20 rows that were given for it"),
    ],
)
def test_splits_that_are_said(run, bank, tmp_path, options, kind, told):
    drop = [word for name in ("branch", "opened") if name not in options for word in ("--read", f"drop={name}")]
    common = ["-l", "euclidean", "--repeats", "1", "--out", "out", "--id", "customer", *READ]
    outcome = run("audit", "bank.csv", *options, *drop, *common)
    assert (outcome.code, outcome.err) == (0, "")
    document = json.loads((tmp_path / "out" / "results.json").read_text())
    assert document["protocol"]["split"] == kind
    assert document["data"]["n_samples"] == (90 if kind == "given" else 70)
    fragile = document["learners"][0]["fragile"]
    assert [entry["id"] for entry in fragile] == [f"C{entry['index']:03d}" for entry in fragile]
    if kind == "latest":
        assert all(bank["opened"][entry["index"]] > bank["opened"][:70].sort_values().iloc[47] for entry in fragile)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--time", "opened", "--group", "branch"], "give one of them"),
        (["--group", "shop"], "the column 'shop' of groups is not there"),
        (["--id", "status"], "the column 'status' of ids holds the labels"),
        (["--time", "branch", "--read", "drop=customer"], "times must be numbers, or dates"),
        (["--read", "delimiter=xy"], "delimiter must be one character"),
        (["--read", "ordinal=job"], "--read ordinal must be COL=A<B<C"),
        (["--read", "ordinal=job=a<"], "--read ordinal must be COL=A<B<C"),
        (["--read", "encoding=utf-16"], "is not of the encoding it is read with"),
        (["--read", "encoding=undefined"], "encoding must be one that Python knows"),
        (["--read", "decimals=x"], "--read must be KEY=VALUE with a KEY of delimiter, decimal, "),
        (["--read", "decimals=x"], "got 'decimals=x' (did you mean 'decimal'?)"),
        (["--read", "na"], "got 'na'"),
        (["--read", "delimiter=;,delimiter=tab"], "--read must say delimiter once, got ; and tab"),
        (["--read", "drop=x"], "drop names the column 'x'"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(run, bank, options, told):
    outcome = run("audit", "bank.csv", *READ, *options)
    assert outcome.code == 2
    assert outcome.err.count("\n") == 1
    assert told in outcome.err
