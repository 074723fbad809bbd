"""Pixels from 0 to 1: pictures decoded with pillow, and squares of another size."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from certimetric.datasets.wording import first_line

if TYPE_CHECKING:
    from PIL.Image import Image

_THREADS = 4  # pillow decodes and resizes without the lock of the interpreter

T = TypeVar("T")


def check_size(size: Any) -> None:
    """Raise an error unless this is a whole number from 1."""
    whole = isinstance(size, (int, np.integer)) and not isinstance(size, bool)
    if not (whole and size >= 1):
        raise ValueError(f"size must be a whole number of pixels from 1, got {size!r}")


def decode(source: Path | bytes, name: str, size: int | None) -> NDArray[np.float32]:
    """A picture as red, green and blue from 0 to 1.

    Parameters
    ----------
    source : Path or bytes
    name : str
        What errors call it.
    size : int or None
        Its central square at this size; None for the picture as it is.

    Returns
    -------
    pixels : float32 array of shape (3, height, width)

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is not a picture, or a damaged one.
    """
    Image = _pillow()

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of large pictures and transparent palettes
            with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
                small = _central_square(_eight_bits(image), size)
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no file {name!r}") from None
    except Exception as error:  # the decoders of damaged pictures raise errors of many kinds
        reason = first_line(error).replace(repr(source), "it") if isinstance(source, Path) else first_line(error)
        raise ValueError(f"the image {name!r} cannot be read: {reason}") from None
    return np.ascontiguousarray(np.asarray(small, dtype=np.float32).transpose(2, 0, 1)) / np.float32(255)


def resized(images: NDArray[np.float32], size: int | None) -> NDArray[np.float32]:
    """The central squares of images (n, c, h, w) at another size, (n, c, size, size); None leaves them as they are.

    Examples
    --------
    >>> resized(np.ones((2, 3, 8, 12), dtype=np.float32), 4).shape
    (2, 3, 4, 4)
    """
    if size is None or images.shape[2:] == (size, size):
        return images
    Image = _pillow()
    out = np.empty((*images.shape[:2], size, size), dtype=np.float32)
    for place in np.ndindex(*images.shape[:2]):
        out[place] = np.asarray(_central_square(Image.fromarray(np.ascontiguousarray(images[place])), size))
    return out.clip(0.0, 1.0)


def in_threads(function: Callable[[T], Any], items: Iterable[T]) -> list[Any]:
    """``function`` of every item, in order, by a few threads; the error of the first item that has one."""
    items = list(items)
    if len(items) < 2:
        return [function(item) for item in items]
    # A pool for each call: it costs little beside decoding, and nothing of it is left for a forked process to miss.
    with ThreadPoolExecutor(min(_THREADS, len(items))) as pool:
        return list(pool.map(function, items))


def _central_square(image: Image, size: int | None) -> Image:
    """Shorter side to ``size`` and centre crop, in one step: bilinear with antialiasing."""
    if size is None:
        return image
    width, height = image.size
    side = min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    return image.resize((size, size), _pillow().Resampling.BILINEAR, box=(left, top, left + side, top + side))


def _eight_bits(image: Image) -> Image:
    """Red, green and blue in 8 bits each. Of 16 bits the upper ones count, where pillow alone would cut them off."""
    if image.mode == "F":
        raise ValueError("its values are floating numbers of no known range")
    if image.mode.startswith("I"):
        values = np.asarray(image)
        image = _pillow().fromarray((values.clip(0, 65535) >> 8).astype(np.uint8))
    return image.convert("RGB")


def _pillow() -> Any:
    try:
        from PIL import Image
    except ImportError:
        raise ImportError('pictures need pillow: pip install "certimetric[deep]"') from None
    return Image
