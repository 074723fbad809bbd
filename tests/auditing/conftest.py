"""Audits that several tests look at."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sklearn.datasets import load_digits

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


@pytest.fixture(scope="session")
def digits():
    """Pictures of digits as a set: ``digits(4, slice(60))`` are the first sixty of 0 to 3."""
    torch = pytest.importorskip("torch", reason="torch is not installed: the extra 'deep' has it")
    from certimetric.deep import ImageSet

    def of(n_classes, rows):
        X, y = load_digits(n_class=n_classes, return_X_y=True)
        images = torch.tensor(X[rows] / 16, dtype=torch.float32).view(-1, 1, 8, 8)
        return ImageSet(images, torch.from_numpy(y[rows]))

    return of


@pytest.fixture(scope="session")
def data(digits):
    """Sixty pictures of four digits."""
    return digits(4, slice(60))
