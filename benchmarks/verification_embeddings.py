"""Verification on Omniglot by trained runs: thresholds from one half of the test characters, figures of the other.

``python benchmarks/verification_embeddings.py RUN [RUN …]`` with CERTIMETRIC_DATA; runs are folders of ``certimetric
train``. About half a minute of one core for each.
"""

from __future__ import annotations

import sys

import numpy as np
import torch

from certimetric.datasets.images.sets import load_images
from certimetric.datasets.images.side import Images
from certimetric.deep import APGD, PGD, ImageSet, LinfBall, evaluate_verification
from certimetric.training.run import load_run

EPS, ATTACKED = 0.1, 300


def halves(test: Images) -> tuple[ImageSet, ImageSet]:
    """Pictures of one half of the subjects, and of the other."""
    images, labels = torch.as_tensor(np.asarray(test.images[:])), np.asarray(test.labels)
    names = np.unique(labels)
    np.random.default_rng(0).shuffle(names)
    first = np.isin(labels, names[: len(names) // 2])
    return ImageSet(images[first], labels[first]), ImageSet(images[~first], labels[~first])


def tell(folder: str, calibration: ImageSet, test: ImageSet, eps: float = EPS) -> None:
    """Print the figures of a run, under attacks of size ε in l∞."""
    attacks = [PGD(LinfBall(eps), steps=20), APGD(LinfBall(eps), steps=20)]
    model, _ = load_run(folder)
    calibrated = evaluate_verification(model, calibration, n_resamples=0, with_pixels=False)
    settings = {"calibration": calibrated, "attacks": attacks, "n_attacked": ATTACKED, "with_pixels": False}
    result = evaluate_verification(model, test, far=(0.1, 0.01, 0.001), **settings)
    frame = result.to_frame()
    kept = frame[frame.attack.isin(["clean", "worst case"])]
    told = result.summary[0]
    print(f"{folder}: AUC {told['auc']:.4f}, EER {told['eer']:.4f}, {told['n_impostor']} impostor pairs")
    shown = ["attack", "point", "threshold", "far", "far_low", "far_high", "tar", "tar_low", "tar_high"]
    print(kept[shown].to_string(index=False, float_format="{:.3f}".format), flush=True)


def main() -> None:
    sides = halves(load_images("omniglot", "test"))
    for folder in sys.argv[1:]:
        tell(folder, *sides)


if __name__ == "__main__":
    main()
