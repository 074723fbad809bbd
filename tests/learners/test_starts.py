"""Starting points and priors by name: every learner knows the same ones, and says where one cannot work."""

import inspect

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.neighbors import KNeighborsClassifier

from certimetric import GMML, ITML, LMNN, LSML, MLKR, MMC, NCA, OASIS, SDML
from certimetric.constraints import random_pairs, random_triplets
from certimetric.learners.coordinates import Coordinates
from certimetric.learners.specs import LEARNERS, REGRESSORS
from certimetric.learners.starts import (
    INITS,
    INITS_WITHOUT_CLASSES,
    PRIORS,
    discriminants,
    principal_axes,
    random_components,
    starting_components,
)

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # few steps are meant


def learners_with(name):
    made = [kind for kind in (*LEARNERS.values(), *REGRESSORS.values()) if name in kind().get_params()]
    return pytest.mark.parametrize("kind", made, ids=lambda kind: kind.__name__)


def few_steps(kind, **parameters):
    names = kind().get_params()
    return kind(**{"max_iter": 3, **parameters} if "max_iter" in names else parameters)


def names_of(kind, parameter):
    return sorted(kind._parameter_constraints[parameter][0].options)


def test_every_learner_that_has_a_start_or_a_prior_takes_the_names_of_the_one_list():
    known = {"init": {frozenset(INITS), frozenset(INITS_WITHOUT_CLASSES)}, "prior": {frozenset(PRIORS)}}
    for kind in (*LEARNERS.values(), *REGRESSORS.values()):
        for parameter, lists in known.items():
            if parameter in kind().get_params() and kind not in (OASIS, GMML):
                assert frozenset(names_of(kind, parameter)) in lists
    assert frozenset(names_of(MLKR, "init")) == INITS_WITHOUT_CLASSES
    assert names_of(OASIS, "init") == ["identity", "random"]  # of W, which is no L
    assert names_of(GMML, "prior") == ["covariance", "identity"]  # it draws nothing


@pytest.mark.parametrize("parameter", ["init", "prior"])
def test_every_name_gives_a_metric_and_seeds_decide(parameter, wine):
    X, y = wine
    for kind in (*LEARNERS.values(), *REGRESSORS.values()):
        if parameter not in kind().get_params():
            continue
        for name in names_of(kind, parameter):
            seed = {"random_state": 3} if "random_state" in kind().get_params() else {}
            learner = few_steps(kind, **{parameter: name}, **seed)
            L = learner.fit(X, y).components_
            assert np.isfinite(L).all()
            assert L.any()
            np.testing.assert_array_equal(clone(learner).fit(X, y).components_, L)
            if name == "random":
                other = clone(learner).set_params(random_state=4).fit(X, y)
                assert np.abs(other.get_mahalanobis_matrix() - learner.get_mahalanobis_matrix()).max() > 1e-6


@learners_with("init")
def test_docstrings_name_what_is_taken(kind):
    told = inspect.getdoc(kind).split("init : ")[1].split("\n")[0]
    for name in names_of(kind, "init"):
        assert f'"{name}"' in told


def test_discriminants_span_those_of_scikit_learn(wine):
    # They whiten the scatter inside of classes (but for its ridge), in the order of their quotients.
    X, y = wine
    L = discriminants(X, y)
    assert L.shape == (2, X.shape[1])
    theirs = LinearDiscriminantAnalysis(solver="svd").fit(X, y).scalings_.T
    for ours, other in zip(L, theirs):
        assert abs(ours @ other) / (np.linalg.norm(ours) * np.linalg.norm(other)) > 0.999
    within = np.concatenate([X[y == c] - X[y == c].mean(axis=0) for c in range(3)])
    np.testing.assert_allclose(L @ (within.T @ within / len(X)) @ L.T, np.eye(2), atol=5e-3)


@pytest.mark.parametrize("case", ["constant column", "collinear", "wide", "equal rows", "classes that do not vary"])
def test_discriminants_of_singular_scatters_are_finite(case, rng):
    y = np.arange(30) % 3
    X = rng.standard_normal((30, 4)) + y[:, None]
    X = {
        "constant column": np.c_[X, np.ones(30)],
        "collinear": np.c_[X, X[:, :2].sum(axis=1)],
        "wide": rng.standard_normal((30, 60)),
        "equal rows": np.ones((30, 4)),
        "classes that do not vary": np.eye(3)[y],
    }[case]
    L = discriminants(X, y)
    assert np.isfinite(L).all()
    assert L.shape == (2, X.shape[1])


def test_principal_axes_are_orthonormal_and_padded(rng):
    X = rng.standard_normal((40, 5)) * np.array([5, 4, 3, 2, 1])
    L = principal_axes(X, 3)
    np.testing.assert_allclose(L @ L.T, np.eye(3), atol=1e-12)
    variances = (X @ L.T).var(axis=0)
    assert (np.diff(variances) < 0).all()
    assert variances.sum() >= np.sort(X.var(axis=0))[-3:].sum() - 1e-9
    few = principal_axes(X[:3], 5)
    assert few.shape == (5, 5)
    assert not few[3:].any()


def test_random_components_keep_squared_distances_in_the_mean(rng):
    difference = rng.standard_normal(6)
    seeds = np.random.RandomState(0)
    squared = [np.square(random_components(3, 6, seeds) @ difference).sum() for _ in range(4000)]
    assert np.mean(squared) == pytest.approx(difference @ difference, rel=0.05)


def test_a_start_is_that_of_the_data_whatever_their_unit(iris):
    X, y = iris
    for init in INITS:
        starts = []
        for scale in (1.0, 1e4):
            coordinates = Coordinates.for_descent(X * scale, init, 2, rescale=True)
            L = starting_components(init, coordinates, 2, 4, np.random.RandomState(0), y)
            starts.append(coordinates.lift(L) * scale)
        np.testing.assert_allclose(np.abs(starts[0]), np.abs(starts[1]), rtol=1e-6, atol=1e-9)


def test_lda_needs_classes(iris):
    X, y = iris
    triplets = random_triplets(y, 50, 0)
    pairs, kinds = random_pairs(y, 50, 0)
    for fit in (
        lambda: LMNN(init="lda", preprocessor=X).fit(triplets),
        lambda: MMC(init="lda", preprocessor=X).fit(pairs, kinds),
    ):
        with pytest.raises(ValueError, match="init='lda' needs class labels, and tuples have none") as error:
            fit()
        assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match=r"'init' parameter of MLKR must be .* Got 'lda'"):
        MLKR(init="lda").fit(X, y)
    with pytest.raises(ValueError, match="not for a diagonal metric"):
        MMC(diagonal=True, init="lda").fit(X, y)


def test_lda_has_fewer_rows_than_classes(iris):
    X, y = iris
    assert NCA(init="lda", max_iter=2).fit(X, y).components_.shape == (2, 4)
    assert NCA(1, init="lda", max_iter=2).fit(X, y).components_.shape == (1, 4)
    with pytest.raises(ValueError, match="2 discriminants of 3 classes: n_components must be at most as many, got 3"):
        NCA(3, init="lda").fit(X, y)


@learners_with("n_components")
def test_more_components_than_features_are_refused_from_every_start(kind, iris):
    for init in names_of(kind, "init") if "init" in kind().get_params() else [None]:
        learner = kind(n_components=5, **({} if init is None else {"init": init}))
        with pytest.raises(ValueError, match="n_components must be at most the number of features, 4, got 5"):
            learner.fit(*iris)


def test_wide_data_start_in_their_span():
    rng = np.random.default_rng(0)
    y = np.arange(30) % 3
    X = rng.standard_normal((30, 60))
    X[:, :5] += 2 * rng.standard_normal((3, 5))[y]
    for init in INITS:
        nca = NCA(2, init=init, max_iter=30, random_state=0).fit(X, y)
        assert nca.components_.shape == (2, 60)
        assert nca.objective_ < 0.05


def test_a_start_at_discriminants_is_the_better_one_at_few_components(wine):
    # The discriminants separate wine by themselves; so few steps keep what is there.
    X, y = wine
    knn = KNeighborsClassifier(3)
    scores = {}
    for init in ("lda", "random"):
        nca = NCA(2, init=init, max_iter=1, random_state=0).fit(X[::2], y[::2])
        scores[init] = knn.fit(nca.transform(X[::2]), y[::2]).score(nca.transform(X[1::2]), y[1::2])
    assert scores["lda"] > 0.95
    assert scores["lda"] >= scores["random"]


@pytest.mark.parametrize("kind", [ITML, LSML, SDML])
def test_priors_of_pairs_are_those_of_labels(kind, iris):
    X, _ = iris
    tuples = np.random.default_rng(0).integers(0, 150, (40, kind.tuple_size))
    kinds = {} if kind is LSML else {"y": np.where(np.arange(40) % 2, 1, -1)}
    for prior in PRIORS:
        fits = [kind(prior=prior, preprocessor=X, random_state=0).fit(tuples, **kinds) for _ in range(2)]
        np.testing.assert_array_equal(*(learner.components_ for learner in fits))


def test_oasis_starts_at_random_as_its_seed_says(iris):
    X, y = iris
    X = X - X.mean(axis=0)
    triplets = X[random_triplets(y, 200, 0)]
    whole = OASIS(init="random", random_state=1).fit(triplets)
    parts = OASIS(init="random", random_state=1).partial_fit(triplets[:80]).partial_fit(triplets[80:])
    np.testing.assert_allclose(parts.bilinear_matrix_, whole.bilinear_matrix_)
    other = OASIS(init="random", random_state=2).fit(triplets)
    assert np.abs(other.bilinear_matrix_ - whole.bilinear_matrix_).max() > 1e-3
