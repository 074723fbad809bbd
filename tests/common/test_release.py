"""What a release says of itself in several files is said once."""

import re
import sys
from pathlib import Path

import pytest

import certimetric

ROOT = Path(__file__).parents[2]
CONDA = {"matplotlib-base": "matplotlib"}  # what conda-forge calls the package without a window


@pytest.mark.parametrize(
    ("file", "pattern"),
    [
        ("CITATION.cff", r"^version: (\S+)$"),
        ("conda/recipe.yaml", r'^  version: "(\S+)"$'),
        ("CHANGELOG.md", r"^## (\d\S+)"),
    ],
)
def test_the_version_is_one(file, pattern):
    text = (ROOT / file).read_text(encoding="utf-8")
    assert re.search(pattern, text, flags=re.MULTILINE).group(1) == certimetric.__version__


@pytest.mark.skipif(sys.version_info < (3, 11), reason="tomllib came with Python 3.11")
def test_the_recipe_of_conda_asks_for_what_the_package_asks_for():
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    text = (ROOT / "conda" / "recipe.yaml").read_text(encoding="utf-8")
    text = text.replace("${{ python_min }}", re.search(r'^  python_min: "(\S+)"$', text, flags=re.MULTILINE).group(1))
    asked = re.findall(r"^    - (\S+) (>=\S+)$", text.partition("  run:\n")[2].partition("\n\n")[0], flags=re.MULTILINE)
    found = {CONDA.get(name, name) + version for name, version in asked}
    assert found == {
        *(each.partition(";")[0] for each in project["dependencies"]),
        "python" + project["requires-python"],
    }
