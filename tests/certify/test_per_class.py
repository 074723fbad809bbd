"""Certified recall, precision and balanced accuracy: against attacks on all answers at once, and by hand."""

import json

import numpy as np
import pytest

from certimetric import CertifiedKNeighborsClassifier
from certimetric.certify import CertifiedClasses, OpenSetKNeighborsClassifier


def problem(n=400):
    rng = np.random.default_rng(3)
    X = rng.standard_normal((n, 2))
    return X, np.where(X[:, 0] + 0.5 * rng.standard_normal(n) > 1.3, "rare", "usual")


def test_without_perturbation_they_are_the_usual_figures():
    from sklearn.metrics import balanced_accuracy_score, precision_score, recall_score

    X, y = problem()
    knn = CertifiedKNeighborsClassifier(3).fit(X[::2], y[::2])
    answers, found = knn.predict(X[1::2]), knn.certified_classes(X[1::2], y[1::2])
    assert found.labels.tolist() == ["rare", "usual"] and found.support.sum() == len(answers)
    np.testing.assert_allclose(found.recall, recall_score(y[1::2], answers, average=None))
    np.testing.assert_allclose(found.precision, precision_score(y[1::2], answers, average=None))
    assert found.balanced_accuracy == pytest.approx(balanced_accuracy_score(y[1::2], answers))


def test_no_perturbation_within_eps_makes_them_worse():
    X, y = problem()
    eps, rng = 0.15, np.random.default_rng(0)
    knn = CertifiedKNeighborsClassifier(3).fit(X[::2], y[::2])
    found = knn.certified_classes(X[1::2], y[1::2], eps)
    assert 0.0 < found.recall.min() < knn.certified_classes(X[1::2], y[1::2]).recall.min()
    for _ in range(20):
        step = rng.standard_normal((len(X) // 2, 2))
        answers = knn.predict(X[1::2] + eps * step / np.linalg.norm(step, axis=1, keepdims=True))
        attacked = CertifiedClasses.of(y[1::2], answers, np.full(len(answers), np.inf), 0.0)
        assert (attacked.recall >= found.recall).all() and (attacked.precision >= found.precision).all()
    balanced = knn.certified_accuracy(X[1::2], y[1::2], [0.0, eps], average="balanced")
    assert balanced[1] == pytest.approx(found.balanced_accuracy)
    assert balanced[0] == pytest.approx(knn.certified_classes(X[1::2], y[1::2]).balanced_accuracy)
    told = json.loads(found.to_json())
    assert told["recall"] == found.recall.tolist() == found.to_frame()["recall"].tolist()


def test_queries_that_get_no_answer_may_get_any_later():
    knn = CertifiedKNeighborsClassifier(1, abstain_below=1.5).fit([[0.0], [4.0]], ["a", "b"])
    X, y = [[0.0], [1.0], [4.0]], ["a", "b", "b"]  # the second gets no answer
    plain, attacked = knn.certified_classes(X, y), knn.certified_classes(X, y, 0.2)
    assert plain.precision.tolist() == [1.0, 1.0] and plain.recall.tolist() == [1.0, 0.5]
    assert attacked.precision.tolist() == [0.5, 1.0]


def test_open_sets_and_bad_input():
    knn = OpenSetKNeighborsClassifier(threshold=1.0).fit([[0.0], [4.0]], ["ann", "bob"])
    found = knn.certified_classes([[0.1], [9.0], [3.9]], ["ann", "eve", "bob"], 0.5)
    assert found.labels.tolist() == ["ann", "bob", "unknown"] and found.recall.tolist() == [1.0, 1.0, 1.0]
    with pytest.raises(ValueError, match="average must be one of 'micro', 'balanced', got 'macro'"):
        knn.certified_accuracy([[0.1]], ["ann"], 0.1, average="macro")
    with pytest.raises(ValueError, match="eps must hold sizes of at least 0"):
        knn.certified_classes([[0.1]], ["ann"], -0.1)
