"""With the perturbation loss the units of the data change nothing, whatever the learner."""

import numpy as np
import pytest
from sklearn.base import clone

from certimetric import CertifiedKNeighborsClassifier, PerturbationLoss
from certimetric.constraints.neighbors import nearest_triplets
from certimetric.learners.specs import learner_variants

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # few steps are meant
PERTURBED = [
    learner
    for learner in learner_variants(max_iter=15, random_state=0)
    if isinstance(learner.get_params(deep=False).get("perturbation"), PerturbationLoss)
]


@pytest.mark.parametrize("c", [1e-3, 0.7, 30.1, 1e3])
@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("learner", PERTURBED, ids=lambda learner: type(learner).__name__)
def test_predictions_and_radii_do_not_depend_on_units(learner, norm, c, iris):
    # X → cX maps the metric M to M/c², predictions to themselves, and radii to c times themselves. Iris is measured in
    # tenths: many distances are equal, and no rounding of c X may decide which instance is a target.
    X, y = iris
    told = []
    for unit in (1.0, c):
        fitted = clone(learner).set_params(perturbation=PerturbationLoss(norm=norm)).fit(unit * X[::2], y[::2])
        knn = CertifiedKNeighborsClassifier(3, metric=fitted.metric_).fit(unit * X[::2], y[::2])
        labels, radii = knn.predict_with_radius(unit * X[1::2])
        told.append((labels, radii / unit, unit * fitted.components_))
    np.testing.assert_array_equal(told[1][0], told[0][0])
    np.testing.assert_allclose(told[1][1], told[0][1], rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(told[1][2], told[0][2], rtol=1e-6, atol=1e-9 * np.abs(told[0][2]).max())


@pytest.mark.parametrize("learner", PERTURBED, ids=lambda learner: type(learner).__name__)
def test_a_far_origin_changes_nothing(learner):
    # Features of deviation 1 to the last digit, for which no unit is needed, and an origin that numbers hold exactly.
    rng = np.random.default_rng(0)
    X = 2.0 * rng.integers(0, 2, size=(32, 4)) - 1.0
    X = np.vstack([X, -X])
    y = (X @ [1.0, 0.5, 0.4, 0.3] > 0).astype(int)
    near, far = (clone(learner).fit(X + origin, y).components_ for origin in (0.0, 2.0**40))
    np.testing.assert_allclose(far, near, rtol=1e-6, atol=1e-9 * np.abs(near).max())


OF_TRIPLETS = [learner for learner in PERTURBED if hasattr(learner, "fit_triplets")]


@pytest.mark.parametrize("learner", OF_TRIPLETS, ids=lambda learner: type(learner).__name__)
def test_tuples_know_no_units_either(learner, iris):
    X, y = iris
    triplets = nearest_triplets(X, y, 2, 3)
    a, b = (clone(learner).fit_triplets((unit * X)[triplets]) for unit in (1.0, 300.0))
    np.testing.assert_allclose(300 * b.components_, a.components_, rtol=1e-6, atol=1e-9 * np.abs(a.components_).max())


@pytest.mark.parametrize("learner", PERTURBED, ids=lambda learner: type(learner).__name__)
def test_an_absolute_weight_is_the_factor_itself(learner, iris):
    # On data of unit variance both see the same coordinates, and differ by the factor of the loss alone. (Of three
    # steps LMNN takes none without the loss.)
    X, y = iris
    X, learner = (X - X.mean(axis=0)) / X.std(axis=0), clone(learner).set_params(max_iter=3)
    plain = clone(learner).set_params(perturbation=None).fit(X, y)
    own = plain.objective_path_[0]
    relative = clone(learner).set_params(perturbation=PerturbationLoss()).fit(X, y).objective_path_[0] - own
    absolute = PerturbationLoss(relative=False)
    tau = absolute.bind(X, nearest_triplets(X, y, 3, 10)).tau
    absolute = clone(learner).set_params(perturbation=absolute).fit(X, y).objective_path_[0] - own
    assert relative / absolute == pytest.approx(30 * own / tau, rel=1e-3)
