"""The goal of an attacker of mAP@R: its limit is the figure itself, and an attack on it lowers the figure further."""

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: the extra 'deep' has it")

from certimetric.deep import (  # noqa: E402
    APGD,
    PGD,
    AveragePrecisionGoal,
    ImageSet,
    L2Ball,
    LinfBall,
    MarginGoal,
    evaluate_retrieval,
)
from certimetric.deep.goals import average_precision  # noqa: E402
from certimetric.deep.ranking import relevant_ranks  # noqa: E402
from certimetric.deep.retrieval.index import figures  # noqa: E402


def case(n=60, k=3, classes=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    gallery, labels = torch.randn(n, k, generator=generator), torch.randint(0, classes, (n,), generator=generator)
    ids = torch.arange(n)
    moved = gallery[:20] + 0.5 * torch.randn(20, k, generator=generator)
    return moved, (labels[:20], gallery, labels, ids[:20], ids)


def ranks(e, known):
    labels, gallery, gallery_labels, ids, gallery_ids = known
    return relevant_ranks(e, labels, ids, gallery, gallery_labels, gallery_ids)


@pytest.mark.parametrize("numbers", [1, 2**22])
@pytest.mark.parametrize("classes", [2, 4])
def test_its_limit_is_the_average_precision_at_r(monkeypatch, numbers, classes):
    monkeypatch.setattr(average_precision, "_SOFTNESS", 1e-12)
    monkeypatch.setattr(average_precision, "_DRIVE", 0.0)
    monkeypatch.setattr(average_precision, "_NUMBERS", numbers)
    e, known = case(classes=classes)
    e[0] = 100.0  # far away from everything
    goal, exact = AveragePrecisionGoal(*known), figures(ranks(e, known))["map_at_r"]
    torch.testing.assert_close(goal(e), -exact.double(), rtol=1e-6, atol=1e-6)
    assert torch.equal(goal.broken(e), exact == 0)
    assert torch.equal(goal.judge(e)[1], exact == 0)
    rows = torch.tensor([7, 2, 11])
    torch.testing.assert_close(goal.select(rows)(e[rows]), goal(e)[rows])


def test_thinned_ranks_stand_for_all(monkeypatch):
    monkeypatch.setattr(average_precision, "_SOFTNESS", 1e-12)
    e, known = case(n=400, classes=3)
    exact = figures(ranks(e, known))["map_at_r"].double()
    monkeypatch.setattr(average_precision, "_RANKS", 32)
    assert (AveragePrecisionGoal(*known)(e) + exact).abs().max() < 0.05


def test_gradient_is_that_of_the_value_and_leads_somewhere_from_everywhere():
    e, known = case()
    goal = AveragePrecisionGoal(*known)
    e = e.double().requires_grad_(True)
    (gradient,) = torch.autograd.grad(goal(e).sum(), e)
    for axis in range(3):
        step = 1e-6 * torch.eye(3, dtype=torch.double)[axis]
        numeric = (goal(e + step) - goal(e - step)) / 2e-6
        torch.testing.assert_close(gradient[:, axis], numeric.detach(), rtol=1e-3, atol=1e-5)
    # Where classes are far apart no sigmoid has a slope; the margins have.
    labels = torch.arange(20) % 2
    apart = torch.randn(20, 3, generator=torch.Generator().manual_seed(1)) * 1e-3 + 5.0 * labels[:, None]
    ids = torch.arange(20)
    clear = AveragePrecisionGoal(labels, apart, labels, ids, ids)
    (slope,) = torch.autograd.grad(clear(apart.requires_grad_(True)).sum(), apart)
    assert (slope.norm(dim=1) > 1e-4).all()


def test_fewer_negatives_than_places_cannot_fill_them():
    gallery, labels = torch.tensor([[0.0], [1.0], [2.0], [3.0]]), torch.tensor([0, 0, 0, 1])
    goal = AveragePrecisionGoal(torch.tensor([0]), gallery, labels)
    e = torch.tensor([[9.0]])
    assert not goal.broken(e)
    assert torch.isfinite(goal(e)).all()


@pytest.mark.parametrize("ball", [LinfBall(0.05), LinfBall(0.1), L2Ball(0.5)], ids=repr)
def test_an_attack_on_it_lowers_map_at_r_further(digits, network, ball):
    images, labels = digits
    queries, gallery = (ImageSet(images[rows], labels[rows], rows) for rows in (torch.arange(60), torch.arange(300)))
    told = {}
    for goal in (None, AveragePrecisionGoal):
        result = evaluate_retrieval(
            network.eval(),
            queries,
            gallery,
            attacks=[PGD(ball, steps=10), APGD(ball, steps=10)],
            goal=goal,
            with_pixels=False,
        ).to_frame()
        told[goal] = result.set_index("attack")
    first, own = told[None], told[AveragePrecisionGoal]
    assert set(first.goal.dropna()) == {"MarginGoal"}
    assert set(own.goal.dropna()) == {"AveragePrecisionGoal"}
    assert own.goal.isna().tolist() == [True, False, False, False]
    clean = first.map_at_r["clean"]
    for attack in ("PGD", "APGD", "worst case"):
        assert clean - own.map_at_r[attack] > 1.15 * (clean - first.map_at_r[attack])
    # Each is the stronger one at what it is for.
    assert first.recall_at_1["worst case"] <= own.recall_at_1["worst case"]


def test_success_is_more_than_a_wrong_first_result():
    e, known = case()
    sure, first = AveragePrecisionGoal(*known).broken(e), MarginGoal(*known).broken(e)
    assert (sure <= first).all()
