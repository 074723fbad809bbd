"""``certimetric fit --verify`` and ``certimetric match``: metric and threshold in one file, and answers with it."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest

from certimetric import MahalanobisMetric, OpenSetKNeighborsClassifier, PairVerifier, datasets
from certimetric.certify import verification_curve


@pytest.fixture
def tables(tmp_path):
    """Digits in two files: enrolled ones of eight classes, and queries of all ten."""
    frame = datasets.load("digits").to_frame()
    enrolled, queries = frame[:600], frame[600:900]
    enrolled[enrolled["target"] < 8].to_csv(tmp_path / "enrolled.csv", index=False)
    queries.to_csv(tmp_path / "queries.csv", index=False)
    return tmp_path


def test_the_threshold_is_that_of_pairs_of_other_subjects(run, tables):
    outcome = run("fit", "enrolled.csv", "-l", "gmml", "--verify", "--far", "0.02", "-o", "m.safetensors")
    assert (outcome.code, outcome.err) == (0, "")
    metric = MahalanobisMetric.load(tables / "m.safetensors")
    told = metric.training["verification"]
    assert told["apart"] and told["far"] == 0.02
    assert f"threshold {told['threshold']:.6g} accepts {100 * told['tar']:.1f} %" in outcome.out
    assert "Next:   certimetric match m.safetensors enrolled.csv enrolled.csv -o matches.csv" in outcome.out
    # Of three of the eight classes all pairs were taken; no other three give these rates at this threshold.
    X, y = (getattr(datasets.load(tables / "enrolled.csv"), name) for name in ("X", "y"))
    assert metric.training["n_samples"] < len(X)
    from itertools import combinations

    def rates(classes):
        rows = np.flatnonzero(np.isin(y, classes))
        i, j = np.triu_indices(len(rows), 1)
        distances = PairVerifier(metric, 0.0).fit().pair_distance((X[rows[i]], X[rows[j]]))
        curve = verification_curve(distances, y[rows[i]] == y[rows[j]])
        return len(rows), curve.threshold_at(0.02), curve.n_impostor

    n_kept = len(X) - metric.training["n_samples"]
    fitting = [rates(three) for three in combinations(range(8), 3) if np.isin(y, three).sum() == n_kept]
    assert (n_kept, told["threshold"], told["n_impostor"]) in [
        (n, pytest.approx(threshold, rel=1e-12), count) for n, threshold, count in fitting
    ]


def test_matches_are_those_of_the_open_set_classifier(run, tables):
    run("fit", "enrolled.csv", "-l", "gmml", "--verify", "-o", "m.safetensors")
    outcome = run("match", "m.safetensors", "enrolled.csv", "queries.csv", "-o", "out.csv", "--units", "original")
    assert (outcome.code, outcome.err) == (0, "")
    found = pd.read_csv(tables / "out.csv", keep_default_na=False, dtype={"match": str, "label": str})
    metric = MahalanobisMetric.load(tables / "m.safetensors")
    train, queries = (datasets.load(tables / f"{name}.csv") for name in ("enrolled", "queries"))
    limit = metric.training["verification"]["threshold"]
    knn = OpenSetKNeighborsClassifier(1, metric=metric, threshold=limit).fit(train.X, train.y.astype(str))
    labels, radii = knn.predict_with_radius(queries.X)
    assert found["match"].tolist() == labels.tolist() and set(labels) > {"unknown"}
    assert found["radius"].to_numpy() == pytest.approx(radii)
    nearest = found["enrolled_row"].to_numpy()
    distances = PairVerifier(metric, limit).fit().pair_distance((queries.X, train.X[nearest]))
    assert found["distance"].to_numpy() == pytest.approx(distances)
    assert ((found["distance"] <= limit) == (found["match"] != "unknown")).all()
    known = queries.y < 8
    share = 100 * (labels[known] == queries.y[known].astype(str)).mean()
    assert f"Of {known.sum()} queries of enrolled subjects {share:.1f} % are matched with their own" in outcome.out
    share = 100 * (labels[~known] != "unknown").mean()
    assert f"Of {(~known).sum()} queries of others {share:.1f} % are matched, which is wrong" in outcome.out


def test_enrolled_rows_do_not_find_themselves(run, tables):
    run("fit", "enrolled.csv", "-l", "euclidean", "--verify", "-o", "m.safetensors")
    outcome = run("match", "m.safetensors", "enrolled.csv", "enrolled.csv", "-o", "out.csv")
    found = pd.read_csv(tables / "out.csv")
    assert (found["distance"] > 0).all() and (found["enrolled_row"] != found["row"]).all()
    assert f"{len(found)} of {len(found)} queries are enrolled rows: each was matched without itself" in outcome.out


def test_bad_input_gets_one_sentence(run, tables):
    run("fit", "enrolled.csv", "-l", "euclidean", "-o", "plain.safetensors")
    for words, sentence in (
        (["match", "plain.safetensors", "enrolled.csv", "queries.csv"], "holds no threshold: learn it with"),
        (["match", "plain.safetensors", "enrolled.csv", "queries.csv", "--threshold", "nan"], "--threshold must be"),
        (
            ["match", "plain.safetensors", "enrolled.csv", "queries.csv", "--threshold", "1", "--unknown", "3"],
            "--unknown must be no label of the enrolled instances, but '3' is one",
        ),
        (
            ["match", "plain.safetensors", "enrolled.csv", "queries.csv", "--threshold", "1", "--unknown", ""],
            "--unknown must be a word, got ''",
        ),
        (["fit", "enrolled.csv", "-l", "gmm"], "unknown learner 'gmm' (did you mean 'gmml'?); known are euclidean"),
        (["fit", "enrolled.csv", "-l", "euclidean", "--verify", "--far", "0"], "far must be a rate of false accepts"),
    ):
        outcome = run(*words)
        assert outcome.code == 2 and outcome.err.count("\n") == 1, words
        assert sentence in outcome.err
    told = ["match", "plain.safetensors", "enrolled.csv", "queries.csv", "--threshold"]
    assert "300 of 300 queries match one of 8 enrolled subjects, at any distance;" in run(*told, "inf").out
    assert "0 of 300 queries match one of 8 enrolled subjects, at distance 0;" in run(*told, "0").out
    few = datasets.load("iris").to_frame()[::20]
    few.to_csv(tables / "few.csv", index=False)
    outcome = run("fit", "few.csv", "-l", "euclidean", "--verify", "--far", "1e-9")
    assert outcome.code == 2 or "rule of three" in outcome.out


def test_the_training_error_of_many_rows_is_told_of_some(run, tmp_path, rng):
    X = rng.normal(size=(5000, 2))
    frame = pd.DataFrame(X, columns=["u", "v"]).assign(target=(X[:, 0] + 0.5 * rng.normal(size=5000) > 0).astype(int))
    frame.to_csv(tmp_path / "many.csv", index=False)
    outcome = run("fit", "many.csv", "-l", "euclidean", "-k", "5")
    (share,) = re.findall(r"euclidean: ([\d.]+) % of 2000 \(drawn\) of the 5000 training instances", outcome.out)
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.preprocessing import StandardScaler

    points, labels = StandardScaler().fit_transform(X), frame["target"].to_numpy()
    nearest = KNeighborsClassifier(6).fit(points, labels).kneighbors(points, return_distance=False)[:, 1:]
    whole = 100 * ((labels[nearest].mean(axis=1) > 0.5) != labels).mean()
    assert abs(float(share) - whole) < 3.0  # two and a half standard errors of 2,000 instances
