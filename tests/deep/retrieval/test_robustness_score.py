"""The empirical robustness score: cases whose answer is known, and a plain loop over queries beside it."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: the extra 'deep' has it")

from torch import nn  # noqa: E402

from certimetric.deep import (  # noqa: E402
    PGD,
    Budget,
    ImageSet,
    Index,
    LinfBall,
    NESAttack,
    SquareAttack,
    empirical_robustness_score,
    evaluate_retrieval,
)
from certimetric.deep.models.calling import as_module  # noqa: E402
from certimetric.deep.ranking.distances import METRICS  # noqa: E402
from certimetric.deep.retrieval import RankingEvaluation  # noqa: E402
from certimetric.deep.retrieval.ranking_evaluation import GOALS  # noqa: E402
from certimetric.deep.retrieval.robustness_score import BUDGETS, COMPONENTS, make_attack  # noqa: E402

_FILE = Path(__file__).with_name("reference_ers.py")
_SPEC = importlib.util.spec_from_file_location("reference_ers", _FILE)
reference_ers = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(reference_ers)

NAMES = [component.name for component in COMPONENTS]
LINE = ImageSet(torch.tensor([0.1, 0.2, 0.8, 0.9]).view(4, 1, 1, 1), torch.tensor([0, 0, 1, 1]))


class Constant(nn.Module):
    def forward(self, images):
        return torch.ones(len(images), 3)


class Rounded(nn.Module):
    """A model that lets no gradient through, and tells the pictures apart all the same."""

    def forward(self, images):
        return torch.round(255 * images.flatten(1)) / 255


def scaled(result):
    return {row["name"]: row["scaled"] for row in result.components}


def raw(result):
    return {row["name"]: row["raw"] for row in result.components}


def pictures(digits, n=60):
    images, labels = digits
    return ImageSet(images[:n], labels[:n] % 3)


def test_pixels_on_a_line_that_cannot_change_places():
    # A picture is its own embedding, on a line: .1 and .2 of one class, .8 and .9 of the other, moved by .04 at most.
    # The order of two others changes only in the middle between them: for .1 at .5, for .2 at .45 (of .1 and .8), and
    # likewise from above. No ranking changes: first results stay first and right, ranks are those of clean pictures.
    result = empirical_robustness_score(nn.Flatten(), LINE, budget=Budget(0.04, 0.01, 8))
    found = raw(result)
    assert result.recall_at_1["mean"] == 1
    assert [found[name] for name in ("ES:R", "LTM", "GTM", "GTT")] == [100.0] * 4
    assert found["TMA"] == pytest.approx(1)  # all positive numbers point the same way
    # The shift is .04, told in units of the root mean square of .1, .2, .8 and .9.
    assert found["ES:D"] == pytest.approx(0.04 / np.sqrt((0.01 + 0.04 + 0.64 + 0.81) / 4), rel=1e-4)
    still = empirical_robustness_score(nn.Flatten(), LINE, budget=Budget(0.0, 0.01, 1))
    for name in ("CA+", "CA-", "QA+", "QA-"):
        assert found[name] == raw(still)[name]
    # QA− is about the first item of each, which stays first; the ERS is the mean of what is told.
    assert found["QA-"] == 0
    assert result.score["mean"] == pytest.approx(np.mean(list(scaled(result).values())))


def test_pixels_on_a_line_that_may_go_anywhere():
    # Every place from 0 to 1 can be taken, in steps of .02 that meet all four pictures. CA+ walks the candidate to its
    # query, where nothing is nearer; GTM walks the query onto the nearest item of the other class, .8 from below or .2
    # from above, and is wrong. ES leaves to one side or the other, down to 0 or up to 1.
    result = empirical_robustness_score(nn.Flatten(), LINE, budget=Budget(1.0, 0.02, 50))
    found, unit = raw(result), np.sqrt((0.01 + 0.04 + 0.64 + 0.81) / 4)
    assert [found[name] for name in ("CA+", "GTM")] == [0.0, 0.0]
    x, shift = LINE.images.flatten().numpy(), unit * result.values[:, NAMES.index("ES:D")]
    assert (np.isclose(shift, x, rtol=1e-3) | np.isclose(shift, 1 - x, rtol=1e-3)).all()
    # QA+ stays blind where all items lie to one side of the query: every difference of two distances is constant there.
    unmoved = raw(empirical_robustness_score(nn.Flatten(), LINE, budget=Budget(0.0, 0.02, 1)))
    assert found["QA+"] <= unmoved["QA+"]


def test_constant_embedding():
    # All distances are 0. Ties count for the attacker: a raised item is first, a lowered one last, no query finds its
    # class, and no first item stays. The embedding imitates every other; it cannot be shifted, for which the score
    # gives all of 100, a tenth of which is the ERS. The clean R@1 of 0 says what that is worth.
    result = empirical_robustness_score(Constant(), pictures_of_noise())
    assert scaled(result) == {name: pytest.approx(100.0 if name == "ES:D" else 0.0, abs=1e-6) for name in NAMES}
    assert result.score["mean"] == pytest.approx(10)
    assert result.recall_at_1["mean"] == 0


def pictures_of_noise(n=24):
    generator = torch.Generator().manual_seed(0)
    return ImageSet(torch.rand(n, 1, 4, 4, generator=generator), torch.arange(n) % 3)


def test_collapsed_embedding_that_still_ranks_scores_high_on_the_shift(digits, network):
    class Collapsed(nn.Module):
        def forward(self, images):
            return 1.0 + 1e-3 * torch.tanh(images.flatten(1))

    result = empirical_robustness_score(Collapsed(), pictures(digits))
    assert result.recall_at_1["mean"] > 0.5
    assert scaled(result)["ES:D"] > 99
    assert scaled(result)["TMA"] < 0.1


@pytest.mark.slow
def test_zero_gradient():
    # No attack by gradients moves anything: all figures are those of clean pictures.
    data = pictures_of_noise()
    result = empirical_robustness_score(Rounded(), data)
    clean = empirical_robustness_score(Rounded(), data, budget=Budget(0.0, 0.1, 1))
    np.testing.assert_array_equal(result.values, clean.values)
    found = raw(result)
    assert found["ES:D"] == pytest.approx(0, abs=1e-9)
    assert found["GTT"] == 100
    assert found["QA-"] == 0  # of 24 items the top 1/100 is the first alone
    recall = 100 * result.recall_at_1["mean"]
    assert [found[name] for name in ("ES:R", "LTM", "GTM")] == [pytest.approx(recall)] * 3
    # Without gradients the model is not safe: attacks that ask for embeddings alone break it.
    for attack in (SquareAttack(LinfBall(0.3), queries=60), NESAttack(LinfBall(0.3), steps=8, population=20)):
        assert empirical_robustness_score(Rounded(), data, attack=attack).score["mean"] < result.score["mean"] - 5


@pytest.mark.parametrize("metric", METRICS)
def test_values_are_those_of_a_plain_loop(digits, network, metric):
    images, labels = digits
    gallery = ImageSet(images[:120], labels[:120] % 3)
    queries, budget = gallery.select(torch.tensor([3, 11, 40, 77, 119])), Budget(0.08, 0.02, 6)
    model = as_module(network.double().eval())  # embeddings in double precision, of pictures in single
    evaluation = RankingEvaluation(Index(model, gallery, batch_size=3), queries, metric=metric, seed=5)
    found = {}
    for goal in GOALS:
        found |= evaluation.measure(goal, budget.attack())
    expected = reference_ers.reference_values(
        model, queries, gallery, evaluation.rows, evaluation.nudged, budget, metric, evaluation.unit
    )
    assert list(found) == NAMES
    for name in NAMES:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-6, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}")


def test_what_attacks_aim_at(digits, network):
    data = pictures(digits, 300)
    evaluation = RankingEvaluation(Index(network, data), data, seed=2)
    own, rows = torch.arange(300), evaluation.rows
    d = torch.cdist(evaluation.clean, evaluation.gallery).fill_diagonal_(torch.inf)
    order = d.argsort(dim=1)
    for goal in ("CA+", "QA+", "TMA"):
        assert (rows[goal] != own).all()
        assert len(rows[goal].unique()) > 150  # anything
    for goal in ("CA-", "QA-"):
        assert (order[:, :3] == rows[goal][:, None]).any(dim=1).all()  # the first 1/100 of 300
    assert torch.equal(rows["GTT"], order[:, 0])
    again = RankingEvaluation(Index(network, data), data, seed=2).rows
    assert all(torch.equal(again[goal], rows[goal]) for goal in rows)


def test_figures_do_not_depend_on_batches(digits, network):
    data, budget = pictures(digits, 40), Budget(0.05, 0.02, 4)
    network = network.double()
    one, all_ = (empirical_robustness_score(network, data, budget=budget, batch_size=size) for size in (7, 256))
    np.testing.assert_allclose(one.values, all_.values, atol=1e-5)


def test_more_steps_of_the_attack_leave_less(digits, network):
    data = pictures(digits)
    few, many = (empirical_robustness_score(network, data, budget=Budget(0.2, 0.02, steps)) for steps in (2, 12))
    assert many.score["mean"] < few.score["mean"]


def test_transfer_from_a_surrogate(digits, network):
    data, budget = pictures(digits), Budget(0.2, 0.03, 8)
    torch.manual_seed(9)
    other = nn.Sequential(nn.Flatten(), nn.Linear(64, 5))
    white = empirical_robustness_score(network, data, budget=budget)
    itself = empirical_robustness_score(network, data, budget=budget, surrogate=network)
    np.testing.assert_allclose(itself.values, white.values, atol=1e-6)
    assert itself.transferred
    assert not white.transferred
    moved = empirical_robustness_score(network, data, budget=budget, surrogate=other)
    still = empirical_robustness_score(network, data, budget=Budget(0.0, 0.1, 1))
    assert white.score["mean"] < moved.score["mean"] < still.score["mean"]
    # The same in the evaluation of retrieval: weaker than seeing the model itself.
    attack = PGD(LinfBall(0.1), steps=8)
    hits = [
        evaluate_retrieval(network, data, attacks=[attack], surrogate=model, with_pixels=False).to_frame()[
            "recall_at_1"
        ]
        for model in (None, other)
    ]
    assert hits[0][0] == hits[1][0]
    assert hits[0][1] < hits[1][1] <= hits[1][0]


def test_queries_beside_a_gallery(digits, network):
    images, labels = digits
    gallery = ImageSet(images[:80], labels[:80] % 3)
    queries = ImageSet(images[100:130], labels[100:130] % 3)
    result = empirical_robustness_score(network, queries, gallery, n_queries=10, budget=Budget(0.0, 0.1, 1))
    assert (result.n_queries, result.n_gallery) == (10, 80)
    assert raw(result)["QA-"] == 0  # nothing is left out for an id that only seems to be its own


def test_result_tells_itself(digits, network):
    result = empirical_robustness_score(network, pictures(digits), n_queries=20, metric="cosine")
    frame = result.to_frame()
    assert list(frame.index) == [*NAMES, "ERS", "R@1, clean"]
    assert ((frame["low"] <= frame["scaled"] + 1e-9) & (frame["scaled"] <= frame["high"] + 1e-9)).all()
    assert ((frame["low"] >= 0) & (frame["high"] <= 100)).all()
    told = json.loads(result.to_json())
    assert told["score"] == result.score
    assert told["metric"] == "cosine"
    assert "R@1, clean" in result._repr_html_()
    assert result.values.shape == (20, 10)
    np.testing.assert_allclose(result.values.mean(axis=0), [row["raw"] for row in result.components], atol=1e-9)
    for component, row in zip(COMPONENTS, result.components):
        assert row["scaled"] == pytest.approx(component.scaled(row["raw"]))
    with pytest.raises(AttributeError):
        result.score = {}


def test_shifts_beyond_two_are_told_whole():
    # Pixels from .2 on, less .2: embeddings of length 0 to .1, shifted to .8 or .7 by an attack that may do anything.
    class Shifted(nn.Module):
        def forward(self, images):
            return images.flatten(1) - 0.2

    near = ImageSet(torch.tensor([0.2, 0.22, 0.28, 0.3]).view(4, 1, 1, 1), torch.tensor([0, 0, 1, 1]))
    result = empirical_robustness_score(Shifted(), near, budget=Budget(1.0, 0.05, 20))
    assert raw(result)["ES:D"] > 2
    assert raw(result)["ES:D"] == pytest.approx(result.values[:, NAMES.index("ES:D")].mean())
    assert scaled(result)["ES:D"] == 0


def test_scales_are_those_of_the_paper():
    # The published row of a natural network on Fashion-MNIST, and of one with the anti-collapse triplet.
    natural = (1.1, 96.8, 0.3, 97.8, 0.990, 1.604, 0.1, 0.0, 12.6, 0.0)
    robust = (33.6, 14.6, 38.5, 12.1, 0.259, 0.541, 48.5, 59.5, 60.2, 0.1)
    for row, score in ((natural, 4.2), (robust, 63.3)):
        mean = np.mean([component.scaled(value) for component, value in zip(COMPONENTS, row)])
        assert mean == pytest.approx(score, abs=0.05)


def test_budgets():
    small, large = make_attack((5, 1, 28, 28)), make_attack((5, 3, 224, 224))
    assert (small.ball.eps, large.ball.eps) == (77 / 255, 8 / 255)
    for attack in (small, large):
        assert (attack.steps, attack.step_size, attack.random_start) == (32, 3 / 255, False)
    assert make_attack((5, 1, 28, 28), "224").ball == BUDGETS["224"].attack().ball


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"budget": "32"}, "budget must be '28', '224' or a Budget, got '32'"),
        ({"budget": 28}, "budget must be '28', '224' or a Budget, got 28"),
        ({"metric": "dot"}, "'normalized-euclidean', got 'dot'"),
        ({"n_queries": 0}, "n_queries must be at least 1, got 0"),
        ({"budget": "28", "attack": PGD(LinfBall(0.1))}, "budget and attack exclude each other"),
    ],
)
def test_wrong_settings(options, message):
    with pytest.raises(ValueError, match=message):
        empirical_robustness_score(nn.Flatten(), LINE, **options)


def test_wrong_images():
    alone = ImageSet(torch.rand(3, 1, 4, 4), torch.tensor([0, 0, 0]))
    with pytest.raises(ValueError, match="at least two classes"):
        empirical_robustness_score(nn.Flatten(), alone)
    with pytest.raises(ValueError, match="another picture of its label"):
        empirical_robustness_score(nn.Flatten(), ImageSet(torch.rand(3, 1, 4, 4), torch.arange(3)))
    with pytest.raises(ValueError, match=r"embeddings of shape \(4, k\)"):
        empirical_robustness_score(nn.Identity(), LINE)
