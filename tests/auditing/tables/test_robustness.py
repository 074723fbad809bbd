"""The curves of the audit bracket each other, and are those of the instances they were made from."""

import numpy as np
import pytest

from certimetric import CertifiedKNeighborsClassifier, audit
from certimetric.auditing.tables import robustness


@pytest.fixture(scope="module", params=[1, 3])
def learners(request, iris):
    options = {"learners": ["euclidean", "lmnn"], "repeats": 1, "n_neighbors": request.param}
    return request.param, audit(iris.X, iris.y, **options).document["learners"]


def test_curves_bracket_each_other(learners):
    k, learners = learners
    for learner in learners:
        curves = learner["robustness"]
        sizes = len(curves["eps"])
        certified, attacked = np.array(curves["certified"]), np.array(curves["adversarial"])
        assert curves["eps"][0] == 0
        assert np.all(np.diff(curves["eps"]) > 0)
        assert len(certified) == len(attacked) == len(curves["noise"]) == sizes
        # Larger changes can only do more; at size 0 nothing has been changed.
        for curve in (certified, attacked):
            assert (np.diff(curve) <= 0).all()
        assert certified[0] == attacked[0] == curves["noise"][0] == curves["clean"]
        assert (certified <= attacked).all()
        assert (np.array(curves["noise"]) >= certified - 1e-12).all()
        if k == 1:
            exact = np.array(curves["exact"])
            assert (certified <= exact).all()
            assert (exact <= attacked).all()
            assert 0.9 < curves["certified_over_exact"] <= 1
            assert 0.9 < curves["exact_over_attack"] <= 1
        else:
            assert curves["exact"] is None
            assert 0.5 < curves["certified_over_attack"] <= 1


def test_fragile_instances_have_their_exact_change(learners):
    _, learners = learners
    for learner in learners:
        for entry in learner["fragile"]:
            exact = entry["exact_radius"]
            assert exact is not None  # a small table: branch and bound comes to its end
            assert entry["radius"] <= exact * (1 + 1e-9) + 1e-12
            assert exact <= entry["attack_distance"] * (1 + 1e-6)


@pytest.mark.usefixtures("light_attacks")
@pytest.mark.parametrize("near", [pytest.param(8, marks=pytest.mark.slow), 80])
def test_attacks_that_look_at_the_nearest_are_held_against_all(near, monkeypatch):
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1], 200)
    X = rng.standard_normal((400, 3)) + 3.0 * y[:, None]  # far inside of a class all that is near is of it
    knn = CertifiedKNeighborsClassifier(3).fit(X[::2], y[::2])
    queries = X[1::40]
    wanted = robustness.attack(knn, queries, "l2")
    monkeypatch.setattr(robustness, "NEAR", near)
    found = robustness.attack(knn, queries, "l2")
    before, radii = knn.predict_with_radius(queries)
    assert (knn.predict(found.adversarial) == found.labels).all()
    assert ((found.labels != before) == found.success).all()
    sizes = np.linalg.norm(found.adversarial - queries, axis=1)
    np.testing.assert_allclose(found.distances, np.where(found.success, sizes, np.inf))
    assert (sizes[~found.success] == 0).all() and (found.distances >= radii * (1 - 1e-9)).all()
    if near == 80:  # little is lost
        assert wanted.success.all() and found.success.mean() >= 0.9
        assert np.median(found.distances / wanted.distances) < 1.05
