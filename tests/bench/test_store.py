"""The store: content keys, durability, one writer, and refusal of what is not a store."""

from __future__ import annotations

import dataclasses

import pytest

from certimetric.runs.key import Cell, Record
from certimetric.runs.store import FILE, Store, existing

CELL = Cell("toy", "iris", "d1", "iris", "lmnn", 0, 0, "1", {"k": 3})


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


def test_records_come_back(tmp_path):
    done = Record(CELL, "done", {"error": 0.25}, "", 1.5)
    failed = Record(dataclasses.replace(CELL, split=1), "failed", None, "ValueError: no", 0.5)
    with Store(tmp_path) as store:
        run = store.begin_run({"commit": "abc"})
        store.add(done, run)
        store.add(failed, run)
    with existing(tmp_path) as store:
        assert store.records() == {CELL.key: done, failed.cell.key: failed}
        assert list(store.records([CELL.key])) == [CELL.key]
        assert store.runs()[0]["commit"] == "abc"
        assert store._database.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_later_record_replaces_the_earlier(tmp_path):
    with Store(tmp_path) as store:
        store.add(Record(CELL, "failed", None, "no", 0.5), 1)
        store.add(Record(CELL, "done", {"error": 0.1}, "", 0.5), 1)
        assert [record.status for record in store.records().values()] == ["done"]


def test_one_run_at_a_time(tmp_path):
    with Store(tmp_path) as first, Store(tmp_path) as second:
        first.claim()
        with pytest.raises(OSError, match="another run is at work"):
            second.claim()
        first.close()
        second.claim()


def test_what_is_no_store(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no results"), existing(tmp_path):
        pass
    (tmp_path / FILE).write_text("something else, long enough not to be taken for an empty file " * 20)
    with pytest.raises(OSError, match="as a store of results"):
        Store(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="cannot make the folder"):
        Store(tmp_path / "file" / "out")
