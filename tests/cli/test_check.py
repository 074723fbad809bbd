"""``certimetric check``: exit codes for a pipeline, text and JSON."""

import json

import numpy as np
import pandas as pd
import pytest


@pytest.fixture
def files(run):
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"age": rng.integers(18, 80, 240), "income": rng.normal(3, 1, 240).round(3)})
    table["plan"] = rng.choice(["a", "b"], 240)
    table["churned"] = np.where(table["income"] > 3, "yes", "no")
    table[:160].to_csv("old.csv", index=False)
    table[160:].to_csv("same.csv", index=False)
    table[160:].drop(columns="churned").assign(income=9.0).to_csv("other.csv", index=False)
    table[160:].replace({"plan": {"a": "z"}}).to_csv("unknown.csv", index=False)
    fitted = run("fit", "old.csv", "--target", "churned", "--encode", "-l", "euclidean", "-o", "old.safetensors")
    assert fitted.code == 0, fitted.err
    return "old.safetensors", "old.csv"


def test_exit_codes_are_those_of_a_pipeline(run, files):
    def check(*arguments):
        return run("check", *files, *arguments, "--target", "churned")

    fine = check("same.csv")
    assert fine.code == 0 and fine.out.startswith("80 new rows, 80 of them comparable") and "no alarm" in fine.out
    drifted = check("other.csv", "--json")
    told = json.loads(drifted.out)
    assert drifted.code == 1 and told["alarm"] and told["figures"]["near"] == 0.0 and told["missed"] == {}
    unknown = check("unknown.csv", "--fail-under", "comparable=0.9")
    assert unknown.code == 1 and "'plan' holds 'z'" in unknown.out
    assert "Threshold comparable=0.9 does not hold" in unknown.out
    assert check("same.csv", "--fail-under", "near=1").code in (0, 1)
    for wrong, words in (
        (("nowhere.csv",), "there is no file 'nowhere.csv'"),
        (("same.csv", "--fail-under", "psi=1"), "--fail-under must be FIGURE=VALUE, with the FIGURE comparable, near"),
        (("same.csv", "--units", "miles"), "--units must be one of"),
        (("same.csv", "--alpha", "3"), "--alpha must be between 0 and 1"),
        (("same.csv", "--eps", "inf"), "--eps must be a size of at least 0"),
    ):
        refused = check(*wrong)
        assert refused.code == 2 and words in refused.err and len(refused.err.splitlines()) == 1
    unlabelled = run("check", *files, "same.csv", "--target", "nope")
    assert unlabelled.code == 2 and "none called 'nope', which --target names" in unlabelled.err
