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
    first, wanted = blocks[0][1], [code for kind, code in blocks if kind == "py" and engine in code]
    assert wanted
    namespace: dict[str, object] = {}
    for code in (first, *wanted):
        exec(compile(code, PAGE.name, "exec"), namespace)
