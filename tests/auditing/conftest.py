"""Audits that several tests look at."""

from __future__ import annotations

from dataclasses import replace

import pytest

from certimetric import audit, datasets


@pytest.fixture(scope="session")
def iris():
    """Every second flower: an audit takes the time that attacks on its test part take."""
    whole = datasets.load("iris")
    return replace(whole, X=whole.X[::2], y=whole.y[::2])


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
