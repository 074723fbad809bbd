"""Between which values inputs lie: one pair for all of them, or one for each channel."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

Bounds = tuple[float, float] | tuple[tuple[float, ...], tuple[float, ...]]
"""The smallest and the largest value, each of them a number or one for each channel (the second axis of a batch)."""


def checked_bounds(bounds: Any, name: str) -> Bounds | None:
    """Bounds as numbers, or as tuples of one for each channel; None stays.

    Raises
    ------
    ValueError
        Unless the smallest value is below the largest, in every channel.

    Examples
    --------
    >>> checked_bounds((-1, 1), "bounds"), checked_bounds((0, [1, 10]), "bounds")
    ((-1.0, 1.0), ((0.0, 0.0), (1.0, 10.0)))
    """
    if bounds is None:
        return None
    try:
        low, high = np.broadcast_arrays(*(np.asarray(end, dtype=np.float64) for end in bounds))
        fits = low.ndim <= 1 and low.size > 0 and bool((low < high).all())
    except (TypeError, ValueError):
        fits = False
    if not fits:
        wanted = "(lowest, highest), of numbers or of one for each channel, or None"
        raise ValueError(f"{name} must be {wanted}, got {bounds!r}")
    return (float(low), float(high)) if low.ndim == 0 else (tuple(low.tolist()), tuple(high.tolist()))


def widest(bounds: Bounds) -> float:
    """From the smallest value to the largest, of the channel where that is most."""
    low, high = bounds
    return float(np.subtract(high, low).max())


def ends(bounds: Bounds | None, inputs: Tensor) -> tuple[Any, Any]:
    """Smallest and largest value of a batch (b, c, …): numbers, or tensors (c, 1, …) of its type.

    Raises
    ------
    ValueError
        If the batch has other channels than the bounds.

    Examples
    --------
    >>> ends(((0.0, 0.0), (1.0, 10.0)), torch.zeros(5, 2, 3))[1].tolist()
    [[1.0], [10.0]]
    """
    low, high = (-torch.inf, torch.inf) if bounds is None else bounds
    if not isinstance(low, tuple):
        return low, high
    if inputs.ndim < 2 or inputs.shape[1] != len(low):
        raise ValueError(f"bounds are those of {len(low)} channels, and inputs of shape {tuple(inputs.shape)}")
    told = {"dtype": inputs.dtype, "device": inputs.device}
    return tuple(torch.tensor(end, **told).view(-1, *[1] * (inputs.ndim - 2)) for end in (low, high))  # type: ignore
