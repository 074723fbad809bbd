"""An audit that searches: nested in every split, kept like any other cell, and shown."""

import numpy as np
import pytest

from certimetric import MetricSearchCV, audit
from certimetric.runs.splits import split_indices

pytestmark = pytest.mark.usefixtures("light_attacks")
SEARCH = MetricSearchCV(["euclidean", "gmml", "gmml:t=0.1"], cv=2)


def of_search(result):
    learner = next(each for each in result.document["learners"] if each["spec"] != "euclidean")
    return learner, [split["search"] for split in learner["splits"]]


def asked(iris, **changed):
    X, y = iris if isinstance(iris, tuple) else (iris.X, iris.y)
    return {"X": X, "y": y, "learners": {"euclidean": "euclidean", "found": SEARCH}, "repeats": 2, **changed}


def test_no_test_row_is_seen(iris):
    """Other test rows, the same search and the same choice, figure for figure; another training row, another."""
    X, y = iris.X, iris.y
    _, first = of_search(audit(**asked(iris, repeats=1)))
    train, test = split_indices(np.unique(y, return_inverse=True)[1], 0.3, 0, 0)
    changed = X.copy()
    changed[test] = np.random.default_rng(0).permuted(X[test], axis=0) + 0.3
    assert of_search(audit(**asked((changed, y), repeats=1)))[1] == first
    changed = X.copy()
    changed[train] = np.random.default_rng(0).permuted(X[train], axis=0)
    assert of_search(audit(**asked((changed, y), repeats=1)))[1] != first


@pytest.mark.slow
def test_cells_are_kept_and_what_was_tried_is_shown(iris, tmp_path):
    first = audit(**asked(iris, out=tmp_path))
    (tmp_path / "results.json").unlink()
    again = audit(**asked(iris, out=tmp_path))
    assert again.document["reproduction"]["cells"]["computed"] == 0
    learner, searches = of_search(again)
    assert searches == of_search(first)[1]
    assert {each["learner"] for each in searches[0]["tried"]} == set(SEARCH.learners)
    page = again.to_html()
    assert "What was searched" in page
    assert page.count("<code>gmml:t=0.1</code>") >= 1
    assert "What was searched" not in audit(iris.X, iris.y, learners=["euclidean"], repeats=1).to_html()
    assert learner["summary"]["error"]["mean"] < 0.2


def test_tune_adds_the_search_of_the_audit(iris):
    from certimetric.auditing.tables.request import Request

    request = Request(iris.X, iris.y, learners=["euclidean"], tune=True, n_neighbors=5, norm="linf")
    added = request.subjects[-1]
    assert (added.spec, added.label) == ("auto", "Chosen by a search")
    told = added.estimator.get_params()
    assert (told["n_neighbors"], told["norm"], told["random_state"]) == (5, "linf", 0)
    named = Request(iris.X, iris.y, learners=["auto:criterion=error", "gmml"], tune=True)
    assert [subject.spec for subject in named.subjects] == ["auto:criterion=error", "gmml"]
