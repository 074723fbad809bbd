"""Weights of classes in the learners that take them: what they mean, and that they help the rare class."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.metrics import balanced_accuracy_score

from certimetric import ARML, GMLVQ, GMML, ITML, RCA, CertifiedKNeighborsClassifier, Covariance, Euclidean
from certimetric.constraints.pairs import pairs_of_classes
from certimetric.learners.specs import LEARNERS, make_learner

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # few steps are meant
WEIGHTED = {
    name: clone(made()).set_params(
        **{key: value for key, value in {"max_iter": 4, "random_state": 0}.items() if key in made().get_params()}
    )
    for name, made in LEARNERS.items()
    if "class_weight" in made().get_params()
}
WEIGHTED["arml in batches"] = ARML(batch_size=16, max_iter=4, random_state=0)
each_learner = pytest.mark.parametrize("learner", WEIGHTED.values(), ids=WEIGHTED)


def rare(rng, n=3060):
    """One in 51 is of class 1, which lies beside the other and has less of one direction."""
    y = (np.arange(n) % 51 == 0).astype(int)
    X = rng.standard_normal((n, 3)) * [1.0, 1.0, 3.0]
    X[y == 1] = X[y == 1] * [0.5, 0.5, 1.0] + [1.5, 0.0, 0.0]
    return X, y


def test_every_learner_of_classes_takes_them():
    assert {made for name, made in LEARNERS.items() if name not in WEIGHTED} == {Euclidean, Covariance, RCA}


def metric_of(learner, X, y, sample_weight=None, **settings):
    return clone(learner).set_params(**settings).fit(X, y, sample_weight=sample_weight).get_mahalanobis_matrix()


@each_learner
def test_weights_of_classes_are_those_of_their_instances(learner, iris):
    X, y = iris[0][::3][:40], iris[1][::3][:40]  # of 17, 17 and 6
    balanced, given = metric_of(learner, X, y, class_weight="balanced"), {0: 1.0, 1: 2.0, 2: 5.0}
    by_hand = metric_of(learner, X, y, sample_weight=1.0 / np.bincount(y)[y])
    np.testing.assert_allclose(balanced, by_hand, rtol=1e-6, atol=1e-6 * np.abs(by_hand).max())
    both = metric_of(learner, X, y, np.arange(40), class_weight=given)
    product = metric_of(learner, X, y, np.arange(40) * np.array([1.0, 2.0, 5.0])[y])
    np.testing.assert_allclose(both, product, rtol=1e-6, atol=1e-6 * np.abs(product).max())


@each_learner
def test_equal_weights_of_equal_classes_change_nothing(learner, iris):
    plain = metric_of(learner, *iris)
    for weights in ("balanced", dict.fromkeys(range(3), 7.0)):
        np.testing.assert_array_equal(metric_of(learner, *iris, class_weight=weights), plain)


@pytest.mark.parametrize("learner", [GMLVQ(), ARML(5, n_impostors=5), ARML(5, batch_size=64), GMML(), ITML()], ids=repr)
def test_balanced_weights_find_the_rare_class(learner, rng):
    X, y = rare(rng)
    scores = {}
    for weights in (None, "balanced"):
        settings = {"class_weight": weights, "max_iter": 20, "random_state": 0}
        known = learner.get_params()
        fitted = clone(learner).set_params(**{key: value for key, value in settings.items() if key in known})
        fitted.fit(X[:1020], y[:1020])
        rows = (fitted.prototypes_, fitted.prototype_labels_) if isinstance(fitted, GMLVQ) else (X[:1020], y[:1020])
        rule = CertifiedKNeighborsClassifier(1, metric=fitted).fit(*rows)
        scores[weights] = balanced_accuracy_score(y[1020:], rule.predict(X[1020:]))
    assert scores["balanced"] >= scores[None] - 0.02
    if isinstance(learner, GMLVQ):
        assert scores["balanced"] > 0.7


def test_balanced_draws_have_as_many_pairs_of_every_class(rng):
    y = np.repeat([0, 1], [5000, 10])
    drawn, kinds = pairs_of_classes(y, 1000, np.random.RandomState(0), 1.0 / np.bincount(y)[y])
    similar = drawn[kinds == 1]
    assert len(similar) == 1000 and 0.45 < (y[similar[:, 0]] == 1).mean() < 0.55
    drawn, kinds = pairs_of_classes(y, 1000, np.random.RandomState(0))
    assert (y[drawn[kinds == 1]] == 1).sum() <= 10


def test_specifications_name_them():
    assert make_learner("lmnn+pl:class_weight=balanced,tau=2").class_weight == "balanced"


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
