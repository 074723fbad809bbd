"""The certified classifier inside scikit-learn, and radii in original units."""

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    MaxAbsScaler,
    MinMaxScaler,
    PolynomialFeatures,
    RobustScaler,
    StandardScaler,
)

from certimetric import GMML, LMNN, CertifiedKNeighborsClassifier, PerturbationLoss, in_original_units


def test_predicts_as_scikit_learn_does(wine):
    X, y = wine
    for k in (1, 3, 4):
        ours = CertifiedKNeighborsClassifier(k).fit(X[::2], y[::2])
        theirs = KNeighborsClassifier(k).fit(X[::2], y[::2])
        np.testing.assert_array_equal(ours.predict(X[1::2]), theirs.predict(X[1::2]))
        np.testing.assert_allclose(ours.predict_proba(X[1::2]), theirs.predict_proba(X[1::2]))


def test_weighs_by_distance_as_scikit_learn_does(wine):
    X, y = wine
    queries = np.vstack([X[1::2], X[:4]])  # some are training instances: those alone count, at distance 0
    for k in (1, 3, 4):
        ours = CertifiedKNeighborsClassifier(k, weights="distance").fit(X[::2], y[::2])
        theirs = KNeighborsClassifier(k, weights="distance").fit(X[::2], y[::2])
        np.testing.assert_array_equal(ours.predict(queries), theirs.predict(queries))
        np.testing.assert_array_equal(ours.predict_with_radius(queries)[0], theirs.predict(queries))
        np.testing.assert_allclose(ours.predict_proba(queries), theirs.predict_proba(queries), rtol=1e-9, atol=1e-12)
    with pytest.raises(ValueError, match="weights must be 'uniform' for the smallest changes"):
        ours.minimal_perturbation(queries)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # few steps are meant
def test_learner_is_fitted_inside_and_left_alone(wine):
    X, y = wine
    learner = LMNN(max_iter=10)
    knn = CertifiedKNeighborsClassifier(metric=learner).fit(X, y)
    assert not hasattr(learner, "components_")
    np.testing.assert_array_equal(knn.metric_.components, LMNN(max_iter=10).fit(X, y).components_)
    # A metric value and a fitted learner are used as they are.
    fixed = CertifiedKNeighborsClassifier(metric=knn.metric_).fit(X[:100], y[:100])
    assert fixed.metric_ is knn.metric_
    fitted = LMNN(max_iter=10).fit(X, y)
    fixed = CertifiedKNeighborsClassifier(metric=fitted).fit(X[:100], y[:100])
    np.testing.assert_array_equal(fixed.metric_.components, fitted.components_)
    assert fixed.learner_ is None
    # A clone knows nothing of what its original was fitted on.
    anew = clone(fixed).fit(X[:100], y[:100])
    np.testing.assert_array_equal(anew.metric_.components, LMNN(max_iter=10).fit(X[:100], y[:100]).components_)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # few steps are meant
def test_pipeline_and_grid_search_over_the_perturbation_loss(wine):
    X, y = wine
    knn = CertifiedKNeighborsClassifier(metric=LMNN(max_iter=10, perturbation=PerturbationLoss()))
    grid = {
        "certifiedkneighborsclassifier__metric__perturbation__tau": [0.5, 4.0],
        "certifiedkneighborsclassifier__metric__perturbation__weight": [0.1, 1.0],
        "certifiedkneighborsclassifier__n_neighbors": [1, 3],
    }
    search = GridSearchCV(make_pipeline(StandardScaler(), knn), grid, cv=2).fit(X, y)
    assert search.best_score_ > 0.9
    assert search.best_estimator_[-1].metric.perturbation.tau in (0.5, 4.0)
    assert cross_val_score(make_pipeline(StandardScaler(), knn), X, y, cv=2).min() > 0.9


def test_certified_accuracy(wine):
    X, y = wine
    knn = CertifiedKNeighborsClassifier(metric=GMML()).fit(X[::2], y[::2])
    eps = np.linspace(0, 3, 20)
    accuracy = knn.certified_accuracy(X[1::2], y[1::2], eps)
    assert accuracy[0] == knn.score(X[1::2], y[1::2])
    assert (np.diff(accuracy) <= 0).all()
    radii = knn.correctness_radius(X[1::2], y[1::2])
    np.testing.assert_allclose(accuracy[1:], (radii[:, None] >= eps[1:]).mean(axis=0))
    assert knn.certified_accuracy(X[1::2], y[1::2], 0.5).shape == ()
    for bad in (-0.1, [0.0, np.nan], np.inf):
        with pytest.raises(ValueError, match="eps must hold sizes of at least 0"):
            knn.certified_accuracy(X, y, bad)
    with pytest.raises(ValueError, match="each of the 178 queries"):
        knn.certified_accuracy(X, y[:5], 0.1)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # few steps are meant
def test_string_labels_and_data_frames(wine):
    X, y = wine
    frame = pd.DataFrame(X, columns=[f"f{i}" for i in range(13)])
    names = np.array(["red", "rosé", "white"])[y]
    knn = CertifiedKNeighborsClassifier(metric=LMNN(max_iter=5)).fit(frame, names)
    labels, _ = knn.predict_with_radius(frame)
    assert set(labels) <= set(names)
    assert knn.learner_.metric_.feature_names == tuple(frame.columns)
    with pytest.raises(ValueError, match="feature names"):
        knn.predict(frame.rename(columns={"f0": "other"}))


@pytest.mark.parametrize("k", [1, 2, 3])
@pytest.mark.parametrize("scaler", [StandardScaler(), MinMaxScaler(), MaxAbsScaler(), RobustScaler()], ids=repr)
def test_original_units(scaler, k):
    # d_M(s ∘ x) = d_{SMS}(x), and the l2 ball of the original units is the ellipsoid diag(scale²) behind the scaler.
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((120, 4)) * [1, 10, 100, 0.1] + [0, 5, -300, 1], rng.integers(0, 2, 120)
    X[:, 1] += 20 * y
    pipeline = make_pipeline(scaler, CertifiedKNeighborsClassifier(k, metric=GMML())).fit(X[::2], y[::2])
    original = in_original_units(pipeline)
    labels, radii = original.predict_with_radius(X[1::2])
    np.testing.assert_array_equal(labels, pipeline.predict(X[1::2]))
    ones, zeros = scaler.transform(np.ones((1, 4))), scaler.transform(np.zeros((1, 4)))
    scale = 1 / (ones - zeros).ravel()
    ellipsoid = CertifiedKNeighborsClassifier(k, metric=pipeline[-1].metric_, norm=np.diag(scale**2))
    ellipsoid.fit(scaler.transform(X[::2]), y[::2])
    np.testing.assert_allclose(radii, ellipsoid.predict_with_radius(scaler.transform(X[1::2]))[1], rtol=1e-6, atol=1e-9)


def test_original_units_needs_scalers(wine):
    X, y = wine
    knn = CertifiedKNeighborsClassifier()
    with pytest.raises(ValueError, match="PolynomialFeatures"):
        in_original_units(make_pipeline(PolynomialFeatures(), knn).fit(X, y))
    with pytest.raises(ValueError, match="clips"):
        in_original_units(make_pipeline(MinMaxScaler(clip=True), knn).fit(X, y))
    with pytest.raises(ValueError, match="must end with a CertifiedKNeighborsClassifier"):
        in_original_units(make_pipeline(StandardScaler(), KNeighborsClassifier()).fit(X, y))
    with pytest.raises(ValueError, match="give norm="):
        in_original_units(make_pipeline(StandardScaler(), CertifiedKNeighborsClassifier(norm=np.eye(13))).fit(X, y))
    with pytest.raises(NotFittedError):
        in_original_units(make_pipeline(StandardScaler(), CertifiedKNeighborsClassifier()))


def test_two_scalers_fold_into_one(wine):
    X, y = wine
    pipeline = make_pipeline(StandardScaler(), MinMaxScaler(), CertifiedKNeighborsClassifier()).fit(X[::2], y[::2])
    np.testing.assert_array_equal(in_original_units(pipeline).predict(X[1::2]), pipeline.predict(X[1::2]))


def test_bad_settings_are_named(wine):
    X, y = wine
    with pytest.raises(ValueError, match="n_samples=178 training instances, got 200"):
        CertifiedKNeighborsClassifier(200).fit(X, y)
    with pytest.raises(ValueError, match="n_neighbors"):
        CertifiedKNeighborsClassifier(0).fit(X, y)
    with pytest.raises(ValueError, match="got 'l5'"):
        CertifiedKNeighborsClassifier(norm="l5").fit(X, y)
    with pytest.raises(TypeError, match="fitted learner"):
        CertifiedKNeighborsClassifier(metric="lmnn").fit(X, y)
    other = CertifiedKNeighborsClassifier().fit(X, y).metric_
    with pytest.raises(ValueError, match="13 features, got 4"):
        CertifiedKNeighborsClassifier(metric=other).fit(X[:, :4], y)
    with pytest.raises(ValueError, match="13 features"):
        CertifiedKNeighborsClassifier().fit(X, y).predict(X[:, :4])
    with pytest.raises(NotFittedError):
        CertifiedKNeighborsClassifier().predict_with_radius(X)


@pytest.mark.parametrize("k", [1, 3])
def test_abstaining_never_gives_two_labels_within_the_threshold(wine, k):
    X, y = StandardScaler().fit_transform(wine[0]), wine[1]
    rng, eps = np.random.default_rng(0), 0.4
    plain = CertifiedKNeighborsClassifier(k).fit(X[::2], y[::2])
    labels, radii = plain.predict_with_radius(X[1::2])
    knn = clone(plain).set_params(abstain_below=eps).fit(X[::2], y[::2])
    answers, kept = knn.predict_with_radius(X[1::2])
    np.testing.assert_array_equal(kept, radii)
    assert knn.unknown_ == -1 and 0 < (answers == -1).sum() < len(answers)
    np.testing.assert_array_equal(answers, np.where(radii < eps, -1, labels))
    np.testing.assert_array_equal(knn.predict(X[1::2]), answers)
    for _ in range(10):
        step = rng.standard_normal(X[1::2].shape)
        moved = knn.predict(X[1::2] + eps * step / np.linalg.norm(step, axis=1, keepdims=True))
        assert ((moved == answers) | (moved == -1) | (answers == -1)).all()
    # A fitted one begins to abstain, and stops.
    np.testing.assert_array_equal(plain.set_params(abstain_below=eps).predict(X[1::2]), answers)
    np.testing.assert_array_equal(plain.set_params(abstain_below=None).predict(X[1::2]), labels)


def test_what_is_answered_below_the_threshold_and_bad_values(wine):
    X, y = [[0.0], [4.0]], ["a", "b"]
    knn = CertifiedKNeighborsClassifier(1, abstain_below=1.0).fit(X, y)
    assert knn.predict([[0.0], [1.9]]).tolist() == ["a", "unknown"]
    assert knn.certified_accuracy([[0.0], [1.9]], ["a", "a"], 0.0) == 0.5
    assert knn.set_params(unknown="none").predict([[1.9]]).tolist() == ["none"]
    for unknown, message in (("a", "no label of the training set, but 'a' is one"), (3, "must be text")):
        with pytest.raises(ValueError, match=message):
            CertifiedKNeighborsClassifier(1, unknown=unknown).fit(X, y)
    with pytest.raises(ValueError, match="abstain_below must be a radius of at least 0, got -1"):
        knn.set_params(abstain_below=-1, unknown=None).predict(X)
    pipeline = make_pipeline(StandardScaler(), CertifiedKNeighborsClassifier(1, abstain_below=0.1)).fit(X, y)
    with pytest.raises(ValueError, match="abstain_below must be None for other units"):
        in_original_units(pipeline)
