"""Inputs as reports show them: pictures as they are, all others as lines."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from certimetric.base.arrays import Array
from certimetric.report.pictures import Pictures, pictures, png

_LINE = 64, 160  # pixels of a line in the report, height and width
_LARGEST, _RESULT = 96, 56  # pixels of a query in the report, and of a result


def before_and_after(original: torch.Tensor, changed: torch.Tensor, pictured: bool) -> Pictures:
    """An input before and after, and the difference: pictures as they are, others as lines."""
    if pictured:
        told = pictures({"original": _shown(original), "adversarial": _shown(changed)})
        assert told is not None
        return told
    both = torch.stack([original, changed])
    limits = float(both.min()), float(both.max())
    change = changed - original
    largest = float(change.abs().max())
    drawn = (original, limits), (changed, limits), (change, (-largest, largest))
    before, after, difference = (png(line_picture(*each)) for each in drawn)
    magnified = (limits[1] - limits[0]) / (2 * largest) if largest else math.inf
    return Pictures(before, after, difference, magnified, *_LINE[::-1])


def on_one_scale(inputs: Mapping[str, torch.Tensor], pictured: bool) -> dict[str, list[Any]]:
    """Pixels of several inputs, nested lists of shape (height, width) or (height, width, 3)."""
    if pictured:
        return {name: _shown(image).tolist() for name, image in inputs.items()}
    limits = min(float(x.min()) for x in inputs.values()), max(float(x.max()) for x in inputs.values())
    return {name: line_picture(x, limits).tolist() for name, x in inputs.items()}


def on_its_own(item: torch.Tensor, pictured: bool) -> str:
    """A small picture of an input, as a PNG data URI."""
    if not pictured:
        return png(line_picture(item, (float(item.min()), float(item.max()))))
    return png(np.rint(255 * np.clip(_shown(item, _RESULT), 0.0, 1.0)).astype(np.uint8))


def line_picture(inputs: torch.Tensor, limits: tuple[float, float]) -> NDArray[np.uint8]:
    """Values (…, t) as a line drawn from left to right between two limits, rows one after the other; dark on white."""
    height, width = _LINE
    values = np.asarray(inputs.detach().cpu().double()).ravel()
    span = (limits[1] - limits[0]) or 1.0
    rows = np.rint((height - 1) * (1 - (values - limits[0]) / span)).clip(0, height - 1)
    edges = np.linspace(0, len(values), width + 1)
    # Each column spans all values that fall into it, and reaches to the first of the next: the line has no gaps.
    first = np.minimum(edges[:-1].astype(int), len(values) - 1)
    last = np.minimum(np.maximum(edges[1:].astype(int), first) + 1, len(values))
    pixels = np.full(_LINE, 255, dtype=np.uint8)
    for column, (a, b) in enumerate(zip(first, last)):
        pixels[int(rows[a:b].min()) : int(rows[a:b].max()) + 1, column] = 32
    return pixels


def _shown(image: torch.Tensor, largest: int = _LARGEST) -> Array:
    """(c, h, w) as (h, w, 3) in colour, else as (h, w), the mean of the channels; thinned where it is large."""
    pixels = np.asarray(image.detach().cpu().double())
    step = max(1, -(-max(pixels.shape[1:]) // largest))
    pixels = pixels[:, ::step, ::step]
    return pixels.transpose(1, 2, 0) if len(pixels) == 3 else pixels.mean(axis=0)
