"""What all attacks share: how a predictor is asked."""

import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.neighbors import KNeighborsClassifier

from certimetric import CertifiedKNeighborsClassifier, MahalanobisMetric
from certimetric.attacks.base import Attack, Search
from certimetric.geometry.threat_models import ThreatModel


class Jump(Attack):
    """Offers one fixed point."""

    def __init__(self, *point):
        self.point = np.array(point)

    def propose(self, search):
        search.draw_back(search.open, np.repeat(self.point[None], len(search.open), axis=0))


@pytest.mark.parametrize("as_frame", [True, False])
def test_a_predictor_that_knows_names_is_asked_by_name(as_frame):
    table = pd.DataFrame({"age": [0.0, 4.0], "size": [0.0, 0.0]})
    knn = KNeighborsClassifier(1).fit(table, ["a", "b"])
    X = pd.DataFrame({"age": [1.0], "size": [0.0]})
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # scikit-learn warns when names are missing
        result = Jump(4.0, 3.0)(knn, X if as_frame else X.to_numpy(), threat=ThreatModel(immutable=["size"]))
    assert result.adversarial == pytest.approx(np.array([[2.0, 0.0]]))


def test_columns_in_another_order_are_taken_by_name():
    knn = KNeighborsClassifier(1).fit(pd.DataFrame({"age": [0.0, 4.0], "size": [0.0, 0.0]}), ["a", "b"])
    result = Jump(4.0, 0.0)(knn, pd.DataFrame({"size": [0.0], "age": [1.0]}))
    assert result.adversarial == pytest.approx(np.array([[2.0, 0.0]]))  # in the order of the predictor
    with pytest.raises(ValueError, match="'shoe'"):
        Jump(4.0, 0.0)(knn, pd.DataFrame({"size": [0.0], "age": [1.0], "shoe": [1.0]}))


def test_names_of_a_data_frame_can_be_used_where_the_predictor_knows_none():
    knn = KNeighborsClassifier(1).fit([[0.0, 0.0], [4.0, 0.0]], ["a", "b"])
    X = pd.DataFrame({"age": [1.0], "size": [0.0]})
    result = Jump(4.0, 3.0)(knn, X, threat=ThreatModel(immutable=["size"]))
    assert result.adversarial == pytest.approx(np.array([[2.0, 0.0]]))


@pytest.mark.parametrize("abstain_below", [None, 0.4])
def test_labels_of_points_are_those_that_are_predicted(abstain_below):
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.standard_normal((60, 2)), columns=["b", "a"])
    labels = np.where(X["a"] > 0, "yes", np.where(X["b"] > 0, "no", "maybe"))
    metric = MahalanobisMetric.from_components([[1.0, 2.0], [0.0, 1.0]], feature_names=["b", "a"])
    knn = CertifiedKNeighborsClassifier(2, metric=metric, abstain_below=abstain_below).fit(X, labels)
    points = 3.0 * rng.standard_normal((200, 2))
    search = Search(knn, points[:5], None, ThreatModel().bind(2), ["b", "a"])
    np.testing.assert_array_equal(search.predict(points), knn.predict(pd.DataFrame(points, columns=["b", "a"])))
