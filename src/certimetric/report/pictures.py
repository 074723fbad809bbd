"""Image instances as PNG data URIs: original, adversarial, and their difference magnified."""

from __future__ import annotations

import base64
import math
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Where the attack brightened a pixel and where it darkened one: told apart by every kind of colour vision.
_BRIGHTER, _DARKER = (213, 94, 0), (0, 114, 178)


@dataclass(frozen=True)
class Pictures:
    """Three data URIs of the same size in pixels, and how much the difference was magnified."""

    original: str
    adversarial: str
    difference: str
    magnified: float
    width: int
    height: int

    def told(self) -> dict[str, Any]:
        """The pictures as documents hold them; a difference of nothing is magnified by no number."""
        told = {"original": self.original, "adversarial": self.adversarial, "difference": self.difference}
        return told | {"magnified": round(self.magnified, 1) if math.isfinite(self.magnified) else None}


def pictures(image: Mapping[str, Any]) -> Pictures | None:
    """The pictures of one instance, or None where the values are not two images of one shape.

    It holds ``original`` and ``adversarial``: nested lists of shape (height, width) or (height, width, 3).

    Examples
    --------
    >>> told = pictures({"original": [[0, 16]], "adversarial": [[0, 12]]})
    >>> told.magnified, told.difference[:22]
    (4.0, 'data:image/png;base64,')
    """
    before, after = (np.asarray(image[key], dtype=float) for key in ("original", "adversarial"))
    if before.shape != after.shape or before.ndim not in (2, 3) or before.size == 0:
        return None
    if before.ndim == 3 and before.shape[2] != 3:
        return None
    low, high = min(before.min(), after.min()), max(before.max(), after.max())
    scale = (high - low) or 1.0
    # One scale for both, so that a change of brightness is seen as one.
    levels = [np.rint(255 * (pixels - low) / scale).astype(np.uint8) for pixels in (before, after)]
    change = after - before
    if change.ndim == 3:
        change = change.mean(axis=2)
    largest = float(np.abs(change).max())
    strength = np.abs(change) / largest if largest else np.zeros_like(change)
    difference = np.zeros((*change.shape, 4), dtype=np.uint8)
    difference[..., :3] = np.where((change > 0)[..., None], _BRIGHTER, _DARKER)
    difference[..., 3] = np.rint(255 * strength)
    height, width = change.shape
    magnified = scale / largest if largest else math.inf
    return Pictures(png(levels[0]), png(levels[1]), png(difference), float(magnified), width, height)


def images(named: Mapping[str, Any]) -> dict[str, str]:
    """Pictures, nested lists of shape (height, width) or (height, width, 3), as PNG data URIs on one scale.

    Examples
    --------
    >>> [source[:14] for source in images({"probe": [[0, 16]], "enrolled": [[0, 12]]}).values()]
    ['data:image/png', 'data:image/png']
    """
    arrays = {name: np.asarray(values, dtype=float) for name, values in named.items()}
    low, high = min(a.min() for a in arrays.values()), max(a.max() for a in arrays.values())
    scale = (high - low) or 1.0
    return {name: png(np.rint(255 * (a - low) / scale).astype(np.uint8)) for name, a in arrays.items()}


def png(pixels: NDArray[np.uint8]) -> str:
    """Pixels (height, width), or with 3 or 4 channels, as a PNG data URI."""
    height, width = pixels.shape[:2]
    colour_type = 0 if pixels.ndim == 2 else {3: 2, 4: 6}[pixels.shape[2]]
    lines = np.ascontiguousarray(pixels).reshape(height, -1)
    raw = np.hstack([np.zeros((height, 1), dtype=np.uint8), lines]).tobytes()  # each line begins with "no filter"

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, colour_type, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(raw, 9)) + chunk(b"IEND", b"")
    return "data:image/png;base64," + base64.b64encode(data).decode("ascii")
