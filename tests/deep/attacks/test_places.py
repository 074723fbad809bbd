"""Attacks on a place of the picture, and on how it lies: what they change, and what they must find."""

import itertools

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: the extra 'deep' has it")

from torch import nn  # noqa: E402

from certimetric.deep import (  # noqa: E402
    Expectation,
    ImageSet,
    MarginGoal,
    OcclusionAttack,
    PatchAttack,
    SpatialAttack,
    TargetEmbedding,
    evaluate_retrieval,
)
from certimetric.deep.attacks.places import Window, cut, paste  # noqa: E402
from certimetric.deep.attacks.warps import turn, warped  # noqa: E402

PLACES = {
    "occlusion": lambda area: OcclusionAttack(area),
    "patch": lambda area: PatchAttack(area, steps=6),
    "patch, in expectation": lambda area: PatchAttack(area, steps=6, wobble=1, light=0.2, draws=2),
}


@pytest.fixture
def margin(digits, network):
    images, labels = (part[:100] for part in digits)
    with torch.no_grad():
        gallery = network.eval()(images)
    ids = torch.arange(100)
    return network, images[:8], MarginGoal(labels[:8], gallery, labels, ids[:8], ids)


@pytest.mark.parametrize("attack", PLACES)
def test_one_square_changes_and_the_value_rises(margin, attack):
    model, x, goal = margin
    for area in (0.15, 0.3):
        made = PLACES[attack](area)
        attacked = made(model, x, goal)
        assert (made.ball.size(attacked, x) <= area).all()
        assert attacked.min() >= 0 and attacked.max() <= 1
        with torch.no_grad():
            before, after = goal(model(x)), goal(model(attacked))
        assert (after >= before).all() and after.mean() > before.mean()
        assert torch.equal(made(model, x, goal), attacked)


def test_the_best_patch_of_a_linear_model_is_found():
    # The value falls with every pixel of a square by its weight: no square of nine gains more than the heaviest nine.
    weights = torch.zeros(1, 1, 9, 9)
    weights[0, 0, 3:6, 6:9] = torch.tensor([[1.0, -2.0, 3.0], [-1.0, 2.0, -3.0], [1.0, 1.0, -1.0]])
    model = nn.Sequential(nn.Flatten(), nn.Linear(81, 1, bias=False))
    model[1].weight.data.copy_(weights.flatten(1))
    x, far = torch.full((3, 1, 9, 9), 0.5), TargetEmbedding(torch.full((3, 1), 1e4))
    gain = model(PatchAttack(9 / 81)(model, x, far)) - model(x)
    torch.testing.assert_close(gain, (weights.abs().sum() / 2).expand(3, 1))
    # A plain square cannot do as much: of 0, 1/2 or 1 the best covers what has weights of one sign.
    plain = model(OcclusionAttack(9 / 81)(model, x, far)) - model(x)
    assert (plain > 0).all() and (plain < gain).all()


def test_places_reach_every_border_and_are_not_far_apart():
    for area, shape in ((0.1, (8, 8)), (0.05, (30, 50)), (1.0, (5, 9)), (0.0001, (6, 6))):
        window = Window(area)
        side, corners = window.side(shape), list(window.corners(shape, 0.5))
        assert side == 1 or side**2 <= area * shape[0] * shape[1]
        for axis in (0, 1):
            lines = sorted({corner[axis] for corner in corners})
            assert lines[0] == 0 and lines[-1] == shape[axis] - side
            assert all(b - a <= max(1, 0.5 * side + 1) for a, b in itertools.pairwise(lines))


def test_patches_lie_where_they_are_put():
    x, patches = torch.zeros(2, 3, 5, 6), torch.rand(2, 3, 2, 2)
    shown = paste(x, patches, torch.tensor([[0, 4], [3, 1]]))
    assert torch.equal(shown[0, :, 0:2, 4:6], patches[0]) and torch.equal(shown[1, :, 3:5, 1:3], patches[1])
    assert (shown != 0).any(dim=1).sum() == 8 and not x.any()
    assert torch.equal(cut(shown, torch.tensor([[0, 4], [3, 1]]), 2), patches)


def test_a_turn_on_the_grid_is_found_and_a_finer_grid_is_never_weaker(margin):
    model, x, goal = margin
    turned = warped(x, turn(torch.full((8,), 20.0), torch.full((8,), -0.1), torch.zeros(8), x.shape))
    wanted = TargetEmbedding(nn.Flatten()(turned), reach=1e-6)
    found = SpatialAttack(20, 0.1, angles=3, shifts=3)(nn.Flatten(), x, wanted)
    torch.testing.assert_close(found, turned)
    with torch.no_grad():
        coarse, fine = (goal(model(SpatialAttack(20, 0.1, n, 3)(model, x, goal))) for n in (3, 5))
    assert (fine >= coarse).all() and (fine > coarse).any()
    moved = SpatialAttack(0.0, 0.2, shifts=3)(nn.Flatten(), x, TargetEmbedding(x.roll(1, 3).flatten(1)))
    assert (moved != x).any() and torch.equal(SpatialAttack(0.0, 0.0)(model, x, goal), x)


def test_they_are_attacks_as_any_other_in_evaluations(margin, digits):
    items = ImageSet(digits[0][:30], digits[1][:30])
    attacks = [PatchAttack(0.2, steps=2, places=1), OcclusionAttack(0.2), Expectation(PatchAttack(0.2, 2, 1), 2)]
    rows = evaluate_retrieval(margin[0], items, attacks=attacks, with_pixels=False, with_nmi=False).rows
    told = {row["attack"]: row["recall_at_1"] for row in rows}
    assert set(told) == {"clean", "PatchAttack", "OcclusionAttack", "Expectation", "worst case"}
    assert told["worst case"] <= min(told.values()) and told["OcclusionAttack"] < told["clean"]


def test_bad_input_is_named(margin):
    x = margin[1]
    for make, message in (
        (lambda: OcclusionAttack(1.5), "eps of Window must be a share"),
        (lambda: PatchAttack(0.1, light=1), "light of PatchAttack"),
        (lambda: SpatialAttack(angles=4), "angles of SpatialAttack must be odd"),
        (lambda: SpatialAttack(200), "at most 180 degrees"),
        (lambda: PatchAttack(0.1)(nn.Flatten(), x.flatten(1), TargetEmbedding(x.flatten(1))), "parts of images"),
    ):
        with pytest.raises(ValueError, match=message):
            make()
