"""What a sample of the test instances of one split leaves open: 95 % intervals of its figures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from certimetric.auditing.tables.request import Request
from certimetric.auditing.tables.summary import Cell, true_codes
from certimetric.base.arrays import Array, Indices
from certimetric.base.results import WIDTH, wilson
from certimetric.runs.key import told


def sampling_intervals(
    request: Request, cells: Sequence[Cell], radii: Sequence[Array], eps: Sequence[float]
) -> dict[str, Any]:
    """Ends of the intervals, ``low`` and ``high``, of the figures of one split; nothing where there are more, or where
    all instances are tested.

    A sample in proportion to the classes varies no more than one without regard to them, so that Wilson's interval of a
    share is on the safe side. The median radius lies between two order statistics, and the balanced accuracy within
    1.96 standard errors of the recalls that it is the mean of.
    """
    if len(cells) != 1 or request.sizes.test >= request.everything.test:
        return {}
    (cell,), (some,) = cells, radii
    n = len(some)
    return {
        "error": wilson(cell["error"], n),
        "noise_error": [wilson(error, n) for error in cell["noise_error"]],
        "certified_accuracy": [wilson(float((some >= size).mean()), n) for size in eps],
        "balanced_accuracy": _mean_recall(true_codes(request, cell), some >= 0),
        "median_radius": median(np.maximum(some, 0.0)),
    }


def median(values: Array) -> dict[str, float | str | None]:
    """The order statistics between which the median lies, whatever the distribution."""
    ordered = np.sort(values)
    below = int(binom.ppf(0.025, len(values), 0.5))
    low = 0.0 if below == 0 else float(ordered[below - 1])
    high = float("inf") if below == 0 else float(ordered[len(values) - below])
    return {"low": told(low), "high": told(high)}


def _mean_recall(codes: Indices, right: NDArray[np.bool_]) -> dict[str, float]:
    counts = np.bincount(codes)
    seen = counts > 0
    recall = np.bincount(codes, weights=right)[seen] / counts[seen]
    # Recalls of 0 and 1 of few instances are less certain than they look: one of each kind is added.
    safe = (recall * counts[seen] + 1) / (counts[seen] + 2)
    half = WIDTH * math.sqrt(float((safe * (1 - safe) / counts[seen]).sum())) / int(seen.sum())
    mean = float(recall.mean())
    return {"low": max(mean - half, 0.0), "high": min(mean + half, 1.0)}
