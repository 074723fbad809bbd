"""Sizes and projections of vectors, along the last axis of NumPy arrays and torch tensors alike.

torch is never imported here: who passes a tensor has it. All of it is computed in double precision, without a loop over
vectors, and on a GPU without waiting for it.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from certimetric.base.rounding import UNIT_ROUNDOFF


def wide(v: Any) -> tuple[Any, Any]:
    """An array in double precision, and the namespace of its kind: torch for a tensor, else NumPy.

    Examples
    --------
    >>> v, xp = wide([3, -4])
    >>> v, xp.__name__
    (array([ 3., -4.]), 'numpy')
    """
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(v, torch.Tensor):
        return v.double(), torch
    return np.asarray(v, float), np


def vector_norm(v: Any, order: float) -> Any:
    """The vector norm of order 1, 2 or inf, shape ``v.shape[:-1]``; in NumPy where squares over- or underflow too."""
    v, xp = wide(v)
    if xp is not np:
        return xp.linalg.vector_norm(v, order, -1)
    if order != 2:
        return np.asarray(np.linalg.norm(v, order, axis=-1))
    with np.errstate(over="ignore"):
        length = np.asarray(np.linalg.norm(v, axis=-1))
    if ((length > 1e-140) & (length < 1e140)).all():
        return length
    largest = np.abs(v).max(axis=-1, initial=0.0)
    unit = np.ldexp(1.0, np.minimum(np.frexp(largest)[1], 1023))
    return np.asarray(np.linalg.norm(v / unit[..., None], axis=-1) * unit)


def divided(v: Any, size: Any) -> Any:
    """Vectors (…, d) divided by numbers (…), and 0 where these are 0."""
    size, xp = wide(size)
    return v / xp.where(size > 0, size, 1.0)[..., None]


def rescale(delta: Any, size: Any, eps: float) -> Any:
    """Shrink changes to ``eps``, given sizes that are not more than (d + 4) units too small."""
    delta, xp = wide(delta)
    unit = (delta.shape[-1] + 12) * UNIT_ROUNDOFF
    outside = size * (1.0 + unit) > eps
    factor = xp.where(outside, eps * (1.0 - unit) / xp.where(outside, size, 1.0), 1.0)
    return delta * factor[..., None]


def room(direction: Any, point: Any, bounds: tuple[float, float] | None) -> Any:
    """How far each entry of points (…, d) may go in the direction of its sign, within bounds or without any."""
    xp = wide(direction)[1]
    if bounds is None:
        return xp.full_like(direction, np.inf)
    return xp.where(direction > 0, bounds[1] - point, point - bounds[0])


def shrunk(size: Any, most: Any, total: float) -> Any:
    """The nearest to absolute changes (…, d) that are at most ``most`` and in all at most ``total``.

    These are ``min((size − λ)₊, most)`` with the least λ ≥ 0 that does it. As λ falls from the largest size on, the sum
    rises, and its slope changes where an entry leaves 0, or arrives at its most: there it is looked for. Without
    ``most`` it is of Duchi et al., *Efficient projections onto the l1-ball*, 2008; within a box, of Croce & Hein, *Mind
    the box*, arXiv 2103.01208.

    Examples
    --------
    >>> shrunk(np.array([5.0, 3.0, 1.0]), np.array([1.0, 9.0, 9.0]), 3.0)
    array([1., 2., 0.])
    """
    size, xp = wide(size)
    take = np.take_along_axis if xp is np else xp.take_along_dim
    knots = xp.concatenate([size, xp.maximum(size - most, xp.zeros_like(size))], -1)
    order = xp.argsort(-knots, -1)
    knots = take(knots, order, -1)
    sign = xp.where(order < size.shape[-1], 1.0, -1.0) + 0.0 * knots
    moving, reached = xp.cumsum(sign, -1), xp.cumsum(sign * knots, -1)
    last = (reached - moving * knots <= total).sum(-1)[..., None] - 1
    knot, moving, reached = (take(values, last, -1) for values in (knots, moving, reached))
    level = xp.where(moving > 0, (reached - total) / xp.where(moving > 0, moving, 1.0), knot)
    level = xp.maximum(xp.minimum(level, knot), xp.zeros_like(knot))
    return xp.minimum(xp.maximum(size - level, xp.zeros_like(size)), most)


def poured(weights: Any, most: Any, total: Any) -> Any:
    """Amounts (…, d) of the largest product with weights ≥ 0, each at most ``most`` and in all ``total``: the heaviest
    first, as far as there is room.

    Examples
    --------
    >>> poured(np.array([1.0, 3.0, 2.0]), np.array([1.0, 0.5, 1.0]), 1.0)
    array([0. , 0.5, 0.5])
    """
    weights, xp = wide(weights)
    take = np.take_along_axis if xp is np else xp.take_along_dim
    order = xp.argsort(-weights, -1)
    most = take(most, order, -1)
    before = xp.concatenate([xp.zeros_like(most[..., :1]), xp.cumsum(most, -1)[..., :-1]], -1)
    amounts = xp.minimum(xp.maximum(total - before, xp.zeros_like(most)), most)
    return take(amounts, xp.argsort(order, -1), -1)
