"""Random changes of images: they stay images, are drawn for each image, and do what their names say."""

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: the extra 'deep' has it")

from certimetric.deep import augmentation  # noqa: E402
from certimetric.deep.train.batches import AUGMENTATIONS, RandomAffine, RandomColour, RandomFlip, RandomShift  # noqa: E402


def pictures(n=40, channels=3, height=10, width=12, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    return torch.rand(n, channels, height, width, generator=generator).to(dtype)


@pytest.mark.parametrize("name", AUGMENTATIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("channels", [1, 3])
def test_images_stay_images(name, dtype, channels):
    x = pictures(channels=channels, dtype=dtype)
    before = x.clone()
    torch.manual_seed(0)
    y = augmentation([name])(x)
    assert torch.equal(x, before)
    assert (y.shape, y.dtype) == (x.shape, dtype)
    assert y.min() >= 0 and y.max() <= 1
    torch.manual_seed(0)
    assert torch.equal(augmentation([name])(x), y)
    assert not torch.equal(augmentation([name])(x), y)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_each_image_is_changed_on_its_own(name):
    x = pictures(1).expand(60, 3, 10, 12)
    torch.manual_seed(0)
    assert len(torch.unique(augmentation([name])(x), dim=0)) > 1


def test_a_constant_image_is_left_as_it_is_but_for_its_colour():
    x = torch.full((5, 1, 9, 9), 0.3)
    torch.testing.assert_close(augmentation([name for name in AUGMENTATIONS if name != "colour"])(x), x)


def test_flips_mirror_about_half():
    x = pictures(400)
    torch.manual_seed(0)
    y = RandomFlip()(x)
    kept = (y == x).flatten(1).all(dim=1)
    mirrored = (y == x.flip(-1)).flatten(1).all(dim=1)
    assert (kept ^ mirrored).all()
    assert 150 < mirrored.sum() < 250


@pytest.mark.parametrize(("share", "reach"), [(0.1, 1), (0.25, 3), (0.01, 1)])
def test_shifts_move_within_reach_and_repeat_the_border(share, reach):
    # The value of a pixel is its place, so that the result tells where it came from.
    rows, columns = torch.arange(10.0), torch.arange(12.0)
    x = torch.stack([rows[:, None].expand(10, 12), columns.expand(10, 12)])[None].repeat(500, 1, 1, 1) / 16
    torch.manual_seed(0)
    y = (RandomShift(share)(x) * 16).round()
    down, across = y[:, 0, 5, 5] - 5, y[:, 1, 5, 5] - 5
    assert set(down.tolist()) == set(across.tolist()) == set(range(-reach, reach + 1))
    assert len(torch.unique(torch.stack([down, across]), dim=1)[0]) == (2 * reach + 1) ** 2
    torch.testing.assert_close(y[:, 0], (rows[:, None] + down[:, None, None]).clamp(0, 9).expand(500, 10, 12))
    torch.testing.assert_close(y[:, 1], (columns + across[:, None, None]).clamp(0, 11).expand(500, 10, 12))


def test_an_affine_map_of_nothing_is_the_identity():
    x = pictures()
    torch.testing.assert_close(RandomAffine(0, 0, 0)(x), x, rtol=0, atol=1e-5)


def spread(x):
    """Mean square distance of a picture's mass from its centre, across."""
    place = torch.arange(x.shape[-1], dtype=x.dtype) - (x.shape[-1] - 1) / 2
    mass = x.sum(dim=(1, 2))
    return (mass * place**2).sum(dim=1) / mass.sum(dim=1)


@pytest.mark.parametrize(
    ("options", "changed"),
    [((0, 0, 0.1), "centre"), ((0, 0.3, 0), "size"), ((30, 0, 0), "angle")],
)
def test_affine_maps_move_stretch_and_turn(options, changed):
    x = torch.zeros(200, 1, 33, 33)
    x[:, :, 14:19, 8:25] = 1.0  # a bar that lies across
    torch.manual_seed(0)
    y = RandomAffine(*options)(x)
    place = torch.arange(33.0) - 16
    centre = (y.sum(dim=(1, 2)) * place).sum(dim=1) / y.sum(dim=(1, 2, 3))
    widths = spread(y) / spread(x)
    if changed == "centre":
        assert centre.abs().max() > 2
        assert centre.abs().max() <= 0.1 * 33 + 0.1
        assert (widths > 0.9).all()
    else:
        assert centre.abs().max() < 0.1
    if changed == "size":
        assert widths.max() > 1.3 and widths.min() < 0.8
    if changed == "angle":
        assert widths.max() < 1.05 and widths.min() < 0.85
        torch.testing.assert_close(y.sum(dim=(1, 2, 3)), x.sum(dim=(1, 2, 3)), rtol=0.05, atol=0)


def test_colours_turn_about_the_greys():
    x = 0.3 + 0.4 * pictures()
    turned = RandomColour(0, 0, 0, hue=120)
    torch.manual_seed(0)
    y = turned(x)
    torch.testing.assert_close(y.mean(dim=1), x.mean(dim=1))  # no other light
    lengths = [(z - z.mean(dim=1, keepdim=True)).norm(dim=1) for z in (x, y)]
    torch.testing.assert_close(*lengths)  # nor more colour, but another
    assert (x - y).abs().max() > 0.1
    grey = x[:, :1].repeat(1, 3, 1, 1)
    torch.testing.assert_close(RandomColour(0, 0, 0.5, 180)(grey), grey)
    torch.testing.assert_close(RandomColour(0, 0, 0, 0)(x), x)


@pytest.mark.parametrize(("options", "changed"), [((0.2, 0, 0, 0), "mean"), ((0, 0.3, 0, 0), "deviation")])
def test_light_and_contrast_change_by_their_shares(options, changed):
    x = 0.4 + 0.2 * pictures(400)
    torch.manual_seed(0)
    y = RandomColour(*options)(x)
    moved, stretched = y.mean(dim=(1, 2, 3)) - x.mean(dim=(1, 2, 3)), y.std(dim=(1, 2, 3)) / x.std(dim=(1, 2, 3))
    if changed == "mean":
        assert 0.18 < moved.abs().max() <= 0.2
        torch.testing.assert_close(stretched, torch.ones(400))
    else:
        torch.testing.assert_close(moved, torch.zeros(400))
        assert 0.69 < stretched.min() < 0.72 and 1.28 < stretched.max() < 1.31


def test_augmentations_follow_one_another():
    x = pictures()
    torch.manual_seed(0)
    expected = RandomShift()(RandomFlip()(x))
    torch.manual_seed(0)
    assert torch.equal(augmentation(["flip", "shift"])(x), expected)


def test_no_names_are_no_augmentation():
    assert augmentation([]) is None


@pytest.mark.parametrize("share", [0, 1, -0.1])
def test_shares_lie_between_0_and_1(share):
    with pytest.raises(ValueError, match="share of RandomShift must lie between 0 and 1"):
        RandomShift(share)


def test_unknown_names_are_named():
    with pytest.raises(ValueError, match="augment must name flip, shift, affine, colour, got 'spin'"):
        augmentation(["flip", "spin"])
