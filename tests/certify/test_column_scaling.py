"""Radii in original units behind a ColumnTransformer: affine parts of columns are affine altogether."""

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, OneHotEncoder, StandardScaler

from certimetric import GMML, CertifiedKNeighborsClassifier, in_original_units


@pytest.fixture
def table():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((80, 4)) * [1, 10, 100, 0.1] + [0, 5, -300, 1]
    y = rng.integers(0, 2, 80)
    X[:, 1] += 20 * y
    X[:, 3] = rng.integers(0, 2, 80)
    return X, y


def mixed():
    chain = make_pipeline(StandardScaler(), MaxAbsScaler())
    return ColumnTransformer([("b", MinMaxScaler(), [2]), ("a", chain, [1, 0])], remainder="passthrough")


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("metric", [GMML(), None])  # components of all features, and a diagonal
def test_radii_are_those_of_the_affine_map(table, metric, norm):
    X, y = table
    pipeline = make_pipeline(mixed(), StandardScaler(), CertifiedKNeighborsClassifier(3, metric=metric, norm=norm))
    pipeline.fit(X[::2], y[::2])
    original = in_original_units(pipeline)
    labels, radii = original.predict_with_radius(X[1::2])
    np.testing.assert_array_equal(labels, pipeline.predict(X[1::2]))
    np.testing.assert_allclose(original.X_, X[::2], rtol=1e-9, atol=1e-9)
    # The same metric on the same features by hand: the map of the pipeline is x → Ax + b.
    zero = pipeline[:-1].transform(np.zeros((1, 4)))
    A = (pipeline[:-1].transform(np.eye(4)) - zero).T
    by_hand = CertifiedKNeighborsClassifier(
        3, metric=type(original.metric_).from_components(pipeline[-1].metric_.components @ A), norm=norm
    ).fit(X[::2], y[::2])
    np.testing.assert_allclose(radii, by_hand.predict_with_radius(X[1::2])[1], rtol=1e-6, atol=1e-9)
    # No change within the radius alters what the pipeline says.
    rng = np.random.default_rng(1)
    step = rng.standard_normal((40, 4)) if norm == "l2" else rng.choice([-1.0, 1.0], (40, 4))
    step *= (radii / (np.linalg.norm(step, axis=1) if norm == "l2" else 1.0) * (1 - 1e-9))[:, None]
    np.testing.assert_array_equal(pipeline.predict(X[1::2] + step), labels)


def test_columns_by_name(table):
    X, y = table
    frame = pd.DataFrame(X, columns=list("abcd"))
    parts = [("one", StandardScaler(), ["c", "a"]), ("rest", "passthrough", slice("b", "b"))]
    scaler = ColumnTransformer(parts, remainder=MinMaxScaler())
    pipeline = make_pipeline(scaler.set_output(transform="pandas"), CertifiedKNeighborsClassifier()).fit(frame, y)
    original = in_original_units(pipeline)
    np.testing.assert_array_equal(original.predict(frame), pipeline.predict(frame))
    assert original.feature_names_in_.tolist() == list("abcd")


def test_what_has_no_units_is_told(table):
    X, y = table
    knn = CertifiedKNeighborsClassifier()
    for parts, told in (
        ([("a", StandardScaler(), [0, 1])], "drops column 2"),
        ([("a", StandardScaler(), [0, 1, 2]), ("b", MinMaxScaler(), [1, 2, 3])], "each of the 4 columns once"),
        ([("a", StandardScaler(), [0, 1, 2]), ("b", OneHotEncoder(sparse_output=False), [3])], "TableEncoder"),
    ):
        pipeline = make_pipeline(ColumnTransformer(parts), knn).fit(X, y)
        with pytest.raises(ValueError, match=told):
            in_original_units(pipeline)
