"""Results of a run in one SQLite file: a finished cell is on the disk before the next is counted.

SQLite rather than a file for each cell, because a transaction per cell is what makes ``kill -9`` harmless, failed cells
are rows like others, and one file can be copied, queried and looked at while a run goes on (write-ahead log).
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import sqlite3
import tempfile
import threading
import uuid
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from certimetric.base.warnings import warn
from certimetric.runs.environment import environment
from certimetric.runs.key import Cell, Record

FILE = "results.sqlite"
SCHEMA = "certimetric.store/2"
_TABLES = """BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS about (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS runs (id TEXT PRIMARY KEY, started TEXT NOT NULL, environment TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS cells (
  key TEXT PRIMARY KEY, cell TEXT NOT NULL, status TEXT NOT NULL, result TEXT NOT NULL, arrays BLOB NOT NULL,
  error TEXT NOT NULL, seconds REAL NOT NULL, sha256 TEXT NOT NULL, finished TEXT NOT NULL,
  run TEXT NOT NULL REFERENCES runs (id));
INSERT OR IGNORE INTO about VALUES ('schema', '"{schema}"'), ('kind', '"{kind}"');
COMMIT;"""


def prepare_folder(out: Path) -> None:
    """Make a folder, and see that files can be written there; an OSError if not."""
    if out.exists() and not out.is_dir():
        raise FileExistsError(f"out must be a folder, but {str(out)!r} is a file")
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise OSError(f"out: cannot write to the folder {str(out)!r}: {error.strerror or error}") from None


class Store:
    """The results in a folder, which is made if it is not there; without one, in memory for the time of the run.

    A store has one kind for ever, such as "an audit". It raises an OSError if the folder cannot be written, or the file
    in it is no store of such results; every method does where the file is damaged, or the disk full.
    """

    def __init__(self, folder: Path | None, kind: str):
        self.folder = None if folder is None else Path(folder)
        self._lock: TextIO | None = None
        self._turn = threading.RLock()
        self._run: str | None = None
        if self.folder is not None:
            prepare_folder(self.folder)
        self.path = ":memory:" if self.folder is None else str(self.folder / FILE)
        with self._named():
            self._database = sqlite3.connect(self.path, timeout=30.0, isolation_level=None, check_same_thread=False)
        try:
            self._begin(kind)
        except BaseException:
            self.close()
            raise

    def _begin(self, kind: str) -> None:
        tables = {name for (name,) in self._execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if tables:
            self._check(tables, kind)
        with self._named():
            # A log needs memory that processes share, which file systems over a network may not have: there the file
            # keeps its journal, readers wait for the writer, and all else is the same.
            with contextlib.suppress(sqlite3.OperationalError):
                self._database.execute("PRAGMA journal_mode=WAL")
            self._database.execute("PRAGMA synchronous=FULL")
            if not tables:
                self._database.executescript(_TABLES.format(schema=SCHEMA, kind=kind))

    def _check(self, tables: set[str], kind: str) -> None:
        """See that the file is a store of this kind, before anything is written into it."""
        if "about" not in tables:
            raise OSError(f"{self.path!r} is a database of something else: choose another folder")
        if (known := self.about("schema")) != SCHEMA:
            raise OSError(
                f"{self.path!r} was written by another version of certimetric (schema {known!r}, expected {SCHEMA!r}): "
                "choose another folder"
            )
        if (known := self.about("kind")) != kind:
            raise OSError(f"{self.path!r} holds results of {known}, not of {kind}: choose another folder")

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        """Errors of the database in one sentence that names the file."""
        try:
            yield
        except sqlite3.Error as error:
            raise OSError(f"cannot use {self.path!r} as a store of results: {error}") from None

    def _execute(self, statement: str, values: Iterable[Any] = ()) -> list[Any]:
        with self._turn, self._named():
            return self._database.execute(statement, tuple(values)).fetchall()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file and let others run."""
        self._database.close()
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def claim(self) -> None:
        """Be the only run that writes here, until the process ends in whatever way; an OSError if another one is."""
        try:
            import fcntl
        except ImportError:  # no such locks on Windows: two runs would only compute some cells twice
            return
        if self.folder is None:
            return
        lock = open(self.folder / ".lock", "w")  # noqa: SIM115 (held until close)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            raise OSError(
                f"another run is at work in {str(self.folder)!r}: wait for it, or choose another folder"
            ) from None
        except OSError:  # the file system has no locks either
            lock.close()
            return
        self._lock = lock

    def about(self, name: str) -> Any:
        """A fact about these results; None if it was not told."""
        found = self._execute("SELECT value FROM about WHERE name = ?", (name,))
        return json.loads(found[0][0]) if found else None

    def tell(self, name: str, value: Any) -> None:
        """Keep a fact: the suite, the plan of the last run, …"""
        self._execute("INSERT OR REPLACE INTO about VALUES (?, ?)", (name, json.dumps(value)))

    def runs(self) -> list[dict[str, Any]]:
        """All runs that wrote here, with versions, commit and machine."""
        rows = self._execute("SELECT started, environment FROM runs ORDER BY rowid")
        return [{"run": i, "started": started, **json.loads(text)} for i, (started, text) in enumerate(rows, 1)]

    def add(self, record: Record) -> None:
        """Keep what became of a cell; when this returns, it is on the disk. Threads may call it."""
        content = (json.dumps(record.cell.to_mapping()), record.status, *pack(record.result), record.error)
        with self._turn:
            if self._run is None:
                self._run = uuid.uuid4().hex
                self._execute("INSERT INTO runs VALUES (?, ?, ?)", (self._run, _now(), json.dumps(environment())))
            row = (record.cell.key, *content, record.seconds, _checksum(content), _now(), self._run)
            self._execute("INSERT OR REPLACE INTO cells VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row)

    def records(self, keys: Iterable[str] | None = None) -> dict[str, Record]:
        """What is known, by key; only these keys if any are given. A damaged row counts as one that is not there."""
        query = "SELECT key, seconds, sha256, cell, status, result, arrays, error FROM cells"
        if keys is None:
            rows = self._execute(f"{query} ORDER BY rowid")
        else:
            rows = [row for key in keys for row in self._execute(f"{query} WHERE key = ?", (key,))]
        return {
            key: Record(Cell(**json.loads(content[0])), content[1], unpack(*content[2:4]), content[4], seconds)
            for key, seconds, checksum, *content in rows
            if _checksum(content) == checksum
        }

    def get(self, cell: Cell) -> Record | None:
        """What is known of a cell."""
        return self.records([cell.key]).get(cell.key)


def pack(result: Mapping[str, Any] | None) -> tuple[str, bytes]:
    """A result as it is kept: JSON, and arrays beside it. No code is in it, and none is run to read it.

    A TypeError or ValueError where it holds what cannot be kept, such as NaN, or arrays of objects.

    Examples
    --------
    >>> unpack(*pack({"error": 0.5, "radii": np.array([1.0, np.inf])}))
    {'error': 0.5, 'radii': array([ 1., inf])}
    """
    arrays = {name: value for name, value in (result or {}).items() if isinstance(value, np.ndarray)}
    figures = None if result is None else {name: value for name, value in result.items() if name not in arrays}
    if any(value.dtype.hasobject for value in arrays.values()):
        raise TypeError(f"arrays that are kept must hold numbers, got objects in {', '.join(arrays)}")
    held = io.BytesIO()
    if arrays:
        np.savez_compressed(held, **arrays)  # type: ignore[arg-type]
    return json.dumps(figures, allow_nan=False), held.getvalue()


def unpack(result: str, arrays: bytes) -> dict[str, Any] | None:
    """What :func:`pack` packed."""
    figures: dict[str, Any] | None = json.loads(result)
    if figures is not None and arrays:
        with np.load(io.BytesIO(arrays), allow_pickle=False) as held:
            figures |= {name: held[name] for name in held.files}
    return figures


def _checksum(content: Iterable[Any]) -> str:
    return hashlib.sha256(repr(tuple(content)).encode()).hexdigest()


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


@contextlib.contextmanager
def claimed(folder: Path | None, kind: str) -> Iterator[Store]:
    """The store in a folder, made if need be, for this run alone; an OSError if that cannot be."""
    if folder is not None and (remark := kept_by_an_earlier_version(folder)):
        warn(remark)
    with Store(folder, kind) as store:
        store.claim()
        yield store


def kept_by_an_earlier_version(folder: Path) -> str:
    """A sentence where an audit was begun in a folder by a version that kept a file for each cell; else nothing."""
    cells = Path(folder) / "cells"
    if (Path(folder) / FILE).exists() or next(cells.glob("*.json"), None) is None:
        return ""
    return (
        f"what an earlier version of certimetric kept in {str(cells)!r} is not used but computed anew, and may be "
        "removed"
    )


@contextlib.contextmanager
def existing(folder: Path, kind: str) -> Iterator[Store]:
    """The store in a folder that has one; a FileNotFoundError without."""
    if not (Path(folder) / FILE).is_file():
        raise FileNotFoundError(f"{str(folder)!r} holds no results of {kind}: it has no {FILE}")
    with Store(folder, kind) as store:
        yield store
