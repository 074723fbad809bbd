"""Results of a benchmark in one SQLite file: a finished cell is on the disk before the next is counted.

SQLite rather than parts of Parquet, because a transaction per cell is what makes ``kill -9`` harmless, failed cells are
rows like others, and one file can be copied, queried and looked at while a run goes on (write-ahead log).
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, TextIO

from certimetric.runs.key import Cell, Record

FILE = "results.sqlite"
SCHEMA = "certimetric.bench-store/1"
_TABLES = """
CREATE TABLE IF NOT EXISTS about (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS runs (id INTEGER PRIMARY KEY, started TEXT NOT NULL, environment TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS cells (
  key TEXT PRIMARY KEY, dataset TEXT NOT NULL, learner TEXT NOT NULL, split INTEGER NOT NULL, seed INTEGER NOT NULL,
  status TEXT NOT NULL, seconds REAL NOT NULL, finished TEXT NOT NULL, run INTEGER NOT NULL REFERENCES runs (id),
  cell TEXT NOT NULL, result TEXT, error TEXT NOT NULL);
"""


class Store:
    """The results in a folder.

    Parameters
    ----------
    folder : path
        Made if it is not there.

    Raises
    ------
    OSError
        If the folder cannot be written, or the file in it is not a store of results.
    """

    def __init__(self, folder: Path):
        self.folder = Path(folder)
        self.path = self.folder / FILE
        self._lock: TextIO | None = None
        self._turn = threading.Lock()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OSError(f"--out: cannot make the folder {str(folder)!r}: {error.strerror or error}") from None
        try:
            self._database = sqlite3.connect(self.path, timeout=30.0, isolation_level=None, check_same_thread=False)
            self._database.execute("PRAGMA journal_mode=WAL")
            self._database.execute("PRAGMA synchronous=FULL")
            self._database.executescript(_TABLES)
            known = self.about("schema")
            if known is None:
                self.tell("schema", SCHEMA)
        except sqlite3.Error as error:
            raise OSError(f"cannot use {str(self.path)!r} as a store of results: {error}") from None
        if known not in (None, SCHEMA):
            raise OSError(f"{str(self.path)!r} has the schema {known!r}, expected {SCHEMA!r}: choose another --out")

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
        """Be the only run that writes here, until the process ends in whatever way.

        Raises
        ------
        OSError
            If another run is at work in the folder.
        """
        try:
            import fcntl
        except ImportError:  # no such locks on Windows: two runs would only compute some cells twice
            return
        lock = open(self.folder / ".lock", "w")  # noqa: SIM115 (held until close)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            raise OSError(
                f"another run is at work in {str(self.folder)!r}: wait for it, or choose another --out"
            ) from None
        self._lock = lock

    def about(self, name: str) -> Any:
        """A fact about these results; None if it was not told."""
        found = self._database.execute("SELECT value FROM about WHERE name = ?", (name,)).fetchone()
        return None if found is None else json.loads(found[0])

    def tell(self, name: str, value: Any) -> None:
        """Keep a fact: the suite, the plan of the last run, …"""
        self._database.execute("INSERT OR REPLACE INTO about VALUES (?, ?)", (name, json.dumps(value)))

    def begin_run(self, environment: Mapping[str, Any]) -> int:
        """A new run with what it runs on; its number goes with its results."""
        cursor = self._database.execute(
            "INSERT INTO runs (started, environment) VALUES (?, ?)", (_now(), json.dumps(environment))
        )
        return int(cursor.lastrowid or 0)

    def runs(self) -> list[dict[str, Any]]:
        """All runs that wrote here, with versions, commit and machine."""
        rows = self._database.execute("SELECT id, started, environment FROM runs ORDER BY id")
        return [{"run": i, "started": started, **json.loads(text)} for i, started, text in rows]

    def add(self, record: Record, run: int) -> None:
        """Keep what became of a cell; when this returns, it is on the disk. Threads may call it."""
        cell = record.cell
        row = (
            cell.key,
            cell.dataset,
            cell.learner,
            cell.split,
            cell.seed,
            record.status,
            record.seconds,
            _now(),
            run,
            json.dumps(cell.to_mapping()),
            None if record.result is None else json.dumps(record.result, allow_nan=False),
            record.error,
        )
        with self._turn:
            self._database.execute("INSERT OR REPLACE INTO cells VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row)

    def records(self, keys: Iterable[str] | None = None) -> dict[str, Record]:
        """What is known, by key; only these keys if any are given."""
        wanted = None if keys is None else set(keys)
        found = {}
        query = "SELECT key, status, seconds, cell, result, error FROM cells ORDER BY dataset, learner, split"
        for key, status, seconds, cell, result, error in self._database.execute(query):
            if wanted is None or key in wanted:
                figures = None if result is None else json.loads(result)
                found[key] = Record(Cell(**json.loads(cell)), status, figures, error, seconds)
        return found


@contextlib.contextmanager
def existing(folder: Path) -> Iterator[Store]:
    """The store in a folder that has one.

    Raises
    ------
    FileNotFoundError
        If there is none.
    """
    if not (Path(folder) / FILE).is_file():
        raise FileNotFoundError(f"{str(folder)!r} holds no results of a benchmark: it has no {FILE}")
    with Store(folder) as store:
        yield store


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
