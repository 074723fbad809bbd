"""Scripts in examples/ run and make figures, links lead somewhere; for the snippets of pages see test_snippets."""

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(arguments, **kwargs):
    environment = {**os.environ, "MPLBACKEND": "Agg"}
    return subprocess.run(arguments, capture_output=True, text=True, env=environment, timeout=300, **kwargs)


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


MADE_BY_SITE = set(
    re.findall(r'File\.generated\(config, "([^"]+)"', (ROOT / "tools" / "site.py").read_text(encoding="utf-8"))
)
PAGES = [page for page in sorted((ROOT / "docs").rglob("*.md")) if page.parent.name != "gallery"]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_links_between_pages_lead_somewhere(page):
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text(encoding="utf-8")):
        made = re.fullmatch(r"gallery/(\w+)\.(?:md|png)", target)  # when the site is built, of an example
        if made and made[1] != "index":
            assert (ROOT / "examples" / f"{made[1]}.py").exists(), target
        elif not made and target not in MADE_BY_SITE:
            assert (page.parent / target).exists(), target


def test_the_gallery_shows_every_example():
    made = runpy.run_path(str(ROOT / "tools" / "gallery.py"))
    listed = [name for names in made["SECTIONS"].values() for name in names]
    assert sorted(listed) == sorted(script.stem for script in (ROOT / "examples").glob("*.py"))
    for script in (ROOT / "examples").glob("*.py"):
        title, text, code = made["told"](script)
        assert title and text and code.startswith("import")
