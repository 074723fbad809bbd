"""Laws of every attack and every goal, where the best that can be reached is known: success is the goal's.

Pictures are embedded by the sums of their upper and lower halves, so that a ball around a picture is a disc (l2) or a
square (l∞ and, on its corner, l1) around its embedding, and the best value in it is found on a grid. Attacks, goals and
norms are those of their lists: a new one is in these tests, or fails the first of them.
"""

import inspect
from functools import partial
from itertools import pairwise, product

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: the extra 'deep' has it")

from torch import nn  # noqa: E402

from certimetric import deep  # noqa: E402
from certimetric.deep import (  # noqa: E402
    APGD,
    FGSM,
    PGD,
    Attack,
    AveragePrecisionGoal,
    AwayFromPositive,
    CandidateRank,
    CarliniWagner,
    Dodging,
    EmbeddingShift,
    FalseIdentification,
    Goal,
    GreedyMisranking,
    GreedyTranslocation,
    Impersonation,
    L2Ball,
    LearningToMisrank,
    LinfBall,
    MarginGoal,
    MissedIdentification,
    NESAttack,
    QueryRank,
    SemanticsPreservingRank,
    SquareAttack,
    TargetedMismatch,
    TargetEmbedding,
    TowardsNegative,
    TupleLoss,
)
from certimetric.deep.attacks import ATTACKS  # noqa: E402
from certimetric.deep.attacks import ball as ball_of  # noqa: E402
from certimetric.deep.goals import GOALS, JointGoal, LevelGoal, Templates  # noqa: E402
from certimetric.geometry.norms import NORMS  # noqa: E402


def exported(base):
    found = [getattr(deep, name) for name in deep.__all__]
    return [kind for kind in found if inspect.isclass(kind) and issubclass(kind, base) and not inspect.isabstract(kind)]


B, N, HALF = 8, 24, 8
EPS = (0.03, 0.1)
KINDS = list(ATTACKS.values())
# What keeps the tests short, and what of the way to the optimum is asked for on average: 0.6, unless told otherwise.
SETTINGS = {
    CarliniWagner: {"steps": 25, "searches": 2},
    PGD: {"steps": 15},
    APGD: {"steps": 15},
    SquareAttack: {"queries": 60},
    NESAttack: {"steps": 6, "population": 12},
}
FEW = {
    CarliniWagner: {"steps": 4, "searches": 2},
    PGD: {"steps": 5},
    APGD: {"steps": 6},
    SquareAttack: {"queries": 10},
    NESAttack: {"steps": 2, "population": 6},
}
SHARE = {FGSM: 0.2, SquareAttack: 0.4, NESAttack: 0.5}
BALLS = {name: partial(ball_of, name) for name in NORMS}
UNIT = {"l1": HALF}  # times ε: changes that move an embedding about as far in every norm
SEARCHING = [ATTACKS[name] for name in ("carlini-wagner", "fab", "pixels", "auto")]  # seconds for a handful of pictures
every_attack = pytest.mark.parametrize("attack", KINDS, ids=lambda kind: kind.__name__)
every_ball = pytest.mark.parametrize("ball", BALLS)


class Halves(nn.Module):
    """(b, 1, 4, 4) to (b, 2): sums of halves, divided by the root of their size, times a factor."""

    def __init__(self, factor=1.0):
        super().__init__()
        self.factor = factor

    def forward(self, x):
        return x.flatten(1).view(-1, 2, HALF).sum(dim=2) / HALF**0.5 * self.factor


def pictures():
    generator = torch.Generator().manual_seed(0)
    level = 0.3 + 0.4 * torch.rand(N, 2, 1, generator=generator)
    x = (level + 0.05 * torch.randn(N, 2, HALF, generator=generator)).clamp(0.2, 0.8)
    return x.view(N, 1, 4, 4)


def goals(factor=1.0):
    """Of the first pictures, in the gallery of all, by class."""
    gallery = Halves(factor)(pictures())
    labels, ids = torch.arange(N) % 3, torch.arange(N)
    clean, own = gallery[:B], ids[:B]
    order = torch.cdist(clean.double(), gallery.double()).argsort(dim=1)[:, 1:]
    by_class = labels[:B], gallery, labels, own, ids
    other = gallery[order[:, 10]]
    return {
        MarginGoal: MarginGoal(*by_class),
        AveragePrecisionGoal: AveragePrecisionGoal(*by_class),
        AwayFromPositive: AwayFromPositive(gallery[order[:, 0]]),
        EmbeddingShift: EmbeddingShift(clean),
        TowardsNegative: TowardsNegative(other),
        TargetEmbedding: TargetEmbedding(other, reach=factor * 0.05),
        Dodging: Dodging(gallery[order[:, 0]], factor * 0.2),
        Impersonation: Impersonation(other, factor * 0.15),
        MissedIdentification: MissedIdentification(labels[:B], Templates(gallery[B:], labels[B:], "mean"), factor),
        FalseIdentification: FalseIdentification(Templates(gallery[B : B + 2], labels[B : B + 2]), factor * 0.1),
        TupleLoss: TupleLoss(lambda embeddings, labels, tuples: (embeddings - clean.mean()).norm(dim=1).mean(), labels),
        CandidateRank: CandidateRank(order[:, 3:4], gallery, own, ids),
        QueryRank: QueryRank(order[:, 3:4], gallery, own, ids),
        SemanticsPreservingRank: SemanticsPreservingRank(order[:, 3:4], order[:, :3], gallery, own, ids),
        TargetedMismatch: TargetedMismatch(other),
        LearningToMisrank: LearningToMisrank(*by_class),
        GreedyMisranking: GreedyMisranking(clean, *by_class),
        GreedyTranslocation: GreedyTranslocation(order[:, 0], gallery, own, ids),
    }


def best_reachable(goal, clean, eps, ball, factor):
    """Largest value of each sample in its ball, and whether its goal can be reached there."""
    steps = torch.linspace(-1, 1, 41)
    grid = torch.cartesian_prod(steps, steps)
    # A half moves by ε in every pixel, √8 ε in all; or by ε at most in the direction of the sums; or both by ε / √8.
    reach = {"linf": eps * HALF**0.5, "l2": eps, "l1": eps / HALF**0.5}[ball]
    if ball == "l1":
        grid = torch.stack([grid[:, 0] + grid[:, 1], grid[:, 0] - grid[:, 1]], dim=1) / 2
    if ball == "l2":
        grid = grid[grid.norm(dim=1) <= 1]
        angle = torch.linspace(0, 2 * torch.pi, 181)
        grid = torch.cat([grid, torch.stack([angle.cos(), angle.sin()], dim=1)])
    points = (clean[:, None] + factor * reach * grid).flatten(0, 1)
    with torch.no_grad():
        value, broken = goal.select(torch.arange(B).repeat_interleave(len(grid))).judge(points)
    return value.view(B, -1).amax(dim=1), broken.view(B, -1).any(dim=1)


def made(attack, ball, settings=SETTINGS):
    return attack(ball, **settings.get(attack, {}))


def test_every_goal_and_attack_is_here():
    assert set(goals()) == set(GOALS) == set(exported(Goal))
    # Of no ball: patches, occlusion and rotations; and what attacks through the mean of another's draws.
    assert set(KINDS) == {kind for kind in exported(Attack) if "ball" in inspect.signature(kind).parameters}


TRUTH: dict = {}


def truth(kind, ball, eps):
    if (kind, ball, eps) not in TRUTH:
        TRUTH[kind, ball, eps] = best_reachable(goals()[kind], Halves()(pictures()[:B]), eps, ball, 1.0)
    return TRUTH[kind, ball, eps]


# Attacks without gradients and Carlini–Wagner take long: in one ball for every day.
REACHING = [
    pytest.param(kind, ball, marks=[] if ball == "linf" and kind not in SEARCHING else [pytest.mark.slow])
    for kind, ball in product(KINDS, BALLS)
]


@pytest.mark.parametrize(("attack", "ball"), REACHING)
def test_the_best_that_can_be_reached_is_approached(attack, ball):
    x, model = pictures()[:B], Halves()
    for kind, goal in goals().items():
        before, was = goal.judge(model(x))
        successes = []
        for eps in EPS:
            allowed = BALLS[ball](eps * UNIT.get(ball, 1.0))
            attacked = made(attack, allowed)(model, x, goal)
            assert (allowed.size(attacked, x) <= allowed.eps).all()
            after, broken = goal.judge(model(attacked))
            told = f"{kind.__name__} at {eps}"
            # Nothing is lost, and an attack that can gain something gains it: none is inert.
            assert (broken | (after >= before)).all(), told
            assert (broken >= was).all(), told
            if isinstance(goal, JointGoal):
                assert after[0] > before[0], told
                continue
            optimum, possible = truth(kind, ball, allowed.eps)
            assert (broken <= possible).all(), told
            gained = ((after - before) / (optimum - before).clamp_min(1e-9)).masked_fill(broken & ~was, 1.0)
            gaining = (optimum > before + 1e-4 * before.abs().mean()) & ~was
            # One step of the whole radius may go beyond the goal.
            if gaining.any() and not (attack is FGSM and eps > EPS[0]):
                assert gained[gaining].mean() >= SHARE.get(attack, 0.6), f"{told}: {gained[gaining]}"
            successes.append(broken)
        for less, more in pairwise(successes):  # of attacks that search by chance, or in one step, all but one
            assert less.sum() <= more.sum() + (attack in SHARE), kind.__name__


@pytest.mark.parametrize(
    "attack",
    [pytest.param(kind, marks=[pytest.mark.slow] if kind in SEARCHING else []) for kind in KINDS],
    ids=lambda kind: kind.__name__,
)
def test_goals_are_pursued_alike_at_any_scale(attack):
    # Embeddings times a power of two are the same numbers with another exponent: so are the attacked pictures.
    x, ball, factor = pictures()[:B], L2Ball(0.05), 2.0 ** (60 if attack is FGSM else -60)
    plain = goals()
    for kind, goal in goals(factor).items():
        if kind is TupleLoss:
            continue
        attacked = made(attack, ball, FEW)(Halves(factor), x, goal)
        expected = made(attack, ball, FEW)(Halves(), x, plain[kind])
        torch.testing.assert_close(attacked, expected, rtol=0, atol=1e-5, msg=kind.__name__)


@pytest.mark.parametrize("ball", BALLS)
@pytest.mark.parametrize("kind", [AwayFromPositive, EmbeddingShift, TargetEmbedding])
def test_carlini_wagner_finds_the_smallest_change(ball, kind):
    x, model, goal, radius = pictures()[:B], Halves(), goals()[kind], {"l1": 1.5}.get(ball, 0.6)
    allowed = BALLS[ball](radius)
    apart = (model(x).double() - goal.references.double()).abs()

    def reachable(size):
        """Whether the best embedding in a ball of this size, in closed form, has reached the goal."""
        if ball == "l2":
            way = apart.norm(dim=1)
            best = (way - size).clamp_min(0) if kind is TargetEmbedding else way + size
        elif ball == "l1":  # the farther half first
            side = size[:, None] / HALF**0.5
            least = apart.amin(dim=1, keepdim=True)
            first = torch.minimum(side, apart - least).clamp_min(0)
            rest = apart - first - (side - first.sum(dim=1, keepdim=True)).clamp_min(0) / 2
            most = apart + side * torch.nn.functional.one_hot(apart.argmax(dim=1), 2)
            best = (rest.clamp_min(0) if kind is TargetEmbedding else most).norm(dim=1)
        else:
            side = HALF**0.5 * size[:, None]
            best = ((apart - side).clamp_min(0) if kind is TargetEmbedding else apart + side).norm(dim=1)
        return (-best if kind is TargetEmbedding else best) >= goal.level()

    low, high = torch.zeros(B, dtype=torch.double), torch.full((B,), 4.0, dtype=torch.double)
    for _ in range(40):
        middle = (low + high) / 2
        low, high = torch.where(reachable(middle), low, middle), torch.where(reachable(middle), middle, high)
    attacked = CarliniWagner(allowed)(model, x, goal)
    size, broken = allowed.size(attacked, x), goal.broken(model(attacked))
    assert torch.equal(broken, high <= radius)
    assert broken.any()
    assert (size >= high - 1e-6)[broken].all()
    # Away from a point the smallest change in l1 is in one half; in both it is a local optimum √2 times as large.
    factor = {"l2": 1.02, "linf": 1.4, "l1": 1.02 if kind is TargetEmbedding else 1.02 * 2**0.5}[ball]
    assert (size <= factor * high + 1e-4)[broken].all()
    # Far less than what an attack that only looks for the largest value does.
    assert (size < allowed.size(PGD(allowed)(model, x, goal), x))[broken].all()


def test_confidence_is_a_value_that_success_has_besides():
    x, model, goal = pictures()[:B], Halves(), goals()[AwayFromPositive]
    level = 1.5 * float(goal.level().max())
    plain, sure = (
        goal(model(CarliniWagner(L2Ball(0.5), steps=50, searches=3, confidence=c)(model, x, goal)))
        for c in (0.0, level)
    )
    assert (plain < level).any()
    assert (sure >= level).all()


def test_a_reach_is_a_number_or_one_for_each():
    x, model = pictures()[:B], Halves()
    clean = model(x)
    for kind in (AwayFromPositive, TowardsNegative, TargetEmbedding, EmbeddingShift):
        one, each = kind(clean + 0.1, reach=0.3), kind(clean + 0.1, reach=torch.full((B,), 0.3))
        assert torch.equal(one.broken(clean), each.broken(clean))
        rows = torch.tensor([3, 1])
        assert torch.equal(one.select(rows).broken(clean[rows]), each.broken(clean)[rows])
        # By default it follows the length of embeddings.
        assert torch.equal(kind(8 * clean).broken(7 * clean), kind(clean).broken(7 / 8 * clean))


def test_success_counts_before_the_value():
    # The value falls after the goal was reached: the point that reached it is kept all the same.
    class Passing(LevelGoal):
        def __call__(self, embeddings):
            return embeddings[:, 0]

        def judge(self, embeddings):
            value = self(embeddings)
            return value, (value.detach() > 0.3) & (value.detach() < 0.4)

        def broken(self, embeddings):
            return self.judge(embeddings)[1]

    x = torch.full((3, 1, 1, 1), 0.2)
    attacked = PGD(LinfBall(0.5), steps=50, random_start=False)(nn.Flatten(), x, Passing())
    assert Passing().broken(attacked.flatten(1)).all()
    assert (attacked < 0.4).all()
