"""Statements that a database runs: the same embedding, whatever the names and the numbers."""

import numpy as np
import pandas as pd
import pytest

from certimetric import MahalanobisMetric
from certimetric.datasets import Encoding, TableEncoder
from certimetric.export import export_sql

NAMES = ['in "k"', "größe", "select", "a;b--"]
ID, LABEL = "the 'id'", "z 0"


def quoted(name):
    return '"' + name.replace('"', '""') + '"'


def metric(rng):
    """Components of all sizes, with a 0 and a 1."""
    L = rng.standard_normal((3, 4)) * 10.0 ** rng.integers(-6, 7, (3, 4))
    L[0, 0], L[1, 1], L[2] = 0.0, 1.0, [0.1, 1 / 3, 1e-300, 2.0]
    return MahalanobisMetric.from_components(L, feature_names=NAMES)


@pytest.fixture
def database():
    """DuckDB in memory, with the table ``rows`` of a frame."""
    duckdb = pytest.importorskip("duckdb")
    with duckdb.connect() as connection:

        def make(frame, name):
            connection.register("given", frame)
            connection.execute(f"CREATE TABLE {quoted(name)} AS SELECT * FROM given")
            return connection

        yield make


def test_embedding_and_neighbours_of_a_database(rng, database):
    X = rng.standard_normal((30, 4))
    X[7] = X[3]
    learned = metric(rng)
    frame = pd.DataFrame(X, columns=NAMES)
    frame[ID], frame[LABEL] = [f"no '{i:02d}'" for i in range(30)], list("ab") * 15
    made = export_sql(learned, 'my "table"', id=ID, keep=[LABEL], view="seen; as", n_neighbors=4)
    connection = database(frame, 'my "table"')
    connection.execute(made.view)
    found = connection.execute('SELECT * FROM "seen; as" ORDER BY 1').df()
    assert found.columns.tolist() == [ID, LABEL, "z0", "z1", "z2"]
    Z = learned.transform(X)
    np.testing.assert_allclose(found[["z0", "z1", "z2"]] / np.abs(Z).max(axis=0), Z / np.abs(Z).max(axis=0), atol=1e-14)
    near = connection.execute(made.nearest, [frame[ID][3]]).df()
    distances = learned.pairwise(X[3:4], X)[0]
    wanted = [row for row in np.argsort(distances, kind="stable") if row != 3][:4]
    assert near[ID].tolist() == frame[ID][wanted].tolist() and near[ID][0] == "no '07'"
    assert near[LABEL].tolist() == frame[LABEL][wanted].tolist()
    np.testing.assert_allclose(near["distance"], distances[wanted], rtol=1e-9, atol=1e-9 * distances.max())


def test_numbers_come_back_to_the_last_digit(database):
    values = [0.1, 1 / 3, 5e-324, 1.7976931348623157e308, -2.5e-17]
    learned = MahalanobisMetric.from_components([[value] for value in values], feature_names=["x"])
    connection = database(pd.DataFrame({"id": [1], "x": [1.0]}), "rows")
    connection.execute(export_sql(learned, "rows", id="id").view)
    assert list(connection.execute("SELECT * FROM rows_embedding").fetchone()[1:]) == values


def test_an_encoding_of_other_features_is_refused():
    encoder = TableEncoder.fit(pd.DataFrame({"shop": ["a", "b", "c"]}), Encoding(categorical=["shop"]))
    told = encoder.to_dict()
    told["columns"][0]["categories"] = ["a", "c", "b"]
    metric = MahalanobisMetric.from_components(
        np.eye(3), feature_names=encoder.feature_names, training={"encoding": told}
    )
    with pytest.raises(ValueError, match="makes other features than it has"):
        export_sql(metric, "t", id="id")


def test_the_encoding_of_a_table_is_part_of_the_view(rng, database):
    """All kinds of columns, with gaps where gaps were learned."""
    table = pd.DataFrame(
        {
            "age": [30.0, None, 50.0, 41.0],
            "job": ["clerk", "smith's", None, "clerk"],
            "member": ["yes", "no", "yes", None],
            "new": [True, False, True, True],
            "since": ["2024-01-31", "2023-05-01", "2024-01-31", None],
            "size": ["S", "L", "M", "S"],
            "shop": [7, 12, 7, 7],
        }
    )
    encoder = TableEncoder.fit(table, Encoding(ordinal={"size": ["S", "M", "L"]}, categorical=["shop"]))
    X, _ = encoder.transform(table)
    learned = MahalanobisMetric.from_components(
        rng.standard_normal((5, X.shape[1])),
        feature_names=encoder.feature_names,
        training={"encoding": encoder.to_dict()},
    )
    connection = database(table.assign(row=range(4)), "people")
    connection.execute(export_sql(learned, ("main", "people"), id="row").view)
    found = connection.execute("SELECT * FROM people_embedding ORDER BY row").df()
    np.testing.assert_allclose(found.drop(columns="row"), learned.transform(X), rtol=1e-9, atol=1e-9)


def test_text_of_statements(rng):
    """What can be said without a database: every name is quoted, and sums are not deep."""
    wide = MahalanobisMetric.from_components(rng.standard_normal((1, 3000)))
    text = export_sql(wide, "t", id="id", columns=[f"c{j}" for j in range(3000)], dialect="postgresql").view
    depth = np.cumsum([{"(": 1, ")": -1}.get(letter, 0) for letter in text])
    assert depth.max() < 20 and depth[-1] == 0
    made = str(export_sql(metric(rng), "t", id=ID))
    for name in (*NAMES, ID):
        assert quoted(name) in made


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"columns": ["a"]}, "columns must name the 4 features of the metric, got 1"),
        ({"id": ""}, "names of tables and columns must be text of at least one character, got ''"),
        ({"id": "a\0"}, "names of tables and columns"),
        ({"keep": ["id"]}, "must have different names, got 'id' twice"),
        ({"keep": ["z1"]}, "must have different names, got 'z1' twice"),
        ({"dialect": "postgres"}, "dialect must be one of 'duckdb', 'postgresql'"),
        ({"dialect": "postgresql", "view": "ä" * 32}, "PostgreSQL cuts names of more than 63 bytes"),
        ({"n_neighbors": 0}, "n_neighbors must be at least 1"),
        ({"metric": MahalanobisMetric.from_components(np.eye(2))}, "the metric has no names of its own"),
    ],
)
def test_bad_input_is_refused(rng, change, message):
    arguments = {"metric": metric(rng), "table": "t", "id": "id", **change}
    with pytest.raises(ValueError, match=message):
        export_sql(**arguments)
