"""Verification: figures against independent ones, attacks within what can be reached, thresholds that are honest."""

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: the extra 'deep' has it")

from sklearn.metrics import roc_auc_score, roc_curve  # noqa: E402
from torch import nn  # noqa: E402

from certimetric.deep import (  # noqa: E402
    PGD,
    CarliniWagner,
    Dodging,
    ImageSet,
    Impersonation,
    L2Ball,
    LinfBall,
    SquareAttack,
    evaluate_verification,
)
from certimetric.deep.verification import attack_pairs  # noqa: E402
from certimetric.deep.verification import pairs as pairs_module  # noqa: E402
from certimetric.deep.verification.pairs import Pairs  # noqa: E402

QUICK = {"with_pixels": False, "n_resamples": 0}
DISTANCES = {
    "euclidean": lambda a, b: np.linalg.norm(a - b),
    "cosine": lambda a, b: 1 - a @ b / np.linalg.norm(a) / np.linalg.norm(b),
    "normalized-euclidean": lambda a, b: np.linalg.norm(a / np.linalg.norm(a) - b / np.linalg.norm(b)),
}


class Flat(nn.Module):
    """Pixels in double precision: distances of pictures are those of their numbers."""

    def forward(self, x):
        return x.flatten(1).double()


@pytest.fixture(scope="module")
def pictures(digits):
    images, labels = digits
    return ImageSet(images[:60], labels[:60])


def listed(probes, enrolled=None):
    """All pairs one by one: without enrolled pictures each two once."""
    if enrolled is None:
        return np.array([(i, j) for i in range(len(probes)) for j in range(i + 1, len(probes))])
    return np.array([(i, j) for i in range(len(probes)) for j in range(len(enrolled))])


def by_hand(probes, enrolled, pairs, metric):
    a, b = (np.asarray(part.images.flatten(1).double()) for part in (probes, enrolled))
    found = np.array([DISTANCES[metric](a[i], b[j]) for i, j in pairs])
    return found, np.array([bool(probes.labels[i] == enrolled.labels[j]) for i, j in pairs])


@pytest.mark.parametrize("metric", DISTANCES)
@pytest.mark.parametrize("two_sets", [False, True])
def test_figures_are_those_of_other_implementations(pictures, metric, two_sets, monkeypatch):
    monkeypatch.setattr(pairs_module, "_BLOCK", 500)  # several blocks
    probes = pictures.select(torch.arange(25)) if two_sets else pictures
    enrolled = pictures.select(torch.arange(25, 60)) if two_sets else None
    distances, same = by_hand(probes, enrolled or probes, listed(probes, enrolled), metric)
    result = evaluate_verification(Flat(), probes, enrolled, metric=metric, far=[0.2, 0.05], **QUICK)
    curve, (told,) = result.curves["model"], result.summary
    assert (curve.n_genuine, curve.n_impostor) == (same.sum(), (~same).sum())
    assert told["auc"] == pytest.approx(roc_auc_score(same, -distances), abs=1e-12)
    far, tar, thresholds = roc_curve(same, -distances, drop_intermediate=False)
    for t, its_far, its_tar in [*zip(-thresholds[1:], far[1:], tar[1:])][::7]:
        assert curve.at(t + 1e-12) == pytest.approx((its_far, its_tar), abs=1e-12)
    # TAR at a FAR and EER one by one, by counting.
    for row in result.rows[:2]:
        possible = [t for t in distances if (distances[~same] <= t + 1e-12).mean() <= row["target_far"]]
        assert row["threshold"] == pytest.approx(max(possible), abs=1e-12)
        assert row["tar"] == (distances[same] <= max(possible) + 1e-12).mean()
        assert row["far"] == (distances[~same] <= max(possible) + 1e-12).mean()
    false = np.array([[(distances[~same] <= t).mean(), (distances[same] > t).mean()] for t in np.sort(distances)])
    crossing = int(np.argmax(false[:, 0] >= false[:, 1]))
    between = np.sort([*false[crossing - 1], *false[crossing]])[1:3]
    assert between[0] - 1e-12 <= told["eer"] <= between[1] + 1e-12
    # Given one by one they are the same pairs, and the worst of them are the worst.
    given = evaluate_verification(
        Flat(), probes, enrolled, pairs=listed(probes, enrolled), metric=metric, far=[0.2, 0.05], **QUICK
    )
    np.testing.assert_allclose(given.curves["model"].thresholds[1:], curve.thresholds[1:], rtol=0, atol=1e-14)
    assert [pair[0] for pair in result.worst["genuine"]] == pytest.approx(np.sort(distances[same])[::-1][:8], abs=1e-12)
    assert [pair[0] for pair in result.worst["impostor"]] == pytest.approx(np.sort(distances[~same])[:8], abs=1e-12)


def test_attacks_find_what_a_linear_model_allows(pictures):
    # Of pixels in l2 every distance can be moved by exactly ε, as far as the bounds let it.
    middle = ImageSet(0.25 + pictures.images / 2, pictures.labels)
    eps = 0.5
    attacks = [PGD(L2Ball(eps), steps=20), SquareAttack(L2Ball(eps), queries=10), CarliniWagner(L2Ball(eps), steps=60)]
    result = evaluate_verification(
        nn.Flatten(), middle, attacks=attacks, far=[0.1], n_attacked=20, **{**QUICK, "n_resamples": 50}
    )
    reached = {key[1]: after for key, after in result.attacked.items()}
    for after in reached.values():
        moved = (after.distances - after.clean) * np.where(after.genuine, 1, -1)
        assert (moved >= 0).all()
        assert (moved <= eps + 1e-6).all()
        assert after.genuine.sum() == 20 == (~after.genuine).sum()
    moved = np.abs(reached["PGD"].distances - reached["PGD"].clean)
    assert (moved > 0.9 * eps).all()
    worst, sign = reached["worst case"], np.where(worst_kind(reached), 1, -1)
    for name in ("PGD", "SquareAttack", "CarliniWagner"):
        assert (sign * worst.distances >= sign * reached[name].distances).all()
    frame = result.to_frame().set_index(["attack", "point"])
    clean, attacked = frame.loc[("clean", "far=0.1")], frame.loc[("worst case", "far=0.1")]
    assert attacked.tar < clean.tar
    assert attacked.far > clean.far
    assert attacked.tar_low <= attacked.tar <= attacked.tar_high
    assert attacked.threshold == clean.threshold
    # What is content with the threshold reaches it wherever it can be reached.
    least, t = reached["CarliniWagner"], clean.threshold
    possible = np.where(least.genuine, least.clean + 0.7 * eps > t, least.clean - 0.7 * eps <= t)
    assert (np.where(least.genuine, least.distances > t, least.distances <= t) == possible)[possible].all()
    # The pictures that are shown are those whose distances count.
    rows = worst.pairs[[0, -1]]
    images, distances = attack_pairs(nn.Flatten(), middle, None, rows, attacks[0], clean.threshold)
    apart = (images.double() - middle.images[rows[:, 1]].double()).flatten(1).norm(dim=1)
    np.testing.assert_allclose(distances, apart, atol=1e-6)


def worst_kind(reached):
    return reached["worst case"].genuine


def test_goals_agree_with_the_threshold_to_the_last_digit():
    reference, t = torch.zeros(3, 1, dtype=torch.double), 0.3
    embeddings = torch.tensor([[np.nextafter(t, 0)], [t], [np.nextafter(t, 1)]], dtype=torch.double)
    assert Dodging(reference, t).broken(embeddings).tolist() == [False, False, True]
    assert Impersonation(reference, t).broken(embeddings).tolist() == [True, True, False]


def test_thresholds_come_from_the_calibration(pictures):
    validation, test = pictures.select(torch.arange(30)), pictures.select(torch.arange(30, 60))
    calibration = evaluate_verification(Flat(), validation, far=[0.1], **QUICK)
    result = evaluate_verification(Flat(), test, far=[0.1, 1e-3], calibration=calibration, threshold=2.0, **QUICK)
    rows = {row["point"]: row for row in result.rows}
    t = calibration.curves["model"].threshold_at(0.1)
    assert rows["far=0.1"]["threshold"] == t
    assert rows["eer"]["threshold"] == calibration.curves["model"].eer_threshold
    assert (rows["far=0.1"]["far"], rows["far=0.1"]["tar"]) == result.curves["model"].at(t)
    assert (rows["threshold"]["far"], rows["threshold"]["tar"]) == result.curves["model"].at(2.0)
    # A few hundred impostor pairs support no false accept rate of a thousandth.
    assert rows["far=0.001"]["tar"] is rows["far=0.001"]["threshold"] is None
    assert 1e-3 < result.summary[0]["claimable_far"] < 0.1
    assert result.calibrated
    assert json.loads(result.to_json())["rows"][1]["tar"] is None


def test_groups_and_equal_pictures_are_no_pairs(pictures):
    groups = torch.arange(60) // 2
    pairs = Pairs(ImageSet(pictures.images, pictures.labels, groups=groups))
    blocks = [np.stack(block[1:], axis=1) for block in pairs.distances(metric(), *2 * [pictures.images.flatten(1)])]
    assert len(np.concatenate(blocks)) == 60 * 59 // 2 - 30
    twice = Pairs(pictures, pictures.select(torch.arange(59, -1, -1)))
    assert sum(len(block[1]) for block in twice.distances(metric(), *2 * [pictures.images.flatten(1)])) == 60 * 59


def metric():
    from certimetric.deep.ranking import EmbeddingMetric

    return EmbeddingMetric()


@pytest.mark.parametrize("alone", [True, False])
def test_drawn_pairs_are_drawn_alike(pictures, alone, monkeypatch):
    enrolled = None if alone else pictures.select(torch.arange(40, 60))
    compared = Pairs(pictures.select(torch.arange(40)), enrolled)
    every = compared.drawn(None, 0)
    same = compared.same(every)
    few = compared.drawn(5, 0)
    assert compared.same(few).tolist() == [True] * 5 + [False] * 5
    monkeypatch.setattr(pairs_module, "_LISTED", 0)  # as of sets that are too large
    n = int(same.sum())
    found = compared.drawn(n, 1)
    ends = np.sort(found, axis=1) if alone else found
    assert len(np.unique(ends, axis=0)) == len(found)
    assert compared.same(found)[: len(found) - n].all()
    assert len(found) >= 1.9 * n
    allowed = {tuple(pair) for pair in every} | ({tuple(pair[::-1]) for pair in every} if alone else set())
    assert {tuple(pair) for pair in found} <= allowed


def test_a_surrogate_is_attacked_at_its_own_threshold(pictures):
    attack = [PGD(LinfBall(0.1), steps=10), CarliniWagner(LinfBall(0.1), steps=10, searches=2)]
    surrogate = nn.Sequential(nn.Flatten(), nn.AvgPool1d(4))
    told = {"attacks": attack, "far": [0.1], "n_attacked": 15, **QUICK}
    own = evaluate_verification(nn.Flatten(), pictures, **told).to_frame().set_index(["attack", "point"])
    other = evaluate_verification(nn.Flatten(), pictures, surrogate=surrogate, **told)
    transferred = other.to_frame().set_index(["attack", "point"])
    assert own.loc[("PGD", "eer")].tar <= transferred.loc[("PGD", "eer")].tar
    assert transferred.loc[("worst case", "eer")].far >= transferred.loc[("PGD", "eer")].far


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"far": [0.0]}, "far must be a rate of false accepts above 0"),
        ({"threshold": float("nan")}, "threshold must be a distance"),
        ({"pairs": [[0, 0]]}, "pairs must be of two pictures each"),
        ({"pairs": [[0, 99]]}, "pairs must be rows from 0 to 59, got 99"),
        ({"pairs": [0, 1]}, "pairs must be rows of probes and of enrolled"),
        ({"pairs": [[0, 1]]}, "there is no genuine pair"),
        ({"metric": "manhattan"}, "metric must be"),
        ({"n_attacked": 0}, "n_attacked must be at least 1"),
    ],
)
def test_bad_input_is_told_in_a_sentence(pictures, settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        evaluate_verification(nn.Flatten(), pictures, **settings)
