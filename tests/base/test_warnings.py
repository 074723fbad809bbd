"""Warnings point at the line of the user."""

import inspect

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from certimetric import LMNN, CertifiedKNeighborsClassifier


@pytest.mark.parametrize("wrap", [lambda learner: learner, lambda learner: make_pipeline(StandardScaler(), learner)])
def test_a_fit_without_convergence_is_told_where_fit_was_called(iris, wrap):
    X, y = iris
    with pytest.warns(ConvergenceWarning) as told:
        line = inspect.currentframe().f_lineno + 1
        wrap(LMNN(max_iter=2)).fit(X, y)
    assert [(warning.filename, warning.lineno) for warning in told] == [(__file__, line)]


def test_unknown_labels_are_told_where_the_classifier_was_asked():
    knn = CertifiedKNeighborsClassifier(1).fit([[0.0], [4.0]], ["a", "b"])
    for ask in (knn.correctness_radius, lambda X, y: knn.certified_accuracy(X, y, 0.1)):
        with pytest.warns(UserWarning, match="'c'") as told:
            ask(np.array([[1.0], [2.5]]), ["a", "c"])
        assert {warning.filename for warning in told} == {__file__}
