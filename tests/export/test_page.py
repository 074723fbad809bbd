"""Snippets of the page on exports that need other people's engines; tests/common runs the others."""

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "export.md"


@pytest.mark.parametrize("engine", ["duckdb", "onnxruntime", "usearch"])
def test_snippets_for_engines(engine, tmp_path, monkeypatch):
    pytest.importorskip(engine)
    if engine == "onnxruntime":
        pytest.importorskip("onnx")
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```(python|py)\n(.*?)^```", PAGE.read_text(encoding="utf-8"), flags=re.S | re.M)
    assert any(kind == "py" and engine in code for kind, code in blocks)
    wanted = [code for kind, code in blocks if (engine if kind == "py" else "import") in code and "cluster" not in code]
    namespace: dict[str, object] = {}
    for code in wanted:
        exec(compile(code, PAGE.name, "exec"), namespace)
