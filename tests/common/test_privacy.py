"""Private names stay in their rooms: what another room needs, the owner offers under a name without an underscore."""

import ast
from collections import defaultdict
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "src" / "certimetric"
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(SOURCE.rglob("*.py"))}


def is_private(name):
    return name.startswith("_") and not name.endswith("__")


def room(path):
    return path.relative_to(SOURCE).parts[0]


def defined(tree):
    """Private names that a module makes: functions, classes, variables, attributes, parameters of dataclasses."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr


def read(tree):
    """Private names that a module reads of something else: ``x._name``, and what it imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
            yield node.lineno, node.attr
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("certimetric"):
            yield from ((node.lineno, alias.name) for alias in node.names)


def intrusions(trees, room):
    """Private names that are read in a room and made in other rooms only."""
    homes = defaultdict(set)
    for path, tree in trees.items():
        for name in filter(is_private, defined(tree)):
            homes[name].add(room(path))
    for path, tree in trees.items():
        for line, name in read(tree):
            if is_private(name) and homes[name] and room(path) not in homes[name]:
                yield f"{path}:{line}: {name} of {', '.join(sorted(homes[name]))}"


def test_no_room_reads_what_is_private_to_another():
    assert list(intrusions(TREES, room)) == []


def test_intrusions_are_seen():
    trees = {
        "a": ast.parse("class A:\n    def __init__(self):\n        self._x = 1\n    def _f(self): ...\n_c = 1"),
        "b": ast.parse("from certimetric.a import _c\nA()._x\nA()._f()\nnp._other\nself._own = 2\nself._own"),
    }
    found = [text.split(": ")[1] for text in intrusions(trees, str)]
    assert sorted(found) == ["_c of a", "_f of a", "_x of a"]
