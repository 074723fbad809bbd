"""Natural corruptions: pictures stay pictures, severities are in order, and chance is that of the picture."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: the extra 'deep' has it")

from certimetric.deep import ImageSet, LinfBall, attacks, defenses  # noqa: E402
from certimetric.deep.attacks import PGD, Reencoded  # noqa: E402
from certimetric.deep.attacks.corruptions import CORRUPTIONS, SEVERITIES, corrupt_some  # noqa: E402
from certimetric.deep.attacks.encoding import encoded  # noqa: E402
from certimetric.deep.attacks.warps import perspective, turn, warped  # noqa: E402

every_corruption = pytest.mark.parametrize("name", CORRUPTIONS)


@pytest.fixture(scope="module")
def photos():
    """Smooth pictures in colour."""
    coarse = torch.rand(12, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.interpolate(coarse, size=(32, 32), mode="bicubic").clamp(0, 1)


def distance(corrupted, images):
    return (corrupted - images).flatten(1).norm(dim=1).mean()


@every_corruption
def test_severities_are_in_order_and_pictures_stay_pictures(photos, name):
    kind, before = CORRUPTIONS[name], photos.clone()
    found = [kind(photos, severity) for severity in SEVERITIES]
    for each in found:
        assert each.shape == photos.shape and each.dtype == photos.dtype
        assert each.min() >= 0 and each.max() <= 1
    sizes = [distance(each, photos) for each in found]
    assert sizes[0] > 0 and sizes == sorted(sizes)
    assert torch.equal(photos, before)


@every_corruption
def test_chance_belongs_to_the_picture_and_the_seed(photos, name):
    kind = CORRUPTIONS[name]
    whole, lazy = kind(photos, 3, seed=5), kind.of(photos, 3, seed=5)
    assert torch.equal(lazy[4:9], whole[4:9])
    assert torch.equal(lazy[np.array([7, 2])], whole[[7, 2]])
    assert torch.equal(ImageSet(lazy, torch.zeros(12, dtype=torch.long)).tensor(), whole)
    random = name not in (
        "gaussian blur", "defocus blur", "brightness", "contrast", "saturation", "jpeg", "resize", "screenshot",
    )  # fmt: skip
    assert torch.equal(kind(photos, 3, seed=6), whole) != random


def test_grey_pictures_and_none(digits):
    grey = digits[0][:4]
    assert torch.equal(CORRUPTIONS["saturation"](grey, 5), grey)
    for kind in CORRUPTIONS.values():
        assert kind(grey, 5).shape == grey.shape
        assert len(kind(grey[:0], 5)) == 0
    with pytest.raises(ValueError, match="severity must be 1, 2, 3, 4 or 5, got 0"):
        CORRUPTIONS["jpeg"](grey, 0)


def test_maps_of_the_plane(photos):
    none, one = torch.zeros(12), torch.ones(12)
    torch.testing.assert_close(warped(photos, turn(90 * one, none, none, photos.shape)), photos.rot90(1, (2, 3)))
    moved = warped(photos, turn(none, 0.25 * one, 0.125 * one, photos.shape))
    torch.testing.assert_close(moved[:, :, 4:, 8:], photos[:, :, :-4, :-8])
    # Of a picture that is not square, an angle is one as it is seen: a quarter turn four times is none, in the middle.
    broad = photos[:, :, 8:24]
    again = broad
    for _ in range(4):
        again = warped(again, turn(90 * one, none, none, broad.shape))
    torch.testing.assert_close(again[..., 10:22], broad[..., 10:22])
    corners = torch.tensor([[-0.8, -0.9], [0.9, -0.7], [0.8, 0.6], [-1.0, 0.9]])
    square = torch.tensor([[-1.0, -1.0, 1.0], [1.0, -1.0, 1.0], [1.0, 1.0, 1.0], [-1.0, 1.0, 1.0]]).double()
    found = square @ perspective(corners[None])[0].T
    torch.testing.assert_close(found[:, :2] / found[:, 2:], corners.double())


def test_a_model_behind_jpeg_sees_what_is_stored_and_lets_gradients_through(photos):
    model = Reencoded(torch.nn.Flatten(), 30)
    assert torch.equal(model(photos), encoded(photos, 30).flatten(1))
    x = photos.clone().requires_grad_(True)
    model(x).sum().backward()
    assert torch.equal(x.grad, torch.ones_like(x))
    two_channels = photos[:, :2]
    assert torch.equal(encoded(two_channels, 30)[:, :1], encoded(photos[:, :1], 30))
    with pytest.raises(ValueError, match="quality of Reencoded must be from 1 to 95"):
        Reencoded(model, 96)


def test_training_corrupts_the_share_and_then_attacks(photos, monkeypatch):
    torch.manual_seed(0)
    same = [(corrupt_some(photos, 5, share) == photos).flatten(1).all(dim=1).double().mean() for share in (0.0, 1.0)]
    assert same == [1.0, 0.0]
    seen = []

    class Watched(PGD):
        def __call__(self, model, x, goal):
            seen.append((x, super().__call__(model, x, goal)))
            return seen[-1][1]

    loss = pytest.importorskip("pytorch_metric_learning.losses").TripletMarginLoss()
    model, labels = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3072, 4)), torch.arange(12) % 3
    defense = defenses.CorruptionDefense(share=1.0, attack=Watched(LinfBall(0.1), steps=2))
    defense.loss(model, photos, labels, loss).backward()
    ((corrupted, perturbed),) = seen
    assert (corrupted != photos).flatten(1).any(dim=1).all()
    assert 0 < (perturbed - corrupted).abs().max() <= 0.1 + 1e-6
    assert "Corruption" in repr(attacks.CORRUPTIONS["jpeg"])
