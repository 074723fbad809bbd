"""What the documentation shows runs: the README's Python example and every script in examples/."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(arguments, **kwargs):
    environment = {**os.environ, "MPLBACKEND": "Agg"}
    return subprocess.run(arguments, capture_output=True, text=True, env=environment, timeout=300, **kwargs)


def test_readme_example_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.S)
    assert blocks
    for block in blocks:
        assert len(block.splitlines()) <= 12
        exec(compile(block, "README.md", "exec"), {"__name__": "__main__"})  # each on its own


@pytest.mark.slow
def test_examples_of_scaling_run(tmp_path):
    pytest.importorskip("dask.array")
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8"), flags=re.S)
    assert len(blocks) >= 4
    done = run([sys.executable, "-c", "\n".join(blocks)], cwd=tmp_path)  # one after the other, as they are read
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_examples_of_verification_run(tmp_path):
    page = (ROOT / "docs" / "verification.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, flags=re.S)
    assert len(blocks) >= 6
    done = run([sys.executable, "-c", "\n".join(blocks)], cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_quick_start_has_the_two_commands_and_no_other():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    quick = readme.split("## Quick start")[1].split("## ")[0]
    commands = [line[2:].split("#")[0].strip() for line in quick.splitlines() if line.startswith("$ ")]
    assert commands == ["make demo", "make test"]


@pytest.mark.slow
@pytest.mark.parametrize("script", sorted((ROOT / "examples").glob("*.py")), ids=lambda path: path.name)
def test_examples_run_and_make_a_figure(script, tmp_path):
    figure = tmp_path / "figure.png"
    done = run([sys.executable, str(script), str(figure)], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert figure.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("page", sorted((ROOT / "docs").rglob("*.md")), ids=lambda path: path.name)
def test_links_between_pages_lead_somewhere(page):
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target
