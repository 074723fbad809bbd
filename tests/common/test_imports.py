"""The house: a room imports only from rooms before it, and importing the package loads nothing heavy."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "certimetric"
ROOMS = (
    "base",
    "geometry",
    "constraints",
    "objectives",
    "learners",
    "certify",
    "attacks",
    "deep",
    "datasets",
    "report",
    "auditing",
    "bench",
    "cli",
)


def imported_rooms(path):
    """Rooms that a file imports, anywhere in it: inside functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            parts = name.split(".")
            if parts[0] == "certimetric" and len(parts) > 1 and parts[1] in ROOMS:
                yield parts[1]


def test_every_room_is_known():
    rooms = {path.name for path in SOURCE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert rooms <= set(ROOMS)


@pytest.mark.parametrize("room", ROOMS)
def test_imports_go_down_only(room):
    for path in (SOURCE / room).rglob("*.py"):
        for other in imported_rooms(path):
            assert ROOMS.index(other) <= ROOMS.index(room), f"{path.relative_to(SOURCE)} imports {other}"


def test_the_walker_sees_nested_imports(tmp_path):
    file = tmp_path / "nested.py"
    file.write_text("def f():\n    from certimetric.cli import main\n    import certimetric.report.tables.page\n")
    assert sorted(imported_rooms(file)) == ["cli", "report"]


def test_import_is_light():
    code = "import certimetric, sys; print([m for m in sys.modules if m.split('.')[0] in {heavy}])"
    heavy = ("torch", "matplotlib", "typer", "rich", "sklearn", "scipy", "numpy", "numba", "pandas", "jinja2")
    done = subprocess.run([sys.executable, "-c", code.format(heavy=heavy)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_public_names_exist():
    import certimetric

    for name in certimetric.__all__:
        assert getattr(certimetric, name) is not None
    assert callable(certimetric.audit)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        certimetric.nothing  # noqa: B018
