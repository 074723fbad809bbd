"""Retrieval of an embedding model, clean and under attack: R@k, mAP@R, mAP and NMI, with raw pixels beside it."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from certimetric.deep.attack import Attack
from certimetric.deep.embeddings import ImageSet, device_of, embed
from certimetric.deep.objectives import MarginObjective, Objective
from certimetric.deep.ranking import relevant_ranks

RECALL_AT = (1, 2, 4, 8)
MODEL, PIXELS = "model", "raw pixels"
CLEAN, WORST = "clean", "worst case"

ObjectiveFactory = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Objective]


@dataclass(frozen=True, eq=False)
class RetrievalResult:
    """Figures of a model and of raw pixels, clean, under each attack, and in the worst case over the attacks.

    Parameters
    ----------
    rows : list of dict
        ``subject`` ("model", "raw pixels"), ``attack`` ("clean", a name, "worst case"), ``norm``, ``eps``, and means
        over queries ``recall_at_1`` … ``recall_at_8``, ``map_at_r``, ``map``; ``nmi`` of clean galleries.
    recall_at_1 : dict
        (subject, attack, norm, eps) to bool array of shape (m,): which queries succeed.
    n_queries, n_without_positive : int
        Queries that were ranked, and queries that have no positive in the gallery, which are left out.
    """

    rows: list[dict[str, Any]]
    recall_at_1: dict[tuple[Any, ...], NDArray[np.bool_]]
    n_queries: int
    n_without_positive: int

    def frame(self) -> pd.DataFrame:
        """The rows as a table."""
        return pd.DataFrame(self.rows)

    def to_json(self) -> str:
        """The rows and numbers of queries as JSON."""
        document = {"rows": self.rows, "n_queries": self.n_queries, "n_without_positive": self.n_without_positive}
        return json.dumps(document, allow_nan=False)

    def _repr_html_(self) -> str:
        return self.frame().to_html(float_format="{:.3f}".format, na_rep="")


def evaluate_retrieval(
    model: nn.Module,
    queries: ImageSet,
    gallery: ImageSet | None = None,
    *,
    attacks: Iterable[Attack] = (),
    objective: ObjectiveFactory | None = None,
    batch_size: int = 256,
    with_pixels: bool = True,
) -> RetrievalResult:
    """Rank a gallery for every query, clean and attacked.

    An attacker perturbs each query, the gallery stays clean. By default the attack maximises the margin, which is
    positive exactly when the first result is wrong. The worst case takes, for each query, the worst over all attacks.

    Parameters
    ----------
    model : Module
        Images (b, c, h, w) from 0 to 1 to embeddings (b, k), compared by Euclidean distance.
    queries : ImageSet
    gallery : ImageSet, optional
        By default the queries themselves. A query is never its own result: equal ids are the same picture.
    attacks : iterable of Attack
        Each at its own ε.
    objective : callable, optional
        ``(labels, gallery_embeddings, gallery_labels, ids, gallery_ids) -> Objective`` for a batch of queries.
    batch_size : int, default=256
    with_pixels : bool, default=True
        Evaluate the pixels themselves as an embedding too: a model is worth something only where it beats them.

    Returns
    -------
    result : RetrievalResult

    Raises
    ------
    TypeError, ValueError
        On images outside of 0 to 1, a model that gives no finite embeddings (b, k), a single class, or if no query has
        a positive.

    References
    ----------
    The attack on queries as in Panum et al., arXiv 2102.07265; mAP@R of Musgrave et al., arXiv 2003.08505.
    """
    items = queries if gallery is None else gallery
    if len(torch.unique(items.labels)) < 2:
        raise ValueError("the gallery must hold at least two classes")
    chosen = _with_positive(queries, items)
    attacks = list(attacks)
    make = MarginObjective if objective is None else objective
    rows: list[dict[str, Any]] = []
    hits: dict[tuple[Any, ...], NDArray[np.bool_]] = {}
    for subject, network in ((MODEL, model), (PIXELS, nn.Flatten())):
        if subject == PIXELS and not with_pixels:
            continue
        device = device_of(network)
        embedded = embed(network, items.images, batch_size)
        tensors = [embedded, items.labels.to(device), items.ids.to(device)]
        scores: dict[tuple[Any, ...], dict[str, Tensor]] = {}
        for attack in [None, *attacks]:
            key = (CLEAN, None, None) if attack is None else (type(attack).__name__, attack.ball.name, attack.ball.eps)
            scores[key] = _score(network, queries, chosen, tensors, attack, make, batch_size)
        if len(attacks) > 1:
            worst = [values for key, values in scores.items() if key[0] != CLEAN]
            names, sizes = {a.ball.name for a in attacks}, {a.ball.eps for a in attacks}
            if len(names) == len(sizes) == 1:
                key = (WORST, names.pop(), sizes.pop())
                scores[key] = {name: torch.stack([w[name] for w in worst]).amin(dim=0) for name in worst[0]}
        for (attack_name, norm, eps), values in scores.items():
            row = {"subject": subject, "attack": attack_name, "norm": norm, "eps": eps}
            row |= {name: float(value.double().mean()) for name, value in values.items()}
            row["nmi"] = _nmi(embedded, items.labels) if attack_name == CLEAN else None
            rows.append(row)
            hits[(subject, attack_name, norm, eps)] = values["recall_at_1"].bool().cpu().numpy()
    return RetrievalResult(rows, hits, int(chosen.sum()), int((~chosen).sum()))


def _with_positive(queries: ImageSet, items: ImageSet) -> Tensor:
    """Which queries have another picture of their label in the gallery, bool (m,)."""
    classes, sizes = torch.unique(items.labels, return_counts=True)
    where = torch.searchsorted(classes, queries.labels).clamp_max(len(classes) - 1)
    found = torch.where(classes[where] == queries.labels, sizes[where], torch.zeros_like(sizes[where]))
    # Itself is in the gallery with its own label, or it would be another picture.
    chosen = found - torch.isin(queries.ids, items.ids).long() > 0
    if not chosen.any():
        raise ValueError("no query has another picture of its label in the gallery")
    return chosen


def _score(
    model: nn.Module,
    queries: ImageSet,
    chosen: Tensor,
    gallery: list[Tensor],
    attack: Attack | None,
    make: Any,
    batch_size: int,
) -> dict[str, Tensor]:
    """Figures of each chosen query, attacked or not."""
    device = gallery[0].device
    parts = []
    for rows in torch.split(chosen.nonzero()[:, 0], batch_size):
        x, labels = queries.images[rows].to(device), queries.labels[rows].to(device)
        ids = queries.ids[rows].to(device)
        if attack is not None:
            x = attack(model, x, make(labels, gallery[0], gallery[1], ids, gallery[2]))
        parts.append(relevant_ranks(embed(model, x, batch_size), labels, ids, gallery[0], gallery[1], gallery[2]))
    width = max(part.shape[1] for part in parts)
    ranks = torch.cat([nn.functional.pad(part, (0, width - part.shape[1])) for part in parts])
    return figures(ranks)


def figures(ranks: Tensor) -> dict[str, Tensor]:
    """R@k, mAP@R and mAP of each query from the ranks of its relevant items, (m, r) with 0 for none.

    Examples
    --------
    >>> figures(torch.tensor([[1, 4]]))["map_at_r"], figures(torch.tensor([[1, 4]]))["map"]
    (tensor([0.5000]), tensor([0.7500]))
    """
    present = ranks > 0
    n_relevant = present.sum(dim=1).clamp_min(1)
    position = torch.arange(1, ranks.shape[1] + 1, device=ranks.device)
    precision = torch.where(present, position / ranks.clamp_min(1), torch.zeros((), device=ranks.device))
    within = precision * (ranks <= n_relevant[:, None])
    first = torch.where(present[:, 0], ranks[:, 0], torch.full_like(ranks[:, 0], torch.iinfo(ranks.dtype).max))
    return {
        **{f"recall_at_{k}": (first <= k).float() for k in RECALL_AT},
        "map_at_r": within.sum(dim=1) / n_relevant,
        "map": precision.sum(dim=1) / n_relevant,
    }


def _nmi(embeddings: Tensor, labels: Tensor) -> float:
    """Normalised mutual information of labels and k-means clusters, as many as there are labels."""
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.metrics import normalized_mutual_info_score

    n_clusters = len(torch.unique(labels))
    points = embeddings.cpu().numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a collapsed model has fewer points than labels
        clusters = KMeans(n_clusters, n_init=1, random_state=0).fit_predict(points)
    return float(normalized_mutual_info_score(labels.cpu().numpy(), clusters))
