"""Robust against natural training for the verification of pages: a synthetic set in the layout of VisualPhish.

Every brand has a layout of its own, and pages of it and imitations of these differ in brightness, in position and by
noise; imitations more. Models are trained on half of the brands, naturally and against dodging and impersonation;
thresholds come from a quarter, figures from the rest. The pages are made up: the set shows the road from folders of
screenshots to figures, not how phishing looks.

``python benchmarks/verification_pages.py [FOLDER] [--seeds N]``; runs are kept in the folder.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from verification_embeddings import halves, tell

from certimetric.datasets.images.sets import load_images
from certimetric.training import TrainingConfig, train

BRANDS, PAGES, SIZE, EPS = 80, 4, 16, 8 / 255


def make_pages(root: Path) -> None:
    """Pages of brands below ``trusted_list``, and imitations below ``phishing``."""
    rng = np.random.default_rng(0)
    for brand in range(BRANDS):
        layout = np.kron(rng.uniform(40, 215, (5, 5, 3)), np.ones((4, 4, 1)))  # blocks of 4 pixels, with a margin
        for part, rough in (("trusted_list", 10.0), ("phishing", 20.0)):
            folder = root / part / f"brand{brand:02d}"
            folder.mkdir(parents=True, exist_ok=True)
            for page in range(PAGES):
                top, left = rng.integers(0, 20 - SIZE + 1, 2)
                shown = layout[top : top + SIZE, left : left + SIZE] * rng.uniform(0.8, 1.2)
                shown = shown + rng.normal(0, rough, shown.shape)
                Image.fromarray(shown.clip(0, 255).astype(np.uint8)).save(folder / f"{page}.png")


def configuration(root: Path, seed: int, defense: dict[str, Any]) -> TrainingConfig:
    told: dict[str, Any] = {
        "data": {"name": "visualphish", "root": str(root), "size": SIZE},
        "model": {"name": "small-cnn", "dim": 64, "downsample": "max", "norm": "none", "mean": 0.0, "std": 1.0},
        "loss": {"name": "triplet", "margin": 0.2},
        "training": {"epochs": 20, "batch_size": 64, "per_class": 4, "learning_rate": 1e-3, "seed": seed},
    }
    return TrainingConfig.from_mapping(told | ({"defense": defense} if defense else {}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--seeds", type=int, default=2)
    asked = parser.parse_args()
    folder = asked.folder or Path(tempfile.mkdtemp())
    make_pages(folder / "pages")
    robust = {"kind": "tuple", "role": "anchor", "norm": "linf", "eps": EPS, "steps": 5}
    sides = halves(load_images("visualphish", "test", folder / "pages", SIZE))
    for seed in range(asked.seeds):
        for name, defense in (("natural", {}), ("robust", robust)):
            run = folder / f"{name}-{seed}"
            if not (run / "run.json").exists():
                train(configuration(folder / "pages", seed, defense), run)
            tell(str(run), *sides, EPS)


if __name__ == "__main__":
    main()
