"""No figure changes with the size of embeddings: terms of defenses and layers, of the tiny, the huge, the far off."""

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: the extra 'deep' has it")

from torch import nn  # noqa: E402

from certimetric.deep import CertifiedMarginLoss, PerturbationDefense  # noqa: E402
from certimetric.deep.defenses import first_order_margin  # noqa: E402
from certimetric.deep.defenses.shifts import neighbour_divergence  # noqa: E402
from certimetric.deep.defenses.triplets import Collapse  # noqa: E402
from certimetric.deep.models.network import EmbeddingNetwork  # noqa: E402
from certimetric.deep.models.orthogonal import bjorck  # noqa: E402

SCALES = (1e-12, 1e-4, 1e6)


def points(n=8, k=3):
    return torch.randn(n, k, generator=torch.Generator().manual_seed(0))


LABELS = torch.arange(8) % 3


@pytest.mark.parametrize("scale", SCALES)
def test_certified_margins_are_in_the_unit_of_the_embeddings(scale):
    plain = CertifiedMarginLoss(1.0, 0.25)(points(), LABELS)
    torch.testing.assert_close(CertifiedMarginLoss(scale, scale / 4)(scale * points(), LABELS) / scale, plain)


def test_certified_margins_of_nearly_collapsed_embeddings_keep_their_digits():
    near = (1.0 + 1e-4 * points()).requires_grad_(True)
    loss = CertifiedMarginLoss(1e-4, 2.5e-5)
    torch.testing.assert_close(loss(near, LABELS).double(), loss(near.double(), LABELS), rtol=1e-3, atol=0)
    double = near.detach()[:1].repeat(8, 1).requires_grad_(True)  # all at one point
    loss(double, LABELS).backward()
    assert torch.isfinite(double.grad).all()


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_first_order_margins_do_not_know_the_scale(norm):
    triplets = (torch.tensor([0, 1]), torch.tensor([3, 4]), torch.tensor([5, 2]))

    def margin(scale):
        images = points().requires_grad_(True)
        return first_order_margin(images, scale * images, triplets, norm).detach()

    for scale in SCALES:
        torch.testing.assert_close(margin(scale), margin(1.0))


def test_an_anchor_that_cannot_be_moved_has_a_margin_without_end():
    """A dead unit: embeddings that no change of a picture moves, in the right order, want no more margin."""
    images = torch.tensor([[-1.0], [-2.0], [3.0], [4.0]])
    model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.ReLU())
    nn.init.ones_(model[0].weight)
    leaf = images.clone().requires_grad_(True)
    told = first_order_margin(leaf, model(leaf), tuple(torch.tensor([i]) for i in (0, 1, 2)), "l2")
    assert told.tolist() == [torch.inf]
    labels = torch.tensor([0, 0, 1, 1])
    PerturbationDefense(0.1).loss(model, images, labels, lambda e, *_: e.sum() * 0.0).backward()
    assert torch.isfinite(model[0].weight.grad).all()


@pytest.mark.parametrize("scale", [1e-16, 1e-4, 1e6])
def test_orthogonal_weights_do_not_depend_on_their_size(scale):
    matrix = points(3, 5)
    torch.testing.assert_close(bjorck(scale * matrix), bjorck(matrix), rtol=1e-4, atol=1e-5)
    assert torch.equal(bjorck(torch.zeros(2, 3)), torch.zeros(2, 3))


@pytest.mark.parametrize("scale", [*SCALES, 1e-16])
def test_embeddings_of_length_1_have_it_however_short_they_were(scale):
    network = EmbeddingNetwork(nn.Flatten(), mean=0.0, std=1.0, normalise=True)
    images = points().abs()[:, :, None, None]
    torch.testing.assert_close(network(scale * images), network(images))
    assert not network(0 * images).any()


def test_neighbours_far_from_each_other_and_from_the_origin():
    moved, references = points() + 0.1, points()
    expected = neighbour_divergence(moved, references, 1.0)
    assert (expected > 0).all()
    for scale, offset in ((1e6, 0.0), (1.0, 100.0)):
        found = neighbour_divergence(scale * moved + offset, scale * references + offset, scale**2)
        torch.testing.assert_close(found, expected, rtol=1e-2, atol=1e-4)
    # None is its own neighbour, however far the others are.
    far = 1e6 * points()
    assert float(neighbour_divergence(far + 1e5, far, 1.0).max()) > 1.0


@pytest.mark.parametrize("scale", SCALES)
def test_samples_collapse_at_one_point_and_no_sooner(scale):
    e = scale * points()
    assert Collapse().broken(torch.cat([e, e])).all()
    assert not Collapse().broken(torch.cat([e, 1.01 * e])).any()
