"""Figures of an audit of embedding models: estimates over queries, and by class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from certimetric.base.intervals import estimate

__all__ = ["estimate", "per_class"]

Scores = Mapping[str, NDArray[np.float64]]


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
