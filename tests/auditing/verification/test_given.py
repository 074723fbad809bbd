"""Test pairs that are given: none of their rows is learned from, and the figures are about them alone."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from certimetric import MahalanobisMetric, PairVerifier, datasets
from certimetric.auditing import audit_verification
from certimetric.auditing.verification.request import VerificationRequest


@pytest.fixture(scope="module")
def digits():
    whole = datasets.load("digits")
    return {"X": whole.X[::3], "y": whole.y[::3], "learners": ["gmml"], "repeats": 2, "far": 0.05}


@pytest.fixture(scope="module")
def pairs(digits):
    """Of every fourth row, any two: 60 genuine pairs and 300 impostor pairs, probes first."""
    rng = np.random.default_rng(0)
    rows = np.arange(0, len(digits["y"]), 4)
    both = rng.choice(rows, size=(20_000, 2))
    both = both[both[:, 0] != both[:, 1]]
    same = digits["y"][both[:, 0]] == digits["y"][both[:, 1]]
    return np.concatenate([both[same][:60], both[~same][:300]])


def test_figures_are_of_the_given_pairs_and_their_rows_are_kept_apart(digits, pairs, tmp_path):
    told = audit_verification(**digits, pairs=pairs, out=tmp_path)
    request = VerificationRequest(**digits, pairs=pairs)
    files = told.document["reproduction"]["metric_files"]
    for split, entry in zip(told.document["learners"][0]["splits"], files):
        part = request.part(split["split"])
        assert not np.isin(pairs, np.concatenate([part.train, part.calibration, part.calibration_pairs.ravel()])).any()
        assert not np.isin(part.train, part.calibration).any()
        assert len(part.train) + len(part.calibration) == len(digits["y"]) - len(np.unique(pairs))
        verifier = PairVerifier(MahalanobisMetric.load(tmp_path / entry["file"]), split["threshold"]).fit()
        accepted = verifier.predict((digits["X"][pairs[:, 0]], digits["X"][pairs[:, 1]])) == 1
        assert split["tar"] == pytest.approx(accepted[:60].mean(), abs=0.02)  # the last digit of one pair
        assert split["far"] == pytest.approx(accepted[60:].mean(), abs=0.004)
    assert told.document["data"]["pairs"][1] == {"part": "test", "genuine": 60, "impostor": 300}
    found = {entry["code"]: entry for entry in told.document["checks"]}
    assert "No row of the pairs that were given is learned from" in found["CV203"]["message"]
    assert found["CV212"]["severity"] == "not applicable"
    page = told.to_html()
    assert "those that are tested were given" in page and "no row in two of them, but some subjects" in page


def test_ids_and_kinds_name_the_same_pairs(digits, pairs, tmp_path):
    ids = np.array([f"{row:04d}.png" for row in range(len(digits["y"]))])
    genuine = np.repeat([1, 0], [60, 300])
    pd.DataFrame({"a": ids[pairs[:, 0]], "b": ids[pairs[:, 1]], "same": genuine}).to_csv(
        tmp_path / "p.csv", index=False
    )
    by_number, by_id = (
        VerificationRequest(**digits, **asked)
        for asked in ({"pairs": pairs}, {"pairs": tmp_path / "p.csv", "ids": ids})
    )
    assert (by_number.given.rows == by_id.given.rows).all()
    assert (by_number.given.genuine == by_id.given.genuine).all() and by_id.given.told
    genuine[:3] = 0
    odd = audit_verification(
        **digits | {"learners": "euclidean", "repeats": 1}, pairs=np.column_stack([pairs, genuine])
    )
    found = next(entry for entry in odd.document["checks"] if entry["code"] == "CV212")
    assert found["severity"] == "issue" and found["message"].startswith("3 of 360 pairs are of another kind")


def test_subjects_of_their_own_pass():
    y = np.repeat(np.arange(16), 6)
    X = np.random.default_rng(0).normal(size=(96, 3))
    request = VerificationRequest(X, y, learners="euclidean", pairs=[[0, 1], *zip(range(6), range(6, 12))])
    part = request.part(0)
    assert part.apart and part.genuine.tolist() == [True] + 6 * [False]


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"pairs": [[0, 1], [0, 99]]}, "pairs must be of rows 0 to 23: the table of pairs has row 99 in pair 1"),
        ({"pairs": [[0, 1], [-1, 0]]}, "pairs must be of rows 0 to 23: the table of pairs has row -1 in pair 1"),
        ({"pairs": [[0, 1], ["x", 0]]}, "pairs must be of row numbers, from 0: the table of pairs has 'x' in pair 1"),
        ({"pairs": [[0, 1], [2, 2]]}, "pairs must be of two rows: the table of pairs has '2' twice in pair 1"),
        ({"pairs": [[0, 1], [2, 3]]}, "the table of pairs has no impostor pair"),
        ({"pairs": [[0, 6]]}, "the table of pairs has no genuine pair"),
        ({"pairs": [[0], [1]]}, "the table of pairs has 1 column"),
        ({"pairs": [[0, 1, "yes"]]}, "must say 1 \\(genuine\\) or 0 \\(impostor\\): the table of pairs has 'yes'"),
        ({"pairs": [["a0", "b"]], "ids": [f"a{i}" for i in range(24)]}, "has 'b' in pair 0, which no row has"),
        ({"pairs": [["a", "a"]], "ids": ["a"] * 24}, "ids must be different, got 'a' more than once"),
        ({"pairs": 5, "ids": np.arange(24)}, "ids are what given pairs call the rows, and pairs is 5"),
        ({"pairs": [[i, (i + 1) % 24] for i in range(22)]}, "pairs leave 1 of 24 rows, 0 of their subjects"),
        ({"pairs": 3.5}, "pairs must be a number, all, a file, or a table of two or three columns"),
    ],
)
def test_wrong_pairs_get_one_sentence(asked, sentence):
    X, y = np.random.default_rng(0).normal(size=(24, 2)), np.arange(24) // 6
    with pytest.raises(ValueError, match=sentence):
        VerificationRequest(X, y, learners="euclidean", **asked)


def test_millions_of_pairs_are_refused_before_the_work():
    """A table of the size of letter: all pairs of all learners and splits would take tens of gigabytes."""
    X, y = np.random.default_rng(0).normal(size=(20_000, 2)), np.arange(20_000) % 26
    with pytest.raises(ValueError, match=r"pairs a split are about .* GiB for 6 learners and 5 splits, .*: take"):
        VerificationRequest(X, y, pairs="all")
    said = VerificationRequest(X, y, pairs=1_000_000, learners="euclidean", repeats=2)
    assert said.limit == 1_000_000
