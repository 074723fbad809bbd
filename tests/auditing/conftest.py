"""Audits that several tests look at."""

from __future__ import annotations

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
