"""Noise of a given signal-to-noise ratio, the same for every learner."""

from __future__ import annotations

import numpy as np

from certimetric.base.arrays import Array

KINDS = ("spherical", "anisotropic", "uniform")
_STREAMS = {kind: 21 + i for i, kind in enumerate(KINDS)}


def noise(kind: str, shape: tuple[int, int], power: float, snr: float, seed: int, split: int) -> Array:
    """Noise of one kind; ``power`` is the mean square of a feature of the training part about its mean.

    "spherical" is Gaussian of equal variance in every feature, "anisotropic" of a variance for each feature, drawn once
    for a split. The signal-to-noise ratio is in decibels: 10 log₁₀(power / mean variance of the noise). Noise depends
    on seed and split alone: levels are multiples of one another.
    """
    rng = np.random.default_rng([seed, split, _STREAMS[kind]])
    level = np.sqrt(power * 10.0 ** (-snr / 10.0))
    if kind == "uniform":
        return level * np.sqrt(3.0) * rng.uniform(-1.0, 1.0, shape)
    if kind == "anisotropic":
        variances = rng.uniform(0.0, 1.0, shape[1])
        level = level * np.sqrt(variances / variances.mean())
    return level * rng.standard_normal(shape)
