"""What becomes of a picture that is stored and sent: JPEG, as the codec makes it, and through it for gradients."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from certimetric.base.arguments import require


def encoded(images: Tensor, quality: int) -> Tensor:
    """Images (b, c, h, w) from 0 to 1 after JPEG of a quality from 1 to 95; channels beyond grey and colour one by one.

    Examples
    --------
    >>> encoded(torch.full((1, 3, 8, 8), 0.5), 75).unique()
    tensor([0.5020])
    """
    from PIL import Image

    levels = (255 * images.detach().clamp(0, 1)).round().to(torch.uint8).cpu().numpy()
    grey = levels.shape[1] != 3
    pictures = levels.reshape(-1, *levels.shape[2:]) if grey else levels.transpose(0, 2, 3, 1)
    decoded = []
    for picture in pictures:
        stream = BytesIO()
        Image.fromarray(picture).save(stream, "JPEG", quality=quality)
        decoded.append(np.asarray(Image.open(stream)))
    found = np.stack(decoded) if decoded else pictures
    found = found.reshape(levels.shape) if grey else found.transpose(0, 3, 1, 2)
    return torch.from_numpy(np.ascontiguousarray(found)).to(images) / 255


class Reencoded(nn.Module):
    """A model behind a service that stores what it is sent as JPEG.

    Its gradient is taken as if encoding changed nothing: it is what an attacker who knows of the encoding follows
    (backward pass differentiable approximation, arXiv 1802.00420).

    Parameters
    ----------
    model : Module or callable
    quality : int or (int, int), default=75
        Of JPEG, from 1 to 95. Of two it is drawn between them at every call, by torch's generator, for an attacker who
        does not know it: see :class:`certimetric.deep.attacks.Expectation`.

    Examples
    --------
    >>> images = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    >>> bool((Reencoded(nn.Flatten())(images) == encoded(images, 75).flatten(1)).all())
    True
    """

    def __init__(self, model: Any, quality: int | tuple[int, int] = 75):
        super().__init__()
        from certimetric.deep.models.calling import as_module

        low, high = (quality, quality) if isinstance(quality, int) else quality
        require(1 <= low <= high <= 95, "quality", "must be from 1 to 95, the lower one first", quality, self)
        self.model, self.quality = as_module(model), (low, high)

    def forward(self, images: Tensor) -> Any:
        low, high = self.quality
        quality = low if low == high else int(torch.randint(low, high + 1, ()))
        return self.model(encoded(images, quality) + (images - images.detach()))

    def extra_repr(self) -> str:
        return f"quality={self.quality}"
