"""Radii by slopes: nothing that is tried changes a prediction within them, and they say more than a constant."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: the extra 'deep' has it")

from sklearn.datasets import load_digits  # noqa: E402
from torch import nn  # noqa: E402

from certimetric.deep import ImageSet, certify_retrieval, embedding_model  # noqa: E402
from certimetric.deep.certify.lipschitz_constant import plain_layers  # noqa: E402
from certimetric.deep.certify.slopes import bends_little  # noqa: E402
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


@torch.no_grad()
def embedded(model, images):
    return model.double()(images.double())


def gap(points, items, same):
    """Squared distance of the nearest other less that of the nearest own item; a prediction changes where it is 0."""
    squares = (points[:, None] - items).pow(2).sum(dim=2)
    return squares.masked_fill(same != 0, torch.inf).amin(1) - squares.masked_fill(same != 1, torch.inf).amin(1)


def attacked(model, items, found, sizes, steps=25):
    """Smallest gap that gradient descent in balls of these sizes finds, from the middle and from a random place."""
    gallery, predicted = embedded(model, items.images), torch.from_numpy(found.predictions)
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
    model, items = network(**options), digits()
    found = certify_retrieval(model, items, with_pixels=False)
    lowest = attacked(model, items, found, found.radii)
    assert (lowest >= 0).all()
    # The attack is one that would have found something: some predictions change not far beyond.
    beyond = attacked(model, items, found, 1.5 * found.radii)
    assert (beyond < 0).mean() > (0.0 if options.get("offset") == 2e-6 else 0.3)


def test_slopes_say_more_than_the_constant_and_never_less():
    model, items = network(), digits()
    radii, constant = certify_retrieval(model, items, with_pixels=False).radii, by_constant(model, items)
    assert (radii >= constant).all()
    assert np.median(radii / constant) > 1.3


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
