"""Open-set identification: rates against a loop over probes, templates as they are stated, attacks that count."""

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: the extra 'deep' has it")

from PIL import Image  # noqa: E402
from torch import nn  # noqa: E402

from certimetric.datasets.images.sets import load_images  # noqa: E402
from certimetric.deep import PGD, ImageSet, L2Ball, SquareAttack, evaluate_identification  # noqa: E402

QUICK = {"with_pixels": False, "n_resamples": 0}


class Flat(nn.Module):
    def forward(self, x):
        return x.flatten(1).double()


@pytest.fixture(scope="module")
def sides(digits):
    """Digits 0 to 6 are enrolled, 7 to 9 are not."""
    images, labels = digits[0][:160] * 0.6 + 0.2, digits[1][:160]
    known = (labels < 7).nonzero()[:, 0]
    enrolled = known[:40]
    probes = torch.cat([known[40:], (labels >= 7).nonzero()[:, 0]])
    return ImageSet(images[probes], labels[probes]), ImageSet(images[enrolled], labels[enrolled])


def by_hand(probes, enrolled, templates, cosine):
    """Distance to the nearest subject and whether it is the right one, probe by probe."""
    a, b = (np.asarray(part.images.flatten(1).double()) for part in (probes, enrolled))
    if cosine:
        a, b = (part / np.linalg.norm(part, axis=1, keepdims=True) for part in (a, b))

    def between(p, q):
        return 1 - p @ q / np.linalg.norm(p) / np.linalg.norm(q) if cosine else np.linalg.norm(p - q)

    found = []
    for probe, label in zip(a, probes.labels.tolist()):
        scores = {}
        for subject in set(enrolled.labels.tolist()):
            own = b[np.asarray(enrolled.labels) == subject]
            each = [between(probe, point) for point in own]
            scores[subject] = {"nearest": min(each), "multi": np.mean(each), "mean": between(probe, own.mean(axis=0))}[
                templates
            ]
        nearest = min(scores, key=scores.get)
        found.append((scores[nearest], nearest == label))
    return tuple(np.array(part) for part in zip(*found))


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("templates", ["nearest", "mean", "multi"])
def test_rates_are_those_of_a_loop(sides, templates, metric):
    half = sides[0].select(torch.arange(0, len(sides[0]), 2)), sides[1]
    distances, right = by_hand(*half, templates, metric == "cosine")
    known = np.asarray(half[0].labels < 7)
    result = evaluate_identification(Flat(), *half, templates=templates, metric=metric, fpir=[0.2], **QUICK)
    curve = result.curves["model"]
    for t, dir_, fpir in list(zip(curve.thresholds, curve.dir, curve.fpir))[1::7]:
        accepted = distances <= t + 1e-12
        assert dir_ == pytest.approx((accepted & right)[known].mean())
        assert fpir == pytest.approx(accepted[~known].mean())
    (row,) = result.rows
    possible = [t for t in distances if (distances[~known] <= t + 1e-12).mean() <= 0.2]
    assert row["threshold"] == pytest.approx(max(possible), abs=1e-12)
    assert row["dir"] == ((distances <= max(possible) + 1e-12) & right)[known].mean()


def test_attacks_lower_detection_and_raise_false_identification(sides):
    attacks = [PGD(L2Ball(0.3), steps=10), SquareAttack(L2Ball(0.3), queries=10)]
    told = {"fpir": [0.3, 0.1, 0.001], "attacks": attacks, "n_attacked": 25, "n_resamples": 50, "with_pixels": False}
    frame = evaluate_identification(Flat(), *sides, **told).to_frame().set_index(["attack", "point"])
    clean, pgd, square = (frame.loc[(name, "fpir=0.3")] for name in ("clean", "PGD", "SquareAttack"))
    assert pgd.dir < min(clean.dir, square.dir + 1e-12)
    assert pgd.fpir > clean.fpir
    worst = frame.loc[("worst case", "fpir=0.3")]
    assert worst.dir <= min(pgd.dir, square.dir)
    assert worst.fpir >= max(pgd.fpir, square.fpir)
    assert worst.dir_low <= worst.dir <= worst.dir_high
    # Pixels in l2: an unknown probe is accepted exactly where the nearest enrolled picture is within t + ε.
    distances, _ = by_hand(*sides, "nearest", False)
    unknown = np.asarray(sides[0].labels >= 7)
    assert pgd.n_unknown == 25
    bound = np.sort(distances[unknown] <= clean.threshold + 0.3)
    assert pgd.fpir * 25 <= bound.sum()
    assert np.isnan(frame.loc[("clean", "fpir=0.001")].dir)  # so few probes support no such rate


def test_thresholds_come_from_the_calibration_and_results_are_json(sides):
    probes, enrolled = sides
    n = len(probes)
    first, second = (probes.select(torch.arange(start, n, 2)) for start in (0, 1))
    calibration = evaluate_identification(Flat(), first, enrolled, fpir=[0.2], **QUICK)
    result = evaluate_identification(Flat(), second, enrolled, fpir=[0.2], calibration=calibration, **QUICK)
    assert result.rows[0]["threshold"] == calibration.rows[0]["threshold"] != result.curves["model"].threshold_at(0.2)
    document = json.loads(result.to_json())
    assert document["calibrated"] is True
    assert document["templates"] == "nearest"


def page(folder, name, brand, seed, imitation=0.0):
    """A page in the colours of its brand, as it was taken; an imitation is rougher."""
    folder.mkdir(parents=True, exist_ok=True)
    pattern = np.random.default_rng(brand).uniform(60, 190, (6, 6, 3))
    noise = np.random.default_rng(100 + seed).normal(0, 4 + imitation, (6, 6, 3))
    Image.fromarray((pattern + noise).clip(0, 255).astype(np.uint8)).save(folder / f"{name}.png")


def test_a_matcher_of_phishing_pages(tmp_path):
    # Pages of the first brands are enrolled; imitations of them are to be found, and those of others to be left alone.
    for brand in range(8):
        for j in range(3):
            page(tmp_path / "trusted_list" / f"brand{brand}", f"T{j}", brand, 10 * brand + j)
        for j in range(4):
            page(tmp_path / "phishing" / f"brand{brand}", str(j), brand, 200 + 10 * brand + j, imitation=8.0)
    parts = []
    for side in ("train", "test"):
        read = load_images("visualphish", side, tmp_path, size=6)
        names = [read.class_names[label] for label in read.labels]
        pages = ImageSet(read.images, names, ids=[str(path) for path in read.images.paths])
        parts.append((pages, torch.tensor([path.parts[-3] == "phishing" for path in read.images.paths])))
    (protected, imitates), (others, foreign) = parts
    enrolled = protected.select((~imitates).nonzero()[:, 0])
    found = (protected.select(imitates.nonzero()[:, 0]), others.select(foreign.nonzero()[:, 0]))
    probes = ImageSet(
        torch.cat([part.tensor() for part in found]),
        torch.cat([part.labels for part in found]),
        ids=torch.cat([part.ids for part in found]),
    )
    enrolled = ImageSet(enrolled.images, enrolled.labels, ids=enrolled.ids)  # labels as numbers on either side
    attacks = [PGD(L2Ball(1.7), steps=10)]
    for templates in ("nearest", "mean", "multi"):
        told = {"templates": templates, "fpir": [0.2], "attacks": attacks, **QUICK}
        frame = evaluate_identification(Flat32(), probes, enrolled, **told).to_frame().set_index("attack")
        assert (frame.n_known == 16).all()
        assert (frame.n_unknown == 16).all()
        assert frame.loc["clean"].dir == 1.0
        assert frame.loc["PGD"].dir < 0.5
        assert frame.loc["PGD"].fpir > 0.5


class Flat32(nn.Module):
    def forward(self, x):
        return x.flatten(1)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda probes, enrolled: (probes.select(torch.arange(5)), enrolled, {}), "an unknown one lacks"),
        (lambda probes, enrolled: (enrolled, enrolled, {}), "probe 0 has a picture in common with the enrolled"),
        (lambda probes, enrolled: (probes, enrolled, {"templates": "first"}), "templates must be one of 'nearest'"),
        (lambda probes, enrolled: (probes, enrolled, {"fpir": [0.0]}), "fpir must be a rate"),
    ],
)
def test_bad_input_is_told_in_a_sentence(sides, change, sentence):
    probes, enrolled, settings = change(*sides)
    with pytest.raises(ValueError, match=sentence):
        evaluate_identification(nn.Flatten(), probes, enrolled, **settings)
