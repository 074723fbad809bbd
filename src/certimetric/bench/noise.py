"""Noise of a given signal-to-noise ratio, the same for every learner."""

from __future__ import annotations

import numpy as np

from certimetric.base.arrays import Array

KINDS = ("spherical", "anisotropic", "uniform")
_STREAMS = {kind: 21 + i for i, kind in enumerate(KINDS)}


def noise(kind: str, shape: tuple[int, int], power: float, snr: float, seed: int, split: int) -> Array:
    """Noise of one kind.

    Parameters
    ----------
    kind : {"spherical", "anisotropic", "uniform"}
        Gaussian of equal variance in every feature; Gaussian of a variance for each feature, drawn once for a split;
        or uniform.
    shape : (int, int)
    power : float
        Mean square of a feature of the training part about its mean.
    snr : float
        Signal-to-noise ratio in decibels: 10 log₁₀(power / mean variance of the noise).
    seed, split : int
        The noise depends on nothing else: levels are multiples of one another.
    """
    rng = np.random.default_rng([seed, split, _STREAMS[kind]])
    level = np.sqrt(power * 10.0 ** (-snr / 10.0))
    if kind == "uniform":
        return level * np.sqrt(3.0) * rng.uniform(-1.0, 1.0, shape)
    if kind == "anisotropic":
        variances = rng.uniform(0.0, 1.0, shape[1])
        level = level * np.sqrt(variances / variances.mean())
    return level * rng.standard_normal(shape)
