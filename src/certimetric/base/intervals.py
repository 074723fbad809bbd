"""Means with their 95 % intervals."""

from __future__ import annotations

import math

import numpy as np

from certimetric.base.arrays import Array

_WIDTH = 1.959964  # of a 95 % interval, in standard errors


def estimate(values: Array) -> dict[str, float]:
    """Mean of shares with its 95 % interval.

    Of values that are all 0 or 1 it is Wilson's, which is right for shares near 0 and 1 too; of others it is the normal
    one.

    Parameters
    ----------
    values : array of shape (m,)
        From 0 to 1, one for each of m queries, say, at least one.

    Returns
    -------
    estimate : dict
        ``mean``, ``low`` and ``high``, from 0 to 1.

    Examples
    --------
    >>> estimate(np.array([1.0, 1.0, 1.0, 1.0]))
    {'mean': 1.0, 'low': 0.5101..., 'high': 1.0}
    """
    n, mean = len(values), float(values.mean())
    if not np.isin(values, (0.0, 1.0)).all():
        half = _WIDTH * float(values.std(ddof=1)) / math.sqrt(n) if n > 1 else 1.0
        return {"mean": mean, "low": max(mean - half, 0.0), "high": min(mean + half, 1.0)}
    z = _WIDTH**2 / n
    centre, half = (mean + z / 2) / (1 + z), math.sqrt(mean * (1 - mean) * z + z**2 / 4) / (1 + z)
    # At 0 and 1 an end of the interval is that value itself, which rounding misses.
    return {"mean": mean, "low": min(max(centre - half, 0.0), mean), "high": max(min(centre + half, 1.0), mean)}
