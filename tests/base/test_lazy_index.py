"""Indexes of packages: what they offer is there, is told to type checkers, and loads no more than it needs."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="torch is not installed: the extra 'deep' has it")

PACKAGES = ("certimetric", "certimetric.deep", "certimetric.deep.certify")


@pytest.mark.parametrize("name", PACKAGES)
def test_every_name_is_there_and_checkers_are_told_the_same(name):
    package = importlib.import_module(name)
    tree = ast.parse(Path(package.__file__).read_text(encoding="utf-8"))
    (for_checkers,) = (node for node in tree.body if isinstance(node, ast.If))
    told = {alias.asname: node.module for node in for_checkers.body for alias in node.names}
    assert sorted(told) == package.__all__
    assert set(dir(package)) >= set(package.__all__)
    for each, home in told.items():
        assert getattr(package, each) is getattr(importlib.import_module(home), each)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        package.nothing  # noqa: B018


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("certimetric.deep.certify.registry", ("torch", "numpy")),
        ("certimetric.deep.models", ("certimetric.deep.attacks", "pandas", "lightning", "pytorch_metric_learning")),
        pytest.param(
            "certimetric.deep.retrieval",
            ("certimetric.deep.defenses", "certimetric.deep.certify", "lightning"),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_module_loads_no_more_than_it_needs(module, heavy):
    code = f"import {module}, sys; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_names_of_the_version_before_are_there_and_say_where_they_stand_now():
    pytest.importorskip("torch", reason="torch is not installed: the extra 'deep' has it")
    from certimetric import auditing, bench, deep
    from certimetric.auditing import AuditResult
    from certimetric.deep.goals import MarginGoal
    from certimetric.training import train

    for package, name, now in (
        (deep, "MarginObjective", MarginGoal),
        (auditing, "load_audit", AuditResult.load),
        (auditing, "RetrievalAudit", AuditResult),
        (bench, "train", train),
    ):
        with pytest.warns(DeprecationWarning, match=rf"{name} is now certimetric\.") as told:
            assert getattr(package, name) == now
        assert told[0].filename == __file__


def test_results_answer_to_the_name_of_before():
    from certimetric import GMML, datasets, minimal_perturbation

    data = datasets.load("iris")
    metric = GMML().fit(data.X, data.y).metric_
    found = minimal_perturbation(metric, data.X[::2], data.y[::2], data.X[1:5])
    with pytest.warns(DeprecationWarning, match=r"frame\(\) is now to_frame\(\)"):
        assert found.frame().equals(found.to_frame())
