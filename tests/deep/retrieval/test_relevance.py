"""Graded and multi-label relevance: the figures of scikit-learn, and those of labels where grades are labels."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, ndcg_score

torch = pytest.importorskip("torch", reason="torch is not installed: the extra 'deep' has it")

from certimetric.deep import evaluate_relevance  # noqa: E402
from certimetric.deep.ranking import ranks, relevant_ranks  # noqa: E402
from certimetric.deep.retrieval.index import figures  # noqa: E402

RNG = np.random.default_rng(0)
Q, G = RNG.normal(size=(30, 6)), RNG.normal(size=(200, 6))
SCORES = {
    "euclidean": -np.linalg.norm(Q[:, None] - G, axis=2),
    "cosine": Q @ (G / np.linalg.norm(G, axis=1, keepdims=True)).T,
    "dot": Q @ G.T,
}


@pytest.mark.parametrize("metric", SCORES)
@pytest.mark.parametrize("memory", [2000, 2**22])
def test_grades_are_weighed_as_by_scikit_learn(metric, memory, monkeypatch):
    monkeypatch.setattr(ranks, "_MEMORY", memory)
    grades = RNG.integers(0, 4, size=(30, 200)) * (RNG.random((30, 200)) < 0.4)  # more items than are compared at once
    grades[3] = 0
    result = evaluate_relevance(Q, G, grades, metric=metric)
    assert result.n_without_positive == 1 and 3 not in result.rows
    scores = SCORES[metric]
    for name, reference in (
        ("ndcg", [ndcg_score(grades[i : i + 1], scores[i : i + 1]) for i in result.rows]),
        ("map", [average_precision_score(grades[i] > 0, scores[i]) for i in result.rows]),
    ):
        assert result.figures[name] == pytest.approx(reference, abs=1e-6)
    first = [int(np.flatnonzero(grades[i][np.argsort(-scores[i])] > 0)[0]) + 1 for i in result.rows]
    assert result.figures["mrr"] == pytest.approx(1 / np.array(first))
    top = [(grades[i][np.argsort(-scores[i])[:10]] > 0).mean() for i in result.rows]
    assert result.figures["precision_at_10"] == pytest.approx(top)
    assert result.to_frame()["ndcg"][0] == pytest.approx(result.figures["ndcg"].mean())


def test_labels_in_common_are_labels_where_each_item_has_one():
    labels, ids = RNG.integers(0, 5, 200), np.arange(200)
    result = evaluate_relevance(G[:30], G, labels[:30, None] == labels, ids=ids[:30], gallery_ids=ids)
    points, known, own = torch.tensor(G), torch.tensor(labels), torch.tensor(ids)
    expected = figures(relevant_ranks(points[:30], known[:30], own[:30], points, known, own))
    for name, values in expected.items():
        assert result.figures[name] == pytest.approx(values.double().numpy(), abs=1e-6)


def test_ties_are_ranked_against_the_query():
    # All at one distance: the irrelevant one first, then the lower grade.
    result = evaluate_relevance([[0.0]], [[1.0], [-1.0], [1.0]], [[0, 2, 1]])
    assert result.figures["ndcg"][0] == pytest.approx(
        (1 / np.log2(3) + 2 / np.log2(4)) / (2 / np.log2(2) + 1 / np.log2(3))
    )


@pytest.mark.parametrize(
    ("relevance", "options", "message"),
    [
        (np.ones((2, 200)), {}, "shape \\(30, 200\\)"),
        (-np.ones((30, 200)), {}, "at least 0"),
        (np.zeros((30, 200)), {}, "at least one query"),
        (np.ones((30, 200)), {"ids": np.arange(30)}, "together"),
        (np.ones((30, 200)), {"metric": "l3"}, "metric must be"),
    ],
)
def test_what_is_wrong_is_named(relevance, options, message):
    with pytest.raises(ValueError, match=message):
        evaluate_relevance(Q, G, relevance, **options)


def test_ids_that_are_no_whole_numbers_are_refused():
    # They were cut off once, so that 0.9 was the id 0.
    with pytest.raises(ValueError, match="ids and gallery_ids must be a whole number for each query and item"):
        evaluate_relevance([[0.0]], [[1.0], [2.0]], [[1, 0]], ids=[0.9], gallery_ids=[0, 1])
