"""Audits that several tests look at."""

from __future__ import annotations

import copy

import pytest

from certimetric import audit, datasets


@pytest.fixture(scope="session")
def iris():
    return datasets.load("iris")


@pytest.fixture(scope="session")
def iris_audit(iris):
    """Three learners on iris."""
    return audit(
        iris.X,
        iris.y,
        feature_names=iris.feature_names,
        name="iris",
        learners=["euclidean", "gmml", "lmnn+pl:tau=0.5"],
        repeats=3,
        fail_under=["accuracy=0.8", "lmnn+pl:tau=0.5.certified@0.1=0.99"],
    )


def without_time(document):
    """The figures that a repeated run must give again."""
    document = copy.deepcopy(document)
    document.pop("reproduction")
    for learner in document["learners"]:
        if learner["summary"]:
            learner["summary"].pop("fit_seconds")
        for split in learner["splits"]:
            split.pop("fit_seconds", None)
    return document


@pytest.fixture(scope="session")
def figures():
    return without_time
