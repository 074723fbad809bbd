"""The key under which a finished cell is kept holds everything that its figures depend on, and nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import fields, replace

import numpy as np
import pytest

from certimetric import LMNN, audit
from certimetric.attacks import FeatureRules
from certimetric.auditing.tables.cells import audit_cell
from certimetric.auditing.tables.evidence import evidence_cell
from certimetric.auditing.tables.request import Request
from certimetric.auditing.tables.run import TableEvidence
from certimetric.geometry import resolve_norm
from certimetric.runs.key import canonical

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(40, 3)), np.arange(40) % 3


def request(X=X, y=Y, **options):
    return Request(X, y, **{"learners": ["lmnn"], "repeats": 2, **options})


def key(request, split=0):
    return evidence_cell(request, audit_cell(request, request.data.sha256(), request.subjects[0], split)).key


def changed(row, column):
    copy = X.copy()
    copy[row, column] += 1e-12
    return copy


L2 = resolve_norm("l2")
# For each field of a request: requests that differ in it, each of which has other figures.
ROWS = np.arange(len(request().codes))
CHANGES = {
    "data": [
        request(changed(3, 1)),
        request(X[:, [1, 0, 2]]),
        request(feature_names=["a", "b", "c"]),
        request(X.astype(np.float32)),
        request(imputed=np.eye(40, 3, dtype=bool)),
        request(imputed=np.eye(40, 3, 1, dtype=bool)),
    ],
    "codes": [request(y=np.roll(Y, 1))],
    "classes": [
        request(y=Y * 5),
        request(y=Y * 5 + 5),
        request(y=(Y * 5 + 5).astype(str)),  # the same labels as text, but "10" comes before "5"
        request(y=[f"class {i}" for i in Y]),
    ],
    "subjects": [
        request(learners=["lmnn:n_neighbors=2"]),
        request(learners=["lmnn+pl"]),
        request(learners=[LMNN(init=np.eye(3))]),
        request(learners=[LMNN(init=2 * np.eye(3))]),
        request(learners=["auto"]),
        request(learners=["auto:criterion=error"]),
    ],
    "image_shape": [request(image_shape=(1, 3))],
    "n_neighbors": [request(n_neighbors=1)],
    "norm": [
        request(norm="linf"),
        request(norm=np.diag([1.0, 2.0, 3.0])),
        request(norm=np.diag([1.0, 2.0, 3.5])),
        request(norm=L2.in_units([1.0, 2.0, 3.0])),
        request(norm=L2.in_units([1.0, 2.0, 3.5])),
        request(norm=L2.restrict([True, True, False])),
        request(norm=L2.restrict([True, False, True])),
        request(norm=resolve_norm(np.diag([1.0, 2.0, 3.0])).in_units([1.0, 2.0, 3.0])),
    ],
    "noise": [request(noise=[0.5]), request(noise=[0.25, 0.5])],
    "test_size": [request(test_size=0.4)],
    "test_rows": [request(test_rows=3)],
    "seed": [request(seed=1)],
    "splitting": [request(**{how: ROWS % 2 == 0}) for how in ("groups", "test")] + [request(times=ROWS)],
    "features": [request(features=FeatureRules(immutable=(request().data.feature_names[0],)))],
}
# These say what is told of the figures, how many there are, or how they are computed.
WITHOUT_EFFECT = {
    "norm_name": [],
    "eps": [request(eps=[0.1])],
    "repeats": [request(repeats=5)],
    "n_jobs": [request(n_jobs=2)],
    "budget": [request(budget="10m")],
    "dask": [request(dask="tcp://127.0.0.1:8786")],
    "ids": [request(ids=ROWS)],
    "thresholds": [request(fail_under="accuracy=0.5")],
    "name": [request(name="other")],
    "source": [request(source="elsewhere")],
    "out": [request(out="folder")],
    "title": [request(title="Heading")],
    "command": [request(command="certimetric audit")],
    "progress": [request(progress=True)],
}
# What is asked, and is told in full by other fields of the request once it is checked.
TOLD_BY = {
    "X": "data",
    "feature_names": "data",
    "imputed": "data",
    "encoder": "data",
    "groups": "splitting",
    "times": "splitting",
    "test": "splitting",
    "y": "codes",
    "learners": "subjects",
    "tune": "subjects",
    "sizes": "test_rows",
    "everything": "test_size",
    "fail_under": "thresholds",
}


def test_every_field_of_a_request_is_accounted_for():
    known = CHANGES.keys() | WITHOUT_EFFECT.keys()
    assert {field.name for field in fields(Request)} == known | TOLD_BY.keys()
    assert known.isdisjoint(TOLD_BY) and set(TOLD_BY.values()) <= known


def test_what_changes_figures_changes_the_key():
    keys = [key(request()), key(request(), split=1)]
    keys += [key(other) for others in CHANGES.values() for other in others]
    assert len(set(keys)) == len(keys)


def test_what_tells_a_report_from_another():
    """All that changes figures, and how many of them there are."""
    others = [other for others in CHANGES.values() for other in others]
    others += [request(eps=[0.1]), request(eps=[0.2]), request(repeats=5), request(learners=["lmnn", "gmml"])]
    told = [json.dumps(TableEvidence(each).options()) for each in (request(), *others)]
    assert len(set(told)) == len(told)
    same = [request(n_jobs=2), request(fail_under="accuracy=0.5")]
    assert {json.dumps(TableEvidence(each).options()) for each in same} == {told[0]}


def test_what_does_not_change_figures_keeps_the_key():
    assert {key(other) for others in WITHOUT_EFFECT.values() for other in others} == {key(request())}


def test_a_field_of_the_request_itself():
    """The key looks at the fields, not at how they were asked for."""
    whole = request()
    assert key(replace(whole, n_neighbors=2)) != key(whole)


@pytest.mark.usefixtures("light_attacks")
def test_other_units_are_other_cells(tmp_path):
    options = {"learners": ["euclidean"], "repeats": 1, "n_neighbors": 1, "out": tmp_path}
    first = audit(X, Y, norm="l2", **options)
    (tmp_path / "results.json").unlink()  # its report may be written over
    again = audit(X, Y, norm=L2.in_units([1.0, 2.0, 3.0]), **options)
    assert again.document["reproduction"]["cells"] == {"computed": 1, "reused": 0, "failed": 0}
    assert again.document["protocol"]["norm"] == "L2() in units of 3 features"
    assert "L2() in units of 3 features" in again.document["verdict"]["sentence"]
    radius = [result.document["learners"][0]["splits"][0]["median_radius"] for result in (first, again)]
    assert radius[0] != radius[1]


class Opaque:
    """Its repr says nothing of its content, and it can be told in full."""

    def __init__(self, content):
        self.content = content

    def __repr__(self):
        return "Opaque()"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Opaque(1), Opaque(2)),
        ({"a": np.zeros(5000)}, {"a": np.eye(5000)[2500]}),  # a repr leaves out the middle
        (np.array(["a", None], dtype=object), np.array(["b", None], dtype=object)),
        (np.random.RandomState(0), np.random.RandomState(1)),
        (1, True),
        (1, 1.0),
        ([1, 2], [12]),
        (np.float32([1]), np.float64([1])),
        (np.array([0.1]), np.array([0.1 + 1e-16])),
    ],
)
def test_parameters_are_told_in_full(one, other):
    assert canonical(one) != canonical(other)


def test_what_cannot_be_told_is_computed_again_but_makes_no_other_audit(tmp_path):
    learner = LMNN(init=lambda: None)
    one = request(learners={"mine": learner})
    assert key(one) != key(one)
    other = request(learners={"mine": LMNN(init=lambda: None)})
    assert TableEvidence(one).options() == TableEvidence(other).options()


def test_equal_parameters_are_the_same_in_every_process():
    code = (
        "import numpy as np; from certimetric.runs.key import canonical; from certimetric import LMNN;"
        "from certimetric.geometry import resolve_norm;"
        "print(canonical([LMNN(init=np.eye(3)), {'b': 1, 'a': {2, 3}}, np.random.RandomState(3),"
        " resolve_norm('l2').restrict([True, False]), np.array(['x', None], dtype=object)]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    restricted, labels = L2.restrict([True, False]), np.array(["x", None], dtype=object)
    here = [LMNN(init=np.eye(3)), {"a": {3, 2}, "b": 1}, np.random.RandomState(3), restricted, labels]
    assert done.stdout == f"{canonical(here)}\n"
