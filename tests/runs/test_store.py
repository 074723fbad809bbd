"""The store: content keys, durability, one writer, and refusal of what is not a store."""

from __future__ import annotations

import dataclasses
import os
import sqlite3
import subprocess
import sys
from contextlib import closing

import numpy as np
import pytest

from certimetric.runs.environment import environment
from certimetric.runs.key import Cell, Record, canonical
from certimetric.runs.store import FILE, Store, claimed, existing, pack

CELL = Cell("toy", "iris", "d1", "iris", "lmnn", 0, 0, "1", {"k": 3})
DONE = Record(CELL, "done", {"error": 0.25}, "", 1.5)


@pytest.mark.parametrize(
    "changed",
    [
        {"suite": "a"},
        {"digest": "d2"},
        {"learner": "nca"},
        {"split": 1},
        {"seed": 1},
        {"protocol": "2"},
        {"parameters": {"k": 5}},
    ],
)
def test_key_depends_on_content(changed):
    assert dataclasses.replace(CELL, **changed).key != CELL.key


@pytest.mark.parametrize("changed", [{"source": "other/iris.csv"}, {"dataset": "flowers"}])
def test_key_does_not_depend_on_names_and_places(changed):
    assert dataclasses.replace(CELL, **changed).key == CELL.key


def test_figures_of_another_version_are_other_figures(monkeypatch):
    before = CELL.key
    monkeypatch.setattr("certimetric.runs.key.__version__", "0.0.9")
    assert dataclasses.replace(CELL).key != before


def test_what_cannot_be_told_has_a_key_of_its_own():
    told = canonical([lambda: None])
    one, other = (dataclasses.replace(CELL, parameters={"init": told}) for _ in range(2))
    assert one.key == one.key != other.key


def test_records_come_back(tmp_path):
    failed = Record(dataclasses.replace(CELL, split=1), "failed", None, "ValueError: no", 0.5)
    with Store(tmp_path, "toys") as store:
        store.add(DONE)
        store.add(failed)
    with existing(tmp_path, "toys") as store:
        assert store.records() == {CELL.key: DONE, failed.cell.key: failed}
        assert list(store.records([CELL.key])) == [CELL.key]
        assert store.get(CELL) == DONE
        assert store.get(dataclasses.replace(CELL, split=2)) is None
        (run,) = store.runs()
        assert {key: run[key] for key in ("versions", "commit", "machine")} == environment()
        assert store._database.execute("PRAGMA journal_mode").fetchone() == ("wal",)


@pytest.mark.parametrize("folder", [True, False])
def test_arrays_come_back_to_the_last_bit(tmp_path, folder):
    rng = np.random.default_rng(0)
    arrays = {
        "radii": rng.normal(size=(3, 4)),
        "far": np.array([np.inf, -0.0]),
        "codes": np.arange(5),
        "none": np.eye(0),
    }
    with Store(tmp_path if folder else None, "toys") as store:
        store.add(dataclasses.replace(DONE, result={"error": 0.5, **arrays}))
        found = store.get(CELL).result
    assert found.keys() == {"error", *arrays} and found["error"] == 0.5
    for name, value in arrays.items():
        assert (found[name].dtype, found[name].shape) == (value.dtype, value.shape)
        assert found[name].tobytes() == value.tobytes()


@pytest.mark.parametrize("result", [{"a": float("nan")}, {"a": object()}, {"a": np.array([None])}, {"a": [np.eye(2)]}])
def test_what_is_not_data_is_not_kept(result):
    with pytest.raises((TypeError, ValueError)):
        pack(result)


def test_a_later_record_replaces_the_earlier():
    with Store(None, "toys") as store:
        store.add(Record(CELL, "failed", None, "no", 0.5))
        store.add(DONE)
        assert list(store.records().values()) == [DONE]


def test_one_run_at_a_time(tmp_path):
    with Store(tmp_path, "toys") as first, Store(tmp_path, "toys") as second:
        first.claim()
        with pytest.raises(OSError, match="another run is at work"):
            second.claim()
        first.close()
        second.claim()


WRITER = """
import sys
from certimetric.runs.key import Cell, Record
from certimetric.runs.store import Store
with Store(sys.argv[1], "toys") as store:
    for split in range(60):
        cell = Cell("toy", "iris", "d1", "iris", sys.argv[2] if split % 2 else "both", split, 0, "1")
        store.add(Record(cell, "done", {"split": split}, "", 0.0))
"""


def test_two_processes_at_once_lose_nothing(tmp_path):
    """Also from the first moment on, when both make the file."""
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    writers = [subprocess.Popen([*command, name]) for name in ("one", "other")]
    assert [writer.wait(timeout=300) for writer in writers] == [0, 0]
    with existing(tmp_path, "toys") as store:
        found = list(store.records().values())
        assert len(store.runs()) == 2
    told = {(record.cell.learner, record.cell.split) for record in found}
    assert told == {(name, split) for split in range(60) for name in (["one", "other"] if split % 2 else ["both"])}
    assert all(record.result == {"split": record.cell.split} for record in found)


def test_a_reader_sees_finished_cells_while_a_run_is_at_work(tmp_path):
    with claimed(tmp_path, "toys") as store:
        store.add(DONE)
        with existing(tmp_path, "toys") as reader:
            assert reader.get(CELL) == DONE


@pytest.mark.parametrize("damage", ["result = '{'", "result = '{\"error\": 0.26}'", "arrays = x'00'", "cell = 'no'"])
def test_a_damaged_row_is_as_if_not_there(tmp_path, damage):
    other = dataclasses.replace(DONE, cell=dataclasses.replace(CELL, split=1))
    with Store(tmp_path, "toys") as store:
        store.add(DONE)
        store.add(other)
    with closing(sqlite3.connect(tmp_path / FILE)) as database, database:
        database.execute(f"UPDATE cells SET {damage} WHERE key = ?", (CELL.key,))
    with existing(tmp_path, "toys") as store:
        assert store.records() == {other.cell.key: other}


def spoiled(path, what):
    """A file that is no store of toys."""
    if what == "text":
        path.write_text("something else, long enough not to be taken for an empty file " * 20)
    elif what == "cut":
        with Store(path.parent, "toys") as store:
            for split in range(50):
                store.add(dataclasses.replace(DONE, cell=dataclasses.replace(CELL, split=split)))
        os.truncate(path, 8192)
    elif what == "database":
        with closing(sqlite3.connect(path)) as database:
            database.execute("CREATE TABLE mine (a TEXT)")
    elif what == "earlier":
        with closing(sqlite3.connect(path)) as database, database:
            database.execute("CREATE TABLE about (name TEXT PRIMARY KEY, value TEXT NOT NULL)")
            database.execute("INSERT INTO about VALUES ('schema', '\"certimetric.bench-store/1\"')")
    else:
        Store(path.parent, "audits").close()


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ("text", "as a store of results"),
        ("cut", "as a store of results"),
        ("database", "is a database of something else"),
        ("earlier", "was written by another version of certimetric"),
        ("kind", "holds results of audits, not of toys"),
    ],
)
def test_what_is_no_store_is_refused_in_one_sentence_and_left_as_it_is(tmp_path, what, told):
    spoiled(tmp_path / FILE, what)
    before = (tmp_path / FILE).read_bytes()
    with pytest.raises(OSError, match=told) as caught, Store(tmp_path, "toys") as store:
        store.records()
    assert FILE in str(caught.value) and "\n" not in str(caught.value)
    assert (tmp_path / FILE).read_bytes() == before


def test_where_there_is_no_store_and_none_can_be(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no results of toys"), existing(tmp_path, "toys"):
        pass
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="cannot write to the folder"):
        Store(tmp_path / "file" / "out", "toys")


def test_a_file_system_without_shared_memory(tmp_path, monkeypatch):
    """As over a network: no write-ahead log there, and the same results all the same."""
    connect = sqlite3.connect
    monkeypatch.setattr(
        sqlite3, "connect", lambda path, **how: connect(f"file:{path}?vfs=unix-dotfile", uri=True, **how)
    )
    with claimed(tmp_path, "toys") as store:
        store.add(DONE)
    with existing(tmp_path, "toys") as store:
        assert store._database.execute("PRAGMA journal_mode").fetchone() == ("delete",)
        assert store.get(CELL) == DONE
