"""What an audit refuses, in one sentence, before it computes anything."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import scipy.sparse

from certimetric import LMNN, Euclidean, audit
from certimetric.auditing.tables.request import Request
from certimetric.geometry import resolve_norm

X = np.random.default_rng(0).normal(size=(30, 3))
Y = np.repeat(["a", "b", "c"], 10)


def spoiled(value: float) -> np.ndarray:
    copy = X.copy()
    copy[4, 2] = value
    return copy


@pytest.mark.parametrize(
    ("change", "culprit"),
    [
        ({"X": spoiled(np.nan)}, "NaN in feature 'x2', row 4"),
        ({"X": spoiled(np.inf)}, "infinity in feature 'x2', row 4"),
        ({"X": spoiled(1e300)}, "holds the value 1e+300 (row 4, feature 2)"),
        ({"X": np.empty((0, 3)), "y": []}, "(0, 3)"),
        ({"X": X[:, 0]}, "(30,)"),
        ({"X": pd.DataFrame({"a": ["u"] * 30})}, "'u'"),
        ({"y": Y[:-1]}, "(29,)"),
        ({"y": np.zeros(30)}, "1 class only"),
        ({"y": np.full(30, np.nan)}, "NaN"),
        ({"y": np.array(["a", 1] * 15, dtype=object)}, "mixture"),
        ({"y": X[:, 0]}, "continuous"),
        ({"y": np.arange(30)}, "at least two instances"),
        ({"n_neighbors": 22}, "21 of 30, got 22"),
        ({"n_neighbors": 0}, "n_neighbors"),
        ({"n_neighbors": 2.5}, "2.5"),
        ({"learners": "lmn"}, "did you mean 'lmnn'"),
        ({"learners": ["lmnn:depth=3"]}, "depth"),
        ({"learners": []}, "at least one"),
        ({"learners": ["lmnn", "lmnn"]}, "'lmnn' more than once"),
        ({"eps": [-0.1]}, "-0.1"),
        ({"eps": [np.inf]}, "inf"),
        ({"eps": []}, "eps"),
        ({"noise": [-1.0]}, "noise"),
        ({"norm": "l3"}, "l3"),
        ({"norm": np.eye(2)}, "3 features"),
        ({"norm": resolve_norm("l2").in_units([1.0, 2.0])}, "3 features"),
        ({"norm": resolve_norm("l2").restrict([True, False])}, "3 features"),
        ({"repeats": 0}, "repeats"),
        ({"test_size": 1.0}, "test_size"),
        ({"seed": -1}, "seed"),
        ({"n_jobs": 0}, "n_jobs"),
        ({"dask": ""}, "dask must be the address"),
        ({"dask": "tcp://127.0.0.1:9", "n_jobs": 2}, "dask is for a cluster and n_jobs for this machine"),
        ({"feature_names": ["a", "b"]}, "feature_names"),
        ({"feature_names": ["a", "a", "b"]}, "'a'"),
        ({"image_shape": (2, 2)}, "image_shape"),
        ({"fail_under": "accuracy"}, "fail_under"),
    ],
)
def test_bad_values_are_named(change, culprit, tmp_path):
    arguments = {"X": X, "y": Y, "out": tmp_path / "out", **change}
    with pytest.raises(ValueError) as caught:
        audit(**arguments)
    assert culprit in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("learner", [3, LMNN, object()])
def test_what_is_no_learner(learner):
    with pytest.raises(TypeError, match="learners"):
        audit(X, Y, learners=[learner])


def test_sparse_input():
    with pytest.raises(TypeError, match="sparse"):
        audit(scipy.sparse.csr_matrix(X), Y)


def test_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        audit(X, Y, out=tmp_path / "file" / "out")


def test_names_of_learners():
    request = Request(X, Y, learners=["lmnn:n_neighbors=5", LMNN(n_neighbors=5), Euclidean()])
    assert [s.spec for s in request.subjects] == ["lmnn:n_neighbors=5", "LMNN(n_neighbors=5)", "euclidean"]
    assert len({s.file_stem for s in request.subjects}) == 3
    named = Request(X, Y, learners={"mine": LMNN(), "base": "euclidean"})
    assert [s.spec for s in named.subjects] == ["mine", "base"]


def test_frames_keep_their_names():
    frame = pd.DataFrame(X, columns=["p", "q", "r"])
    assert Request(frame, pd.Series(Y)).data.feature_names == ("p", "q", "r")
