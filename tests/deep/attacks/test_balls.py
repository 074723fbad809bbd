"""Balls around pictures: no rounding of the numbers that are given back leads out of them."""

from fractions import Fraction
from functools import partial

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: the extra 'deep' has it")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from torch import nn  # noqa: E402

from certimetric.deep import FGSM, PGD, EmbeddingShift, LinfBall, NESAttack, PatchAttack, SquareAttack  # noqa: E402
from certimetric.deep.attacks import ball as ball_of  # noqa: E402
from certimetric.geometry.norms import NORMS, resolve_norm  # noqa: E402

BALLS = {name: partial(ball_of, name) for name in NORMS}
every_ball = pytest.mark.parametrize("ball", BALLS)


def sizes(ball, perturbed, x):
    """Measured in double precision, with another summation than the library's."""
    delta = (perturbed.double() - x.double()).flatten(1).numpy()
    return {"linf": abs(delta).max(axis=1), "l2": (delta**2).sum(axis=1) ** 0.5, "l1": abs(delta).sum(axis=1)}[ball]


@every_ball
@settings(max_examples=60, deadline=None)
@given(
    exponent=st.integers(-30, 10),
    eps=st.floats(1e-6, 0.7),
    bounded=st.booleans(),
    shape=st.sampled_from([(1, 1, 1), (1, 4, 4), (3, 16, 16)]),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.float16, torch.bfloat16]),
    seed=st.integers(0, 99),
)
def test_what_is_projected_lies_in_the_ball_to_the_last_digit(ball, exponent, eps, bounded, shape, dtype, seed):
    generator = torch.Generator().manual_seed(seed)
    unit = 2.0**exponent if dtype in (torch.float32, torch.float64) else 1.0
    allowed = BALLS[ball](eps * unit, (0.0, unit) if bounded else None)
    x = (unit * torch.rand(8, *shape, generator=generator, dtype=torch.double)).to(dtype)
    x[0], x[1] = 0, unit
    for spread in (1e-3, 1.0, 100.0):
        far = x + (spread * eps * unit * torch.randn(x.shape, generator=generator, dtype=torch.double)).to(dtype)
        found = allowed.project(far, x)
        assert found.dtype == dtype
        assert (sizes(ball, found, x) <= allowed.eps).all()
        assert (allowed.size(found, x) <= allowed.eps).all()
        if bounded:
            assert found.min() >= 0
            assert found.max() <= unit
    assert (sizes(ball, allowed.random_start(x, generator), x) <= allowed.eps).all()
    # No more is given away than the last digit: what lies outside comes to lie at the edge.
    if dtype == torch.float32 and not bounded and eps > 1e-2:
        digits = x[0].numel() * 2.0**-23 * unit if ball == "l1" else 0.0  # the last ones of all entries, in a sum
        assert (sizes(ball, allowed.project(x + 3 * allowed.eps, x), x) >= allowed.eps * (1 - 1e-4) - digits).all()


@every_ball
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_is_projected_lies_in_the_ball_in_exact_arithmetic(ball, dtype):
    # In double precision the difference of two numbers is rounded itself, and told too small.
    generator = torch.Generator().manual_seed(0)
    for eps in (0.05, 0.1, 1.0):
        unit = 10.0 ** torch.randint(-12, 1, (40, 3), generator=generator)
        x = (torch.rand(40, 3, generator=generator, dtype=torch.double) * unit).to(dtype)
        far = x + torch.randn(40, 3, generator=generator, dtype=torch.double).to(dtype)
        for found, centre in zip(BALLS[ball](eps).project(far, x).tolist(), x.tolist()):
            change = [abs(Fraction(one) - Fraction(other)) for one, other in zip(found, centre)]
            size = {"linf": max(change), "l1": sum(change), "l2": sum(each**2 for each in change)}[ball]
            assert size <= (Fraction(eps) ** 2 if ball == "l2" else Fraction(eps))


@every_ball
@pytest.mark.parametrize("attack", [FGSM, PGD, NESAttack, SquareAttack], ids=lambda kind: kind.__name__)
def test_attacked_pictures_lie_in_the_ball_to_the_last_digit(ball, attack):
    generator = torch.Generator().manual_seed(0)
    options = {"steps": 5} if attack in (PGD, NESAttack) else {"queries": 20} if attack is SquareAttack else {}
    for eps in (1e-6, 0.003, 8 / 255, 0.1, 0.7):
        x = torch.rand(6, 1, 8, 8, generator=generator)
        attacked = attack(BALLS[ball](eps), **options)(nn.Flatten(), x, EmbeddingShift(x.flatten(1) + 0.1))
        assert (sizes(ball, attacked, x) <= eps).all()


@every_ball
def test_steps_are_of_their_size_however_small_a_gradient_is(ball):
    generator = torch.Generator().manual_seed(0)
    x, gradient = torch.rand(5, 1, 4, 4, generator=generator), torch.randn(5, 1, 4, 4, generator=generator)
    gradient[4] = 0
    allowed = BALLS[ball](0.1)
    for factor in (1e-37, 1.0, 1e37):
        moved = allowed.step(x, factor * gradient, 0.05)
        torch.testing.assert_close(moved, allowed.step(x, gradient, 0.05), rtol=1e-5, atol=1e-7)
        assert torch.equal(moved[4], x[4])


@pytest.mark.parametrize("attack", [PGD, NESAttack], ids=lambda kind: kind.__name__)
def test_a_step_keeps_its_share_of_the_radius(attack):
    given_, derived = attack(LinfBall(0.1), steps=8, step_size=0.02), attack(LinfBall(0.1), steps=8)
    assert given_.with_eps(0.3).step_size == pytest.approx(0.06)
    assert given_.with_eps(0.05).with_eps(0.1).step_size == pytest.approx(0.02)
    assert (given_.step_size, derived.with_eps(0.3).step_size) == (0.02, None)
    assert attack(LinfBall(0.0), step_size=0.02).with_eps(0.3).step_size == 0.02


def test_the_nearest_point_of_an_l1_ball_in_bounds():
    # Of a quadratic program by an independent method: cyclic projections onto ball and box (Dykstra's algorithm).
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(12, 1, 2, 4, generator=generator, dtype=torch.double)
    x[torch.rand(x.shape, generator=generator) < 0.3] = 0.0
    far = x + torch.randn(x.shape, generator=generator, dtype=torch.double)
    free, allowed = ball_of("l1", 0.9, None), ball_of("l1", 0.9)
    point, of_ball, of_box = far.clone(), torch.zeros_like(x), torch.zeros_like(x)
    for _ in range(3000):
        moved = free.project(point + of_ball, x)
        of_ball = point + of_ball - moved
        point = (moved + of_box).clamp(0, 1)
        of_box = moved + of_box - point
    torch.testing.assert_close(allowed.project(far, x), point, rtol=0, atol=1e-6)
    # Clipping what is nearest in the ball alone gives budget away.
    assert (allowed.size(allowed.project(far, x), x) > allowed.size(allowed.clip(free.project(far, x)), x) + 1e-3).any()


def test_a_ball_is_in_a_norm_of_pictures():
    assert ball_of("LINF", 0.1) == LinfBall(0.1) != LinfBall(0.2)
    assert ball_of("l1", 0.1) != LinfBall(0.1)
    for norm, message in (("l3", "'l1'.* got 'l3'"), (resolve_norm("l2").in_units([1.0, 2.0]), "of a ball must be")):
        with pytest.raises(ValueError, match=message):
            ball_of(norm, 0.1)


@pytest.mark.parametrize("ball", [*NORMS, "l0"])
def test_bounds_of_each_channel(ball):
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(4, 2, 6, generator=generator)
    far, slope = x + torch.randn(x.shape, generator=generator), torch.randn(x.shape, generator=generator)
    eps = 2.0 if ball == "l0" else 0.5
    one, same = ball_of(ball, eps), ball_of(ball, eps, ([0.0, 0.0], (1.0, 1.0)))
    assert torch.equal(one.project(far, x), same.project(far, x))
    assert torch.equal(one.ascend(x, slope, 0.2, x), same.ascend(x, slope, 0.2, x))
    draws = [each.random_start(x, torch.Generator().manual_seed(1)) for each in (one, same)]
    assert torch.equal(*draws)
    # A second channel from 0 to 0.1, in which there is little room.
    narrow, allowed = x * torch.tensor([[1.0], [0.1]]), ball_of(ball, eps, (0, (1, 0.1)))
    for found in (allowed.project(far, narrow), allowed.ascend(narrow, slope, 0.4, narrow)):
        assert (allowed.size(found, narrow) <= eps).all()
        assert found.min() >= 0 and found[:, 0].max() <= 1 and found[:, 1].max() <= 0.1


def test_bounds_of_other_channels_are_refused():
    with pytest.raises(
        ValueError, match=r"bounds of LinfBall must be .lowest, highest., of numbers or of one for each"
    ):
        LinfBall(0.1, ([0.0, 1.0], [1.0, 1.0]))
    with pytest.raises(ValueError, match=r"bounds are those of 3 channels, and inputs of shape \(2, 1, 4\)"):
        LinfBall(0.1, (0, [1, 2, 3])).clip(torch.zeros(2, 1, 4))
    with pytest.raises(ValueError, match=r"bounds of Window must be .lowest, highest. of all channels"):
        PatchAttack(bounds=(0, [1, 1, 1]))
