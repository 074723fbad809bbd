"""Certified decisions about pairs: exact where a model is linear, never passed by an attack."""

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: the extra 'deep' has it")

from torch import nn  # noqa: E402

from certimetric.deep import (  # noqa: E402
    PGD,
    ImageSet,
    L2Ball,
    certify_verification,
    embedding_model,
    evaluate_verification,
)
from certimetric.deep.verification import attack_smoothed  # noqa: E402


@pytest.fixture(scope="module")
def pictures(digits):
    images, labels = digits
    return ImageSet(0.2 + 0.6 * images[:40], labels[:40])


def models():
    torch.manual_seed(0)
    return {
        "isometry": (nn.Flatten(), "euclidean"),
        "sphere": (nn.Flatten(), "cosine"),
        "chord": (nn.Flatten(), "normalized-euclidean"),
        "linear": (nn.Sequential(nn.Flatten(), nn.Linear(64, 8)), "euclidean"),
        "network": (embedding_model("lipschitz-cnn", dim=16, size=8), "euclidean"),
    }


@pytest.fixture(params=["isometry", "sphere", "chord", "linear"])
def model(request):
    return models()[request.param]


def test_no_attack_changes_a_decision_within_its_radius(model, pictures):
    network, metric = model
    clean = evaluate_verification(network, pictures, metric=metric, with_pixels=False, n_resamples=0)
    t = clean.curves["model"].threshold_at(0.1)
    told = {"metric": metric, "n_pairs": 20}
    certificate = certify_verification(network, pictures, threshold=t, **told)
    assert 0 < np.median(certificate.radii) < np.inf
    reached = []
    for eps in (0.2, 0.8):
        attack = PGD(L2Ball(eps), steps=15, restarts=2)
        settings = {"metric": metric, "threshold": t, "n_attacked": 20, "with_pixels": False, "n_resamples": 0}
        (after,) = evaluate_verification(network, pictures, attacks=[attack], **settings).attacked.values()
        np.testing.assert_array_equal(after.pairs, certificate.pairs)
        assert len(certificate.broken_by(after, eps)) == 0
        # Certified rates bound attacked ones, at the threshold and at all others.
        rates = certificate.certified_rates(eps)
        far, tar = after.curve.at(t)
        assert rates.tar[0] <= tar + 1e-12
        assert rates.far[0] >= far - 1e-12
        worst = certificate.curve(eps)
        assert worst.at(t) == pytest.approx((rates.far[0], rates.tar[0]), abs=1e-12)
        for threshold in after.curve.thresholds[1:]:
            assert worst.at(threshold - 1e-6)[1] <= after.curve.at(threshold)[1]
            assert worst.at(threshold + 1e-6)[0] >= after.curve.at(threshold)[0]
        reached.append((rates, far, tar))
    if metric == "euclidean" and isinstance(network, nn.Flatten):  # an isometry: the bound is what the attack reaches
        rates, far, tar = reached[0]
        assert (far, tar) == pytest.approx((rates.far[0], rates.tar[0]), abs=0.06)
    # A claim that is too large is found out.
    wrong = type(certificate)(**{**vars(certificate), "radii": certificate.radii + 10})
    assert len(wrong.broken_by(after, eps)) > 0


@pytest.mark.parametrize("metric", ["cosine", pytest.param("normalized-euclidean", marks=pytest.mark.slow)])
def test_the_cone_is_exact(metric):
    # Two dimensions: the nearest point of the boundary is found on a fine grid of directions and lengths.
    rng = np.random.default_rng(0)
    points = rng.random((8, 2)) * 0.8 + 0.1
    images = ImageSet(torch.tensor(points, dtype=torch.float32).view(8, 2, 1, 1), torch.arange(8) % 2)
    pairs = np.array([(i, j) for i in range(8) for j in range(8) if i != j])
    grid = rng.normal(size=(200_000, 2))
    grid *= (rng.random((len(grid), 1)) * 1.5) / np.linalg.norm(grid, axis=1, keepdims=True)
    given = images.images.double().flatten(1).numpy()
    for t in (0.02, 0.3, 1.2, 1.9):
        found = certify_verification(nn.Flatten(), images, threshold=t, pairs=pairs, metric=metric)
        for (i, j), accepted, radius in zip(pairs, found.accepted, found.radii):
            e = given[j] / np.linalg.norm(given[j])

            def decide(points, e=e, t=t):
                cos = points @ e / np.linalg.norm(points, axis=1)
                return (1 - cos if metric == "cosine" else np.sqrt(np.maximum(2 - 2 * cos, 0))) <= t

            assert decide(given[i : i + 1])[0] == accepted
            flipped = grid[decide(given[i] + grid) != accepted]
            nearest = np.linalg.norm(flipped, axis=1).min(initial=np.inf)
            assert nearest >= radius
            assert nearest <= 1.1 * radius + 0.02


def test_a_network_on_the_sphere_and_its_constant(pictures):
    network, metric = models()["network"]
    plain = certify_verification(network, pictures, threshold=0.3, n_pairs=10, metric=metric)
    half = certify_verification(
        nn.Sequential(*_layers(network), orthogonal_half()), pictures, threshold=0.15, n_pairs=10, metric=metric
    )
    assert plain.constant == pytest.approx(1.0, abs=1e-4)
    np.testing.assert_allclose(half.radii, plain.radii, rtol=1e-3, atol=1e-5)


def _layers(network):
    from certimetric.deep.certify.lipschitz_constant import plain_layers

    return plain_layers(network)


def orthogonal_half():
    layer = nn.Linear(16, 16, bias=False)
    layer.weight.data = 0.5 * torch.eye(16)
    return layer


def test_smoothed_decisions_are_those_of_the_closed_form(pictures):
    # One pixel, accepted within t of another: under noise P(accepted) is known, and so is the largest radius there is.
    values = torch.tensor([0.1, 0.3, 0.9, 0.5])
    images = ImageSet(values.view(4, 1, 1, 1), torch.tensor([0, 0, 1, 1]))
    settings = {"method": "smoothing", "sigma": 0.2, "n_samples": 4000, "pairs": [[0, 1], [0, 2], [1, 2], [2, 3]]}
    found = certify_verification(nn.Flatten(), images, threshold=0.45, **settings)
    from scipy.stats import norm

    moves = values[found.pairs[:, 0]] - values[found.pairs[:, 1]]
    shares = norm.cdf((0.45 - moves) / 0.2) - norm.cdf((-0.45 - moves) / 0.2)
    assert found.accepted.tolist() == (shares > 0.5).tolist() == [True, False, False, True]
    best = 0.2 * norm.ppf(np.maximum(shares, 1 - shares))
    assert (found.radii <= best).all()
    assert (found.radii >= best - 0.03)[~found.abstained].all()
    assert not found.abstained[[0, 1]].any()
    other = certify_verification(nn.Flatten(), images, threshold=0.45, batch_size=16, **settings)
    np.testing.assert_array_equal(found.radii, other.radii)
    assert found.confidence == 0.999
    assert found.curve(0.1) is None
    assert json.loads(found.to_json())["method"] == "smoothing"
    assert list(found.to_frame()) == ["probe", "enrolled", "genuine", "accepted", "abstained", "radius"]


class Seen(nn.Module):
    """Pixels as they are, and how many pictures it was shown."""

    shown = 0

    def forward(self, x):
        self.shown += len(x)
        return x.flatten(1)


def test_a_probe_is_drawn_once_for_all_of_its_pairs(pictures):
    few = ImageSet(pictures.images[:6], torch.tensor([0, 0, 1, 1, 2, 2]))
    pairs = [(i, j) for i in range(3) for j in range(6) if i != j]
    steps, model = [], Seen()
    settings = {"method": "smoothing", "sigma": 0.2, "n_samples": 40, "n_selection": 10, "seed": 1}
    found = certify_verification(model, few, threshold=2.0, pairs=pairs, advance=lambda: steps.append(1), **settings)
    assert model.shown == len(few) + 3 * (40 + 10)  # three probes in fifteen pairs
    assert len(steps) == 10
    # A pair is told the same whatever the others of its probe are.
    alone = certify_verification(Seen(), few, threshold=2.0, pairs=pairs[:5], **settings)
    again = certify_verification(Seen(), few, threshold=2.0, pairs=pairs[4::-1], **settings)
    np.testing.assert_array_equal(alone.radii, again.radii[::-1])
    assert found.radii.shape == (15,)


def test_smoothed_decisions_are_attacked_for_themselves(pictures):
    brightness = nn.Sequential(nn.Flatten(), nn.Linear(64, 1, bias=False))  # one number, so that noise leaves something
    nn.init.constant_(brightness[1].weight, 1 / 8)
    told = {"method": "smoothing", "sigma": 0.1, "n_samples": 100, "n_selection": 20, "n_pairs": 30}
    certificate = certify_verification(brightness, pictures, threshold=0.3, **told)
    assert 5 < certificate.accepted.sum() < 55
    trial = attack_smoothed(certificate, brightness, pictures, attack=PGD(L2Ball(0.1), steps=10), n_checked=8)
    probes = certificate.pairs[trial.rows, 0]
    assert 0 < len(trial.rows) <= 8 and len(np.unique(probes)) == len(probes)
    assert (certificate.radii[trial.rows] > 0.1).all()
    assert not trial.broken and trial.eps == 0.1
    # Claims that are too large are found out: decisions that an attack can turn, all said to be safe.
    wrong = type(certificate)(**{**vars(certificate), "radii": np.full_like(certificate.radii, 9.0)})
    far = PGD(L2Ball(2.0), steps=10)
    assert attack_smoothed(wrong, brightness, pictures, attack=far).broken
    nothing = attack_smoothed(certificate, brightness, pictures, attack=far)
    assert (len(nothing.rows), nothing.broken) == (0, False)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"threshold": float("nan")}, "threshold must be a distance"),
        ({"threshold": 1.0, "method": "interval"}, "method must be one of 'lipschitz', 'smoothing'"),
        ({"threshold": 1.0, "method": "smoothing", "statistic": "embedding"}, "method must be 'lipschitz' or"),
        ({"threshold": 1.0, "sigma": 1.0}, "settings of the method 'lipschitz' do not fit"),
    ],
)
def test_bad_input_is_told_in_a_sentence(pictures, settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        certify_verification(nn.Flatten(), pictures, **settings)
