"""Embeddings from files, frames and databases: the same arrays whichever way they come, and mistakes that are named."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from certimetric.datasets import embedding_sources
from certimetric.datasets.embedding_files import frame_embeddings, load_embeddings

N, K = 40, 3
X = np.random.default_rng(0).normal(size=(N, K)).astype(np.float32)
NAMES = np.array(["ant", "bee"])[np.arange(N) % 2]
IDS = np.array([f"i{i:02}" for i in range(N)])
DAYS = pd.date_range("2026-01-01", periods=N)


@pytest.fixture
def table():
    pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed: the extra 'parquet' has it")
    vectors = pa.array(X.tolist(), pa.list_(pa.float32()))
    return pa.table({"vector": vectors, "sku": NAMES, "id": IDS, "time": DAYS})


@pytest.fixture
def folder(table, tmp_path, monkeypatch):
    from pyarrow import feather, parquet
    from safetensors.numpy import save_file

    monkeypatch.chdir(tmp_path)
    parquet.write_table(table, "a.parquet", row_group_size=7)
    feather.write_feather(table, "a.arrow")
    np.save("a.npy", X)
    np.save("names.npy", NAMES)
    queries = {"query_embeddings": X[:5], "query_labels": NAMES[:5], "query_ids": IDS[:5]}
    np.savez("a.npz", embeddings=X, labels=NAMES, ids=IDS, **queries)
    pd.DataFrame({"label": NAMES, "id": IDS}).to_csv("names.csv", index=False)
    save_file({"embeddings": X, "labels": np.arange(N) % 2}, "a.safetensors")
    return tmp_path


SKU = {"labels": "sku"}


@pytest.mark.parametrize(
    ("path", "options"),
    [
        ("a.parquet", {"columns": SKU}),
        ("a.arrow", {"columns": SKU}),
        ("a.npy", {"labels": "names.npy"}),
        ("a.npy", {"labels": "names.csv"}),
        ("a.npz", {}),
        ("a.safetensors", {}),
    ],
)
def test_every_kind_of_file_holds_the_same(folder, path, options, monkeypatch):
    monkeypatch.setattr(embedding_sources, "_BATCH", 9)
    given = load_embeddings(path, **options)
    assert given.gallery.dtype == np.float32 and np.array_equal(given.gallery, X)
    assert np.array_equal(given.labels, np.arange(N) % 2)
    assert given.class_names == (("0", "1") if path == "a.safetensors" else ("ant", "bee"))
    if path != "a.safetensors" and options.get("labels") != "names.npy":
        assert np.array_equal(given.ids, np.arange(N))


def test_frames_of_pandas_and_arrow(table):
    for frame in (table, table.to_pandas()):
        given = frame_embeddings(frame, frame, columns=SKU)
        assert np.array_equal(given.gallery, X) and np.array_equal(given.queries, X)
        assert np.array_equal(given.query_ids, given.ids)


def test_frames_of_polars():
    pl = pytest.importorskip("polars", reason="polars is not installed")
    others = {"sku": NAMES, "id": IDS, "time": DAYS.to_pydatetime().tolist()}
    for vectors in (pl.Series(X.tolist(), dtype=pl.List(pl.Float32)), pl.Series(X)):  # lists, and arrays of one length
        frame = pl.DataFrame({"vector": vectors, **others}).with_columns(pl.col("sku").cast(pl.Categorical))
        given = frame_embeddings(frame, columns=SKU, queries_from="2026-01-31")
        assert given.gallery.dtype == np.float32 and np.array_equal(given.gallery, X[:30])
        assert np.array_equal(given.queries, X[30:]) and given.class_names == ("ant", "bee")


def test_queries_of_their_own_file_and_from_a_time_on(folder):
    given = load_embeddings("a.parquet", queries="a.parquet", columns=SKU)
    assert np.array_equal(given.queries, X) and np.array_equal(given.query_labels, given.labels)
    later = load_embeddings("a.parquet", columns=SKU, queries_from="2026-01-31")
    assert np.array_equal(later.gallery, X[:30]) and np.array_equal(later.queries, X[30:])
    assert len(later.ids) == 30 and len(later.query_ids) == 10


@pytest.mark.parametrize(
    ("path", "options", "message"),
    [
        ("a.parquet", {}, "lacks the column 'labels'; of those that are known it holds embeddings, ids, times"),
        ("a.parquet", {"columns": {"labels": "nope"}}, "lacks the column 'nope'; it holds vector, sku, id, time"),
        ("a.parquet", {"columns": {"label": "sku"}}, "must be named for .* got 'label' .did you mean 'labels'"),
        ("a.parquet", {"columns": {"labels": "skus"}}, "lacks the column 'skus' .did you mean 'sku'"),
        ("a.parquet", {"columns": {"labels": "sku", "embeddings": "id"}}, "must hold lists of numbers"),
        ("a.npz", {"columns": {"groups": "camera"}}, "lacks the array 'camera'"),
        ("a.npz", {"queries": "a.npz"}, "queries are there already"),
        ("a.npz", {"queries_from": 3}, "queries_from makes queries of items"),
        ("a.safetensors", {"queries_from": 3}, "queries_from needs times"),
        ("a.parquet", {"columns": SKU, "queries_from": "2027-01-01"}, "of 40 items 0 are from"),
        ("a.parquet", {"columns": SKU, "queries_from": "soon"}, "must be numbers or dates"),
        ("a.npy", {"labels": "names.npy", "query_labels": "names.npy"}, "query_labels needs queries"),
        ("none.npy", {}, "there is no file"),
        ("names.txt", {}, "embeddings must be a file"),
        ("lancedb:folder", {}, "told with its table"),
        ("postgresql://me:secret@host/items#table", {}, "leave the password out"),
    ],
)
def test_what_is_wrong_is_named(folder, path, options, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        load_embeddings(path, **options)


def test_damaged_files_and_ragged_columns(folder):
    import pyarrow as pa
    from pyarrow import parquet

    for name in ("a.parquet", "a.arrow", "a.safetensors", "a.npy"):
        Path(name).write_bytes(b"nothing of the kind")
        with pytest.raises(ValueError, match="cannot be read"):
            load_embeddings(name)
    for rows in ([[1.0, 2.0], [3.0]], [[1.0, 2.0], None], [[1.0], [None]]):
        parquet.write_table(pa.table({"embedding": rows, "label": ["a", "b"]}), "odd.parquet")
        with pytest.raises(ValueError, match="lists of one length"):
            load_embeddings("odd.parquet")


def test_tables_of_lancedb_are_read_in_batches_in_the_order_of_ids(table, tmp_path, monkeypatch):
    lancedb = pytest.importorskip("lancedb", reason="lancedb is not installed")
    monkeypatch.setattr(embedding_sources, "_BATCH", 9)
    monkeypatch.setattr(embedding_sources, "_IN_MEMORY", 100)  # larger ones are in a file
    lancedb.connect(tmp_path / "db").create_table("items", table.take(np.arange(N)[::-1]))
    given = load_embeddings(f"lancedb:{tmp_path / 'db'}#items", columns=SKU)
    assert isinstance(given.gallery.base, np.memmap) and np.array_equal(given.gallery, X)
    assert np.array_equal(given.labels, np.arange(N) % 2)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A PostgreSQL of its own, which listens on a socket alone."""
    psycopg = pytest.importorskip("psycopg", reason="psycopg is not installed")
    found = importlib.util.find_spec("pgserver")  # a PostgreSQL with the extension, from PyPI
    packed = [Path(found.origin).parent / "pginstall/bin"] if found and found.origin else []
    known = [*packed, *sorted(Path("/usr/lib/postgresql").glob("*/bin"))]
    if not known:
        pytest.skip("PostgreSQL is not installed")
    programs = known[0]
    folder = tmp_path_factory.mktemp("postgres")
    own = {"user": "postgres"} if os.getuid() == 0 else {}  # it does not run as root
    try:
        if own:
            for path in (folder, *list(folder.parents)[: -len(Path("/tmp").parents) - 1]):
                path.chmod(0o755)
            shutil.chown(folder, "postgres")
        run = {"check": True, "capture_output": True, "cwd": folder, **own}
        subprocess.run([programs / "initdb", "-D", folder / "data", "-U", "me", "-A", "trust", "-N"], **run)
        options = f"-c listen_addresses='' -c unix_socket_directories={folder} -c fsync=off"
        log = folder / "log"
        subprocess.run([programs / "pg_ctl", "-D", folder / "data", "-w", "-l", log, "-o", options, "start"], **run)
    except (KeyError, LookupError, OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"PostgreSQL cannot be started: {getattr(error, 'stderr', b'') or error}")
    yield psycopg, f"postgresql://me@/postgres?host={folder}"
    subprocess.run([programs / "pg_ctl", "-D", folder / "data", "-m", "immediate", "stop"], **run)


@pytest.mark.parametrize("kind", [f"vector({K})", "real[]", "double precision[]"])
def test_tables_of_postgres_are_read_in_batches(server, kind, monkeypatch):
    psycopg, url = server
    monkeypatch.setattr(embedding_sources, "_BATCH", 9)
    with psycopg.connect(url) as connection:
        there = connection.execute("SELECT 1 FROM pg_available_extensions WHERE name = 'vector'").fetchone()
        if kind.startswith("vector") and not there:
            pytest.skip("PostgreSQL has no extension pgvector here")
        if there:
            connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
        connection.execute("DROP TABLE IF EXISTS items")
        connection.execute(f"CREATE TABLE items (id text, embedding {kind}, sku text, time timestamptz)")
        text = "[{}]" if kind.startswith("vector") else "{{{}}}"
        for i in reversed(range(N)):
            told = text.format(",".join(map(repr, X[i].tolist())))
            connection.execute("INSERT INTO items VALUES (%s, %s, %s, %s)", (IDS[i], told, str(NAMES[i]), DAYS[i]))
    given = load_embeddings(f"{url}#items", columns=SKU, queries_from="2026-01-31")
    assert np.array_equal(given.gallery, X[:30]) and np.array_equal(given.queries, X[30:])
    assert given.gallery.dtype == (np.float64 if "double" in kind else np.float32)
    assert np.array_equal(given.labels, np.arange(30) % 2)
    with pytest.raises(ValueError, match="cannot be read"):
        load_embeddings(f"{url}#none", columns=SKU)


def test_a_changed_bit_of_parquet_with_checksums_is_seen(table, tmp_path):
    from pyarrow import parquet

    path = tmp_path / "a.parquet"
    parquet.write_table(table, path, write_page_checksum=True)
    content = bytearray(path.read_bytes())
    content[200] ^= 4
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.parquet' cannot be read: .*checksum") as error:
        load_embeddings(str(path), columns=SKU)
    assert "\n" not in str(error.value)
