"""Certified retrieval: no attack beats a certificate, and on linear embeddings it is the classical one."""

import copy
import json

import numpy as np
import pytest
import torch
from torch import nn

from certimetric import MahalanobisMetric, certified_radius, minimal_perturbation
from certimetric.deep import (
    APGD,
    PGD,
    CertifiedMarginLoss,
    ImageSet,
    Index,
    L2Ball,
    LinfBall,
    LipschitzCertifier,
    certify_retrieval,
    embedding_model,
    lipschitz_constant,
)
from certimetric.deep.certify.interval import follow
from certimetric.deep.certify.lipschitz_constant import OnSphere, Standardise, plain_layers
from certimetric.deep.models import EmbeddingNetwork
from certimetric.deep.models.orthogonal import GroupSort, NormPool2d
from certimetric.deep.ranking.ranks import nearest
from certimetric.deep.retrieval import RankingEvaluation


@pytest.fixture(scope="module")
def gallery(digits):
    images, labels = digits
    return ImageSet(images[:200], labels[:200])


@pytest.fixture(scope="module")
def queries(gallery):
    return gallery.select(torch.arange(0, 200, 2))


def trained(model, gallery, loss, steps=40, learning_rate=1e-2):
    optimizer = torch.optim.Adam(model.parameters(), learning_rate)
    for step in range(steps):
        batch = gallery.select((torch.arange(60) * 7 + 60 * step) % len(gallery))
        optimizer.zero_grad()
        loss(model(batch.images), batch.labels).backward()
        optimizer.step()
    return model.eval()


@pytest.fixture(scope="module")
def lipschitz_network(gallery):
    torch.manual_seed(0)
    model = embedding_model("lipschitz-cnn", 12, size=8, width=4, kernel=3, depth=1)
    return trained(model, gallery, CertifiedMarginLoss())


def labels_of(model, images, ids, gallery):
    """Labels of the first results in double precision."""
    layers = nn.Sequential(*plain_layers(model))
    with torch.no_grad():
        points, items = layers(images.double()), layers(gallery.images.double())
    return gallery.labels[nearest(points, ids, items, gallery.ids, 1)[:, 0]].numpy()


def assert_sound(certificate, model, queries, gallery, perturbed, norm="l2"):
    """Whatever leaves the prediction has moved farther than the radius."""
    change = (perturbed.double() - queries.images.double()).flatten(1)
    size = (change.norm(dim=1) if norm == "l2" else change.abs().amax(dim=1)).numpy()
    flipped = labels_of(model, perturbed, queries.ids, gallery) != certificate.predictions
    assert (size[flipped] > certificate.radii[flipped]).all()
    return int(flipped.sum())


def attacked(model, queries, gallery, balls, kinds):
    """Queries under every attack in every ball: what each leaves of them."""
    index = Index(model, gallery)
    for ball in balls:
        for kind, options in kinds:
            yield index.attacked(queries, kind(ball, **options))


def at_random(certificate, queries, norm, generator, n=5):
    """Changes of exactly the certified size, in random directions."""
    radii = torch.from_numpy(np.where(np.isfinite(certificate.radii), certificate.radii, 0.0))[:, None]
    x = queries.images.double().flatten(1)
    for _ in range(n):
        direction = torch.randn(x.shape, generator=generator, dtype=torch.double)
        direction = direction / direction.norm(dim=1, keepdim=True) if norm == "l2" else direction.sign()
        yield (x + direction * radii * (1 - 1e-12)).view(queries.images.shape)


@pytest.mark.parametrize("k", [3, 64, 70])
def test_linear_embedding_has_the_classical_certificate(gallery, queries, k):
    torch.manual_seed(k)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, k))
    metric = MahalanobisMetric.from_components(model[1].weight.detach().double().numpy())
    X, y = gallery.images.flatten(1).double().numpy(), gallery.labels.numpy()
    found = certify_retrieval(model, queries, gallery)
    np.testing.assert_allclose(found.radii, minimal_perturbation(metric, X, y).lower[::2], rtol=1e-7, atol=1e-9)
    for n_neighbors in (1, 3):
        found = certify_retrieval(model, queries, gallery, exact=False, n_neighbors=n_neighbors)
        classical = certified_radius(metric, X, y, n_neighbors=n_neighbors)[::2]
        np.testing.assert_allclose(found.radii, classical, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("norm, method", [("l2", "lipschitz"), ("linf", "interval")])
def test_pixels_have_the_classical_certificate(gallery, queries, norm, method):
    X, y = gallery.images.flatten(1).double().numpy(), gallery.labels.numpy()
    metric = MahalanobisMetric.from_components(np.eye(64))
    found = certify_retrieval(nn.Sequential(nn.Flatten()), queries, gallery, method=method).pixels
    if norm == "l2":
        classical = minimal_perturbation(metric, X, y).lower[::2]
    else:
        classical = certified_radius(metric, X, y, norm="linf")[::2]
    np.testing.assert_allclose(found.radii, classical, rtol=1e-9, atol=1e-12)


def test_no_attack_beats_the_lipschitz_certificate(lipschitz_network, gallery, queries):
    """1,600 attacked queries and 500 moved at random, those of three neighbours beside."""
    found = certify_retrieval(lipschitz_network, queries, gallery)
    assert found.certified_recall(0.0) > 0.85 and found.certified_recall(0.1) > 0.3
    assert (certify_retrieval(lipschitz_network, queries, gallery, exact=False).radii <= found.radii + 1e-9).all()
    balls = [L2Ball(eps) for eps in (0.1, 0.2, 0.4, 0.8)]
    kinds = [
        (PGD, {"steps": 15}),
        (PGD, {"steps": 8, "seed": 1}),
        (APGD, {"steps": 20}),
        (APGD, {"steps": 10, "seed": 1}),
    ]
    flips = sum(
        assert_sound(found, lipschitz_network, queries, gallery, x)
        for x in attacked(lipschitz_network, queries, gallery, balls, kinds)
    )
    assert flips > 400  # the attacks are worth something
    for x in at_random(found, queries, "l2", torch.Generator().manual_seed(0)):
        assert_sound(found, lipschitz_network, queries, gallery, x)


@pytest.mark.slow
def test_no_attack_on_the_ranking_beats_the_lipschitz_certificate(lipschitz_network, gallery, queries):
    """2,100 queries under the seven goals of attackers of queries, within three balls."""
    found = certify_retrieval(lipschitz_network, queries, gallery)
    evaluation = RankingEvaluation(Index(lipschitz_network, gallery), queries)
    flips = 0
    for goal in ("QA+", "QA-", "TMA", "ES", "LTM", "GTM", "GTT"):
        for eps in (0.1, 0.3, 0.9):
            attack = PGD(L2Ball(eps), steps=12, random_start=False)
            x = attack(lipschitz_network, queries.images, evaluation._goal(goal, slice(None)))
            flips += assert_sound(found, lipschitz_network, queries, gallery, x)
    assert flips > 200


def test_models_on_the_sphere_are_certified_before_they_are_scaled(gallery, queries):
    torch.manual_seed(1)
    body = embedding_model("lipschitz-cnn", 12, size=8, width=4, kernel=3, depth=1).body
    model = EmbeddingNetwork(body, 0.2, 0.5)
    found = certify_retrieval(model, queries, gallery)
    assert found.certified_recall(0.0) == pytest.approx(
        float(Index(model, gallery).score(queries)["recall_at_1"].mean())
    )
    assert np.median(found.radii) > 0.01
    balls = [L2Ball(eps) for eps in (0.05, 0.2)]
    kinds = [(PGD, {"steps": 15}), (APGD, {"steps": 15})]
    flips = sum(
        assert_sound(found, model, queries, gallery, x) for x in attacked(model, queries, gallery, balls, kinds)
    )
    assert flips > 20


def test_certificate_of_a_ball_and_of_a_loose_network(gallery, queries):
    """A plain network has a certificate too, smaller by its constant; scaling changes nothing."""
    torch.manual_seed(2)
    plain = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 8), nn.ReLU())
    found = certify_retrieval(plain, queries, gallery)
    larger = certify_retrieval(nn.Sequential(*plain, nn.Linear(8, 8, bias=False)), queries, gallery)
    assert (found.radii > 0).mean() > 0.9 and found.constant > 0.1
    assert larger.radii.shape == found.radii.shape
    for x in attacked(plain, queries, gallery, [L2Ball(0.2)], [(PGD, {"steps": 10})]):
        assert_sound(found, plain, queries, gallery, x)


@pytest.mark.slow
def test_no_attack_beats_the_certificate_of_a_larger_network(digits):
    """4,800 attacked queries."""
    images, labels = digits
    gallery = ImageSet(images, labels)
    torch.manual_seed(3)
    model = trained(embedding_model("lipschitz-cnn", 32, size=8, width=16, depth=2), gallery, CertifiedMarginLoss(), 60)
    found = certify_retrieval(model, gallery)
    balls = [L2Ball(eps) for eps in (0.1, 0.2, 0.4, 0.6, 0.8, 1.2)]
    kinds = [(PGD, {"steps": 40, "restarts": 2}), (APGD, {"steps": 50})]
    flips = sum(
        assert_sound(found, model, gallery, gallery, x) for x in attacked(model, gallery, gallery, balls, kinds)
    )
    assert flips > 1000


LAYERS = {
    "convolution": nn.Conv2d(2, 3, 3, stride=2, padding=1),
    "linear": nn.Sequential(nn.Flatten(), nn.Linear(72, 5)),
    "batch norm": nn.BatchNorm2d(2),
    "average": nn.AvgPool2d(2),
    "adaptive": nn.AdaptiveAvgPool2d(4),
    "maximum": nn.MaxPool2d(3, stride=2),
    "norm pool": NormPool2d(2),
    "norm pool with an offset": NormPool2d(3, 0.5),
    "sorting": GroupSort(),
    "leaky": nn.LeakyReLU(0.1),
    "standardise": Standardise(torch.tensor(0.3), torch.tensor(0.2)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_intervals_hold_what_a_layer_gives(name):
    torch.manual_seed(0)
    layer = LAYERS[name].double().eval()
    if name == "batch norm":
        layer.running_mean.copy_(torch.tensor([0.5, -0.5]))
        layer.weight.data.copy_(torch.tensor([-2.0, 3.0]))
    x = torch.randn(4, 2, 6, 6, dtype=torch.double)
    reach = torch.rand(4, 1, 1, 1, dtype=torch.double)
    layers = list(layer) if isinstance(layer, nn.Sequential) else [layer]
    with torch.no_grad():
        lower, upper = follow(layers, (x - reach, x + reach))
        assert (lower <= upper).all()
        for part in (torch.rand(200, *x.shape), torch.randint(0, 2, (200, *x.shape))):
            inside = (x + reach * (2 * part.double() - 1)).flatten(0, 1)
            out = layer(inside).unflatten(0, (200, 4))
            assert (out >= lower).all() and (out <= upper).all()
            # Corners come near to the bounds, or the box would be too large to be of use.
        assert float((upper - lower).min()) > 0
        lower, upper = follow(layers, (x, x))
        torch.testing.assert_close(lower, upper)


@pytest.mark.parametrize(
    "layer",
    [
        nn.LeakyReLU(-0.5),
        nn.Conv2d(2, 2, 3, padding=1, padding_mode="circular"),
        nn.BatchNorm2d(2, track_running_stats=False),
        type("Own", (nn.ReLU,), {})(),
        nn.GELU(),
    ],
)
def test_layers_without_intervals_are_refused(layer):
    with pytest.raises(ValueError, match="no interval bounds for the layer"):
        follow([layer], (torch.zeros(1, 2, 6, 6), torch.ones(1, 2, 6, 6)))


def test_no_attack_beats_the_interval_certificate(gallery, queries):
    torch.manual_seed(4)
    body = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 8))
    for model in (EmbeddingNetwork(body, 0.3, 0.5), body, nn.Sequential(*body, nn.ReLU())):
        found = certify_retrieval(model, queries, gallery, method="interval")
        assert (found.radii > 0.002).mean() > 0.3
        balls = [LinfBall(eps) for eps in (0.01, 0.05)]
        flips = sum(
            assert_sound(found, model, queries, gallery, x, "linf")
            for x in attacked(model, queries, gallery, balls, [(PGD, {"steps": 15}), (APGD, {"steps": 15})])
        )
        assert flips > 20
        for x in at_random(found, queries, "linf", torch.Generator().manual_seed(0), 2):
            assert_sound(found, model, queries, gallery, x, "linf")


def test_intervals_are_exact_on_a_linear_embedding():
    """Away from 0 and 1, where the box of pixels is whole: the bound by triplets, up to the resolution."""
    rng = np.random.default_rng(0)
    X, y = 0.5 + 0.02 * rng.normal(size=(12, 6)), np.repeat([0, 1, 2], 4)
    model = nn.Sequential(nn.Flatten(), nn.Linear(6, 4, dtype=torch.double))
    images = ImageSet(torch.from_numpy(X).view(12, 1, 2, 3), torch.from_numpy(y))
    found = certify_retrieval(model, images, method="interval", resolution=1e-7)
    metric = MahalanobisMetric.from_components(model[1].weight.detach().numpy())
    np.testing.assert_allclose(found.radii, certified_radius(metric, X, y, norm="linf"), atol=2e-7)


def test_smaller_constant_larger_radius(gallery, queries):
    """A tenth of the contrast certifies the same: the constant is a tenth too."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 5))
    other = nn.Sequential(nn.Flatten(), nn.Linear(64, 5))
    with torch.no_grad():
        other[1].weight.copy_(0.1 * model[1].weight)
        other[1].bias.copy_(0.1 * model[1].bias)
    one, two = (certify_retrieval(m, queries, gallery) for m in (model, other))
    np.testing.assert_allclose(one.radii, two.radii, rtol=1e-4)
    assert one.constant == pytest.approx(10 * two.constant, rel=1e-6)
    assert one.constant >= lipschitz_constant(model, (1, 8, 8))


def test_result_tells_what_was_found(gallery, queries):
    found = certify_retrieval(nn.Flatten(), queries, gallery)
    np.testing.assert_allclose(found.radii, found.pixels.radii, rtol=1e-12)
    sizes = np.linspace(0, 2, 20)
    recall = found.certified_recall(sizes)
    assert (np.diff(recall) <= 0).all() and recall[0] == (found.predictions == found.labels).mean()
    frame = found.to_frame()
    assert list(frame["subject"].unique()) == ["model", "raw pixels"] and len(frame) == 2 * len(queries)
    told = json.loads(found.to_json())
    assert told["radii"] == found.radii.tolist() and told["method"] == "lipschitz" and told["confidence"] is None
    assert "0.5" in found._repr_html_()
    with pytest.raises(ValueError, match="at least 0"):
        found.certified_recall(-1.0)


def test_a_query_is_never_its_own_result():
    images = ImageSet(torch.tensor([0.0, 0.1, 0.9, 1.0]).view(4, 1, 1, 1), torch.tensor([0, 0, 1, 1]))
    apart = ImageSet(images.images, images.labels, torch.arange(4) + 10)
    assert certify_retrieval(nn.Flatten(), images).radii.round(6).tolist() == [0.5, 0.35, 0.35, 0.5]
    told = ImageSet(images.images, images.labels, torch.arange(4))  # whose word it is that these are other pictures
    assert certify_retrieval(nn.Flatten(), apart, told).radii.round(6).tolist() == [0.5, 0.4, 0.4, 0.5]
    lonely = ImageSet(images.images[:3], images.labels[:3])
    assert certify_retrieval(nn.Flatten(), lonely).n_without_positive == 1
    one_class = ImageSet(images.images, torch.zeros(4, dtype=torch.long))
    found = certify_retrieval(nn.Flatten(), one_class)
    assert np.isinf(found.radii).all() and json.loads(found.to_json())["radii"] == ["inf"] * 4


def test_ties_and_constant_models_are_not_certified(gallery, queries):
    double = ImageSet(torch.full((4, 1, 2, 2), 0.5), torch.tensor([0, 0, 1, 1]))
    assert (certify_retrieval(nn.Flatten(), double).radii == 0).all()
    constant = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    nn.init.zeros_(constant[1].weight)
    for method in ("lipschitz", "interval"):
        assert (certify_retrieval(constant, queries, gallery, method=method).radii == 0).all()


@pytest.mark.parametrize(
    "model, options, message",
    [
        (nn.Flatten(), {"method": "magic"}, "'lipschitz', 'smoothing', 'interval'"),
        (nn.Flatten(), {"sigma": 0.1}, "settings of the method 'lipschitz' do not fit"),
        (nn.Flatten(), {"method": LipschitzCertifier(), "exact": False}, "setting of the certifier"),
        (nn.Flatten(), {"n_neighbors": 0}, "n_neighbors must be at least 1"),
        (nn.Flatten(), {"n_neighbors": 200, "exact": False}, "less than the 200 pictures"),
        (nn.Flatten(), {"method": "interval", "resolution": 0.0}, "resolution"),
        (nn.Identity(), {}, "shape"),
        (nn.Sequential(nn.Flatten(), nn.Softmax(dim=1)), {}, "Softmax"),
        (nn.Sequential(nn.Flatten(), nn.Softmax(dim=1)), {"method": "interval"}, "Softmax"),
    ],
)
def test_bad_requests_are_one_sentence(gallery, queries, model, options, message):
    with pytest.raises(ValueError, match=message):
        certify_retrieval(model, queries, gallery, **options)


def test_a_picture_that_stands_twice_in_the_gallery_is_left_out_twice(gallery):
    ids = torch.tensor([0, 0, 1, 2, 3, 4])
    twice = ImageSet(gallery.images[[0, 0, 1, 2, 3, 4]], torch.tensor([0, 0, 0, 1, 1, 1]), ids)
    once = twice.select(torch.tensor([0, 2, 3, 4, 5]))
    for method in ("lipschitz", "interval"):
        found, expected = (certify_retrieval(nn.Flatten(), once, some, method=method) for some in (twice, once))
        np.testing.assert_allclose(found.radii, expected.radii, atol=1e-12)
        np.testing.assert_array_equal(found.predictions, expected.predictions)


def test_sphere_of_an_empty_embedding_is_refused(gallery, queries):
    body = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    nn.init.zeros_(body[1].weight)
    nn.init.zeros_(body[1].bias)
    with pytest.raises(ValueError, match="length 0"):
        certify_retrieval(EmbeddingNetwork(body), queries, gallery)
    assert isinstance(plain_layers(EmbeddingNetwork(body))[-1], OnSphere)


@pytest.mark.parametrize("method", ["lipschitz", "interval"])
def test_a_black_item_is_refused_by_cosine(method):
    # Before scaling it is the nearest to a dark query; by cosine another one is.
    items = ImageSet(torch.tensor([[0.0, 0.0], [1.0, 0.0]]).reshape(2, 1, 1, 2), torch.tensor([0, 1]))
    dark = ImageSet(torch.tensor([[0.1, 0.0]]).reshape(1, 1, 1, 2), torch.tensor([0]))
    with pytest.raises(ValueError, match="the gallery holds an embedding of length 0"):
        certify_retrieval(nn.Flatten(), dark, items, method=method, metric="cosine", with_pixels=False)


def test_a_model_in_double_precision_is_certified_by_cosine(gallery, queries):
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    single, double = (
        certify_retrieval(each, queries, gallery, metric="cosine", with_pixels=False)
        for each in (model, copy.deepcopy(model).double())
    )
    np.testing.assert_allclose(double.radii, single.radii, rtol=1e-9)


def test_margin_loss_is_that_of_a_loop():
    torch.manual_seed(0)
    points, labels = torch.randn(7, 3, dtype=torch.double, requires_grad=True), torch.tensor([0, 0, 0, 1, 1, 2, 2])
    loss = CertifiedMarginLoss(1.5, 0.3)
    terms = []
    for a in range(7):
        soft = []
        for l in range(7):
            if labels[l] == labels[a]:
                continue
            gaps = [
                ((points[a] - points[l]).square().sum() - (points[a] - points[j]).square().sum())
                / (2 * (points[l] - points[j]).norm())
                for j in range(7)
                if j != a and labels[j] == labels[a]
            ]
            soft.append(-max(gaps) / 0.3)
        terms.append(0.3 * nn.functional.softplus(torch.logsumexp(torch.stack(soft), 0) + 1.5 / 0.3))
    torch.testing.assert_close(loss(points, labels), torch.stack(terms).mean())
    loss(points, labels).backward()
    assert torch.isfinite(points.grad).all()
    assert loss(points, torch.arange(7)).item() == 0.0  # nothing has a partner
    with pytest.raises(ValueError, match="without a miner"):
        loss(points, labels, (labels, labels, labels))
    with pytest.raises(ValueError, match="positive"):
        CertifiedMarginLoss(margin=0.0)
