"""Weights of instances: what they mean in every learner that takes them."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.utils.validation import has_fit_parameter

from certimetric import (
    ARML,
    GMML,
    ITML,
    LFDA,
    LMNN,
    LSML,
    NCA,
    OASIS,
    RCA,
    SCML,
    SDML,
    Covariance,
    Euclidean,
    MarginLoss,
    PerturbationLoss,
)
from certimetric.constraints.neighbors import nearest_triplets, target_neighbors
from certimetric.constraints.pairs import drawn_mates, pairs_of_classes, quadruplets_of_classes
from certimetric.constraints.triplets import triplets_of_classes
from certimetric.geometry import MahalanobisMetric
from certimetric.learners.lfda import local_scatter
from certimetric.learners.specs import learner_variants
from certimetric.objectives import ImpostorHinge
from certimetric.objectives.anchors import AnchorObjective, FixedAnchorObjective
from certimetric.objectives.gradient import MetricObjective, MetricState
from certimetric.objectives.neighborhood import KernelRegression, StochasticNeighbors
from certimetric.objectives.pairs import Pull, pull_and_push

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # few steps are meant
WEIGHTED = [
    learner
    for learner in [
        *learner_variants(max_iter=4, random_state=0),
        RCA(n_components=2),
        LMNN(n_impostors=5, max_iter=4),
        LMNN(n_anchors=30, max_iter=4, random_state=0, perturbation=PerturbationLoss()),
        LMNN(n_anchors=30, n_impostors=5, max_iter=4, random_state=0),
        SCML(n_anchors=30, max_iter=4, random_state=0),
        NCA(n_anchors=30, max_iter=4, random_state=0, perturbation=MarginLoss()),
    ]
    if not isinstance(learner, Euclidean)
]
SUMS = [GMML(), GMML(t=0.3, prior="covariance"), RCA(), RCA(n_components=2), Covariance()]
DRAWN = {
    "pairs": lambda *args: pairs_of_classes(*args)[0],
    "quadruplets": quadruplets_of_classes,
    "triplets": triplets_of_classes,
}
each_learner = pytest.mark.parametrize("learner", WEIGHTED, ids=repr)


@pytest.fixture
def sample(iris):
    return iris[0][::3], iris[1][::3]


def metric_of(learner, *sample, **weights):
    return clone(learner).fit(*sample, **weights).get_mahalanobis_matrix()


def test_every_learner_takes_them_but_the_one_that_learns_nothing():
    assert [type(made) for made in learner_variants() if not has_fit_parameter(made, "sample_weight")] == [Euclidean]


@each_learner
def test_equal_weights_and_the_unit_of_weights_change_nothing(learner, sample, rng):
    plain = metric_of(learner, *sample)
    np.testing.assert_array_equal(metric_of(learner, *sample, sample_weight=np.ones(50)), plain)
    weights = rng.random(50) + 0.1
    one, other = (metric_of(learner, *sample, sample_weight=unit * weights) for unit in (1.0, 1e-200))
    np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-6 * np.abs(one).max())
    assert np.abs(one - plain).max() > 1e-4 * np.abs(one).max()


@each_learner
def test_no_weight_is_not_there(learner, sample):
    X, y = sample
    kept = np.arange(50) % 5 > 0
    expected = metric_of(learner, X[kept], y[kept])
    np.testing.assert_allclose(metric_of(learner, X, y, sample_weight=3.0 * kept), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("learner", SUMS, ids=repr)
def test_whole_weights_of_scatters_are_copies_but_for_the_scale_of_the_metric(learner, sample, rng):
    # GMML counts pairs and Covariance degrees of freedom: those of copies among themselves are not there with weights.
    X, y = sample
    weights = rng.integers(0, 4, 50)
    weighted, copies = (
        metric_of(learner, X, y, sample_weight=weights),
        metric_of(learner, X.repeat(weights, 0), y.repeat(weights)),
    )
    if not isinstance(learner, RCA):
        weighted, copies = weighted / np.trace(weighted), copies / np.trace(copies)
    np.testing.assert_allclose(weighted, copies, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("scale", [0.3, 6.0], ids=["blocks", "lists"])
@pytest.mark.parametrize("term", [StochasticNeighbors, KernelRegression])
def test_sums_over_instances_are_linear_in_their_weights(term, scale, rng):
    X, y = rng.standard_normal((60, 3)), np.arange(60) % 3
    state = MetricState(X, scale * np.eye(3))
    found = []
    parts = rng.random((2, 60))
    for weights in (parts[0], parts[1], parts.sum(axis=0)):
        result = term(y, weights=weights).evaluate(state)
        found.append(weights.sum() * np.append(result.value, result.products.ravel()))
    np.testing.assert_allclose(found[0] + found[1], found[2], rtol=1e-10, atol=1e-12)


def copied(X, triplets, times):
    """Instances besides X that have the triplets of its rows so many times."""
    more = np.repeat(np.arange(len(X)), times)
    mine = [np.flatnonzero(triplets[:, 0] == i) for i in more]
    own = np.repeat(len(X) + np.arange(len(more)), [len(rows) for rows in mine])
    rows = np.concatenate(mine)
    return np.concatenate([X, X[more]]), np.column_stack([own, triplets[rows, 1:]])


@pytest.mark.parametrize(
    "terms_of",
    [
        lambda X, triplets, w=None: list(pull_and_push(triplets, 0.3, w)),
        lambda X, triplets, w=None: [PerturbationLoss(tau=0.8).bind(X, triplets, 0.7, w)],
        lambda X, triplets, w=None: [MarginLoss("hinge", scale=0.7).bind(X, triplets, weights=w)],
        lambda X, triplets, w=None: [MarginLoss("exponential", scale=0.7, margin="triplet").bind(X, triplets, 1.0, w)],
        lambda X, triplets, w=None: [MarginLoss("linear", scale=0.7).bind(X, triplets, weights=w)],
    ],
    ids=["pull and push", "perturbation", "certified hinge", "margins of triplets", "certified"],
)
def test_a_whole_weight_of_an_instance_with_triplets_is_that_many_copies(terms_of, rng):
    X, L, times = rng.standard_normal((25, 3)), rng.standard_normal((2, 3)), rng.integers(0, 4, 25)
    triplets = nearest_triplets(X, np.arange(25) % 2, 2, 3)
    weighted = MetricObjective(X, terms_of(X, triplets, times / 1.7)).in_components(L)
    points, copies = copied(X, triplets, times)
    expected = MetricObjective(points, terms_of(points, copies)).in_components(L)
    for ours, theirs in zip(weighted, expected):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-11)


def test_the_objective_of_lmnn_is_the_weighted_sum_over_instances(rng):
    X, y, w, L = rng.standard_normal((40, 3)), np.arange(40) % 3, rng.random(40), 0.7 * rng.standard_normal((3, 3))
    targets = target_neighbors(X, y, 2)
    squared = np.square(X[:, None] @ L.T - X @ L.T).sum(axis=2)
    pull = push = 0.0
    for i in range(40):
        for j in targets[i]:
            pull += w[i] * squared[i, j]
            push += w[i] * np.maximum(1 + squared[i, j] - squared[i, y != y[i]], 0).sum()
    expected = (0.6 * pull + 0.4 * push) / (2 * w.sum())
    i, a = np.nonzero(targets >= 0)
    full = MetricObjective(
        X, [Pull(np.stack([i, targets[i, a]], 1), 0.6, w), ImpostorHinge(targets, y, 0.4, weights=w)]
    )
    anchors = AnchorObjective(X, y, np.arange(40), targets, w, 0.4)
    for objective in (full, anchors):
        objective.refresh(L)
        assert objective.true_value(L) == pytest.approx(expected, rel=1e-10)
    assert anchors.values(L).mean() == pytest.approx(expected, rel=1e-10)
    fixed = FixedAnchorObjective(X, nearest_triplets(X, y, 2, 4), 0.4, weights=w)
    assert fixed.values(L).mean() == pytest.approx(fixed.in_components(L)[0], rel=1e-10)


def test_affinities_of_lfda_are_weighted_by_the_product(rng):
    X, w = rng.standard_normal((30, 3)), rng.random(30)
    squared = np.square(X[:, None] - X).sum(axis=2)
    scale = np.sqrt(np.sort(squared, axis=1)[:, 7])
    affinity = np.exp(-squared / np.outer(scale, scale)) * np.outer(w, w)
    difference = X[:, None] - X
    expected = 0.5 * np.einsum("ij,ija,ijb->ab", affinity, difference, difference)
    np.testing.assert_allclose(local_scatter(X, 7, weights=w), expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("kind", DRAWN)
def test_instances_are_drawn_by_their_weights(kind, rng):
    y, w = np.array([0, 0, 0, 1, 1, 2]), np.array([1.0, 2.0, 3.0, 5.0, 0.5, 4.0])
    drawn = DRAWN[kind](y, 40_000, np.random.RandomState(0), w)
    first = drawn[:, :2] if kind != "pairs" else drawn[y[drawn[:, 0]] == y[drawn[:, 1]]]
    assert len(first) == 40_000 and (y[first[:, 0]] == y[first[:, 1]]).all() and (first[:, 0] != first[:, 1]).all()
    able = np.where(y < 2, w, 0.0) / w[y < 2].sum()  # one alone has no mate
    chance = np.array([[able[i] * w[j] / (w[y == y[i]].sum() - w[i]) if i != j and y[i] == y[j] else 0.0
                        for j in range(6)] for i in range(6)])  # fmt: skip
    share = np.zeros((6, 6))
    np.add.at(share, tuple(first.T), 1.0 / len(first))
    np.testing.assert_allclose(share + share.T, chance + chance.T, atol=0.01)
    if kind == "triplets":
        far = np.bincount(drawn[drawn[:, 0] < 3, 2], minlength=6)
        np.testing.assert_allclose(far / far.sum(), np.where(y > 0, w, 0.0) / w[y > 0].sum(), atol=0.02)


@pytest.mark.parametrize("label", [1, -1])
def test_mates_are_others_whatever_the_weights(label, rng):
    for _ in range(200):
        y = np.concatenate([np.arange(4).repeat(2), rng.integers(0, 4, 12)])
        w = 10.0 ** rng.uniform(-300, 0, 20)
        i = rng.integers(0, 20, 50)
        mates = drawn_mates(y, i, label, np.random.RandomState(0), w)
        assert ((y[mates] == y[i]) == (label == 1)).all() and (mates != i).all()


def test_mini_batches_are_drawn_by_weights(sample):
    X, y = sample
    weights = np.where(y == 2, 20.0, 1.0)
    learner = ARML(batch_size=16, max_iter=60, random_state=0)
    few, full = (metric_of(learner.set_params(batch_size=size), X, y, sample_weight=weights) for size in (16, None))
    plain = metric_of(learner, X, y)
    cosine = [np.vdot(few, M) / np.linalg.norm(few) / np.linalg.norm(M) for M in (full, plain)]
    assert cosine[0] > cosine[1] and cosine[0] > 0.9


@each_learner
@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.ones(49), "sample_weight.shape"),
        (-np.ones(50), "sample_weight must have numbers of at least 0, two of them above 0, got -1 to -1"),
        (np.eye(50)[0], "two of them above 0, got 0 to 1 with 1 above 0"),
        (np.full(50, np.nan), "sample_weight contains NaN"),
    ],
)
def test_weights_that_say_nothing_are_refused(learner, sample, weights, message):
    with pytest.raises(ValueError, match=message):
        clone(learner).fit(*sample, sample_weight=weights)


@pytest.mark.parametrize("learner", [GMML(), ITML(), SDML()], ids=repr)
def test_weights_are_of_instances_not_of_tuples(learner, sample):
    X = sample[0]
    with pytest.raises(ValueError, match="sample_weight must be None for tuples: instances have weights"):
        learner.fit(X[[[0, 1], [0, 40]]], [1, -1], sample_weight=[1.0, 2.0])


def test_weights_are_of_instances_in_memory(sample):
    X, y = sample
    with pytest.raises(ValueError, match="sample_weight must be None for tuples"):
        LSML().fit(X[[[0, 1, 0, 40]]], sample_weight=[1.0])
    with pytest.raises(
        ValueError, match="class_weight must be None for chunks: weights are taken of instances in memory"
    ):
        GMML(class_weight="balanced").fit_chunks([(X, y)])
    assert isinstance(GMML(class_weight="balanced").fit(X, y).metric_, MahalanobisMetric)


def test_further_instances_of_the_online_learner_are_drawn_by_class(sample):
    X, y = sample
    oasis = OASIS(class_weight={0: 1.0, 1: 1.0, 2: 1.0}, random_state=0).partial_fit(X, y).partial_fit(X, y)
    plain = OASIS(random_state=0).partial_fit(X, y).partial_fit(X, y)
    np.testing.assert_array_equal(oasis.components_, plain.components_)
    with pytest.raises(ValueError, match="a positive number for each class, got None for 7"):
        oasis.partial_fit(X, np.where(y == 2, 7, y))


def test_lfda_has_its_classes_by_weight(sample):
    X, y = sample[0][:40], sample[1][:40]
    weighted = LFDA(class_weight="balanced").fit(X, y).get_mahalanobis_matrix()
    np.testing.assert_allclose(weighted, metric_of(LFDA(), X, y, sample_weight=1.0 / np.bincount(y)[y]), rtol=1e-9)
