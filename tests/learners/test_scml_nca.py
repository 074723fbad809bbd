"""SCML and NCA: their objectives, their constraints, and what they are compared with."""

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine
from sklearn.neighbors import NeighborhoodComponentsAnalysis
from sklearn.preprocessing import scale

from certimetric import NCA, SCML, PerturbationLoss
from certimetric.constraints import nearest_triplets
from certimetric.learners.scml import compose


def test_scml_is_its_weighted_basis(wine):
    X, y = wine
    scml = SCML(random_state=0).fit(X, y)
    assert (scml.weights_ >= 0).all()
    assert (scml.weights_ == 0).any()  # sparse
    np.testing.assert_allclose(np.linalg.norm(scml.basis_, axis=1), 1)
    M = (scml.basis_.T * scml.weights_) @ scml.basis_
    np.testing.assert_allclose(scml.get_mahalanobis_matrix(), M, atol=1e-10 * np.abs(M).max())
    assert (np.diff(scml.objective_path_) <= 1e-12).all()


def test_scml_objective_against_its_definition(wine):
    X, y = wine
    scml = SCML(random_state=0, l1=1e-3).fit(X, y)
    i, j, l = nearest_triplets(X, y, 3, 10).T
    d = scml.metric_.distance
    hinge = np.maximum(1 + d(X[i], X[j]) ** 2 - d(X[i], X[l]) ** 2, 0).mean()
    assert scml.objective_ == pytest.approx(hinge + 1e-3 * scml.weights_.sum(), rel=1e-6)


def test_scml_is_convex_in_its_weights(wine):
    # At the minimum over w ≥ 0 of a convex function the gradient is ≥ 0, and 0 where a weight is positive; checked by
    # directions that lead to other feasible points: none goes downhill.
    X, y = wine
    scml = SCML(random_state=0, n_basis=100, l1=1e-3, tol=0, max_iter=2000).fit(X, y)
    i, j, l = nearest_triplets(X, y, 3, 10).T

    def objective(w):
        Z = X @ compose(w, scml.basis_).T
        hinge = 1 + ((Z[i] - Z[j]) ** 2).sum(axis=1) - ((Z[i] - Z[l]) ** 2).sum(axis=1)
        return np.maximum(hinge, 0).mean() + 1e-3 * w.sum()

    best = objective(scml.weights_)
    rng = np.random.default_rng(0)
    for _ in range(200):
        other = scml.weights_ * (rng.random(100) < 0.8) + rng.exponential(scml.weights_.mean(), 100)
        for step in (1e-4, 1e-2, 1.0):
            assert objective((1 - step) * scml.weights_ + step * other) >= best - 1e-5 * best


def test_scml_price_makes_it_sparser(wine):
    few = SCML(random_state=0, l1=1e-1).fit(*wine).weights_
    many = SCML(random_state=0, l1=1e-6).fit(*wine).weights_
    assert few.sum() < many.sum()


def test_scml_same_seed_same_metric(wine):
    np.testing.assert_array_equal(
        SCML(random_state=3).fit(*wine).components_, SCML(random_state=3).fit(*wine).components_
    )


def test_threads_change_nothing_in_scml(wine):
    np.testing.assert_array_equal(*(SCML(random_state=3, n_jobs=n_jobs).fit(*wine).components_ for n_jobs in (None, 3)))


def test_scml_learns_from_triplets(iris):
    X, y = iris
    rows = nearest_triplets(X, y, 3, 10)
    scml = SCML(random_state=0, perturbation=PerturbationLoss(weight=0.1)).fit_triplets(X[rows])
    assert (scml.weights_ >= 0).all()
    assert scml.objective_ < scml.objective_path_[0]


def softmax_loss(L, X, y):
    Z = X @ L.T
    squared = ((Z[:, None] - Z[None]) ** 2).sum(axis=-1)
    np.fill_diagonal(squared, np.inf)
    p = np.exp(squared.min(axis=1, keepdims=True) - squared)
    p /= p.sum(axis=1, keepdims=True)
    return 1 - (p * (y[:, None] == y[None])).sum(axis=1).mean()


def test_nca_objective_is_its_definition_and_never_rises(wine):
    X, y = wine
    nca = NCA().fit(X, y)
    assert nca.objective_ == pytest.approx(softmax_loss(nca.components_, X, y), abs=1e-10)
    assert (np.diff(nca.objective_path_) <= 0).all()


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # few steps are meant
def test_nca_keeps_to_its_number_of_steps_and_reports_every_ten(wine, capsys):
    # A ragged last round is reported too, and more steps go on where fewer stopped.
    short, longer = (NCA(max_iter=steps, tol=0, verbose=True).fit(*wine) for steps in (13, 20))
    assert (short.n_iter_, longer.n_iter_) == (13, 20)
    assert len(short.objective_path_) == len(longer.objective_path_) == 3
    assert short.objective_path_[:2] == longer.objective_path_[:2]
    assert longer.objective_ < short.objective_ < short.objective_path_[1]
    assert capsys.readouterr().out.count("[NCA] step") == 4


@pytest.mark.parametrize("load", [load_iris, load_wine, load_breast_cancer, load_digits])
def test_nca_ends_by_itself_on_usual_sets(load):
    X, y = load(return_X_y=True)
    nca = NCA().fit(scale(X[:, X.std(axis=0) > 0]), y)
    assert nca.converged_
    assert nca.n_iter_ < 200


def test_nca_stops_when_ten_steps_gain_little(wine):
    nca = NCA(max_iter=500, tol=0.999).fit(*wine)
    assert nca.n_iter_ <= 50  # second starts are tried before it ends


def test_nca_is_no_worse_than_scikit_learns(iris):
    X, y = iris
    ours = NCA(max_iter=500, tol=1e-8).fit(X, y)
    theirs = NeighborhoodComponentsAnalysis(init="identity", max_iter=500, tol=1e-8).fit(X, y)
    assert ours.objective_ <= softmax_loss(theirs.components_, X, y) + 1e-4


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # few steps are meant
def test_nca_with_the_perturbation_loss_keeps_larger_margins(wine):
    X, y = wine
    triplets = nearest_triplets(X, y, 3, 10)
    margins = [
        PerturbationLoss().adversarial_margin(learner.fit(X, y), X, triplets).mean()
        for learner in (NCA(), NCA(perturbation=PerturbationLoss()))
    ]
    assert margins[1] > margins[0]
