"""ARML: larger certified radii, in every norm and solver, and honest about what it minimises."""

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer
from sklearn.exceptions import ConvergenceWarning
from sklearn.preprocessing import MinMaxScaler

from certimetric import ARML, ITML, LMNN, NCA, CertifiedKNeighborsClassifier, Euclidean, MarginLoss
from certimetric.constraints.neighbors import combined_triplets, nearest_of_other_classes, target_neighbors
from certimetric.datasets import load
from certimetric.learners.arml import _Batches, _NeighborSearch


@pytest.fixture(scope="module")
def halves():
    X, y = load_breast_cancer(return_X_y=True)
    X = MinMaxScaler().fit_transform(X)
    return X[::2], y[::2], X[1::2], y[1::2]


def radius(learner, halves, norm="l2"):
    X_train, y_train, X_test, y_test = halves
    knn = CertifiedKNeighborsClassifier(1, metric=learner, norm=norm).fit(X_train, y_train)
    return float(np.median(knn.correctness_radius(X_test, y_test)))


def robust_error(learner, split):
    """Mean certified robust error at the quartiles of Euclidean's radii."""
    X_train, y_train, X_test, y_test = split
    eps = np.quantile(
        CertifiedKNeighborsClassifier(1).fit(X_train, y_train).correctness_radius(X_test, y_test), [0.25, 0.5, 0.75]
    )
    knn = CertifiedKNeighborsClassifier(1, metric=learner).fit(X_train, y_train)
    return 1 - knn.certified_accuracy(X_test, y_test, eps).mean()


@pytest.mark.parametrize("name", ["wine", "breast_cancer", pytest.param("digits", marks=pytest.mark.slow)])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # few steps are meant
def test_beats_the_others_in_certified_robust_error(name):
    # The claim of the paper, on bundled data; benchmarks/arml.py has the larger sets.
    data = load(name)
    X = MinMaxScaler().fit_transform(data.X)
    split = X[::2], data.y[::2], X[1::2], data.y[1::2]
    arml = robust_error(ARML(), split)
    for rival in (Euclidean(), ITML(random_state=0), LMNN(), NCA()):
        assert arml < robust_error(rival, split)


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("loss", ["linear", "hinge", "exponential"])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # few steps are meant
def test_every_loss_enlarges_radii_in_its_norm(halves, norm, loss):
    assert radius(ARML(loss=loss, norm=norm), halves, norm) > 1.05 * radius(Euclidean(), halves, norm)


@pytest.mark.parametrize("margin", ["certified", "triplet"])
def test_mini_batches_do_what_full_batches_do(halves, margin):
    euclidean = radius(Euclidean(), halves)
    full = ARML(margin=margin, batch_size=None)
    batches = ARML(margin=margin, batch_size=64, random_state=0)
    assert radius(full, halves) > euclidean
    assert radius(batches, halves) > euclidean


def test_full_batches_never_raise_the_loss(halves):
    learner = ARML().fit(*halves[:2])
    assert (np.diff(learner.objective_path_) <= 0).all()
    assert learner.objective_ == learner.objective_path_[-1]


def test_mini_batches_have_converged_when_no_direction_is_left(halves):
    # Of steps too small to arrive anywhere the gradient keeps its direction, whatever the objective does.
    settings = {"batch_size": 64, "random_state": 0}
    assert ARML(max_iter=50, **settings).fit(*halves[:2]).converged_
    with pytest.warns(ConvergenceWarning, match="ARML did not converge in max_iter=50 steps of mini-batches"):
        slow = ARML(max_iter=50, learning_rate=1e-5, **settings).fit(*halves[:2])
    assert not slow.converged_


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # few steps are meant
def test_units_of_the_data_do_not_matter(halves):
    # Margins are measured in a scale that is read off the data: a thousand times the data, the same metric.
    X_train, y_train = halves[:2]
    M = ARML(max_iter=10).fit(X_train, y_train).get_mahalanobis_matrix()
    same = ARML(max_iter=10).fit(1000 * X_train, y_train).get_mahalanobis_matrix()
    np.testing.assert_allclose(same / same.trace(), M / M.trace(), atol=1e-4 * np.abs(M / M.trace()).max())


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # few steps are meant
def test_small_classes_take_no_wrong_target_neighbours():
    # A class with a single member has no target neighbour, one with two has one: none spills into another class.
    rng = np.random.default_rng(0)
    X = rng.standard_normal((40, 3))
    y = np.array([0] * 37 + [1, 1, 2])
    learner = ARML(n_targets=10, max_iter=5).fit(X, y)
    assert np.isfinite(learner.components_).all()


@pytest.mark.parametrize("n_neighbors", [3, 10])
def test_the_search_of_mini_batches_finds_the_nearest(n_neighbors):
    # Against the exact search, where no two distances are equal: of classes large, small, of one alone, and far away.
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1, 2, 3, 4], [150, 90, 4, 2, 1])
    X = rng.standard_normal((len(y), 5)) + 100.0 * (y == 1)[:, None]
    shuffled = rng.permutation(len(y))
    search = _NeighborSearch(X[shuffled], y[shuffled], n_neighbors, n_neighbors, 1)
    L, rows = rng.standard_normal((3, 5)), rng.permutation(len(y))[:200]
    Z, y = search.X @ L.T, search.y
    both = (find(Z, y, n_neighbors, rows=rows) for find in (target_neighbors, nearest_of_other_classes))
    np.testing.assert_array_equal(search.triplets(L, rows), combined_triplets(rows, *both))


def test_mini_batches_search_less_and_less():
    # As many steps as came before, from 20 up to 80, and then for other instances.
    X, y = load_breast_cancer(return_X_y=True)
    search = _NeighborSearch(X, y, 3, 3, 1)
    searched = []
    exact = search.triplets
    search.triplets = lambda L, rows: searched.append(rows) or exact(L, rows)
    batches, after = _Batches(search, MarginLoss(scale=1.0), None, 10, np.random.RandomState(0)), []
    for _ in range(300):
        batches(np.eye(30))
        after.append(len(searched))
    assert np.flatnonzero(np.diff(after, prepend=0)).tolist() == [0, 20, 40, 80, 160, 240]
    assert len({tuple(rows) for rows in searched}) == len(searched)


def test_same_seed_same_metric(halves):
    fits = [ARML(batch_size=32, max_iter=30, random_state=3).fit(*halves[:2]).components_ for _ in range(2)]
    np.testing.assert_array_equal(*fits)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # few steps are meant
def test_low_rank(halves):
    learner = ARML(n_components=2).fit(*halves[:2])
    assert learner.components_.shape == (2, 30)
