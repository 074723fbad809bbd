"""What a model's own configuration does to a picture before it: resized, cut out, normalised; with gradients."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from certimetric.base.arguments import chosen, require

Size = int | tuple[int, int]

# How pillow's filters are numbered; the others have no counterpart in torch.
_FILTERS = {0: "nearest", 2: "bilinear", 3: "bicubic"}
_MODES = {"nearest": "nearest-exact", "bilinear": "bilinear", "bicubic": "bicubic"}
_STEPS = ("do_resize", "do_center_crop", "do_rescale", "do_normalize", "do_convert_rgb")


class Preprocessing(nn.Module):
    """Resize, cut out the centre and normalise pictures, inside a model: ε then means pixels of the picture as served.

    Grey pictures become red, green and blue where ``mean`` has three channels. Where a picture is resized to less, it
    is smoothed as pillow does it; interpolation does not leave the range from 0 to 1.

    Parameters
    ----------
    resize : int or (int, int), optional
        Length of the shorter side, or height and width; None to leave pictures as they are.
    crop : (int, int), optional
        Height and width of the centre that is cut out.
    interpolation : {"nearest", "bilinear", "bicubic"}, default="bilinear"
    mean, std : float or sequence of float
        Of the pixels from 0 to 1, one for all channels or one for each.
    rounded : callable, default=round
        Makes a whole number of where the centre begins: torchvision rounds, transformers cuts off.

    Raises
    ------
    ValueError
        On numbers that do not fit; of a picture that is smaller than what is cut out.

    Examples
    --------
    >>> served = Preprocessing(resize=16, crop=(14, 14), mean=[0.5] * 3, std=[0.25] * 3)
    >>> served(torch.ones(2, 1, 32, 40)).shape, float(served(torch.ones(1, 3, 20, 20)).max())
    (torch.Size([2, 3, 14, 14]), 2.0)
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        resize: Size | None = None,
        crop: tuple[int, int] | None = None,
        interpolation: str = "bilinear",
        mean: float | Sequence[float] = 0.0,
        std: float | Sequence[float] = 1.0,
        rounded: Callable[[float], int] = round,
    ):
        super().__init__()
        chosen("interpolation", interpolation, _MODES, self)
        for name, size in (("resize", resize), ("crop", crop)):
            require(size is None or min(_pair(size)) >= 1, name, "must be at least one pixel", size, self)
        self.resize, self.crop, self.interpolation, self.rounded = resize, crop, interpolation, rounded
        self.register_buffer("mean", per_channel(mean))
        self.register_buffer("std", per_channel(std))
        require(bool((self.std > 0).all()), "std", "must be positive", std, self)

    def forward(self, images: Tensor) -> Tensor:
        if images.shape[1] == 1 and self.mean.numel() == 3:
            images = images.expand(-1, 3, -1, -1)
        if self.resize is not None and (size := _resized(images.shape[-2:], self.resize)) != tuple(images.shape[-2:]):
            smooth: dict[str, Any] = {} if self.interpolation == "nearest" else {"antialias": True}
            images = nn.functional.interpolate(images, size, mode=_MODES[self.interpolation], **smooth).clamp(0.0, 1.0)
        if self.crop is not None:
            (height, width), (h, w) = images.shape[-2:], self.crop
            if h > height or w > width:
                raise ValueError(f"pictures of {height} × {width} are smaller than the {h} × {w} that are cut out")
            top, left = (int(self.rounded(n / 2)) for n in (height - h, width - w))
            images = images[..., top : top + h, left : left + w]
        return (images - self.mean) / self.std

    def extra_repr(self) -> str:
        return f"resize={self.resize}, crop={self.crop}, interpolation={self.interpolation!r}"


def per_channel(value: float | Sequence[float]) -> Tensor:
    """One number, or one for each channel, to be taken from images (b, c, h, w)."""
    tensor = torch.as_tensor(value, dtype=torch.float32)
    return tensor if tensor.ndim == 0 else tensor[:, None, None]


def _pair(size: Size) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else size


def _resized(shape: Sequence[int], resize: Size) -> tuple[int, int]:
    if not isinstance(resize, int):
        return resize
    height, width = shape
    long = int(resize * max(shape) / min(shape))
    return (resize, long) if height <= width else (long, resize)


def of_timm(config: Mapping[str, Any]) -> Preprocessing:
    """The evaluation transform of timm, from ``timm.data.resolve_model_data_config(model)``.

    Examples
    --------
    >>> of_timm({"input_size": (3, 224, 224), "crop_pct": 0.95, "interpolation": "bicubic", "mean": 0.5, "std": 0.5})
    Preprocessing(resize=235, crop=(224, 224), interpolation='bicubic')
    """
    mode, (height, width) = config.get("crop_mode", "center"), config["input_size"][1:]
    share = config.get("crop_pct") or 0.875
    scaled = math.floor(height / share), math.floor(width / share)
    if mode not in ("center", "squash") or (mode == "center" and height != width):
        raise ValueError(f"the model's crop_mode {mode!r} for pictures of {height} × {width} is not known here")
    resize = scaled if mode == "squash" else scaled[0]
    return Preprocessing(resize, (height, width), config["interpolation"], config["mean"], config["std"])


def of_hugging_face(config: Mapping[str, Any]) -> Preprocessing:
    """The image processor of Hugging Face, from ``preprocessor_config.json``.

    Raises
    ------
    ValueError
        If it asks for something that is not known here, such as another filter.

    Examples
    --------
    >>> of_hugging_face({"do_resize": True, "size": {"height": 32, "width": 32}, "resample": 2, "do_normalize": False})
    Preprocessing(resize=(32, 32), crop=None, interpolation='bilinear')
    """
    odd = [name for name, on in config.items() if name.startswith("do_") and on and name not in _STEPS]
    if config.get("include_top"):
        odd.append("include_top")
    if odd:
        raise ValueError(f"the image processor asks for {odd[0]}, which is not known here")
    resize, crop = None, None
    if config.get("do_resize", True) and config.get("size") is not None:
        resize = _asked_size(config["size"])
    if config.get("do_center_crop"):
        crop = _pair(_asked_size(config.get("crop_size") or config["size"]))
    elif config.get("crop_pct") and isinstance(resize, int):  # of ConvNeXt: what is large is squeezed, not cut
        resize, crop = (_pair(resize), None) if resize >= 384 else (int(resize / config["crop_pct"]), (resize, resize))
    told = config.get("resample", 2)
    interpolation = _FILTERS.get(told, told)
    if resize is not None and interpolation not in _MODES:
        raise ValueError(f"the image processor resizes by the filter {told!r}, which is not known here")
    normalises = config.get("do_normalize", True) and config.get("image_mean") is not None
    mean, std = (
        torch.tensor(config[name] if normalises else default, dtype=torch.float64)
        for name, default in (("image_mean", 0.0), ("image_std", 1.0))
    )
    # Its pixels are gain · p − offset for pixels p from 0 to 1.
    gain = 255 * config.get("rescale_factor", 1 / 255) if config.get("do_rescale", True) else 255.0
    offset = 1.0 if config.get("rescale_offset") else 0.0
    used = interpolation if interpolation in _MODES else "bilinear"
    return Preprocessing(resize, crop, used, ((mean + offset) / gain).tolist(), (std / gain).tolist(), math.floor)


def _asked_size(told: Any) -> Size:
    if isinstance(told, int):
        return told  # of the shorter side, or of both: the same for the squares that image sets are read as
    if "height" in told and "width" in told:
        return int(told["height"]), int(told["width"])
    if told.get("shortest_edge") and not told.get("longest_edge"):
        return int(told["shortest_edge"])
    raise ValueError(f"the image processor's size {dict(told)} is not known here")
