"""Weights of classes in the learners that take them: what they mean, and that they help the rare class."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.metrics import balanced_accuracy_score

from certimetric import AML, ARML, GMLVQ, GMML, NCA, CertifiedKNeighborsClassifier
from certimetric.geometry import resolve_norm
from certimetric.learners.specs import LEARNERS
from certimetric.objectives.prototypes import PrototypeMargins

WEIGHTED = [GMLVQ(random_state=0), ARML(), ARML(batch_size=64)]
each_learner = pytest.mark.parametrize("learner", WEIGHTED, ids=repr)


def rare(rng, n=3060):
    """One in 51 is of class 1, which lies beside the other and has less of one direction."""
    y = (np.arange(n) % 51 == 0).astype(int)
    X = rng.standard_normal((n, 3)) * [1.0, 1.0, 3.0]
    X[y == 1] = X[y == 1] * [0.5, 0.5, 1.0] + [1.5, 0.0, 0.0]
    return X, y


def test_all_learners_that_take_them_are_tested_here():
    taking = {made for made in LEARNERS.values() if "class_weight" in made().get_params()}
    assert taking == {ARML, GMLVQ, AML, GMML, NCA}  # the last three by weights of instances, in test_sample_weight


def test_a_whole_number_is_that_many_copies(rng):
    X, y, labels = rng.standard_normal((20, 3)), np.arange(20) % 2, np.array([0, 0, 1])
    norm, times = resolve_norm("l2"), np.where(y == 0, 3, 1)
    shares = [(np.flatnonzero(y == 0), 0.75), (np.flatnonzero(y == 1), 0.25)]
    weighted = PrototypeMargins(X, y, labels, "hinge", 1.0, norm, shares)
    copies = PrototypeMargins(X.repeat(times, 0), y.repeat(times), labels, "hinge", 1.0, norm, [(np.arange(40), 1.0)])
    point = weighted.stacked(rng.standard_normal((3, 3)), rng.standard_normal((3, 3)))
    for ours, expected in zip(weighted.in_components(point), copies.in_components(point)):
        np.testing.assert_allclose(ours, expected, rtol=1e-10, atol=1e-12)


@each_learner
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_equal_weights_of_equal_classes_change_nothing(learner, iris):
    X, y = iris
    learner = clone(learner).set_params(max_iter=3)
    if "random_state" in learner.get_params():
        learner.set_params(random_state=0)
    plain = clone(learner).fit(X, y)
    for weights in ("balanced", dict.fromkeys(range(3), 7.0)):
        weighted = clone(learner).set_params(class_weight=weights).fit(X, y)
        if learner.get_params().get("batch_size") is None:  # a batch has as many of each class only on average
            np.testing.assert_allclose(weighted.components_, plain.components_, rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(weighted.objective_, plain.objective_, rtol=0.1)


@each_learner
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_balanced_weights_find_the_rare_class(learner, rng):
    X, y = rare(rng)
    scores = {}
    for weights in (None, "balanced"):
        fitted = clone(learner).set_params(class_weight=weights, max_iter=20, random_state=0).fit(X[:1020], y[:1020])
        rows = (fitted.prototypes_, fitted.prototype_labels_) if isinstance(fitted, GMLVQ) else (X[:1020], y[:1020])
        rule = CertifiedKNeighborsClassifier(1, metric=fitted).fit(*rows)
        scores[weights] = balanced_accuracy_score(y[1020:], rule.predict(X[1020:]))
    assert scores["balanced"] >= scores[None] - 0.02
    if isinstance(learner, GMLVQ):
        assert scores["balanced"] > 0.7


@each_learner
@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({0: 1.0, 1: 2.0}, "a positive number for each class, got None for 2"),
        ({0: 1.0, 1: 2.0, 2: 0.0}, "a positive number for each class, got 0.0 for 2"),
        ({0: 1.0, 1: "much", 2: 1.0}, "got 'much' for 1"),
        ("even", "'class_weight' parameter of"),
    ],
)
def test_weights_that_say_nothing_are_refused(learner, weights, message, iris):
    with pytest.raises(ValueError, match=message):
        clone(learner).set_params(class_weight=weights).fit(*iris)
