"""Randomised smoothing against cases whose answer is known."""

import numpy as np
import pytest
import torch
from scipy.stats import binom, binomtest, norm
from torch import nn

from certimetric.deep import PGD, ImageSet, Index, L2Ball, NoiseDefense, SmoothingCertifier, certify_retrieval
from certimetric.deep.certify.smoothing import least_samples, proportion_bound, vote_radii

SIGMA = 0.5
# Two classes on either side of the middle of the first pixel: 1-NN is a half-space, wherever the second pixel is.
GALLERY = ImageSet(
    torch.tensor([[0.0, 0.5], [0.0, 0.5], [1.0, 0.5], [1.0, 0.5]]).view(4, 1, 1, 2), torch.tensor([0, 0, 1, 1])
)
DISTANCES = np.array([0.0, 0.1, 0.25, 0.4, 0.5])


def queries(distances=DISTANCES):
    x = torch.stack([0.5 + torch.from_numpy(distances).float(), torch.rand(len(distances))], dim=1)
    return ImageSet(x.view(-1, 1, 1, 2), torch.ones(len(x), dtype=torch.long), torch.arange(len(x)) + 100)


class HalfSpace(nn.Module):
    """One of two embeddings of length 1, by the side of the first pixel."""

    def forward(self, images):
        right = (images[:, 0, 0, 0] > 0.5).float()
        return torch.stack([right, 1 - right], dim=1)


def test_radius_of_a_half_space_is_the_distance_to_it():
    """The share of the right side is Φ(d / σ), and the best that can be certified is d."""
    torch.manual_seed(0)
    found = certify_retrieval(nn.Flatten(), queries(), GALLERY, method="smoothing", sigma=SIGMA, n_samples=20_000)
    assert (found.radii <= DISTANCES).all()
    np.testing.assert_allclose(found.radii[1:], DISTANCES[1:], atol=0.05)
    assert found.abstained.tolist() == [True, False, False, False, False] and found.radii[0] == 0
    assert (found.predictions[1:] == 1).all() and found.confidence == 0.999
    np.testing.assert_allclose(found.pixels.radii, DISTANCES, atol=1e-7)


def test_radii_fail_as_seldom_as_promised():
    """Over 2,000 counts of a known share, the certificate is too large for no more than α of them."""
    share, n, alpha = float(norm.cdf(0.3 / SIGMA)), 500, 0.05
    hits = binom.rvs(n, share, size=2000, random_state=0)
    too_large = vote_radii(hits, n, SIGMA, alpha) > 0.3
    assert 0.01 < too_large.mean() < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 2000)


@pytest.mark.parametrize("n", [1, 10, 1000])
@pytest.mark.parametrize("alpha", [0.001, 0.3])
def test_bound_on_a_share_is_that_of_clopper_and_pearson(n, alpha):
    for hits in sorted({0, 1, n // 2, n - 1, n}):
        truth = binomtest(hits, n, alternative="greater").proportion_ci(1 - alpha, method="exact").low
        assert proportion_bound(hits, n, alpha) == pytest.approx(truth, abs=1e-12)
    assert vote_radii(n, n, 1.0, alpha) == pytest.approx(max(norm.ppf(alpha ** (1 / n)), 0.0))


def test_smoothed_embedding_of_a_half_space():
    """g = Φ(d/σ) (1, 0) + Φ(−d/σ) (0, 1), whose distance to the boundary is (2Φ(d/σ) − 1) / √2."""
    n, alpha = 20_000, 0.01
    options = {"method": "smoothing", "statistic": "embedding", "sigma": SIGMA, "n_samples": n, "alpha": alpha}
    found = certify_retrieval(HalfSpace(), queries(), GALLERY, **options)
    assert (found.radii <= DISTANCES).all()
    off = (1 + np.sqrt(2 * np.log(1 / alpha))) / np.sqrt(n)
    constant = np.sqrt(2 / np.pi) / SIGMA
    wanted = np.maximum((2 * norm.cdf(DISTANCES / SIGMA) - 1) / np.sqrt(2) - off, 0) / constant
    np.testing.assert_allclose(found.radii, wanted, atol=0.02)
    assert found.constant == pytest.approx(constant) and found.abstained[0]
    assert found.radii[-1] > 0.2


def test_longer_embeddings_than_the_gallery_are_shortened():
    """A model whose embeddings grow without bound is smoothed within the length of its gallery."""
    x = ImageSet(torch.full((1, 1, 1, 2), 0.9), torch.tensor([1]), torch.tensor([9]))
    options = {"method": "smoothing", "statistic": "embedding", "sigma": 5.0, "n_samples": 5000}
    found = certify_retrieval(nn.Flatten(), x, GALLERY, **options)
    assert found.constant == pytest.approx(np.sqrt(1.25) * np.sqrt(2 / np.pi) / 5.0)


def test_same_seed_same_certificate_whatever_the_batches():
    options = {"method": "smoothing", "sigma": SIGMA, "n_samples": 80, "n_selection": 20}
    asked = queries()
    one, again = (certify_retrieval(nn.Flatten(), asked, GALLERY, **options) for _ in range(2))
    other = certify_retrieval(nn.Flatten(), asked, GALLERY, **options, seed=1)
    np.testing.assert_array_equal(one.radii, again.radii)
    assert not np.array_equal(one.radii, other.radii)
    for statistic in ("vote", "embedding"):
        whole, *others = (
            certify_retrieval(nn.Flatten(), asked, GALLERY, **options, statistic=statistic, batch_size=size)
            for size in (256, 1, 7, 16, 100, 10**6)
        )
        for other in others:
            np.testing.assert_allclose(other.radii, whole.radii, rtol=1e-12)


@pytest.mark.parametrize("alpha", [0.9, 0.5, 0.4, 0.25, 0.125, 0.05, 0.001, 2.0**-30])
def test_the_least_number_of_draws_is_the_least(alpha):
    """With it a unanimous vote is certified, with one draw less it is not."""
    n = least_samples(alpha)
    assert vote_radii(n, n, 1.0, alpha) > 0
    assert n == 1 or vote_radii(n - 1, n - 1, 1.0, alpha) == 0
    # Of embeddings: the bound on the deviation of the mean is below the largest radius that there can be.
    off = [(1 + np.sqrt(2 * np.log(1 / alpha))) / np.sqrt(m) for m in (least_samples(alpha, "embedding"),)]
    assert off[0] < 2.0


@pytest.mark.parametrize("options, least", [({"n_samples": 9}, 10), ({"n_samples": 5, "statistic": "embedding"}, 6)])
def test_draws_that_can_certify_nothing_are_told_before_the_work(options, least):
    class Never(nn.Module):
        def forward(self, images):
            raise AssertionError("no pass through the model is needed to tell")

    told = f"can certify nothing at alpha = 0.001.* at least {least} are needed"
    made = SmoothingCertifier(sigma=SIGMA, **options)
    for given in ({"method": "smoothing", "sigma": SIGMA, **options}, {"method": made}):
        with pytest.warns(UserWarning, match=told) as caught, pytest.raises(AssertionError, match="no pass"):
            certify_retrieval(Never(), queries(), GALLERY, **given)
        assert caught[0].filename == __file__
    with pytest.warns(UserWarning, match=told):  # and it is true: nothing is certified
        found = certify_retrieval(nn.Flatten(), queries(), GALLERY, method="smoothing", sigma=SIGMA, **options)
    assert found.abstained.all() and not found.radii.any()


@pytest.mark.parametrize("options", [{}, {"statistic": "embedding"}])
def test_the_largest_radius_is_that_of_draws_that_agree(options):
    """Two items far apart, a query at one of them: of 40 draws every one agrees."""
    far = ImageSet(torch.tensor([0.0, 0.0, 1.0, 1.0]).reshape(4, 1, 1, 1), torch.tensor([0, 0, 1, 1]))
    for n in (10, 40):
        certifier = SmoothingCertifier(sigma=1e-3, n_samples=n, **options)
        found = certify_retrieval(nn.Flatten(), far, method=certifier, with_pixels=False)
        assert found.radii.max() <= certifier.largest_radius()
        if not options:
            assert (found.radii == certifier.largest_radius()).all()
    assert SmoothingCertifier(n_samples=5, **options).largest_radius() == 0.0


@pytest.mark.filterwarnings("error")
def test_as_few_draws_as_can_certify_something_do():
    found = certify_retrieval(nn.Flatten(), queries(), GALLERY, method="smoothing", sigma=0.1, n_samples=10)
    assert not found.abstained[-1] and found.radii[-1] > 0


def test_votes_of_several_neighbours_and_self_matches():
    """A query in the gallery is not its own neighbour; three neighbours of 2 + 2 items have a majority."""
    found = certify_retrieval(nn.Flatten(), GALLERY, method="smoothing", sigma=0.1, n_samples=300, n_neighbors=3)
    # Without itself each has one of its own class and two of the other: the majority is always wrong.
    assert (found.predictions != found.labels).all() and not found.abstained.any()
    assert found.certified_recall(0.0) == 0.0


def test_no_attack_beats_the_certificate_but_by_chance(digits):
    """What PGD made of queries, within their radius, is shown to the smoothed model, of which it knows nothing."""
    images, labels = digits
    gallery = ImageSet(images[:150], labels[:150])
    asked = gallery.select(torch.arange(50))
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU())
    certifier = SmoothingCertifier(sigma=0.2, n_samples=300, n_selection=30)
    found = certifier.certify(model, asked, gallery)
    index, held, broken = Index(model, gallery), 0, 0
    for eps in (0.03, 0.1):
        moved = index.attacked(asked, PGD(L2Ball(eps), steps=10))
        within = (moved - asked.images).flatten(1).double().norm(dim=1).numpy() <= found.radii
        again = SmoothingCertifier(sigma=0.2, n_samples=300, n_selection=30, seed=1)
        after = again.certify(model, ImageSet(moved, asked.labels, asked.ids), gallery)
        broken += int((within & ~after.abstained & (after.predictions != found.predictions)).sum())
        held += int(within.sum())
    assert held > 20 and broken == 0  # each fails with a chance of 0.002 at most


@pytest.mark.parametrize(
    "options, message",
    [
        ({"sigma": 0.0}, "sigma"),
        ({"alpha": 1.0}, "alpha"),
        ({"statistic": "mean"}, "statistic"),
        ({"n_samples": 0}, "at least 1"),
        ({"statistic": "embedding", "n_neighbors": 3}, "n_neighbors"),
    ],
)
def test_bad_settings_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        SmoothingCertifier(**options)


def test_noise_in_training_is_of_its_deviation():
    class Recorder(nn.Flatten):
        def forward(self, images):
            self.seen = images
            return super().forward(images)

    torch.manual_seed(0)
    model, images = Recorder(), torch.full((50, 1, 20, 20), 0.5)
    NoiseDefense(0.4).loss(model, images, torch.zeros(50), lambda embeddings, labels, found: embeddings.sum())
    noise = model.seen - images
    assert float(noise.std()) == pytest.approx(0.4, rel=0.02) and abs(float(noise.mean())) < 0.01
    assert float(model.seen.max()) > 1.0  # not clipped
    with pytest.raises(ValueError, match="sigma"):
        NoiseDefense(0.0)
