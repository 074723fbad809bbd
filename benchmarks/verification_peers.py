"""Rates of verification beside those of open-metric-learning and pytorch-metric-learning, on the same pairs.

FNMR at an FMR of open-metric-learning is 1 − TAR at a FAR; pytorch-metric-learning has no such figure, but decides by a
threshold (``MatchFinder``) on its own distances. Both are given all pairs of some pictures of digits, as pixels.

    pip install --no-deps --target PEER open-metric-learning
    PYTHONPATH=PEER python benchmarks/verification_peers.py

Without one of them what it would be compared with is skipped, in a sentence. Ten seconds of one core.
"""

from __future__ import annotations

import importlib
import sys
import types
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

from certimetric.deep import ImageSet, evaluate_verification

RATES = (0.1, 0.01, 0.001)
N_PICTURES = 600


# What the module of its metrics imports of others, which want torchvision and more, and this function does not use.
UNUSED = {
    "oml.const": ("OVERALL_CATEGORIES_KEY",),
    "oml.utils.misc": ("check_if_nonempty_positive_integers",),
    "oml.utils.misc_torch": ("PCA",),
}


def fnmr_at_fmr() -> Callable[..., Any] | None:
    """The function of open-metric-learning as it is, without the packages that the rest of it needs."""
    if (spec := find_spec("oml")) is None or spec.origin is None:  # a folder of that name is no package
        return None
    (folder,) = spec.submodule_search_locations or ()
    for name in ("oml.utils", "oml.functional", *UNUSED):
        package = types.ModuleType(name)
        package.__path__ = [f"{folder}/{name.partition('.')[2]}"]
        for each in UNUSED.get(name, ()):
            setattr(package, each, None)
        sys.modules[name] = package
    return importlib.import_module("oml.functional.metrics").calc_fnmr_at_fmr


def main() -> None:
    X, y = load_digits(return_X_y=True)
    images = torch.tensor(X[:N_PICTURES].reshape(-1, 1, 8, 8) / 16, dtype=torch.float32)
    labels = y[:N_PICTURES]
    result = evaluate_verification(nn.Flatten(), ImageSet(images, labels), far=RATES, with_pixels=False, n_resamples=0)
    curve = result.curves["model"]
    print(f"{curve.n_genuine} genuine and {curve.n_impostor} impostor pairs of {N_PICTURES} digits, by their pixels")
    first, second = np.triu_indices(N_PICTURES, 1)
    same = labels[first] == labels[second]
    points = images.double().flatten(1)
    distances = (points[first] - points[second]).norm(dim=1).numpy()
    beside_oml(curve, distances[same], distances[~same])
    beside_pml(curve, points, same, first, second)


def beside_oml(curve: Any, genuine: np.ndarray, impostor: np.ndarray) -> None:
    """Their threshold is a quantile, between two impostors; ours the largest that keeps the rate on these pairs."""
    peer = fnmr_at_fmr()
    if peer is None:
        print(
            "skipped: open-metric-learning is not installed (pip install --no-deps --target PEER open-metric-learning)"
        )
        return
    theirs = peer(genuine, impostor, RATES).tolist()
    print("open-metric-learning: FNMR at an FMR; the last column is ours at their threshold, where pairs on it are out")
    print(f"{'FMR':>7} {'theirs':>9} {'ours':>9} {'difference':>11} {'at theirs':>10}")
    for rate, found in zip(RATES, theirs):
        own = 1.0 - curve.tar_at(rate)
        threshold = np.nextafter(np.quantile(impostor, rate), -np.inf)
        at_theirs = 1.0 - curve.at(threshold)[1]
        print(f"{rate:7g} {found:9.6f} {own:9.6f} {own - found:11.1e} {at_theirs - found:10.1e}")


def beside_pml(curve: Any, points: torch.Tensor, same: np.ndarray, first: np.ndarray, second: np.ndarray) -> None:
    """Its distances and its decisions at our thresholds."""
    if find_spec("pytorch_metric_learning") is None:
        print("skipped: pytorch-metric-learning is not installed")
        return
    from pytorch_metric_learning.distances import LpDistance
    from pytorch_metric_learning.utils.inference import MatchFinder

    finder = MatchFinder(LpDistance(normalize_embeddings=False))
    print("pytorch-metric-learning: shares that its decisions accept at our thresholds")
    print(f"{'FAR':>7} {'its FAR':>9} {'ours':>9} {'its TAR':>9} {'ours':>9} {'largest difference':>19}")
    for rate in RATES:
        # Its distances are rounded otherwise: a pair on the threshold may fall on either side.
        threshold = curve.threshold_at(rate) * (1 + 1e-9)
        accepted = finder.get_matching_pairs(points, threshold=threshold)[first, second]
        far, tar = accepted[~same].mean(), accepted[same].mean()
        own = curve.at(threshold)
        most = max(abs(far - own[0]), abs(tar - own[1]))
        print(f"{rate:7g} {far:9.6f} {own[0]:9.6f} {tar:9.6f} {own[1]:9.6f} {most:19.1e}")


if __name__ == "__main__":
    main()
