"""Figures that say less than they seem to come with a warning: no gradients, a model that draws, training mode."""

import warnings

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: the extra 'deep' has it")

from torch import nn  # noqa: E402

from certimetric.deep import (  # noqa: E402
    PGD,
    EmbeddingShift,
    ImageSet,
    LinfBall,
    NESAttack,
    SquareAttack,
    embed,
    evaluate_retrieval,
)
from certimetric.deep.retrieval.reliability import gradient_trouble, unsteadiness  # noqa: E402

BALL = LinfBall(0.1)
GRADIENTS, QUERIES = [PGD(BALL, steps=2)], [SquareAttack(BALL, queries=3), NESAttack(BALL, steps=1, population=2)]


class Model(nn.Module):
    """A projection of pictures that were changed before, or of which the embedding is changed afterwards."""

    def __init__(self, before=lambda x: x, after=lambda z: z):
        super().__init__()
        torch.manual_seed(0)
        self.before, self.after, self.linear = before, after, nn.Linear(64, 16)

    def forward(self, images):
        return self.after(self.linear(self.before(images).flatten(1)))


def noisy(z):
    return z + 0.1 * torch.randn_like(z)


def by_batch(z):
    return z - z.mean(dim=0)


def quantised(x):
    return (4 * x).round() / 4


def root(x):
    return (x - x.detach()).abs().sqrt() + x  # √ has an infinite slope at 0, times the slope 0 of |·|: not a number


def told(model, digits, attacks):
    items = ImageSet(digits[0][:40], digits[1][:40])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        evaluate_retrieval(model, items, attacks=attacks, with_pixels=False)
    ours = [w for w in caught if issubclass(w.category, UserWarning) and w.filename == __file__]
    return [str(w.message) for w in ours]


@pytest.mark.parametrize(
    ("model", "attacks", "message"),
    [
        (Model(quantised), GRADIENTS, "40 of 40 queries have a gradient of zero: attacks by gradients are blind there"),
        (Model(root), GRADIENTS, "40 of 40 queries have a gradient that is not finite"),
        (Model(after=noisy), QUERIES, "figures under attack change from run to run. The model is randomised"),
        (Model(after=by_batch), QUERIES, "The embedding of a picture depends on the others of its batch"),
        (nn.Sequential(nn.Dropout(), Model()).train(), [], "the model came in training mode"),
    ],
    ids=["quantised", "not finite", "randomised", "by batch", "training mode"],
)
def test_what_makes_figures_doubtful_is_told_once(digits, model, attacks, message):
    (found,) = told(model, digits, attacks)
    assert message in found
    assert "\n" not in found


@pytest.mark.parametrize(
    ("model", "attacks"),
    [
        (Model(), GRADIENTS + QUERIES),
        (Model().train(), GRADIENTS),  # it has no layer that knows the difference
        (nn.Sequential(nn.Dropout(), Model()).eval(), GRADIENTS),
        (Model(quantised), QUERIES),  # which need no gradients
        (Model(after=noisy), []),
        (lambda images: images.numpy().reshape(len(images), -1), QUERIES),
        (Model(), [PGD(LinfBall(0.0))]),
    ],
)
def test_nothing_is_told_where_nothing_is_wrong(digits, model, attacks):
    assert told(model, digits, attacks) == []


def test_troubles_are_of_samples(digits):
    def partly(x):
        return torch.where((torch.arange(len(x)) < 3).view(-1, 1, 1, 1), quantised(x), x)

    images, model = digits[0][:9], Model(partly)
    with torch.no_grad():
        goal = EmbeddingShift(model(images) + 1)
    zero, infinite = gradient_trouble(model, images, goal)
    assert zero.tolist() == 3 * [True] + 6 * [False]
    assert not infinite.any()
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert unsteadiness(Model(), images) is None
    assert embed(model, images).shape == (9, 16)
