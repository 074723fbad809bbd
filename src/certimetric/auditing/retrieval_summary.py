"""Figures of an audit of embedding models: estimates over queries, and by class."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Scores = Mapping[str, NDArray[np.float64]]
_WIDTH = 1.959964  # of a 95 % interval, in standard errors


def estimate(values: NDArray[np.float64]) -> dict[str, float]:
    """Mean over queries with its 95 % interval: Wilson's, which is right for shares near 0 and 1 too.

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


def per_class(
    labels: NDArray[np.int64], class_names: Sequence[str], clean: Scores, worst: Scores
) -> list[dict[str, Any]]:
    """R@1 of the queries of each class, clean and in the worst case.

    Parameters
    ----------
    labels : int array of shape (m,)
        Of the queries.
    class_names : sequence of str
        Of the labels 0, 1, …; others are told as they are.
    clean, worst : dict of str to array of shape (m,)
        Scores of each query.
    """
    told = []
    for label in np.unique(labels):
        rows = labels == label
        name = class_names[label] if 0 <= label < len(class_names) else str(label)
        told.append(
            {
                "class": name,
                "count": int(rows.sum()),
                "recall": float(clean["recall_at_1"][rows].mean()),
                "attacked": float(worst["recall_at_1"][rows].mean()),
            }
        )
    return told
