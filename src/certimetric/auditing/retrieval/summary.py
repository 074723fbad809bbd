"""Figures of an audit of embedding models: estimates over queries, and by class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from certimetric.base.results import estimate
from certimetric.base.wording import PIXELS

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


def describe(
    name: str,
    source: str,
    embeddings: Any,
    labels: Any,
    clean: Scores,
    attacked: Sequence[tuple[float, Scores, Mapping[str, Scores]]],
    n_parameters: int = 0,
) -> dict[str, Any]:
    """A model as the document has it.

    Parameters
    ----------
    name, source : str
    embeddings : Tensor of shape (n, k)
        Of the gallery, with its labels.
    labels : int Tensor of shape (n,)
    clean : dict of str to array of shape (m,)
        Scores of each query.
    attacked : list of (ε, worst, attacks)
        Scores of the worst case, and of each attack by its name.
    n_parameters : int, default=0
    """
    from certimetric.deep.retrieval.evaluation import CLUSTERED, nmi

    def told(scores: Scores) -> dict[str, Any]:
        return {figure: estimate(values) for figure, values in scores.items()}

    return {
        "spec": name,
        "label": name[:1].upper() + name[1:] if name == PIXELS else name,
        "source": source,
        "dim": int(embeddings.shape[1]),
        "n_parameters": n_parameters,
        "training": None,
        "clean": told(clean) | {"nmi": nmi(embeddings, labels) if len(labels) <= CLUSTERED else None},
        "attacked": [
            {"eps": eps, "worst": told(worst), "attacks": {attack: told(scores) for attack, scores in each.items()}}
            for eps, worst, each in attacked
        ],
    }
