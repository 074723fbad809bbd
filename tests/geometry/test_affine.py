"""Transformers of other libraries as metrics: the distance of their own transform, or a refusal."""

import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.cluster import DBSCAN
from sklearn.cross_decomposition import PLSRegression
from sklearn.datasets import load_iris
from sklearn.decomposition import (
    NMF,
    PCA,
    DictionaryLearning,
    FactorAnalysis,
    FastICA,
    KernelPCA,
    SparsePCA,
    TruncatedSVD,
)
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.feature_selection import SelectKBest
from sklearn.neighbors import NeighborhoodComponentsAnalysis
from sklearn.neural_network import BernoulliRBM
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    Binarizer,
    FunctionTransformer,
    MinMaxScaler,
    Normalizer,
    QuantileTransformer,
    StandardScaler,
)
from sklearn.random_projection import SparseRandomProjection

from certimetric import LMNN, CertifiedKNeighborsClassifier, MahalanobisMetric, certified_radius
from certimetric.geometry.mahalanobis import as_metric

AFFINE = [
    PCA(2),
    PCA(4, whiten=True),
    FactorAnalysis(2),
    FastICA(2, random_state=0),
    KernelPCA(2),
    LinearDiscriminantAnalysis(),
    NeighborhoodComponentsAnalysis(2, max_iter=5),
    PLSRegression(2),
    SelectKBest(k=2),
    SparsePCA(2, random_state=0, max_iter=10),
    SparseRandomProjection(2, random_state=0),
    StandardScaler(),
    TruncatedSVD(2),
    make_pipeline(StandardScaler(), PCA(2, whiten=True), MinMaxScaler()),
    make_pipeline(StandardScaler(), LMNN(max_iter=5)),
]
OTHERS = [
    BernoulliRBM(2, n_iter=2),
    Binarizer(),
    DictionaryLearning(2, max_iter=5, random_state=0),
    FunctionTransformer(np.log1p),
    KernelPCA(2, kernel="rbf"),
    MinMaxScaler(clip=True),
    NMF(2),
    Normalizer(),
    QuantileTransformer(n_quantiles=10),
    make_pipeline(StandardScaler(), Normalizer()),
]


@pytest.fixture(scope="module")
def raw():
    return load_iris(return_X_y=True)


@pytest.mark.parametrize("offset", [0.0, 1e4])
@pytest.mark.parametrize("transformer", AFFINE, ids=repr)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # few steps are meant
def test_an_affine_transformer_is_the_metric_of_its_own_transform(raw, transformer, offset):
    X, y = raw[0] + offset, raw[1]
    transformer.fit(X, y)
    Z = transformer.transform(X)
    Z = Z.toarray() if hasattr(Z, "toarray") else Z
    own = np.linalg.norm(Z[:70] - Z[80:], axis=1)
    tolerance = 1e-12 + 1e-12 * offset  # of the transform itself, which adds offsets up
    np.testing.assert_allclose(as_metric(transformer).distance(X[:70], X[80:]), own, rtol=0, atol=tolerance * own.max())


@pytest.mark.parametrize("transformer", OTHERS, ids=repr)
def test_any_other_transformer_is_refused_in_one_sentence(raw, transformer):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        transformer.fit(*raw)
    with pytest.raises(ValueError, match=rf"metric {type(transformer).__name__} is no affine map") as error:
        as_metric(transformer)
    assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="is no affine map"):
        certified_radius(transformer, *raw)


def test_components_that_are_what_is_computed_are_taken_digit_for_digit(raw):
    pca = PCA(2).fit(raw[0])
    np.testing.assert_array_equal(as_metric(pca).components, pca.components_)

    class Foreign:  # as the learners of metric-learn
        components_ = np.array([[1.0, 2.0, 0.1], [0.0, 1.0, 1e-9]])

        def transform(self, X):
            return X @ self.components_.T

    assert as_metric(Foreign()) == MahalanobisMetric.from_components(Foreign.components_)


def test_components_without_a_transform_compute_nothing():
    class Bare:
        components_ = np.eye(3)

    for bare in (Bare(), DBSCAN().fit(np.zeros((9, 3)))):  # of DBSCAN they are the core samples
        with pytest.raises(TypeError, match=r"fitted learner or transformer, got .*from_components"):
            as_metric(bare)


@pytest.mark.parametrize("unfitted", [LMNN(), PCA(), make_pipeline(StandardScaler(), PCA()), None, "l2"], ids=repr)
def test_what_is_not_fitted_is_named(unfitted):
    with pytest.raises(TypeError, match="fitted learner or transformer"):
        as_metric(unfitted)


def test_a_frame_gives_names_and_no_warning(raw):
    frame = pd.DataFrame(raw[0], columns=list("abcd"))
    scaler = StandardScaler().set_output(transform="pandas").fit(frame)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        metric = as_metric(scaler)
    assert metric.feature_names == ("a", "b", "c", "d")
    np.testing.assert_allclose(metric.components, np.diag(1 / scaler.scale_), rtol=1e-12)


def test_the_classifier_fits_what_is_not_fitted_and_keeps_what_is(raw):
    X, y = raw
    knn = CertifiedKNeighborsClassifier(3, metric=PCA(4, whiten=True)).fit(X[::2], y[::2])
    pca = PCA(4, whiten=True).fit(X[::2])
    assert knn.metric_.distance(X[0], X[60]) == pytest.approx(
        np.linalg.norm(pca.transform(X[:1]) - pca.transform(X[60:61]))
    )
    pipeline = make_pipeline(StandardScaler(), PCA(2)).fit(X[y < 2])  # fitted elsewhere: used as it is
    kept = CertifiedKNeighborsClassifier(1, metric=pipeline).fit(X, y)
    assert kept.learner_ is None
    np.testing.assert_array_equal(kept.metric_.components, as_metric(pipeline).components)
    with pytest.raises(ValueError, match="metric Normalizer is no affine map"):
        CertifiedKNeighborsClassifier(1, metric=Normalizer()).fit(X, y)
