"""Where embeddings lie: files, data frames and vector databases, each read into arrays by name, in batches."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from certimetric.base.files import read_arrays
from certimetric.base.wording import did_you_mean, first_line

NAMES = ("embeddings", "labels", "ids", "groups", "times")
"""What is known of items, by name."""
_USUAL = {
    "embeddings": ("embeddings", "embedding", "vector", "vectors"),
    "labels": ("labels", "label", "target", "class"),
    "ids": ("ids", "id"),
    "groups": ("groups", "group"),
    "times": ("times", "time", "timestamp"),
}
_BATCH = 16_384  # rows
_IN_MEMORY = 2**26  # bytes of embeddings of a database; more are kept in a file that has no name
LANCE, POSTGRES = "lancedb:", ("postgresql://", "postgres://")
FILES = (".npz", ".npy", ".safetensors", ".parquet", ".pq", ".arrow", ".feather", ".csv")
Arrays = dict[str, Any]


def read_source(source: str | os.PathLike[str], columns: Mapping[str, str] | None = None) -> Arrays:
    """Arrays of a file or a table of a database, by what they are: those of ``NAMES`` that are there.

    Parameters
    ----------
    source : str or path
        A file: ``.npz``; ``.npy``, which holds nothing but embeddings; ``.safetensors``; ``.parquet``, ``.arrow`` or
        ``.feather`` with a column of lists; ``.csv`` of labels and the like. Or ``lancedb:FOLDER#TABLE``, or
        ``postgresql://USER@HOST/DATABASE#TABLE`` with a column of pgvector or of numbers.
    columns : mapping of str to str, optional
        Names of ``NAMES`` to those of arrays or columns, for what is not called as usual. Of a ``.npz`` file also
        ``query_embeddings`` and the like.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no such file or table, it is damaged, or holds no array of a name that was given.
    ImportError
        If the package that reads it is not installed.

    Notes
    -----
    Nothing in a file is run. Tables of databases, and of Arrow, are read in batches; of a database, embeddings of more
    than 64 MiB are kept in a temporary file that is mapped, not in memory. Rows of a database come in the order of
    their ids, where there are any.
    """
    text, columns = str(source), dict(columns or {})
    known = {*NAMES, *(f"query_{name}" for name in NAMES)}
    if wrong := [name for name in columns if name not in known]:
        meant = did_you_mean(wrong[0], NAMES)
        raise ValueError(f"columns must be named for {', '.join(NAMES)}, got {wrong[0]!r}{meant}")
    if text.startswith(LANCE):
        return _of_lance(text, columns)
    if text.startswith(POSTGRES):
        return _of_postgres(text, columns)
    kind = Path(text).suffix.lower()
    if kind not in FILES:
        raise ValueError(
            f"embeddings must be a file {', '.join(FILES[:-1])}, {LANCE}FOLDER#TABLE or {POSTGRES[0]}…#TABLE, "
            f"got {text!r}"
        )
    if not Path(text).exists():
        raise FileNotFoundError(f"there is no file {text!r}")
    if kind == ".npy":
        return {"embeddings": _read(text, lambda: np.load(text, mmap_mode="c", allow_pickle=False))}
    if kind == ".npz":
        wanted = {name: columns.get(name, name) for name in known}
        arrays, present = read_arrays(text, set(wanted.values()))
        return _chosen(arrays, wanted, columns, text, present)
    if kind == ".safetensors":
        from safetensors.numpy import load_file

        arrays = _read(text, lambda: load_file(text))
        return _chosen(arrays, {name: columns.get(name, name) for name in known}, columns, text, list(arrays))
    if kind == ".csv":
        import pandas as pd

        return of_frame(_read(text, lambda: pd.read_csv(text)), columns, text)
    return _of_arrow(text, columns)


def of_frame(frame: Any, columns: Mapping[str, str] | None = None, told: str = "the frame") -> Arrays:
    """The same of a data frame of pandas, polars or Arrow: a column of lists holds embeddings.

    Examples
    --------
    >>> import pandas as pd
    >>> frame = pd.DataFrame({"vector": [[0.0, 1.0], [2.0, 3.0]], "sku": ["a", "b"]})
    >>> {name: array.tolist() for name, array in of_frame(frame, {"labels": "sku"}).items()}
    {'embeddings': [[0.0, 1.0], [2.0, 3.0]], 'labels': ['a', 'b']}
    """
    from certimetric.datasets.tables.frames import as_pandas

    frame = as_pandas(frame)
    wanted = _columns([str(name) for name in frame.columns], columns or {}, told)
    arrays = {name: frame[column].to_numpy() for name, column in wanted.items()}
    if "embeddings" in arrays:
        try:
            arrays["embeddings"] = np.stack([np.asarray(row) for row in arrays["embeddings"]])
        except (ValueError, TypeError) as error:
            raise ValueError(f"{told}: the column of embeddings must hold lists of one length ({error})") from None
    return arrays


def _chosen(
    arrays: Mapping[str, Any], wanted: Mapping[str, str], asked: Mapping[str, str], told: str, present: list[str]
) -> Arrays:
    if missing := [column for column in asked.values() if column not in arrays]:
        meant = did_you_mean(missing[0], present)
        raise ValueError(f"{told!r} lacks the array {missing[0]!r}{meant}; it holds {', '.join(present) or 'none'}")
    return {name: arrays[column] for name, column in wanted.items() if column in arrays}


def _columns(present: list[str], asked: Mapping[str, str], told: str) -> dict[str, str]:
    """Names of columns by what they are: as asked, or as usual."""
    if missing := [column for column in asked.values() if column not in present]:
        meant = did_you_mean(missing[0], present)
        raise ValueError(f"{told!r} lacks the column {missing[0]!r}{meant}; it holds {', '.join(present) or 'none'}")
    found = {}
    for name, usual in _USUAL.items():
        column = asked.get(name) or next((each for each in usual if each in present), None)
        if column is not None:
            found[name] = column
    return found


def _read(text: str, read: Callable[[], Any]) -> Any:
    try:
        return read()
    except Exception as error:  # whatever a reader raises on a file of any content
        raise ValueError(f"{text!r} cannot be read: {first_line(error)}") from None


class _Rows:
    """Arrays that are filled batch by batch: embeddings in one array, in a file if they are large."""

    def __init__(self, n: int, told: str, on_disk: bool):
        self.n, self.told, self.on_disk, self.start = n, told, on_disk, 0
        self.points: NDArray[Any] | None = None
        self.others: dict[str, list[NDArray[Any]]] = {}

    def add(self, points: NDArray[Any], others: Mapping[str, NDArray[Any]]) -> None:
        if self.points is None:
            shape = (self.n, points.shape[1])
            if self.on_disk and points[:1].nbytes * self.n > _IN_MEMORY:
                with tempfile.TemporaryFile() as file:  # the map outlives it
                    self.points = np.memmap(file, dtype=points.dtype, mode="w+", shape=shape)
            else:
                self.points = np.empty(shape, dtype=points.dtype)
        if points.shape[1] != self.points.shape[1]:
            raise ValueError(f"{self.told}: embeddings have {self.points.shape[1]} and {points.shape[1]} dimensions")
        self.points[self.start : self.start + len(points)] = points
        self.start += len(points)
        for name, values in others.items():
            self.others.setdefault(name, []).append(values)

    def arrays(self) -> Arrays:
        if self.points is None or self.start != self.n:
            raise ValueError(f"{self.told}: {self.n} rows were told, {self.start} came")
        return {"embeddings": self.points, **{name: np.concatenate(parts) for name, parts in self.others.items()}}


def _of_batches(batches: Iterable[Any], n: int, wanted: Mapping[str, str], told: str, on_disk: bool) -> Arrays:
    """Arrays of batches of Arrow."""
    rows, parts = _Rows(n, told, on_disk), {name: column for name, column in wanted.items() if name != "embeddings"}
    coming = iter(batches)
    while (batch := _read(told, lambda: next(coming, None))) is not None:
        others = {name: _plain(batch.column(column), f"{told}: {column}") for name, column in parts.items()}
        if "embeddings" in wanted:
            rows.add(_lists(batch.column(wanted["embeddings"]), told), others)
        else:
            rows.add(np.empty((len(batch), 0)), others)
    found = rows.arrays()
    return found if "embeddings" in wanted else {name: found[name] for name in parts}


def _lists(column: Any, told: str) -> NDArray[Any]:
    """A column of lists of one length as rows of an array."""
    import pyarrow as pa

    kind = column.type
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)):
        raise ValueError(f"{told}: the column of embeddings must hold lists of numbers, got {kind}")
    values = column.flatten()
    if column.null_count or values.null_count or len(values) % max(len(column), 1):
        raise ValueError(f"{told}: embeddings must be lists of one length without gaps")
    k = len(values) // max(len(column), 1)
    if not pa.types.is_fixed_size_list(kind) and (np.diff(column.offsets.to_numpy()) != k).any():
        raise ValueError(f"{told}: embeddings must be lists of one length")
    return np.asarray(values.to_numpy(zero_copy_only=False)).reshape(len(column), k)


def _plain(column: Any, told: str) -> NDArray[Any]:
    if column.null_count:
        raise ValueError(f"{told} has {column.null_count} gaps")
    values = np.asarray(column.to_numpy(zero_copy_only=False))
    return values.astype(str) if values.dtype.kind == "O" else values


def _of_arrow(text: str, columns: Mapping[str, str]) -> Arrays:
    try:
        import pyarrow as pa
        from pyarrow import feather, parquet
    except ImportError:
        raise ImportError(f'{text!r} needs pyarrow: pip install "certimetric[parquet]"') from None
    if Path(text).suffix.lower() in (".parquet", ".pq"):
        file = _read(text, lambda: parquet.ParquetFile(text, page_checksum_verification=True))
        wanted = _columns(file.schema_arrow.names, columns, text)
        batches = file.iter_batches(_BATCH, columns=sorted(set(wanted.values())))
        return _of_batches(batches, file.metadata.num_rows, wanted, text, False)
    table = _read(text, lambda: feather.read_table(text, memory_map=True))
    assert isinstance(table, pa.Table)
    return _of_batches(table.to_batches(_BATCH), len(table), _columns(table.column_names, columns, text), text, False)


def _place(text: str) -> tuple[str, str]:
    """A database and the table that is told after #."""
    where, _, table = text.rpartition("#")
    if not where or not table:
        raise ValueError(f"a database must be told with its table, as {text.partition('#')[0]}#TABLE")
    return where, table


def _of_lance(text: str, columns: Mapping[str, str]) -> Arrays:
    where, name = _place(text)
    try:
        import lancedb
    except ImportError:
        raise ImportError(f"{text!r} needs lancedb: pip install lancedb") from None
    folder = where.removeprefix(LANCE)
    if not Path(folder).is_dir():
        raise FileNotFoundError(f"there is no folder {folder!r}")
    table = _read(text, lambda: lancedb.connect(folder).open_table(name))
    wanted = _columns(table.schema.names, columns, text)
    batches = _read(text, lambda: table.search().select(sorted(set(wanted.values()))).to_batches(_BATCH))
    found = _of_batches(batches, table.count_rows(), wanted, text, True)
    return _in_order_of_ids(found)


def _in_order_of_ids(found: Arrays) -> Arrays:
    """Rows by their ids: a database has no order of its own."""
    if "ids" not in found or (np.sort(found["ids"]) == found["ids"]).all():
        return found
    order = np.argsort(found["ids"], kind="stable")
    points = found["embeddings"]
    rows = _Rows(len(points), "rows", True)
    for start in range(0, len(points), _BATCH):
        part = order[start : start + _BATCH]
        rows.add(points[part], {name: values[part] for name, values in found.items() if name != "embeddings"})
    return rows.arrays()


def _of_postgres(text: str, columns: Mapping[str, str]) -> Arrays:
    where, name = _place(text)
    if ":" in where.partition("://")[2].rpartition("@")[0]:
        raise ValueError(
            "leave the password out of the address, which reports show: PGPASSWORD or a .pgpass file has it"
        )
    try:
        import psycopg
    except ImportError:
        raise ImportError(f'{text!r} needs psycopg: pip install "psycopg[binary]"') from None
    try:
        with psycopg.connect(where) as connection:
            return _of_connection(connection, name, columns, text)
    except psycopg.Error as error:
        raise ValueError(f"{text!r} cannot be read: {first_line(error)}") from None


def _of_connection(connection: Any, name: str, columns: Mapping[str, str], told: str) -> Arrays:
    from psycopg import sql

    table = sql.Identifier(*name.split("."))
    present = connection.execute(sql.SQL("SELECT * FROM {} LIMIT 0").format(table)).description
    wanted = _columns([each.name for each in present], columns, told)
    if "embeddings" not in wanted:
        raise ValueError(f"{told!r} has no column of embeddings: name it by columns")
    n = connection.execute(sql.SQL("SELECT count(*) FROM {}").format(table)).fetchone()[0]
    vector = sql.Identifier(wanted["embeddings"])
    kind = connection.execute(sql.SQL("SELECT pg_typeof({})::text FROM {} LIMIT 1").format(vector, table)).fetchone()
    if not n or kind is None:
        raise ValueError(f"{told!r} holds no rows")
    size = 8 if "double" in kind[0] or "numeric" in kind[0] else 4
    # As PostgreSQL sends arrays: no text is made of numbers, and none is read.
    sent = sql.SQL("array_send({}::float{}[])").format(vector, sql.Literal(size))
    others = [each for each in wanted if each != "embeddings"]
    listed = sql.SQL(", ").join([sent, *(sql.Identifier(wanted[each]) for each in others)])
    query = sql.SQL("SELECT {} FROM {}").format(listed, table)
    if "ids" in wanted:
        query += sql.SQL(" ORDER BY {}").format(sql.Identifier(wanted["ids"]))
    rows = _Rows(n, told, True)
    with connection.cursor(name="certimetric") as cursor:  # on the server, which gives rows as they are asked for
        cursor.execute(query)
        while batch := cursor.fetchmany(_BATCH):
            points = np.stack([_received(each[0], size, told) for each in batch])
            rows.add(points, {each: _values(batch, i + 1, f"{told}: {each}") for i, each in enumerate(others)})
    return rows.arrays()


def _received(sent: bytes | None, size: int, told: str) -> NDArray[Any]:
    """Numbers of an array as PostgreSQL sends it: five numbers about it, then length and value of each."""
    if sent is None or len(sent) < 20 or int.from_bytes(sent[:4], "big") != 1 or int.from_bytes(sent[4:8], "big"):
        raise ValueError(f"{told}: embeddings must be arrays of numbers without gaps")
    return np.frombuffer(sent, dtype=[("length", ">i4"), ("value", f">f{size}")], offset=20)["value"].astype(f"f{size}")


def _values(batch: list[Any], column: int, told: str) -> NDArray[Any]:
    values = [row[column] for row in batch]
    if any(value is None for value in values):
        raise ValueError(f"{told} has gaps")
    found = np.array(values)
    if found.dtype.kind == "O" and hasattr(values[0], "isoformat"):
        return np.array([value.replace(tzinfo=None).isoformat() for value in values], dtype="M8[us]")
    return found.astype(str) if found.dtype.kind == "O" else found
