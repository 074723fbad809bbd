"""Parquet files of numbers are read without a data frame, and are the same data set as through one."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from certimetric import datasets
from certimetric.datasets.tables import loading

pytest.importorskip("pyarrow")
N = 200


def columns(rng):
    return {
        "weight": rng.standard_normal(N),
        "single": rng.standard_normal(N).astype("f4"),
        "count": rng.integers(-(2**62), 2**62, N),
        "small": rng.integers(0, 9, N).astype("u1"),
        "smokes": rng.random(N) < 0.5,
    }


def through_a_frame(monkeypatch, *asked, **options):
    with monkeypatch.context() as patched:
        patched.setattr(loading, "stream_parquet", lambda path, target: None)
        return datasets.load(*asked, **options)


@pytest.mark.parametrize(
    "labels", [["a", "b"], [0, 7], [True, False], [1.0, 2.0]], ids=["text", "whole", "bool", "float"]
)
@pytest.mark.parametrize("batch", [7, 10_000])
def test_the_same_data_set_without_a_data_frame(tmp_path, rng, monkeypatch, labels, batch):
    frame = pd.DataFrame({**columns(rng), "Class": np.resize(labels, N)})
    frame.to_parquet(tmp_path / "toy.parquet", row_group_size=64)
    wanted = through_a_frame(monkeypatch, tmp_path / "toy.parquet")
    monkeypatch.setattr("certimetric.datasets.tables.parquet_files._BATCH", batch)
    monkeypatch.setattr(pd, "read_parquet", None)
    for target in (None, "Class"):
        found = datasets.load(tmp_path / "toy.parquet", target=target)
        assert found.sha256() == wanted.sha256() and found.y.dtype == wanted.y.dtype
        assert (found.name, found.source, found.feature_names) == (wanted.name, wanted.source, wanted.feature_names)
        assert found.X.flags.c_contiguous


CHANGES = {
    "text": lambda frame: frame.assign(weight="heavy"),
    "a gap": lambda frame: frame.assign(weight=frame["weight"].where(frame.index > 3)),
    "a missing whole number": lambda frame: frame.assign(small=frame["small"].astype("Int64").where(frame.index > 3)),
    "infinity": lambda frame: frame.assign(weight=np.inf),
    "too large": lambda frame: frame.assign(weight=1e200),
    "a large integer": lambda frame: frame.assign(count=np.full(N, 2**63, dtype="u8")),
    "one class": lambda frame: frame.assign(Class="a"),
    "no label": lambda frame: frame.assign(Class=frame["Class"].where(frame.index > 3)),
    "no target": lambda frame: frame.rename(columns={"Class": "kind"}),
    "two targets": lambda frame: frame.assign(label=1),
    "no feature": lambda frame: frame[["Class"]],
    "no row": lambda frame: frame[:0],
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_is_wrong_is_told_as_ever(tmp_path, rng, monkeypatch, change):
    frame = CHANGES[change](pd.DataFrame({**columns(rng), "Class": np.resize(["a", "b"], N)}))
    frame.to_parquet(tmp_path / "toy.parquet")
    with pytest.raises(ValueError, match="toy") as wanted:
        through_a_frame(monkeypatch, tmp_path / "toy.parquet")
    with pytest.raises(ValueError, match="toy") as found:
        datasets.load(tmp_path / "toy.parquet")
    assert str(found.value) == str(wanted.value)


def test_an_index_that_was_kept_is_no_feature(tmp_path, rng, monkeypatch):
    frame = pd.DataFrame({**columns(rng), "Class": np.resize(["a", "b"], N)}, index=pd.Index(np.arange(N), name="key"))
    frame.to_parquet(tmp_path / "toy.parquet")
    wanted = through_a_frame(monkeypatch, tmp_path / "toy.parquet")
    assert datasets.load(tmp_path / "toy.parquet").sha256() == wanted.sha256()
