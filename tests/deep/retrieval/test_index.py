"""The index of a gallery: nearest items are exact, in batches, and never the query itself."""

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: the extra 'deep' has it")

from torch import nn  # noqa: E402

from certimetric.deep import PGD, AwayFromPositive, ImageSet, Index, LinfBall, embed  # noqa: E402
from certimetric.deep.retrieval.index import figures  # noqa: E402

ATTACK = PGD(LinfBall(0.1), steps=3)


@pytest.fixture
def sides(digits):
    """Queries and a gallery that share 20 pictures, known by their ids."""
    images, labels = digits
    gallery = ImageSet(images[:120], labels[:120], torch.arange(120))
    return ImageSet(images[100:150], labels[100:150], torch.arange(100, 150)), gallery


def brute_force_nearest(queries, ids, gallery, gallery_ids, k):
    found = []
    for query, own in zip(queries, ids):
        d = (gallery - query).norm(dim=1)
        d[gallery_ids == own] = torch.inf
        found.append(d.argsort(stable=True)[:k].tolist())
    return found


def test_the_index_ranks_embeddings(sides, network):
    queries, gallery = sides
    index = Index(network, gallery, batch_size=33)
    torch.testing.assert_close(index.embeddings, embed(network, gallery.images))
    expected = brute_force_nearest(embed(network, queries.images), queries.ids, index.embeddings, gallery.ids, 5)
    assert index.nearest(queries.images, queries.ids, 5).tolist() == expected


def test_recall_at_1_is_the_label_of_the_nearest(sides, network):
    queries, gallery = sides
    index = Index(network, gallery, batch_size=17)
    found = index.score(queries)
    first = index.nearest(queries.images, queries.ids, 1)[:, 0]
    assert torch.equal(found["recall_at_1"].bool(), gallery.labels[first] == queries.labels)
    assert 0 < found["recall_at_1"].mean() < 1
    recalls = torch.stack([found[f"recall_at_{k}"] for k in (1, 2, 4, 8)])
    assert (recalls.diff(dim=0) >= 0).all()
    assert all(((value >= 0) & (value <= 1)).all() for value in found.values())
    assert (found["map_at_r"] <= found["map"] + 1e-6).all()


def test_attacked_queries_stay_in_the_ball_and_are_scored(sides, network):
    queries, gallery = sides
    index = Index(network, gallery, batch_size=20)
    attacked = index.attacked(queries, ATTACK)
    assert attacked.shape == queries.images.shape
    assert (attacked - queries.images).abs().max() <= 0.1 + 1e-6
    clean, worse = index.score(queries), index.score(queries, ATTACK)
    again = index.score(ImageSet(attacked, queries.labels, queries.ids))
    assert torch.equal(worse["recall_at_1"], again["recall_at_1"])
    assert worse["recall_at_1"].mean() < clean["recall_at_1"].mean()


def test_the_margin_is_positive_exactly_for_failures(sides, network):
    queries, gallery = sides
    index = Index(network, gallery)
    margin = index.goal(queries)(embed(network, queries.images))
    assert torch.equal(margin > 0, index.score(queries)["recall_at_1"] == 0)


def test_another_goal_is_what_the_attack_maximises(sides, network):
    queries, gallery = sides
    made = []

    def make(labels, embeddings, gallery_labels, ids, gallery_ids):
        made.append(len(labels))
        return AwayFromPositive(embeddings[: len(labels)])

    attacked = Index(network, gallery, 30, make).attacked(queries, ATTACK)
    assert made == [30, 20]
    assert not torch.equal(attacked, Index(network, gallery, 30).attacked(queries, ATTACK))


def test_figures_by_hand():
    # Two relevant items at ranks 2 and 3; three at 1, 4 and 9; none left.
    found = figures(torch.tensor([[2, 3, 0], [1, 4, 9], [0, 0, 0]]))
    assert found["recall_at_1"].tolist() == [0, 1, 0]
    assert found["recall_at_2"].tolist() == [1, 1, 0]
    torch.testing.assert_close(found["map_at_r"], torch.tensor([1 / 4, 1 / 3, 0]))
    torch.testing.assert_close(found["map"], torch.tensor([(1 / 2 + 2 / 3) / 2, (1 + 2 / 4 + 3 / 9) / 3, 0]))


def test_models_without_parameters_have_an_index(sides):
    queries, gallery = sides
    index = Index(nn.Flatten(), gallery)
    assert index.device.type == "cpu"
    assert index.nearest(queries.images, queries.ids, 2).shape == (50, 2)
