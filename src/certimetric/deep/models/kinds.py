"""What inputs are: their bounds, whether they are pictures, and every mistake of shape, type or range named."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from certimetric.deep.models.bounds import Bounds, checked_bounds, ends


class LazyImages(Protocol):
    """An array of images of which rows are read, or decoded, when they are taken: of files, of an array on disk.

    ``certimetric.datasets.images.files.ImageFiles`` is one. A row is never held longer than its batch.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, c, h, w)."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Any) -> Any:
        """Float images (k, c, h, w) from 0 to 1 for a slice or an int array of k rows."""
        ...


@dataclass(frozen=True)
class Kind:
    """What inputs are: within which bounds their values lie, and whether they are pictures.

    Parameters
    ----------
    bounds : pair of float or of sequences of float, optional
        Smallest and largest value, of all channels or of each; None for any finite ones.
    pictures : bool, default=False
        Of shape (n, channels, height, width), of which 8-bit levels are divided by 255.

    Raises
    ------
    ValueError
        If the bounds are not finite, and in rising order.

    Examples
    --------
    >>> Kind((-1.0, 1.0)).check(torch.tensor([[0.5, -2.0]]))
    Traceback (most recent call last):
        ...
    ValueError: inputs must have values from -1 to 1, got -2 to 0.5
    """

    bounds: Bounds | None = None
    pictures: bool = False

    def __post_init__(self) -> None:
        bounds = checked_bounds(self.bounds, "bounds")
        if bounds is not None and not np.isfinite(bounds).all():
            raise ValueError(f"bounds must be finite, or None, got {self.bounds!r}")
        object.__setattr__(self, "bounds", bounds)

    @property
    def name(self) -> str:
        """Of the inputs, in messages."""
        return "images" if self.pictures else "inputs"

    def converted(self, inputs: Any) -> Any:
        """Inputs in float32; lazy ones, and what cannot be inputs, as they are.

        Examples
        --------
        >>> PICTURES.converted(np.array([[[[0, 51, 255]]]], dtype=np.uint8))
        tensor([[[[0.0000, 0.2000, 1.0000]]]])
        """
        if isinstance(inputs, np.ndarray) and inputs.dtype.kind in "fu":
            inputs = torch.from_numpy(np.ascontiguousarray(inputs))
        if not isinstance(inputs, Tensor):
            return inputs
        if inputs.dtype == torch.uint8 and self.pictures:
            return inputs.float() / 255
        return inputs.float() if inputs.is_floating_point() else inputs

    def check(self, inputs: Any) -> None:
        """Raise an error unless these are such inputs, floating and finite. Of lazy ones the shape is looked at."""
        arrays, shape = isinstance(inputs, (Tensor, np.ndarray)), getattr(inputs, "shape", ())
        fits = len(shape) == 4 if self.pictures else len(shape) >= 2
        if not arrays and fits and hasattr(inputs, "__getitem__"):
            return
        if not arrays or not fits:
            told = tuple(shape) if hasattr(inputs, "shape") else type(inputs).__name__
            wanted = "(n, channels, height, width)" if self.pictures else "(n, …)"
            raise ValueError(f"{self.name} must be a tensor of shape {wanted}, got {told}")
        if not isinstance(inputs, Tensor) or not inputs.is_floating_point():
            levels = ", from 0 to 1, or uint8" if self.pictures else ""
            raise TypeError(f"{self.name} must be of a floating type{levels}, got {inputs.dtype}")
        low, high = ends(self.bounds, inputs)
        within = torch.isfinite(inputs) if self.bounds is None else (inputs >= low) & (inputs <= high)
        if not len(inputs) or bool(within.all()):
            return
        where = ""
        if isinstance(low, Tensor):
            channel = int((~within.transpose(0, 1).flatten(1)).any(dim=1).nonzero()[0])
            inputs, low, high = inputs[:, channel], low[channel].item(), high[channel].item()
            where = f" in channel {channel}"
        wanted = "finite values" if self.bounds is None else f"values from {low:g} to {high:g}{where}"
        raise ValueError(f"{self.name} must have {wanted}, got {inputs.min():g} to {inputs.max():g}")

    def decoded(self, inputs: Tensor | LazyImages, rows: slice) -> Tensor:
        """Some of the inputs as a tensor; lazy ones are checked now that they are there."""
        if isinstance(inputs, Tensor):
            return inputs[rows]
        taken: Tensor = self.converted(torch.as_tensor(inputs[rows]))
        self.check(taken)
        return taken


PICTURES = Kind((0.0, 1.0), pictures=True)
