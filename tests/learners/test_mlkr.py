"""Metric learning for kernel regression: the objective by its definition, units of y, and what cannot be learned."""

import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.base import clone
from sklearn.datasets import load_diabetes
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from certimetric import MLKR

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def curved(n=120, d=5, seed=0):
    """Two of the features decide."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d))
    return X, np.sin(2 * X[:, 0]) + X[:, 1]


def unexplained(L, X, y):
    """1 − R² of leave-one-out kernel regression, from the table of all direct differences."""
    squared = ((X[:, None] @ L.T - X[None] @ L.T) ** 2).sum(axis=-1)
    np.fill_diagonal(squared, np.inf)
    k = np.exp(squared.min(axis=1, keepdims=True) - squared)
    return np.square(y - k @ y / k.sum(axis=1)).sum() / np.square(y - y.mean()).sum()


@pytest.mark.parametrize("scale", [1.0, 1e-3, 1e4])
def test_the_objective_is_that_of_the_metric_given(scale):
    X, y = curved()
    mlkr = MLKR(max_iter=20).fit(X * scale, y)
    assert mlkr.objective_ == pytest.approx(unexplained(mlkr.components_, X * scale, y), rel=1e-9)
    unit = 1.0 if scale == 1.0 else scale  # powers of ten: it starts from the data as they were
    assert mlkr.objective_path_[0] == pytest.approx(unexplained(np.eye(5) / unit, X * scale, y), rel=1e-9)
    assert mlkr.objective_ < 0.2 * mlkr.objective_path_[0]
    assert (np.diff(mlkr.objective_path_) <= 0).all()


def test_no_other_minimiser_does_better_nearby():
    # The objective is not convex: a gradient-free search from what was found must gain nothing.
    X, y = curved(60, 2)
    mlkr = MLKR(tol=1e-10, max_iter=1000).fit(X, y)
    found = minimize(
        lambda flat: unexplained(flat.reshape(2, 2), X, y),
        mlkr.components_.ravel(),
        method="Nelder-Mead",
        options={"xatol": 1e-8, "fatol": 1e-12, "maxiter": 2000},
    )
    assert mlkr.objective_ <= found.fun * (1 + 1e-5)


def test_on_diabetes_it_leaves_less_unexplained_than_regression_and_metric_learn():
    X, y = load_diabetes(return_X_y=True)
    X = StandardScaler().fit_transform(X)
    with_one = np.column_stack([np.ones(len(X)), X])
    hat = with_one @ np.linalg.pinv(with_one)
    regression = np.square((y - hat @ y) / (1 - np.diagonal(hat))).mean()
    error = MLKR(max_iter=1000).fit(X, y).objective_ * y.var()
    assert error < 1827.1  # metric-learn 0.7.0, from the identity as well
    assert error < 0.7 * regression


def test_neither_unit_nor_origin_of_y_matter():
    X, y = curved()
    as_given = MLKR(max_iter=20).fit(X, y)
    for unit, origin in ((1e-200, 0.0), (1e60, 0.0), (-3.0, 1e3)):
        other = MLKR(max_iter=20).fit(X, unit * y + origin)
        np.testing.assert_allclose(other.components_, as_given.components_, rtol=1e-5, atol=1e-7)
        assert other.objective_ == pytest.approx(as_given.objective_, rel=1e-6)


def test_order_of_rows_and_threads_change_nothing_and_rotations_turn_the_metric(rng):
    X, y = curved()
    mlkr = MLKR(max_iter=15)
    M = clone(mlkr).fit(X, y).get_mahalanobis_matrix()
    rows = rng.permutation(len(X))
    np.testing.assert_allclose(clone(mlkr).fit(X[rows], y[rows]).get_mahalanobis_matrix(), M, rtol=1e-6, atol=1e-8)
    np.testing.assert_array_equal(clone(mlkr).set_params(n_jobs=2).fit(X, y).get_mahalanobis_matrix(), M)
    Q = np.linalg.qr(rng.standard_normal((5, 5)))[0]
    turned = clone(mlkr).fit(X @ Q.T, y).get_mahalanobis_matrix()
    np.testing.assert_allclose(Q.T @ turned @ Q, M, rtol=1e-4, atol=1e-6)


def test_it_finds_the_features_that_decide():
    X, y = curved(300)
    diagonal = np.diag(MLKR().fit(X, y).get_mahalanobis_matrix())
    assert diagonal[:2].min() > 20 * diagonal[2:].max()
    assert MLKR(n_components=2).fit_transform(X, y).shape == (300, 2)


def test_neighbours_predict_better_under_it():
    X, y = curved(300)
    learned, euclidean = (
        cross_val_score(make_pipeline(learner, KNeighborsRegressor(5)), X, y).mean()  # R²
        for learner in (MLKR(), StandardScaler())
    )
    assert 1 - learned < 0.25 * (1 - euclidean)
    pipeline = make_pipeline(StandardScaler(), MLKR(max_iter=10), KNeighborsRegressor(5))
    search = GridSearchCV(pipeline, {"mlkr__n_components": [1, 2]}, cv=3, error_score="raise").fit(X, y)
    assert search.best_params_ == {"mlkr__n_components": 2}  # y depends on two directions


@pytest.mark.parametrize("case", ["constant column", "collinear", "duplicates", "wide", "two rows", "large offset"])
def test_hard_data_give_a_metric(case):
    X, y = curved(40)
    if case == "constant column":
        X = np.c_[X, np.full(40, 3.0)]
    elif case == "collinear":
        X = np.c_[X, X[:, :2].sum(axis=1)]
    elif case == "duplicates":
        X, y = np.r_[X, X], np.r_[y, y + 1]
    elif case == "wide":
        X = np.c_[X, np.random.default_rng(1).standard_normal((40, 100))]
    elif case == "two rows":
        X, y = X[:2], y[:2]
    else:
        X = X + 1e7
    mlkr = MLKR(max_iter=10).fit(X, y)
    assert np.isfinite(mlkr.components_).all()
    assert np.isfinite(mlkr.transform(X)).all()
    assert mlkr.objective_ <= mlkr.objective_path_[0]


@pytest.mark.parametrize(
    "y, told",
    [
        (np.full(40, 2.5), r"all of its values are equal \(2.5\)"),
        (np.array(["a", "b"] * 20), "could not convert|[Uu]nable to convert"),
        (np.r_[np.nan, np.zeros(39)], "NaN"),
        (np.r_[1e300, np.zeros(39)], "y holds the value 1e.300"),
        (np.zeros((40, 2)), "1d array"),
        (None, "requires y"),
    ],
)
def test_a_target_that_is_none_is_told_in_one_line(y, told):
    X, _ = curved(40)
    with pytest.raises(ValueError, match=told) as error:
        MLKR().fit(X, y)
    assert "\n" not in str(error.value)
