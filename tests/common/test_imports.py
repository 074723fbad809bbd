"""The house: arrows go down only and never in a circle, and importing the package loads nothing heavy."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "certimetric"
ROOMS = (
    "base",
    "geometry",
    "constraints",
    "objectives",
    "learners",
    "certify",
    "attacks",
    "plots",
    "datasets",
    "export",
    "deep",
    "runs",
    "training",
    "report",
    "auditing",
    "bench",
    "metric_learn",
    "cli",
)
# Folders inside a room that are rooms themselves, in their order.
ROOMS_OF = {
    "deep": ("ranking", "models", "goals", "attacks", "defenses", "retrieval", "certify", "verification", "train")
}
MODULES = {
    ".".join(path.relative_to(SOURCE.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(SOURCE.rglob("*.py"))
}
_NAMES = re.compile(r"certimetric(\.[a-z_]+)+(:\w+)?")


def imported(path):
    """Modules that a file imports, anywhere in it: inside functions too, and by name through ``import_module``."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and _NAMES.fullmatch(node.value):
            names = [node.value.partition(":")[0]]  # what import_module is called with, wherever it is written
            names = names if ".".join(names[0].split(".")[:2]) in MODULES else []
        elif isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) == "import_module":
            names = list(named(node.args[0]))
        for name in names:
            while name not in MODULES and "." in name:
                name = name.rpartition(".")[0]
            if name in MODULES:
                yield name


def named(argument):
    """The beginning of a module's name that is put together: the constant part of an f-string."""
    if isinstance(argument, ast.JoinedStr) and isinstance(argument.values[0], ast.Constant):
        yield str(argument.values[0].value).rstrip(".")


def room(module):
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


def test_every_room_is_known():
    rooms = {path.name for path in SOURCE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert rooms == set(ROOMS)
    for name, inner in ROOMS_OF.items():
        assert {path.parent.name for path in (SOURCE / name).glob("*/__init__.py")} == set(inner)


def test_the_description_lists_the_rooms_in_their_order():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert tuple(re.findall(r"^\| `(\w+)` \|", text, flags=re.MULTILINE)) == ROOMS


@pytest.mark.parametrize("name", ROOMS)
def test_imports_go_down_only(name):
    for module, path in MODULES.items():
        if room(module) != name:
            continue
        for other in imported(path):
            assert room(other) in ROOMS, f"{module} imports {other}: the package itself has no arrow up"
            assert ROOMS.index(room(other)) <= ROOMS.index(name), f"{module} imports {other}"


@pytest.mark.parametrize("name", ROOMS_OF)
def test_imports_inside_a_room_go_down_only(name):
    inner = ROOMS_OF[name]
    for module, path in MODULES.items():
        place = module.split(".")[2] if module.count(".") > 1 else ""
        if room(module) != name or place not in inner:
            continue
        for other in imported(path):
            if room(other) == name and other.count(".") > 1 and other.split(".")[2] in inner:
                assert inner.index(other.split(".")[2]) <= inner.index(place), f"{module} imports {other}"


def circles(arrows):
    """Modules that are reached from themselves."""

    def reached(start):
        seen, left = set(), list(arrows[start])
        while left:
            module = left.pop()
            if module not in seen:
                seen.add(module)
                left += arrows[module]
        return seen

    return [module for module in arrows if module in reached(module)]


def test_no_module_imports_itself_through_others():
    arrows = {module: set(imported(path)) - {module} for module, path in MODULES.items()}
    assert circles({module: others - {"certimetric"} for module, others in arrows.items()}) == []


def test_circles_are_found():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c"]


def test_the_walker_sees_nested_imports_and_names(tmp_path):
    file = tmp_path / "nested.py"
    file.write_text(
        "def f():\n    from certimetric.cli import main\n    import certimetric.report.page\n"
        "    import_module('certimetric.bench.suites')\n    import_module(f'certimetric.deep.{name}')\n"
        "    return 'certimetric.training.run:train'\n"
    )
    seen = {"certimetric.cli.main", "certimetric.report.page", "certimetric.bench.suites"}
    assert set(imported(file)) == seen | {"certimetric.deep", "certimetric.training.run"}


def test_import_is_light():
    code = "import certimetric, sys; print([m for m in sys.modules if m.split('.')[0] in {heavy}])"
    heavy = ("torch", "matplotlib", "typer", "rich", "sklearn", "scipy", "numpy", "numba", "pandas", "jinja2")
    done = subprocess.run([sys.executable, "-c", code.format(heavy=heavy)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_help_is_light():
    """What a command needs is loaded when it is carried out: help and wrong options are answered at once."""
    code = "import sys, certimetric.cli.app; print([name for name in {heavy} if name in sys.modules])"
    heavy = ("torch", "matplotlib.pyplot", "sklearn", "scipy.stats", "numba", "pandas", "jinja2")
    done = subprocess.run([sys.executable, "-c", code.format(heavy=heavy)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_public_names_exist():
    import certimetric

    for name in certimetric.__all__:
        assert getattr(certimetric, name) is not None
    assert callable(certimetric.audit)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        certimetric.nothing  # noqa: B018


def test_without_torch_the_extra_is_named():
    code = "import sys; sys.modules['torch'] = None; from certimetric.deep import PGD"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    told = 'ImportError: certimetric.deep needs torch: pip install "certimetric[deep]"'
    assert done.returncode == 1 and done.stderr.strip().splitlines()[-1] == told


def test_tables_are_audited_without_torch():
    """The kinds of audits are listed with those of models, whose modules load torch when one is carried out."""
    code = (
        "import sys\n"
        "class Without:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'torch': raise ModuleNotFoundError('torch is not here')\n"
        "sys.meta_path.insert(0, Without())\n"
        "from certimetric.auditing.kinds import KINDS; print(len(KINDS))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and int(done.stdout) >= 5, done.stderr
