"""What is public, and with which parameters, is a committed list: a change of it is seen, and said in the changelog.

``python tests/common/test_public_surface.py`` writes the list anew.
"""

import inspect
import os
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LIST = Path(__file__).with_name("public_surface.txt")
SHOWN = re.compile(r"^::: (certimetric[\w.]*)$", flags=re.MULTILINE)


def documented():
    """What the pages of the API show: modules with their public names, and single names."""
    pages = sorted((ROOT / "docs" / "api").glob("*.md"))
    return sorted({name for page in pages for name in SHOWN.findall(page.read_text(encoding="utf-8"))})


def public():
    """Path and object of each public name, where it stands."""
    for path in documented():
        try:
            module = import_module(path)
        except ModuleNotFoundError:
            home, _, name = path.rpartition(".")
            yield path, getattr(import_module(home), name)
            continue
        names = getattr(module, "__all__", None) or [
            name
            for name, value in vars(module).items()
            if getattr(value, "__module__", None) == path and name[0] != "_"
        ]
        yield from ((f"{path}.{name}", getattr(module, name)) for name in names)


def surface():
    """A line for each public name, with its parameters, and for each public method and property of a class."""
    lines = {f"certimetric.{name}" for name in import_module("certimetric").__all__}  # each told where it stands
    for path, value in public():
        lines.update(described(path, value))
    return sorted(lines)


def described(path, value):
    if inspect.ismodule(value):
        return
    if not callable(value):
        yield path
        return
    yield path + parameters(value)
    if not inspect.isclass(value):
        return
    for name in sorted({name for kind in value.__mro__ if ours(kind) for name in vars(kind) if is_public(name)}):
        member = inspect.getattr_static(value, name)
        if isinstance(member, staticmethod | classmethod):
            member = member.__func__
        yield f"{path}.{name}" + (parameters(member) if inspect.isfunction(member) else "")


def is_public(name):
    return name[0] != "_" and not re.fullmatch("set_.*_request", name)  # scikit-learn makes the latter


def ours(kind):
    return kind.__module__.startswith("certimetric")


def parameters(value):
    """Names of parameters as they are called, without defaults and types, which may get better."""
    try:
        told = inspect.signature(value).parameters.values()
    except (TypeError, ValueError):
        return ""
    bare = [
        each.replace(annotation=each.empty, default=each.empty) for each in told if each.name not in ("self", "cls")
    ]
    # One by one: without its default a parameter may stand where no signature has it.
    marks = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    names, keyword = [], False
    for each in bare:
        if each.kind is each.KEYWORD_ONLY and not keyword:
            names.append("*")
        keyword |= each.kind in (each.KEYWORD_ONLY, each.VAR_POSITIONAL)
        names.append(marks.get(each.kind, "") + each.name)
    return f"({', '.join(names)})"


def test_the_public_surface_is_the_committed_one():
    pytest.importorskip("torch", reason="torch is not installed: half of the list is about it")
    committed = LIST.read_text(encoding="utf-8").splitlines()
    found = surface()
    gone, new = sorted(set(committed) - set(found)), sorted(set(found) - set(committed))
    told = "If this is meant, run python tests/common/test_public_surface.py, and say it in the changelog."
    assert not gone and not new, "\n".join([told, *(f"- {line}" for line in gone), *(f"+ {line}" for line in new)])


def test_every_public_name_has_an_example_and_says_what_it_takes():
    pytest.importorskip("torch", reason="torch is not installed: half of the list is about it")
    told = {path: value for path, value in public() if callable(value) and not is_error(value)}
    assert len(told) > 200
    assert [path for path, value in told.items() if ">>> " not in (value.__doc__ or "")] == []
    silent = [path for path, value in told.items() if parameters(value) not in ("", "()") and not says(value)]
    assert silent == []


def is_error(value):
    return inspect.isclass(value) and issubclass(value, BaseException)


def says(value):
    """Parameters, or the attributes of a tuple with names; a protocol, which nobody calls, has none."""
    doc = value.__doc__ or ""
    return (
        "Parameters\n" in doc
        or "Attributes\n" in doc
        or "Parameters are " in doc
        or "Parameters and errors are\n" in doc
        or is_protocol(value)
    )


def is_protocol(value):
    return getattr(value, "_is_protocol", False)


@pytest.mark.slow
def test_a_strict_type_checker_knows_every_public_name(tmp_path):
    """Whoever checks types strictly can import all of it: nothing is untyped, or exported by accident."""
    pytest.importorskip("mypy")
    pytest.importorskip("torch")
    surface()  # imports all of it
    modules = [name for name in ["certimetric", *documented()] if hasattr(sys.modules.get(name), "__all__")]
    lines = [
        f"from {path} import {name} as {name}_{i}"
        for i, path in enumerate(modules)
        for name in sys.modules[path].__all__
        if not inspect.ismodule(getattr(sys.modules[path], name))
    ]
    assert len(lines) > 150
    (tmp_path / "user.py").write_text("\n".join(lines) + "\n", encoding="utf-8")
    options = ["--strict", "--follow-imports=silent", "--config-file", str(ROOT / "pyproject.toml"), "--cache-dir"]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *options, str(tmp_path / "cache"), "user.py"],
        cwd=tmp_path, env=os.environ | {"MYPYPATH": str(ROOT / "src")}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


if __name__ == "__main__":
    LIST.write_text("\n".join(surface()) + "\n", encoding="utf-8")
