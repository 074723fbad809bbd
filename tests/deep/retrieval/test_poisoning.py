"""Added items: a vote withstands what is certified against an attacker who knows it, and no more."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: the extra 'deep' has it")

from certimetric.deep import certify_additions, poison_gallery  # noqa: E402
from certimetric.deep.retrieval.poisoning import parts_of  # noqa: E402

PARTS = 9


def clouds(n=150, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 3
    return rng.normal(size=(n, 4)) + 2.0 * np.eye(4)[labels], labels


def into_parts(query, wanted):
    """An item at the query, or next to it, in each of the parts."""
    items, step = [], 0
    for part in wanted:
        while True:
            item = query + 1e-9 * step * np.ones_like(query)
            step += 1
            if parts_of(item[None], PARTS)[0] == part:
                items.append(item)
                break
    return np.array(items)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("new_label", [False, True])
def test_no_items_up_to_the_certificate_change_a_prediction_and_one_more_does(metric, new_label):
    gallery, labels = clouds()
    queries = clouds(8, seed=1)[0]
    told = {"n_parts": PARTS, "metric": metric}
    found = certify_additions(queries, gallery, labels, **told)
    assert found.certified.max() >= 2
    parts = parts_of(gallery, PARTS)
    flipped = 0
    for i, query in enumerate(queries):
        sides = [(gallery[parts == part], labels[parts == part]) for part in range(PARTS)]
        votes = np.array([certify_additions([query], *each, n_parts=1, metric=metric).predictions[0] for each in sides])
        winner = found.predictions[i]
        rest = [label for label in range(3) if label != winner]
        other = 99 if new_label else max(rest, key=lambda label: (votes == label).sum())
        order = np.flatnonzero(votes == winner)  # votes that the attacker takes from it
        for n_added in (found.certified[i], found.certified[i] + 1):
            items = into_parts(query, order[:n_added])
            if not len(items):
                continue
            larger = np.vstack([gallery, items]), np.append(labels, [other] * len(items))
            after = certify_additions([query], *larger, **told)
            if n_added == found.certified[i]:
                assert after.predictions[0] == winner
            flipped += n_added > found.certified[i] and after.predictions[0] != winner
    assert new_label or flipped > 2  # it is tight: of ties the smaller label wins, so that not every one flips


def test_an_own_item_has_no_vote():
    gallery, labels = clouds()
    ids = np.arange(len(gallery))
    wrong = (labels + 1) % 3
    # Items whose labels are all wrong but their own: a query that saw itself would be right.
    for i in range(5):
        told = np.where(ids == i, labels, wrong)
        found = certify_additions(gallery[i : i + 1], gallery, told, n_parts=1, ids=ids[i : i + 1], gallery_ids=ids)
        nearest = np.argsort(np.linalg.norm(gallery - gallery[i], axis=1))[1]
        assert found.predictions[0] == wrong[nearest]


def test_a_query_without_a_result_is_not_right():
    found = certify_additions([[0.0]], [[0.0], [1.0]], [7, 8], n_parts=2, ids=[1], gallery_ids=[1, 1])
    assert found.votes[0] == 0 and found.certified_recall([7], 0) == found.certified_recall([8], 0) == 0.0


def test_certified_recall_falls_with_what_is_added():
    gallery, labels = clouds()
    queries, own = clouds(30, seed=2)
    found = certify_additions(queries, gallery, labels, n_parts=PARTS)
    shares = found.certified_recall(own, [0, 1, 2, 9])
    assert (np.diff(shares) <= 0).all() and shares[0] > 0.5 and shares[-1] == 0.0
    assert found.to_frame().shape == (30, 3)


@pytest.mark.parametrize("metric", ["euclidean", "cosine", "dot"])
def test_added_items_come_first_as_often_as_is_told(metric):
    queries, gallery = clouds(60, seed=3)[0], clouds()[0]
    found = poison_gallery(queries, gallery, 6, metric=metric)
    assert (np.diff(found.captured_known) >= 0).all() and found.captured_known[0] > 0
    order = torch.randperm(60, generator=torch.Generator().manual_seed(0)).numpy()
    shares = {"captured_known": queries[order[:30]], "captured_new": queries[order[30:]]}
    for name, asked in shares.items():
        both = np.vstack([gallery, found.items])
        score = -np.linalg.norm(asked[:, None] - both, axis=2)
        if metric != "euclidean":
            score = asked @ (both / (np.linalg.norm(both, axis=1, keepdims=True) if metric == "cosine" else 1.0)).T
        best = score[:, len(gallery) :].max(axis=1)
        captured = best >= score[:, : len(gallery)].max(axis=1) - 1e-12
        assert getattr(found, name)[-1] == pytest.approx(captured.mean())
    if metric == "dot":  # no longer than the longest: else one item would do for half of all queries
        assert np.linalg.norm(found.items, axis=1).max() <= np.linalg.norm(gallery, axis=1).max() * (1 + 1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: poison_gallery([[0.0]], [[0.0]]), "at least two"),
        (lambda: poison_gallery([[0.0], [1.0]], [[0.0]], 0), "n_added"),
        (lambda: poison_gallery([[0.0], [np.nan]], [[0.0]]), "finite"),
        (lambda: certify_additions([[0.0]], [[0.0]], [0], n_parts=0), "n_parts"),
        (
            lambda: certify_additions([[0.0]], [[0.0]], [0], n_parts=2.5),
            "n_parts must be a number of parts, at least 1",
        ),
        (lambda: poison_gallery([[0.0], [1.0]], [[0.0]], "2"), "n_added must be a number of items, at least 1"),
        (lambda: certify_additions([[0.0]], [[0.0]], [0], ids=[0.5], gallery_ids=[0]), "ids and gallery_ids must be"),
        (lambda: certify_additions([[0.0]] * 2, [[0.0]], [0]).certified_recall([0], 0), "labels must be 2"),
        (lambda: certify_additions([[0.0]], [[0.0]], [0]).certified_recall([0], -1), "n_added must hold numbers"),
        (lambda: certify_additions([[0.0]], [[0.0]], [0.5]), "whole numbers"),
        (lambda: certify_additions([[0.0]], [[0.0]], [0], metric="dot"), "metric"),
        (lambda: certify_additions([[0.0]], [[0.0, 1.0]], [0]), "dimensions"),
    ],
)
def test_what_is_wrong_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
