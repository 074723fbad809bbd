"""Radii by slopes: nothing that is tried changes a prediction within them, and they say more than a constant."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: the extra 'deep' has it")

from sklearn.datasets import load_digits  # noqa: E402
from torch import nn  # noqa: E402

from certimetric.deep import ImageSet, certify_retrieval, embedding_model  # noqa: E402
from certimetric.deep.certify.lipschitz_constant import layer_bounds, plain_layers  # noqa: E402
from certimetric.deep.certify.slopes import Slopes, _Opponents, bends_little  # noqa: E402
from certimetric.deep.models import EmbeddingNetwork, NormPool2d, orthogonal_convolution, orthogonal_linear  # noqa: E402


def digits(n=40, **others):
    X, y = load_digits(return_X_y=True)
    return ImageSet(torch.from_numpy(X[:n].reshape(-1, 1, 8, 8).astype(np.float32) / 16), y[:n], **others)


def network(pool=4, offset=0.2, kernel=3, std=1.0, sort=False, seed=0):
    """Weights, biases among them, are random: where they came from has no part in what is proven."""
    torch.manual_seed(seed)
    layers = [orthogonal_convolution(1, 6, kernel), NormPool2d(pool, offset), nn.Flatten()]
    model = EmbeddingNetwork(
        nn.Sequential(*layers, orthogonal_linear(6 * (-(-8 // pool)) ** 2, 10)), 0.3, std, normalise=False
    )
    with torch.no_grad():
        model.body[0].bias.normal_(std=0.2)
    return model.eval()


def by_constant(model, items):
    return certify_retrieval(model, items, exact=False, with_pixels=False).radii


def as_certified(model):
    """The network in double precision with the very weights that it uses in single."""
    return nn.Sequential(*plain_layers(model))


def gap(points, items, same):
    """Squared distance of the nearest other less that of the nearest own item; a prediction changes where it is 0."""
    squares = (points[:, None] - items).pow(2).sum(dim=2)
    return squares.masked_fill(same != 0, torch.inf).amin(1) - squares.masked_fill(same != 1, torch.inf).amin(1)


def attacked(model, items, found, sizes, steps=25):
    """Smallest gap that gradient descent in balls of these sizes finds, from the middle and from a random place."""
    model = as_certified(model)
    gallery, predicted = model(items.images.double()), torch.from_numpy(found.predictions)
    same = (items.labels == predicted[:, None]).long()
    same[torch.arange(len(same)), torch.arange(len(same))] = 2  # no query sees itself
    x, sizes = items.images.double(), torch.from_numpy(sizes)[:, None, None, None]
    lowest = torch.full((len(x),), torch.inf, dtype=torch.double)

    def within(delta):
        return delta * (sizes / delta.flatten(1).norm(dim=1)[:, None, None, None].clamp_min(1e-300)).clamp_max(1.0)

    torch.manual_seed(1)
    for start in (torch.zeros_like(x), within(torch.randn_like(x))):
        delta = start
        for step in range(steps):
            delta = delta.detach().requires_grad_(True)
            value = gap(model(x + delta), gallery, same)
            lowest = torch.minimum(lowest, value.detach())
            (slope,) = torch.autograd.grad(value.sum(), delta)
            unit = slope / slope.flatten(1).norm(dim=1)[:, None, None, None].clamp_min(1e-300)
            # To the border first, then in smaller steps.
            delta = within(delta.detach() - unit * sizes * (2.0 if step < 5 else 0.5 * 0.9**step))
    return lowest.numpy()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"pool": 2, "offset": 0.05},
        {"pool": 3, "kernel": 5},  # blocks that are cut short
        {"std": 0.4, "offset": 1.0},
        {"offset": 2e-6},  # bends sharply at once
    ],
)
def test_no_attack_changes_a_prediction_within_its_radius(options):
    model, items = network(**options), digits(30)
    found = certify_retrieval(model, items, with_pixels=False)
    lowest = attacked(model, items, found, found.radii)
    assert (lowest >= 0).all()
    # Little is lost: most predictions change a hundredth beyond.
    beyond = attacked(model, items, found, 1.01 * found.radii)
    assert (beyond < 0).mean() > 0.6


@pytest.mark.parametrize("share", [1.0, 0.2])
def test_from_wherever_the_network_is_looked_at_it_stays_above_the_parabola(share):
    model, rng = network(), np.random.default_rng(0)
    layers, image = plain_layers(model), digits(1).images.double()
    slopes = Slopes(layers, layer_bounds(layers, image.shape[1:]))
    points, own, alpha = rng.normal(size=(6, 10)), rng.normal(size=(3, 10)), rng.uniform(size=(6, 3))
    mixed = (alpha[..., None] * (own - points[:, None])).sum(axis=1)
    lengths = (alpha * np.linalg.norm(own - points[:, None], axis=2)).sum(axis=1)
    parts = (points, own, alpha, lengths, np.ones(6), mixed @ np.asarray(layers[-1].weight))
    opponents = _Opponents(*map(torch.from_numpy, parts))

    def gaps(x):
        f = nn.Sequential(*layers)(x).numpy()
        squares = ((f[:, None] - points) ** 2).sum(axis=2)[..., None] - ((f[:, None] - own) ** 2).sum(axis=2)[:, None]
        return 0.5 * (alpha * squares).sum(axis=2)

    free = torch.full((6,), torch.inf, dtype=torch.double)
    delta = torch.from_numpy(0.3 * rng.normal(size=(6, 64)))
    *_, highest = slopes._seen_from(image, delta, opponents, free)
    delta, s, g, a = (part.numpy() for part in slopes._seen_from(image, delta, opponents, share * highest))
    assert (a <= share * highest.numpy() * (1 + 1e-9)).all()
    places = image + torch.from_numpy(delta).view(6, 1, 8, 8)
    at_place = np.diag(gaps(places))
    assert (s <= at_place).all()
    if share == 1.0:
        np.testing.assert_allclose(s, at_place, atol=1e-9)
    # Short and long changes, along the gradient and against it, and any others.
    along = g / np.linalg.norm(g, axis=1, keepdims=True)
    tried = [along, -along, *(rng.normal(size=(20, 6, 64)) / 8)]
    for size in (1e-3, 0.1, 1.0, 5.0):
        for zeta in (size * way for way in tried):
            value = np.diag(gaps(places + torch.from_numpy(zeta).view(6, 1, 8, 8)))
            assert (value >= s + (g * zeta).sum(axis=1) - a * (zeta**2).sum(axis=1)).all()


def test_slopes_say_more_than_the_constant_and_never_less():
    model, items = network(), digits()
    radii, constant = certify_retrieval(model, items, with_pixels=False).radii, by_constant(model, items)
    assert (radii >= constant).all()
    assert np.median(radii / constant) > 1.8


@pytest.mark.parametrize(
    ("options", "known"),
    [({}, True), ({"offset": 0.0}, False), ({"sort": True}, False), ({"depth": 2}, False), ({"scale": 3.0}, False)],
)
def test_networks_whose_slopes_are_known(options, known):
    made = {"size": 8, "width": 4, "depth": 1, "kernel": 3, "offset": 0.3, "sort": False} | options
    assert bends_little(plain_layers(embedding_model("lipschitz-cnn", 8, **made))) == known


def test_items_that_a_query_does_not_see_do_not_count():
    groups = np.arange(40) // 2
    model, items = network(), digits(groups=groups)
    found = certify_retrieval(model, items, with_pixels=False)
    for i in (0, 21):
        rest = items.select(torch.from_numpy(np.flatnonzero(groups != groups[i])))
        alone = certify_retrieval(model, items.select(torch.tensor([i])), rest, with_pixels=False)
        assert alone.radii == pytest.approx(found.radii[i], rel=1e-6)


def test_ties_certify_nothing_and_one_class_everything():
    model, items = network(), digits(20)
    thrice = ImageSet(torch.cat([items.images] * 3), torch.cat([items.labels, items.labels, items.labels + 10]))
    assert (certify_retrieval(model, thrice, with_pixels=False).radii[:40] == 0).all()
    single = ImageSet(items.images, np.zeros(20, dtype=int))
    assert np.isinf(certify_retrieval(model, single, with_pixels=False).radii).all()


def test_offsets_are_not_negative():
    with pytest.raises(ValueError, match=r"offset of NormPool2d must not be negative, got -1"):
        NormPool2d(2, -1.0)
