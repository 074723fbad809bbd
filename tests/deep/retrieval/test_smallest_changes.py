"""The smallest changes that break R@1: never inside a certificate, nearly the truth where that is known."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: the extra 'deep' has it")

from torch import nn  # noqa: E402

from certimetric.deep import PGD, ImageSet, LinfBall, evaluate_retrieval, smallest_changes  # noqa: E402
from certimetric.deep.attacks import ball as ball_of  # noqa: E402
from certimetric.deep.certify import PixelCertifier  # noqa: E402


@pytest.fixture(scope="module")
def items(digits):
    return ImageSet(digits[0][:80], digits[1][:80])


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_raw_pixels_break_at_their_certificates_and_not_before(items, norm):
    # Of pixels themselves the certificate is nearly the truth, but for the bounds of the pictures.
    queries = items.select(torch.arange(30))
    largest = {"l2": 4.0, "linf": 0.5}[norm]
    found = smallest_changes(nn.Flatten(), queries, items, ball=ball_of(norm, largest, None))
    proven = PixelCertifier(norm).certify(nn.Flatten(), queries, items, 256)
    right = proven.predictions == queries.labels.numpy()
    assert (found.radii[~right] == 0).all() and right.mean() > 0.5
    ratio = found.radii[right] / proven.radii[right]
    assert ratio.min() >= 1 - 1e-6 and np.median(ratio) < 1.25


def test_the_curve_is_below_what_attacks_of_one_size_find(items, network):
    network.eval()
    queries, eps = items.select(torch.arange(24)), 0.08
    found = smallest_changes(network, queries, items, ball=LinfBall(0.16), steps=12)
    rows = evaluate_retrieval(network, queries, items, attacks=[PGD(LinfBall(eps))], with_pixels=False).rows
    clean, attacked = (row["recall_at_1"] for row in rows)
    assert found.recall(0.0) == pytest.approx(clean)
    assert found.recall(eps) <= attacked + 2 / 24
    curve = found.to_frame()
    assert curve["recall_at_1"].is_monotonic_decreasing and (np.diff(curve["eps"]) > 0).all()


def test_pixels_are_counted_in_whole_numbers(items, network):
    queries = items.select(torch.arange(12))
    found = smallest_changes(network, queries, items, ball=ball_of("l0", 6), steps=8)
    finite = found.radii[np.isfinite(found.radii)]
    assert len(finite) and (finite == finite.round()).all() and finite.max() <= 6
