"""Retrieval figures: by their definitions, against a peer, and honest about ties, selves and attacks."""

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: the extra 'deep' has it")

from torch import nn  # noqa: E402

from certimetric.deep import (  # noqa: E402
    FGSM,
    PGD,
    ImageSet,
    L2Ball,
    LinfBall,
    embed,
    evaluate_retrieval,
)


def embeddings(n=120, k=3, classes=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, classes, (n,), generator=generator)
    return torch.randn(n, k, generator=generator) + 0.7 * nn.functional.one_hot(labels, classes)[:, :k], labels


class Fixed(nn.Module):
    """Embeddings written into the first pixels of an image."""

    def __init__(self, k):
        super().__init__()
        self.k = k

    def forward(self, x):
        return x.flatten(1)[:, : self.k]


def as_images(points):
    low, high = points.min(), points.max()
    return ((points - low) / (high - low)).view(len(points), 1, 1, -1)


def test_agrees_with_a_peer_on_clean_data():
    tester = pytest.importorskip("pytorch_metric_learning.utils.accuracy_calculator", reason="no peer installed")
    points, labels = embeddings()
    images = as_images(points)
    row = evaluate_retrieval(Fixed(3), ImageSet(images, labels)).rows[0]
    calculator = tester.AccuracyCalculator(
        include=("precision_at_1", "mean_average_precision_at_r", "mean_average_precision"), k=None,
        device=torch.device("cpu"), kmeans_func=lambda *arguments: None,
        knn_func=lambda query, k, reference, same: _knn(query, k, reference, same),
    )  # fmt: skip
    peer = calculator.get_accuracy(images.flatten(1), labels, images.flatten(1), labels, ref_includes_query=True)
    assert row["recall_at_1"] == pytest.approx(peer["precision_at_1"], abs=1e-6)
    assert row["map_at_r"] == pytest.approx(peer["mean_average_precision_at_r"], abs=1e-6)
    assert row["map"] == pytest.approx(peer["mean_average_precision"], abs=1e-6)


def _knn(query, k, reference, same):
    distances = (query[:, None] - reference[None]).norm(dim=2)
    if same:
        distances.fill_diagonal_(torch.inf)
        k = min(k, len(reference) - 1)
    values, indices = distances.topk(min(k, len(reference)), largest=False)
    return values, indices


def test_constant_embeddings_retrieve_nothing():
    # Every item is at distance 0: ties are ranked against the query, so collapse scores nothing.
    class Constant(nn.Module):
        def forward(self, x):
            return torch.ones(len(x), 4) + 0 * x.flatten(1)[:, :1]

    _, labels = embeddings()
    result = evaluate_retrieval(Constant(), ImageSet(torch.rand(120, 1, 2, 2), labels), with_pixels=False)
    assert result.rows[0]["recall_at_1"] == 0


def test_self_matches_are_known_by_id_not_by_rank(digits):
    images, labels = digits
    model = nn.Flatten()
    whole = ImageSet(images[:200], labels[:200])
    alone = evaluate_retrieval(model, whole, with_pixels=False)
    # The same pictures in another order as a gallery of their own, with their ids.
    order = torch.randperm(200, generator=torch.Generator().manual_seed(0))
    gallery = ImageSet(images[:200][order], labels[:200][order], order)
    other = evaluate_retrieval(model, whole, gallery, with_pixels=False)
    assert {k: v for k, v in alone.rows[0].items() if k != "nmi"} == {
        k: v for k, v in other.rows[0].items() if k != "nmi"
    }
    # Without ids in common every query would find itself.
    blind = evaluate_retrieval(model, whole, ImageSet(images[:200], labels[:200], order + 1000), with_pixels=False)
    assert blind.rows[0]["recall_at_1"] == 1.0


def test_attacks_lower_recall_and_the_worst_case_is_the_worst(digits, network):
    images, labels = digits
    data = ImageSet(images[:150], labels[:150])
    attacks = [FGSM(LinfBall(0.1)), PGD(LinfBall(0.1), steps=8)]
    result = evaluate_retrieval(network, data, attacks=attacks, batch_size=64)
    table = result.frame().set_index(["subject", "attack"])["recall_at_1"]
    for subject in ("model", "raw pixels"):
        assert table[subject, "PGD"] <= table[subject, "clean"]
        assert table[subject, "worst case"] <= min(table[subject, "FGSM"], table[subject, "PGD"])
    assert table["model", "PGD"] < table["model", "clean"] - 0.1
    hits = result.recall_at_1
    worst = hits["model", "worst case", "linf", 0.1]
    assert (worst <= hits["model", "PGD", "linf", 0.1]).all()
    # A larger radius is never weaker in the same attack's hands here.
    more = evaluate_retrieval(network, data, attacks=[PGD(LinfBall(0.3), steps=8)], with_pixels=False)
    assert more.rows[1]["recall_at_1"] <= table["model", "PGD"]
    assert json.loads(result.to_json())["n_queries"] == 150
    assert "raw pixels" in result._repr_html_()


def test_batches_make_no_difference(digits, network):
    images, labels = digits
    data = ImageSet(images[:80], labels[:80])
    first, second = (
        evaluate_retrieval(network, data, attacks=[FGSM(L2Ball(0.5))], batch_size=size, with_pixels=False).frame()
        for size in (80, 17)
    )
    np.testing.assert_allclose(
        first.select_dtypes("number").to_numpy(), second.select_dtypes("number").to_numpy(), atol=1e-6
    )


def test_queries_without_a_positive_are_counted_and_left_out(digits):
    images, labels = digits
    labels = labels[:50].clone()
    labels[7] = 99
    result = evaluate_retrieval(nn.Flatten(), ImageSet(images[:50], labels), with_pixels=False)
    assert (result.n_queries, result.n_without_positive) == (49, 1)


class Tuple(nn.Module):
    def forward(self, x):
        return x.flatten(1), 0


class Infinite(nn.Module):
    def forward(self, x):
        return x.flatten(1) / 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x, y: ImageSet(x * 2, y), "values from 0 to 1, got 0 to 2"),
        (lambda x, y: ImageSet((x * 255).byte(), y), "floating type.*uint8.*divide by 255"),
        (lambda x, y: ImageSet(x[0], y), r"shape \(n, channels, height, width\)"),
        (lambda x, y: ImageSet(x, y[:3]), "labels must be one whole number for each of the 400 images"),
        (lambda x, y: embed(Tuple(), x), "one tensor of embeddings, got tuple"),
        (lambda x, y: embed(Infinite(), x), "not finite"),
        (lambda x, y: embed(nn.Identity(), x), r"embeddings of shape \(256, k\)"),
        (lambda x, y: embed(nn.Flatten(), x[:0]), "at least one image"),
        (lambda x, y: evaluate_retrieval(nn.Flatten(), ImageSet(x, y * 0)), "at least two classes"),
        (lambda x, y: evaluate_retrieval(nn.Flatten(), ImageSet(x[:9], torch.arange(9))), "no query has another"),
    ],
)
def test_bad_input_is_named(digits, call, message):
    with pytest.raises((ValueError, TypeError), match=message) as error:
        call(*digits)
    assert "\n" not in str(error.value)
