"""Hard but valid input: every learner, and the classifier on it, give finite results and certificates that hold."""

import subprocess
import sys
from itertools import cycle

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone

from certimetric import CertifiedKNeighborsClassifier
from certimetric.learners.specs import REGRESSORS, learner_variants

LEARNERS = [
    *learner_variants(max_iter=25, n_neighbors=1, random_state=0),
    *(
        learner.set_params(perturbation__norm=norm)
        for learner, norm in zip(learner_variants(max_iter=25, n_neighbors=1, random_state=0), cycle(["linf", "l1"]))
        if getattr(learner, "perturbation", None) is not None
    ),
]


def cases():
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((40, 4)), rng.integers(0, 3, 40)
    letters = np.array(list("abc"))[y]
    yield "constant feature", np.c_[X, np.ones(40)], y
    yield "duplicate rows", np.r_[X, X], np.r_[y, y]
    yield "conflicting duplicates", np.r_[X, X], np.r_[y, (y + 1) % 3]
    yield "all rows equal", np.ones((20, 3)), np.arange(20) % 2
    yield "all zeros", np.zeros((20, 3)), np.arange(20) % 2
    yield "more features than instances", rng.standard_normal((10, 30)), np.arange(10) % 2
    yield "a class with one instance", X, np.r_[3, y[1:]]
    yield "integers", (X * 10).astype(int), y
    yield "float32", X.astype(np.float32), y
    yield "string labels", X, letters
    yield "data frame", pd.DataFrame(X, columns=list("wxyz")), pd.Series(letters)
    yield "Fortran order", np.asfortranarray(X), y
    yield "strided view", np.repeat(X, 2, axis=0)[::2, ::-1], y
    yield "large offset", X * 1e6 + 1e9, y
    yield "tiny scale", X * 1e-8, y
    yield "one feature", X[:, :1], y


CASES = {name: (X, y) for name, X, y in cases()}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("learner", LEARNERS, ids=repr)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # few steps are meant
def test_finite_and_sound(learner, case):
    X, y = CASES[case]
    target = np.unique(y, return_inverse=True)[1] if type(learner) in REGRESSORS.values() else y
    fitted = clone(learner).fit(X, target)
    assert np.isfinite(fitted.components_).all()
    assert np.isfinite(np.asarray(fitted.transform(X))).all()
    knn = CertifiedKNeighborsClassifier(2, metric=fitted.metric_).fit(X, y)
    labels, radii = knn.predict_with_radius(X)
    assert not np.isnan(radii).any()
    assert (radii >= 0).all()
    values = np.asarray(X, dtype=float)
    direction = np.random.default_rng(1).standard_normal(values.shape)
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    size = np.where(np.isinf(radii), 1.0, radii)[:, None]
    moved = values + 0.999 * size * direction
    if isinstance(X, pd.DataFrame):
        moved = pd.DataFrame(moved, columns=X.columns)
    np.testing.assert_array_equal(knn.predict(moved), labels)


_LETTER = """
import sys, resource, numpy as np
from certimetric import AML, GMML, LMNN, SCML, CertifiedKNeighborsClassifier, PerturbationLoss
from certimetric.datasets import load
data = load(sys.argv[1])
X = (data.X - data.X.mean(axis=0)) / data.X.std(axis=0)
for learner in (GMML(), AML(), LMNN(), LMNN(perturbation=PerturbationLoss()), SCML(random_state=0)):
    metric = learner.fit(X[::2], data.y[::2]).metric_
    knn = CertifiedKNeighborsClassifier(3, metric=metric).fit(X[::2], data.y[::2])
    assert knn.certified_accuracy(X[1::2], data.y[1::2], 0.0) > 0.9
LMNN(max_iter=10).fit(X, data.y)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


@pytest.mark.slow
def test_letter_fits_in_memory(real_data):
    # 20,000 × 16 in 26 classes: an n × n matrix of distances alone would take 3.2 GB.
    done = subprocess.run(
        [sys.executable, "-c", _LETTER, str(real_data / "tabular" / "letter.csv")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 1500


@pytest.mark.slow
def test_memory_bound_is_kept():
    # 40,000 × 1,500 distances would take 480 MB; 16 MiB are allowed for them.
    code = """
import resource, numpy as np
from certimetric import CertifiedKNeighborsClassifier
rng = np.random.default_rng(0)
X, y = rng.standard_normal((40_000, 2)), rng.integers(0, 2, 40_000)
knn = CertifiedKNeighborsClassifier(1, memory_mb=16).fit(X, y)
knn.predict_with_radius(X[:10])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
knn.predict_with_radius(X[:1_500])
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 64
