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

from certimetric.base.arguments import ArgumentError
from certimetric.base.wording import first_line

if TYPE_CHECKING:
    from PIL.Image import Image

_LARGEST = 65535  # of 16 bits
_THREADS = 4  # pillow decodes and resizes without the lock of the interpreter

T = TypeVar("T")


def check_size(size: Any) -> None:
    """Raise an error unless this is a whole number from 1."""
    whole = isinstance(size, (int, np.integer)) and not isinstance(size, bool)
    if not (whole and size >= 1):
        raise ArgumentError("size", "must be a whole number of pixels from 1", size)


def decode(source: Path | bytes, name: str, size: int | None) -> NDArray[np.float32]:
    """A picture as red, green and blue from 0 to 1, as a viewer shows it: float32, (3, height, width).

    It is turned as its EXIF orientation says, what is transparent in it lies on white, and of several frames the first
    counts. Grey values of 16 bits are divided by 65535; CMYK, palettes and the like are converted by pillow, without
    their colour profiles. With a ``size`` it is the central square at this size. A FileNotFoundError or a ValueError
    calls it by ``name``.
    """
    Image = _pillow()

    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
            return _pixels(_upright(image), size)
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no file {name!r}") from None
    except Exception as error:  # the decoders of damaged pictures raise errors of many kinds
        reason = first_line(error).replace(repr(source), "it") if isinstance(source, Path) else first_line(error)
        raise ValueError(f"the image {name!r} cannot be read: {reason}") from None


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
    """``function`` of every picture, in order, by a few threads; the error of the first that has one."""
    items = list(items)
    # What pillow warns of, large pictures and transparent palettes, is no news. Filters of warnings belong to all
    # threads: set in each of them they would be restored in the wrong order, and stay.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if len(items) < 2:
            return [function(item) for item in items]
        # A pool for each call: it costs little beside decoding, and nothing of it is left for a forked process to miss.
        with ThreadPoolExecutor(min(_THREADS, len(items))) as pool:
            return list(pool.map(function, items))


def in_threads_or_told(
    function: Callable[[T], NDArray[np.float32]], items: Iterable[T], skip_corrupt: bool
) -> tuple[list[NDArray[np.float32]], dict[int, str]]:
    """As :func:`in_threads`; with ``skip_corrupt`` pictures that raise a ValueError are left out, and told by place."""

    def read(item: T) -> NDArray[np.float32] | str:
        try:
            return function(item)
        except ValueError as error:
            if skip_corrupt:
                return str(error)
            raise

    found = in_threads(read, items)
    damaged = {place: reason for place, reason in enumerate(found) if isinstance(reason, str)}
    return [image for image in found if not isinstance(image, str)], damaged


def _central_square(image: Image, size: int | None) -> Image:
    """Shorter side to ``size`` and centre crop, in one step: bilinear with antialiasing."""
    if size is None:
        return image
    width, height = image.size
    side = min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    return image.resize((size, size), _pillow().Resampling.BILINEAR, box=(left, top, left + side, top + side))


def _upright(image: Image) -> Image:
    """Turned and mirrored as the camera has noted; a note that cannot be read counts as none."""
    from PIL import ImageOps

    image.load()
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # of damaged notes beside a sound picture, by many kinds of errors
        return image


def _pixels(image: Image, size: int | None) -> NDArray[np.float32]:
    """Red, green and blue from 0 to 1, (3, height, width), of the central square at a size."""
    if image.mode == "F":
        raise ValueError("its values are floating numbers of no known range")
    if image.mode.startswith("I"):
        values = np.asarray(image)
        if values.min() < 0 or values.max() > _LARGEST:
            raise ValueError(f"its values are from {values.min()} to {values.max()}, beyond 16 bits")
        # pillow alone would cut off what exceeds 8 bits.
        grey = _central_square(_pillow().fromarray(values.astype(np.float32) / np.float32(_LARGEST)), size)
        return np.repeat(np.asarray(grey, dtype=np.float32)[None].clip(0.0, 1.0), 3, axis=0)
    colours = np.asarray(_central_square(_on_white(image), size), dtype=np.float32)
    return np.ascontiguousarray(colours.transpose(2, 0, 1)) / np.float32(255)


def _on_white(image: Image) -> Image:
    """Red, green and blue in 8 bits each, with white where the picture is transparent."""
    if not image.has_transparency_data:
        return image.convert("RGB")
    colours = image.convert("RGBA")
    white = _pillow().new("RGBA", colours.size, (255, 255, 255, 255))
    return _pillow().alpha_composite(white, colours).convert("RGB")


def _pillow() -> Any:
    try:
        from PIL import Image
    except ImportError:
        raise ImportError('pictures need pillow: pip install "certimetric[deep]"') from None
    return Image
