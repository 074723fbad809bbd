"""Pictures turned, moved, cut and tilted: projective maps of their plane, read bilinearly."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def warped(images: Tensor, maps: Tensor, outside: str = "border") -> Tensor:
    """Images (b, c, h, w) as projective maps (b, 3, 3) of places make them: what is shown at p was at map·p.

    Places run from −1 to 1 across the picture, in both directions: (x, y, 1). What lies ``outside`` of the picture is
    its border, or "zeros".
    """
    b, _, h, w = images.shape
    x, y = ((2 * torch.arange(n, device=images.device, dtype=torch.double) + 1) / n - 1 for n in (w, h))
    places = torch.stack([x.expand(h, w), y[:, None].expand(h, w), torch.ones_like(x).expand(h, w)], dim=-1)
    found = places.view(1, h * w, 3) @ maps.to(places).mT
    grid = (found[..., :2] / found[..., 2:]).view(b, h, w, 2).to(images.dtype)
    moved = nn.functional.grid_sample(images, grid, padding_mode=outside, align_corners=False)
    return moved.clamp(0.0, 1.0)  # interpolation rounds


def turn(
    degrees: Tensor, right: Tensor, down: Tensor, shape: torch.Size | tuple[int, ...], size: float = 1.0
) -> Tensor:
    """Maps (b, 3, 3) that turn pictures of this shape counter-clockwise, and move what they show.

    Angles (b,) are in degrees; moves (b,) are shares of width and height; the picture is seen ``size`` times as wide.
    """
    angle, ratio = torch.deg2rad(degrees.double()), shape[-2] / shape[-1]
    cosine, sine, none = angle.cos(), angle.sin(), torch.zeros_like(angle)
    # Places are shares of width and height: the angle is one of the picture as it is seen, square or not.
    linear = size * torch.stack([cosine, -sine * ratio, sine / ratio, cosine], dim=1).view(-1, 2, 2)
    offset = -linear @ torch.stack([2 * right, 2 * down], dim=1).double()[..., None]
    last = torch.stack([none, none, none + 1], dim=1)[:, None]
    return torch.cat([torch.cat([linear, offset], dim=2), last], dim=1)


def perspective(corners: Tensor) -> Tensor:
    """The projective maps (b, 3, 3) that take the corners of the picture to places (b, 4, 2).

    Corners are (−1, −1), (1, −1), (1, 1) and (−1, 1), in this order.
    """
    square = torch.tensor([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]], dtype=torch.double)
    x, y = square.to(corners.device).unbind(dim=1)
    u, v = corners.double().unbind(dim=2)
    one, none = torch.ones_like(u), torch.zeros_like(u)
    x, y = x.expand_as(u), y.expand_as(u)
    first = torch.stack([x, y, one, none, none, none, -u * x, -u * y], dim=2)
    second = torch.stack([none, none, none, x, y, one, -v * x, -v * y], dim=2)
    entries = torch.linalg.solve(torch.cat([first, second], dim=1), torch.cat([u, v], dim=1))
    return torch.cat([entries, torch.ones_like(entries[:, :1])], dim=1).view(-1, 3, 3)
