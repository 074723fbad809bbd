"""What an attacker of an image may do: balls in the norms of :mod:`certimetric.geometry.norms`, within bounds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from certimetric.deep.models.bounds import Bounds, checked_bounds, ends, widest
from certimetric.geometry.norms import L1, L2, NORMS, Linf, PlainNorm, resolve_norm

UNIT = (0.0, 1.0)


class Region(Protocol):
    """What an attacker may change of every sample; balls in a norm are some of them."""

    @property
    def name(self) -> str:
        """How it is called in tables."""
        ...

    @property
    def eps(self) -> float:
        """Its size."""
        ...

    @property
    def bounds(self) -> Bounds | None:
        """Smallest and largest value of the input; None for none."""
        ...


@dataclass(frozen=True, repr=False)
class Ball:
    """Perturbations of every sample of size at most ``eps``, with inputs kept within ``bounds``.

    All methods take batches, (b, …), and treat samples independently. Sizes are those of the numbers as they are, in
    double precision: what :meth:`project` gives in single precision is rounded towards the centre, so that its
    ``size`` is at most ``eps``, without a tolerance.

    Parameters
    ----------
    norm : PlainNorm
        Of the change of a whole input. :func:`ball` takes its name.
    eps : float
        Radius, in units of the input.
    bounds : pair of float or of sequences of float, or None, default=(0, 1)
        Smallest and largest value of the input, of all channels or of each; None for none.
    """

    norm: PlainNorm
    eps: float
    bounds: Bounds | None = UNIT

    def __post_init__(self) -> None:
        if not isinstance(self.norm, PlainNorm):
            raise ValueError(f"norm of a ball must be one of {', '.join(map(repr, NORMS))}, got {self.norm!r}")
        check_region(self, f"{type(self.norm).__name__}Ball", by_channel=True)

    def __repr__(self) -> str:
        return f"{type(self.norm).__name__}Ball(eps={self.eps!r}, bounds={self.bounds!r})"

    @property
    def name(self) -> str:
        """Of the norm."""
        return self.norm.name

    def size(self, perturbed: Tensor, x: Tensor) -> Tensor:
        """Size of each perturbation, (b,), in double precision."""
        return _of(self.norm.norm((perturbed.double() - x.double()).flatten(1)))

    def project(self, perturbed: Tensor, x: Tensor) -> Tensor:
        """Into the ball around x and the bounds, in the type of x: the nearest point for l∞ and l1; for l2 the nearest
        of the ball, moved into the bounds."""
        # Clipping into the bounds, which hold x, brings every entry nearer to x, and rounding is made to: the result
        # stays in the ball.
        centre = x.double()
        given = (perturbed.double() - centre).flatten(1)
        delta = _of(self.norm.project_within(given, self.eps, centre.flatten(1), self._ends(x))).view(x.shape)
        moved = self.clip((centre + delta).to(x.dtype))
        return torch.where(_beyond(moved.double(), centre, delta.abs()), torch.nextafter(moved, x), moved)

    def level(self, n: int) -> float:
        """What each of ``n`` values may change by, if all of them change alike."""
        return self.eps / float(self.norm.norm(np.ones(n)))

    def _ends(self, x: Tensor) -> Any:
        """The bounds of flat inputs: one pair, or one for each value."""
        pair = ends(self.bounds, x)
        if not isinstance(pair[0], Tensor):
            return self.bounds
        return tuple(end.double().expand(x.shape[1:]).flatten() for end in pair)

    def to_edge(self, delta: Tensor) -> Tensor:
        """The nearest changes in the ball, drawn out to its edge where they lie inside; no bounds are looked at."""
        inside = _of(self.norm.project(delta.flatten(1), self.eps))
        size = _of(self.norm.norm(inside))
        return (inside * (self.eps / torch.where(size > 0, size, 1.0))[:, None]).view(delta.shape)

    def clip(self, x: Tensor) -> Tensor:
        """The nearest inputs within the bounds."""
        return x if self.bounds is None else x.clamp(*ends(self.bounds, x))

    def step(self, perturbed: Tensor, gradient: Tensor, size: float | Tensor) -> Tensor:
        """A step of that size, one number or one for each sample, along the steepest ascent; none at gradient 0."""
        if isinstance(size, Tensor) and size.ndim:
            size = size.double()[:, None]
        move = _of(self.norm.steepest(gradient.flatten(1), size, perturbed.flatten(1), self._ends(perturbed)))
        return perturbed + move.view(perturbed.shape).to(perturbed.dtype)

    def ascend(self, perturbed: Tensor, gradient: Tensor, size: float | Tensor, x: Tensor) -> Tensor:
        """Such a step, and back into the ball around x and the bounds."""
        return self.project(self.step(perturbed, gradient, size), x)

    def random_start(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """A point drawn uniformly from the ball around each sample, moved into the bounds."""
        drawn = self.eps * self.norm.uniform(_Draws(generator, x.device), len(x), x[0].numel() if len(x) else 0)
        return self.project(x + drawn.view(x.shape).to(x.dtype), x)

    def shrinking(self, delta: Tensor, size: Tensor) -> Tensor:
        """Half the slope of what is minimised to make changes smaller than ``size`` (b,), the shape of ``delta``,
        without units: of the order of 1 at the radius of the ball."""
        return _of(self.norm.shrinking(delta.flatten(1), size, self.eps)).view(delta.shape)

    def ascent(self, gradient: Tensor) -> Tensor:
        """A direction of ascent without units that such a slope can be weighed against, in double precision."""
        return _of(self.norm.ascent(gradient.double().flatten(1))).view(gradient.shape)


@dataclass(frozen=True, repr=False)
class L0Ball(Ball):
    """At most ``eps`` pixels change, each of them in all of its channels as far as the bounds let it.

    l0 is no norm, and its ball is not convex: a step sets the pixels from which the gradient promises most to the ends
    of their range, and takes back those of the least use. The nearest point of the ball is as of Croce & Hein, *Sparse
    and imperceivable adversarial attacks*, arXiv 1909.05040. ``PixelSearch`` looks for the pixels at random.

    Parameters
    ----------
    eps : float
        Number of pixels.
    bounds : (float, float), default=(0, 1)
        Without bounds one pixel could be anything.

    Examples
    --------
    >>> allowed = L0Ball(1)
    >>> allowed.project(torch.tensor([[[[0.2, 0.9]]]]), torch.zeros(1, 1, 1, 2))
    tensor([[[[0.0000, 0.9000]]]])
    """

    norm: Any = field(init=False, default=None)

    def __post_init__(self) -> None:
        check_region(self, "L0Ball", by_channel=True)
        if self.bounds is None:
            raise ValueError("bounds of L0Ball must be (lowest, highest), got None")

    def __repr__(self) -> str:
        return f"L0Ball(eps={self.eps!r}, bounds={self.bounds!r})"

    @property
    def name(self) -> str:
        return "l0"

    def size(self, perturbed: Tensor, x: Tensor) -> Tensor:
        return _by_pixel((perturbed != x).to(torch.double)).amax(dim=1).sum(dim=1)

    def project(self, perturbed: Tensor, x: Tensor) -> Tensor:
        moved = self.clip(perturbed.to(x.dtype))
        given, kept = (part.double() - x.double() for part in (perturbed, moved))
        # The nearest point keeps the pixels that would miss their change most.
        use = _by_pixel(given**2 - (given - kept) ** 2).sum(dim=1)
        return torch.where(self._first(use, x), moved, x)

    def _first(self, use: Tensor, like: Tensor) -> Tensor:
        """The pixels (b, n) of most use, as many as may change: a mask in the shape of a batch."""
        k = min(int(self.eps), use.shape[1])
        return self._mask(torch.zeros_like(use, dtype=torch.bool).scatter(1, use.topk(k, dim=1).indices, True), like)

    def _mask(self, pixels: Tensor, like: Tensor) -> Tensor:
        return pixels.view(len(like), *([1] if like.ndim > 2 else []), *like.shape[2 if like.ndim > 2 else 1 :])

    def level(self, n: int) -> float:
        assert self.bounds is not None
        return widest(self.bounds)

    def to_edge(self, delta: Tensor) -> Tensor:
        return torch.where(self._first(_by_pixel(delta.double() ** 2).sum(dim=1), delta), delta.double(), 0.0)

    def ascend(self, perturbed: Tensor, gradient: Tensor, size: float | Tensor, x: Tensor) -> Tensor:
        slope, (low, high) = gradient.double(), ends(self.bounds, x.double())
        best = torch.where(slope > 0, high, torch.where(slope < 0, low, x.double()))
        promised, there = (_by_pixel(slope * (part - x)).sum(dim=1) for part in (best, perturbed))
        # So many pixels move as the size says, one at least: those that gain most by it.
        rank = (promised - there).argsort(dim=1, descending=True).argsort(dim=1)
        n = torch.as_tensor(size, device=x.device).reshape(-1, 1).round().clamp_min(1)
        moves = rank < n
        moved = torch.where(self._mask(moves, x), best.to(x.dtype), perturbed)
        return torch.where(self._first(torch.where(moves, promised, there), x), moved, x)

    def random_start(self, x: Tensor, generator: torch.Generator) -> Tensor:
        low, high = ends(self.bounds, x)
        drawn = torch.rand(x.shape, generator=generator, device=x.device).to(x.dtype)
        order = torch.rand((len(x), _by_pixel(x).shape[2]), generator=generator, device=x.device)
        return torch.where(self._first(order, x), self.clip(low + (high - low) * drawn), x)


def _by_pixel(values: Tensor) -> Tensor:
    """Images (b, c, …) as (b, c, n); inputs without channels as (b, 1, n)."""
    return values.flatten(2) if values.ndim > 2 else values[:, None]


def check_region(region: Region, kind: str, *, by_channel: bool = False) -> None:
    """Raise a ValueError unless size and bounds are some; bounds become numbers, or one for each channel if that may
    be."""
    if isinstance(region.eps, str) or not region.eps >= 0 or region.eps == float("inf"):
        raise ValueError(f"eps of {kind} must be a size of at least 0, got {region.eps!r}")
    bounds = checked_bounds(region.bounds, f"bounds of {kind}")
    if not by_channel and bounds is not None and isinstance(bounds[0], tuple):
        raise ValueError(f"bounds of {kind} must be (lowest, highest) of all channels, got {region.bounds!r}")
    object.__setattr__(region, "bounds", bounds)


def ball(norm: str | PlainNorm, eps: float, bounds: Bounds | None = UNIT) -> Ball:
    """The ball in a norm, or in the norm of a name, "l0" among them: here strings become balls.

    Raises
    ------
    ValueError
        If there is no such norm, or it is not one of a ball.

    Examples
    --------
    >>> ball("l1", 3.0)
    L1Ball(eps=3.0, bounds=(0.0, 1.0))
    """
    return L0Ball(eps, bounds) if norm == "l0" else Ball(resolve_norm(norm), eps, bounds)  # type: ignore[arg-type]


def LinfBall(eps: float, bounds: Bounds | None = UNIT) -> Ball:
    """Every pixel changes by at most ``eps``; parameters and methods are those of :class:`Ball`.

    Parameters
    ----------
    eps : float
        Radius.
    bounds : pair or None, default=(0, 1)
        Of the values of inputs; None for none.

    Examples
    --------
    >>> ball = LinfBall(0.1)
    >>> ball.project(torch.tensor([[0.5, 1.4]]), torch.tensor([[0.3, 0.95]]))
    tensor([[0.4000, 1.0000]])
    """
    return Ball(Linf(), eps, bounds)


def L2Ball(eps: float, bounds: Bounds | None = UNIT) -> Ball:
    """The Euclidean norm of the change of a whole image is at most ``eps``; otherwise as :func:`LinfBall`.

    Parameters
    ----------
    eps : float
        Radius.
    bounds : pair or None, default=(0, 1)
        Of the values of inputs; None for none.

    Examples
    --------
    >>> ball = L2Ball(1.0, bounds=None)
    >>> ball.project(torch.tensor([[3.0, 4.0]]), torch.zeros(1, 2))
    tensor([[0.6000, 0.8000]])
    """
    return Ball(L2(), eps, bounds)


def L1Ball(eps: float, bounds: Bounds | None = UNIT) -> Ball:
    """The absolute changes of all values of an image sum up to at most ``eps``; otherwise as :func:`LinfBall`.

    Steps move the few pixels of the largest slope, as far as the bounds let them.

    Parameters
    ----------
    eps : float
        Radius.
    bounds : pair or None, default=(0, 1)
        Of the values of inputs; None for none.

    Examples
    --------
    >>> ball = L1Ball(1.0, bounds=None)
    >>> ball.project(torch.tensor([[3.0, 1.0]]), torch.zeros(1, 2))
    tensor([[1.0000, 0.0000]])
    """
    return Ball(L1(), eps, bounds)


class _Draws:
    """The methods of NumPy's generator that norms draw with, by one of torch."""

    def __init__(self, generator: torch.Generator, device: torch.device):
        self.told: dict[str, Any] = {"generator": generator, "device": device}

    def random(self, size: tuple[int, ...]) -> Tensor:
        return torch.rand(size, **self.told)

    def standard_normal(self, size: tuple[int, ...]) -> Tensor:
        return torch.randn(size, **self.told)

    def laplace(self, size: tuple[int, ...]) -> Tensor:
        sides = torch.empty((2, *size), device=self.told["device"]).exponential_(generator=self.told["generator"])
        return (sides[0] - sides[1]).double()


def _of(values: Any) -> Tensor:
    """What a norm makes of tensors, whose signatures are those of arrays."""
    return values


def _beyond(moved: Tensor, centre: Tensor, most: Tensor) -> Tensor:
    """Where the difference of two numbers is more than ``most``, its own rounding included (Knuth's two-sum)."""
    gone = moved - centre
    back = gone - moved
    lost = (moved - (gone - back)) - (centre + back)
    return (gone.abs() > most) | ((gone.abs() == most) & (lost * gone.sign() > 0))


def aligned(values: Tensor, like: Tensor) -> Tensor:
    """(b,) in the shape (b, 1, …, 1) of a batch."""
    return values.view(-1, *[1] * (like.ndim - 1))
