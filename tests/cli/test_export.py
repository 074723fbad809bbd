"""``certimetric export``: what it writes for others, and what it refuses before it writes."""

import numpy as np
import pytest

from certimetric import MahalanobisMetric
from certimetric.export import export_sql


@pytest.fixture
def metric(tmp_path):
    made = MahalanobisMetric.from_components(np.array([[1.0, 0.1], [0.0, 2.0]]), feature_names=["age", "pay"])
    made.save(tmp_path / "m.safetensors")
    return made


def test_statements(run, metric, tmp_path):
    outcome = run("export", "m.safetensors", "--to", "sql", "--table", "main.people", "--id", "nr", "--keep", "a,b")
    assert (outcome.code, outcome.out, outcome.err) == (0, "Statements: m.sql\n", "")
    text = (tmp_path / "m.sql").read_text(encoding="utf-8")
    assert text == str(export_sql(metric, ["main", "people"], id="nr", keep=["a", "b"]))


def test_graph(run, metric, tmp_path):
    pytest.importorskip("onnx")
    outcome = run("export", "m.safetensors", "--to", "onnx", "-o", "graph.onnx")
    assert (outcome.code, outcome.out) == (0, "Graph: graph.onnx\n") and (tmp_path / "graph.onnx").stat().st_size > 100


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--to", "csv"], "--to must be one of 'onnx', 'sql', got 'csv'"),
        (["--to", "sql", "--table", "people"], "--to sql needs --table and --id"),
        (["--to", "sql", "--table", "t", "--id", "nr", "--dialect", "mysql"], "dialect must be one of"),
        (["--to", "sql", "--table", "t..u", "--id", "nr"], "names of tables and columns must be text"),
        (["--to", "onnx", "--table", "t", "--keep", "a"], "--table, --keep are for --to sql only"),
        (["--to", "sql", "--table", "a.b.c.d", "--id", "nr"], "table must be TABLE, SCHEMA.TABLE or"),
        (["--to", "onnx", "-o", "m.safetensors"], "is a file that is read here"),
    ],
)
def test_bad_input_is_one_sentence(run, metric, tmp_path, words, message):
    outcome = run("export", "m.safetensors", *words)
    assert outcome.code == 2 and outcome.err.startswith("certimetric: error: ") and outcome.err.count("\n") == 1
    assert message in outcome.err
    assert [path.name for path in tmp_path.iterdir()] == ["m.safetensors"]
