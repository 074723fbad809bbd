"""Retrieval figures: by their definitions, against a peer, and honest about ties, selves and attacks."""

import copy
import json
import warnings

import numpy as np
import pandas as pd
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
from certimetric.deep.retrieval.evaluation import attack_names, nmi, with_positive  # noqa: E402


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
    # Ids are the user's word: where they say that these are other pictures, every query finds its copy.
    told = ImageSet(images[:200], labels[:200], torch.arange(200))
    blind = evaluate_retrieval(model, told, ImageSet(images[:200], labels[:200], order + 1000), with_pixels=False)
    assert blind.rows[0]["recall_at_1"] == 1.0


def test_attacks_lower_recall_and_the_worst_case_is_the_worst(digits, network):
    images, labels = digits
    data = ImageSet(images[:150], labels[:150])
    attacks = [FGSM(LinfBall(0.1)), PGD(LinfBall(0.1), steps=8)]
    result = evaluate_retrieval(network, data, attacks=attacks, batch_size=64)
    table = result.to_frame().set_index(["subject", "attack"])["recall_at_1"]
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
        evaluate_retrieval(network, data, attacks=[FGSM(L2Ball(0.5))], batch_size=size, with_pixels=False).to_frame()
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


def test_every_picture_is_shown_to_the_model_once(digits, network):
    images, labels = digits
    labels = labels[:40].clone()
    labels[7] = 99  # has no positive
    items, seen, still = ImageSet(images[:40], labels), [], copy.deepcopy(network).eval()

    def model(batch):
        seen.append(len(batch))
        return still(batch)

    found = evaluate_retrieval(model, items, with_pixels=False, batch_size=16)
    assert sum(seen) == 40
    apart = evaluate_retrieval(model, items.select(torch.arange(40)), items, with_pixels=False, batch_size=16)
    told = [result.to_frame().select_dtypes("number").to_numpy() for result in (found, apart)]
    np.testing.assert_allclose(*told, atol=1e-6)


def test_the_worst_case_is_taken_at_each_eps_on_its_own(digits, network):
    images, labels = digits
    small, large = LinfBall(0.03), LinfBall(0.1)
    attacks = [FGSM(small), PGD(small, steps=3), FGSM(large), PGD(large, steps=3), FGSM(L2Ball(0.1))]
    result = evaluate_retrieval(network, ImageSet(images[:100], labels[:100]), attacks=attacks, with_pixels=False)
    rows = {(row["attack"], row["norm"], row["eps"]): row for row in result.rows}
    # One attack alone has no worst case beside it.
    worst = [key for key in rows if key[0] == "worst case"]
    assert sorted(worst) == [("worst case", "linf", 0.03), ("worst case", "linf", 0.1)]
    for eps in (0.03, 0.1):
        hits = result.recall_at_1
        both = hits["model", "FGSM", "linf", eps] & hits["model", "PGD", "linf", eps]
        np.testing.assert_array_equal(hits["model", "worst case", "linf", eps], both)
        assert rows["worst case", "linf", eps]["recall_at_1"] == pytest.approx(both.mean())
        for figure in ("map_at_r", "map", "recall_at_4"):
            assert rows["worst case", "linf", eps][figure] <= rows["PGD", "linf", eps][figure]
    assert rows["worst case", "linf", 0.1]["recall_at_1"] < rows["worst case", "linf", 0.03]["recall_at_1"]


@pytest.mark.parametrize(
    ("attacks", "names"),
    [
        ([], []),
        ([PGD(LinfBall(0.1)), FGSM(LinfBall(0.1))], ["PGD", "FGSM"]),
        ([PGD(LinfBall(0.1)), PGD(LinfBall(0.2))], ["PGD", "PGD"]),
        ([PGD(LinfBall(0.1), 5), PGD(LinfBall(0.2), 9)], ["PGD(steps=5)", "PGD(steps=9)"]),
        (
            [PGD(LinfBall(0.1), 5), PGD(LinfBall(0.1), 5, restarts=2), PGD(LinfBall(0.1), 9)],
            ["PGD(steps=5, restarts=1)", "PGD(steps=5, restarts=2)", "PGD(steps=9, restarts=1)"],
        ),
        # A subclass with the same settings is another kind.
        ([FGSM(LinfBall(0.1), True), FGSM(LinfBall(0.1)), PGD(LinfBall(0.1))],
         ["FGSM(random_start=True)", "FGSM(random_start=False)", "PGD"]),
    ],
)  # fmt: skip
def test_attacks_are_called_by_what_they_differ_in(attacks, names):
    assert attack_names(attacks) == names


def test_queries_with_a_positive():
    items = ImageSet(torch.rand(5, 1, 2, 2), torch.tensor([3, 3, 5, 7, 7]), torch.arange(5))
    labels = torch.tensor([3, 5, 5, 9, 1, 7])
    # Itself in the gallery; itself and alone there; another picture; no such label, above and below; another picture.
    queries = ImageSet(torch.rand(6, 1, 2, 2), labels, torch.tensor([0, 2, 50, 51, 52, 53]))
    assert with_positive(queries, items).tolist() == [True, False, True, False, False, True]
    with pytest.raises(ValueError, match="no query has another picture of its label in the gallery"):
        with_positive(queries.select(torch.tensor([1, 3, 4])), items)


def test_clusters_of_large_galleries_are_made_on_request_only(monkeypatch):
    monkeypatch.setattr("certimetric.deep.retrieval.evaluation.CLUSTERED", 9)
    small, large = (ImageSet(torch.rand(n, 1, 2, 2), torch.arange(n) % 2) for n in (9, 10))
    for items, options, made in (
        (small, {}, True),
        (large, {}, False),
        (large, {"with_nmi": True}, True),
        (small, {"with_nmi": False}, False),
        (small, {"with_pixels": False}, True),
    ):
        result = evaluate_retrieval(nn.Flatten(), items, attacks=[FGSM(LinfBall(0.1))], **options)
        # Of clean embeddings alone, the model's and those that raw pixels are: here they are the same.
        expected = nmi(items.images.flatten(1), items.labels) if made else None
        told = [row.get("nmi") for row in result.rows]
        assert told == [expected if row["attack"] == "clean" else None for row in result.rows]
        assert json.loads(result.to_json())["rows"] == result.rows


def test_mutual_information_of_clusters_and_labels():
    labels = torch.arange(60) % 3
    centres = torch.tensor([[0.0, 0.0], [9.0, 0.0], [0.0, 9.0]])
    noise = torch.randn(60, 2, generator=torch.Generator().manual_seed(0))
    assert nmi(centres[labels] + 0.1 * noise, labels) == pytest.approx(1.0)
    assert nmi(centres[labels] + 0.1 * noise, labels * 7 - 5) == pytest.approx(1.0)  # names make no difference
    assert nmi(noise, labels) < 0.3
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert nmi(torch.ones(60, 2), labels) == 0.0


LABELS = {
    "uint16": lambda y: y.numpy().astype(np.uint16),
    "uint16 tensor": lambda y: y.to(torch.uint16),
    "int8": lambda y: y.numpy().astype(np.int8),
    "list": lambda y: y.tolist(),
    "names": lambda y: [f"class {v}" for v in y.tolist()],
    "array of names": lambda y: np.array([f"class {v}" for v in y.tolist()]),
    "objects": lambda y: np.array([f"class {v}" for v in y.tolist()], dtype=object),
    "series": lambda y: pd.Series([f"class {v}" for v in y.tolist()], dtype="category"),
    "bytes": lambda y: np.array([f"class {v}".encode() for v in y.tolist()]),
}


@pytest.mark.parametrize("kind", LABELS)
def test_labels_of_any_kind_give_the_same_figures(digits, network, kind):
    images, labels = digits
    # Not the same classes on both sides, nor in the same order.
    query_rows, rows = torch.arange(30), torch.arange(200, 330)[labels[200:330] != 4]
    asked = (labels[query_rows] != 7).nonzero()[:, 0]

    def told(make):
        queries = ImageSet(images[asked], make(labels[asked]), asked)
        return evaluate_retrieval(network, queries, ImageSet(images[rows], make(labels[rows]), rows), with_pixels=False)

    expected, found = told(lambda y: y), told(LABELS[kind])
    pd.testing.assert_frame_equal(found.to_frame(), expected.to_frame(), rtol=1e-12)
    assert found.n_without_positive == expected.n_without_positive > 0


def test_two_classes_as_bools_and_names_again(digits):
    images, labels = digits
    bools = ImageSet(images[:9], labels[:9] > 4)
    assert bools.labels.tolist() == (labels[:9] > 4).long().tolist()
    names = ImageSet(images[:3], ["cat", "dog", "cat"])
    assert [names.classes[code] for code in names.select(torch.tensor([1, 2])).labels.tolist()] == ["dog", "cat"]
    assert set(ImageSet(images[:1], ["dog"]).classes) < set(names.classes)
    assert bools.classes == {}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x, y: ImageSet(x * 2, y), "values from 0 to 1, got 0 to 2"),
        (lambda x, y: ImageSet((x * 255).int(), y), r"floating type, from 0 to 1, or uint8, got torch.int32"),
        (lambda x, y: ImageSet(x, y + 0.5), "labels must be one whole number for each"),
        (lambda x, y: ImageSet(x, (y + 0.5).numpy()), "labels must be whole numbers, bools or names, got 1.5|0.5"),
        (lambda x, y: ImageSet(x, [None] * 400), "labels must be whole numbers, bools or names, got None"),
        (lambda x, y: ImageSet(x, np.full(400, 2**63, dtype=np.uint64)), "labels must be whole numbers below"),
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


def test_a_gallery_of_its_own_loses_no_item_to_ids_that_count_from_0_again():
    images = torch.rand(12, 1, 4, 4)
    labels = torch.arange(12) % 2
    queries, gallery = ImageSet(images[:6], labels[:6]), ImageSet(images[6:], labels[6:])
    told = ImageSet(images[:6], labels[:6], torch.arange(6) + 100)
    frames = [evaluate_retrieval(nn.Flatten(), some, gallery, with_pixels=False).rows for some in (queries, told)]
    assert frames[0] == frames[1]


def test_one_id_for_different_pictures_is_an_error():
    images, labels = torch.rand(6, 1, 4, 4), torch.arange(6) % 2
    gallery = ImageSet(images, labels)
    queries = ImageSet(images[[0, 2]], labels[[0, 2]], torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="equal ids must be the same picture, but query 1 and gallery item 1"):
        evaluate_retrieval(nn.Flatten(), queries, gallery)
