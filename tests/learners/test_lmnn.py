"""LMNN: the true objective, reached and recorded; triplets; the perturbation loss does what it is for."""

import warnings

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.preprocessing import StandardScaler

from certimetric import LMNN, CertifiedKNeighborsClassifier, MahalanobisMetric, PerturbationLoss
from certimetric.constraints import nearest_triplets, target_neighbors
from certimetric.datasets import load
from certimetric.learners import lmnn as module


def true_objective(L, X, y, k=3, mu=0.5):
    """Brute force over all targets and all instances of other classes."""
    Z = X @ L.T
    squared = ((Z[:, None] - Z[None]) ** 2).sum(axis=-1)
    targets = target_neighbors(X, y, k)
    i, a = np.nonzero(targets >= 0)
    pull = squared[i, targets[i, a]]
    hinge = np.maximum(1 + pull[:, None] - squared[i], 0) * (y[None] != y[i][:, None])
    return (1 - mu) * pull.mean() + mu * hinge.sum() / len(i)


@pytest.mark.parametrize("mu", [0.1, 0.5, 0.9])
def test_objective_is_the_true_one_and_never_rises(wine, mu):
    X, y = wine
    lmnn = LMNN(push_weight=mu).fit(X, y)
    assert lmnn.objective_ == pytest.approx(true_objective(lmnn.components_, X, y, mu=mu), rel=1e-9)
    assert lmnn.objective_path_[0] == pytest.approx(true_objective(np.eye(13), X, y, mu=mu), rel=1e-9)
    assert (np.diff(lmnn.objective_path_) <= 0).all()
    assert lmnn.objective_ < 0.5 * lmnn.objective_path_[0]


@pytest.mark.slow
def test_reaches_what_long_gradient_descent_reaches(iris):
    X, y = iris
    lmnn = LMNN(tol=1e-7, max_iter=2000).fit(X, y)
    # The objective is convex in M: projected gradient descent over M is slow, but cannot get stuck elsewhere.
    targets = target_neighbors(X, y, 3)
    M, best = np.eye(4), np.inf
    i = np.repeat(np.arange(len(X)), 3)
    pull = X[i] - X[targets.ravel()]
    other = y[None] != y[i][:, None]
    for step in range(1500):
        squared = np.einsum("nmi,ij,nmj->nm", X[:, None] - X[None], M, X[:, None] - X[None])[i]
        near = np.einsum("ni,ij,nj->n", pull, M, pull)
        active = (1 + near[:, None] - squared > 0) & other
        best = min(best, (0.5 * near.sum() + 0.5 * ((1 + near[:, None] - squared) * active).sum()) / len(i))
        weights = 0.5 + 0.5 * active.sum(axis=1)
        gradient = (pull * weights[:, None]).T @ pull
        t, l = np.nonzero(active)
        push = X[i[t]] - X[l]
        gradient = (gradient - 0.5 * push.T @ push) / len(i)
        values, vectors = np.linalg.eigh(M - 0.5 / np.sqrt(step + 1) * gradient)
        M = (vectors * np.maximum(values, 0)) @ vectors.T
    assert lmnn.objective_ <= best * (1 + 1e-3)


def test_low_rank_and_given_start(wine):
    X, y = wine
    lmnn = LMNN(n_components=2).fit(X, y)
    assert lmnn.components_.shape == (2, 13)
    assert lmnn.objective_ == pytest.approx(true_objective(lmnn.components_, X, y), rel=1e-9)
    again = LMNN(init=lmnn.components_).fit(X, y)
    assert again.objective_ <= lmnn.objective_ * (1 + 1e-12)
    with pytest.raises(ValueError, match="at most the number of features, 13, got 20"):
        LMNN(n_components=20).fit(X, y)
    with pytest.raises(ValueError, match=r"shape \(2, 13\)"):
        LMNN(n_components=2, init=np.eye(13)).fit(X, y)


def test_threads_change_nothing(wine):
    X, y = wine
    np.testing.assert_array_equal(LMNN(n_jobs=2).fit(X, y).components_, LMNN().fit(X, y).components_)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # few steps are meant
def test_joint_rotation_gives_the_rotated_metric(iris):
    # Distances are all that the objective sees, and the start is the identity.
    X, y = iris
    Q = np.linalg.qr(np.random.default_rng(0).standard_normal((4, 4)))[0]
    a, b = LMNN(max_iter=10).fit(X, y), LMNN(max_iter=10).fit(X @ Q, y)
    np.testing.assert_allclose(Q @ b.get_mahalanobis_matrix() @ Q.T, a.get_mahalanobis_matrix(), rtol=1e-5, atol=1e-7)


def test_triplets_are_learned_from(iris):
    X, y = iris
    rows = nearest_triplets(X, y, 3, 10)
    for perturbation in (None, PerturbationLoss()):
        lmnn = LMNN(perturbation=perturbation).fit_triplets(X[rows])
        d = lmnn.metric_.distance
        violated = (d(X[rows[:, 0]], X[rows[:, 1]]) >= d(X[rows[:, 0]], X[rows[:, 2]])).mean()
        before = np.linalg.norm(X[rows[:, 0]] - X[rows[:, 1]], axis=1) >= np.linalg.norm(
            X[rows[:, 0]] - X[rows[:, 2]], axis=1
        )
        assert violated < before.mean()
        assert (np.diff(lmnn.objective_path_) <= 0).all()
    with pytest.raises(ValueError, match=r"\(n, 3, d\)"):
        LMNN().fit_triplets(X[rows][:, :2])


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # 50 steps are meant
def test_the_loss_comes_in_where_pull_and_push_have_led(wine, rng):
    X, y = wine
    X = np.c_[X, 0.01 * rng.standard_normal(len(X))]  # a feature that hardly varies
    X /= np.sqrt(X.var(axis=0).mean())  # in the unit that the loss takes
    start = np.diag([1.0] * 13 + [3.0])
    plain = LMNN(init=start, max_iter=50).fit(X, y)  # a quarter of 200
    perturbed = LMNN(init=start, perturbation=PerturbationLoss()).fit(X, y)
    assert plain.n_iter_ < perturbed.n_iter_ <= 200
    loss = PerturbationLoss()
    triplets = nearest_triplets(X, y, 3, 10)
    L = levelled(plain.components_, X)
    assert not np.allclose(L.T @ L, plain.get_mahalanobis_matrix())
    tau = loss.bind(X, triplets, start=L).tau
    margins = loss.adversarial_margin(MahalanobisMetric(components=L), X, triplets)
    missing = np.maximum(1 - margins**2 / tau, 0).mean()
    assert perturbed.objective_path_[0] == pytest.approx(true_objective(L, X, y) * (1 + 30 * missing), rel=1e-6)


def levelled(L, X):
    """As it is, but for directions longer than the slope of distances from the mean."""
    M, C = L.T @ L, np.cov(X.T)
    values, axes = np.linalg.eigh(M)
    bound = np.trace(M @ C @ M) / np.trace(M @ C)
    return np.sqrt(np.minimum(values, bound))[:, None] * axes.T


def test_a_perturbation_loss_leaves_no_direction_long_that_hardly_varies():
    """Any change may be along such a direction: of digits, pixels at the border that few of them touch."""
    X, y = load_digits(return_X_y=True)
    X, y = StandardScaler().fit_transform(X[::3]), y[::3]

    def longest(perturbation):
        values = np.linalg.eigvalsh(LMNN(perturbation=perturbation).fit(X, y).get_mahalanobis_matrix())
        return np.sqrt(values.max() / values.mean())

    assert longest(PerturbationLoss()) < 0.9 * longest(None)  # where they keep the length that they start with


def test_directions_are_bounded_by_those_that_distances_are_made_of(rng):
    X = rng.standard_normal((300, 100))
    few = np.diag([1.0] * 3 + [0.01] * 97)  # among many that tell nothing
    np.testing.assert_allclose(module._levelled(few, X), few, rtol=0.01)
    X[:, 0] *= 0.01
    long = np.diag([1.0] + [0.3] * 99)  # where instances hardly differ
    np.testing.assert_allclose(module._levelled(long, X), 0.3 * np.eye(100), rtol=0.01)
    for L in (few[:1], np.zeros((2, 100))):
        np.testing.assert_allclose(module._levelled(L, X), L, rtol=1e-12)


def test_a_loss_without_weight_changes_nothing(wine):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        perturbed = LMNN(perturbation=PerturbationLoss(weight=0)).fit(*wine)
    assert perturbed.converged_
    assert perturbed.objective_ == pytest.approx(LMNN().fit(*wine).objective_, rel=1e-3)


@pytest.mark.parametrize("perturbation", [None, PerturbationLoss()])
def test_fixed_impostors_are_the_nearest_triplets(wine, perturbation):
    """With as many impostors, labels say what their nearest triplets say: the same objective, the same metric."""
    X, y = wine
    settings = {"push_weight": 0.2, "perturbation": perturbation}
    lmnn = LMNN(n_impostors=5, **settings).fit(X, y)
    of_triplets = LMNN(preprocessor=X, **settings).fit(nearest_triplets(X, y, 3, 5))
    assert lmnn.objective_ == pytest.approx(of_triplets.objective_, rel=1e-6)
    np.testing.assert_allclose(
        lmnn.get_mahalanobis_matrix(), of_triplets.get_mahalanobis_matrix(), rtol=1e-3, atol=1e-4
    )


def test_all_impostors_fixed_are_all_impostors(iris):
    X, y = iris
    lmnn = LMNN(n_impostors=len(X)).fit(X, y)
    assert lmnn.objective_ == pytest.approx(true_objective(lmnn.components_, X, y), rel=1e-9)
    assert lmnn.objective_ == pytest.approx(LMNN().fit(X, y).objective_, rel=0.01)


def test_too_many_neighbors_are_named(iris):
    with pytest.raises(ValueError, match="less than the number of instances, 150, got 150"):
        LMNN(n_neighbors=150).fit(*iris)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # few steps are meant
def test_verbose_prints_the_objective(iris, capsys):
    LMNN(max_iter=10, verbose=True).fit(*iris)
    assert "objective" in capsys.readouterr().out


def compare(name, seeds=(0, 1, 2), **settings):
    """Mean error, median certified radius and error under noise of LMNN and LMNN-PL, averaged over splits."""
    from sklearn.model_selection import train_test_split
    from sklearn.preprocessing import StandardScaler

    data = load(name)
    figures = {}
    for label, learner in (("lmnn", LMNN()), ("lmnn+pl", LMNN(perturbation=PerturbationLoss(**settings)))):
        rows = []
        for seed in seeds:
            split = train_test_split(data.X, data.y, test_size=0.3, stratify=data.y, random_state=seed)
            scaler = StandardScaler().fit(split[0])
            knn = CertifiedKNeighborsClassifier(3, metric=learner).fit(scaler.transform(split[0]), split[2])
            test = scaler.transform(split[1])
            noisy = test + 0.3 * np.random.default_rng(seed).standard_normal(test.shape)
            radius = np.median(knn.correctness_radius(test, split[3]))
            rows.append((1 - knn.score(test, split[3]), radius, 1 - knn.score(noisy, split[3])))
        figures[label] = np.mean(rows, axis=0)
    return figures


@pytest.mark.slow
def test_perturbation_loss_on_digits():
    figures = compare("digits")
    assert figures["lmnn+pl"][0] <= 0.025
    assert figures["lmnn+pl"][0] < figures["lmnn"][0]
    assert figures["lmnn+pl"][1] > 1.3 * figures["lmnn"][1]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_perturbation_loss_on_breast_cancer():
    figures = compare("breast_cancer", relative=False)
    assert figures["lmnn+pl"][0] <= figures["lmnn"][0] + 0.005
    assert figures["lmnn+pl"][1] > 2 * figures["lmnn"][1]
    # The relative weight is larger here: it gives up clean error (0.8 of a hundred here) for error under noise.
    figures = compare("breast_cancer")
    assert figures["lmnn+pl"][2] < figures["lmnn"][2]
    assert figures["lmnn+pl"][1] > 2 * figures["lmnn"][1]
