"""What an audit shows of a model beside its figures: examples of what an attack does, and a map of embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from certimetric.auditing.retrieval.drawing import before_and_after, on_its_own
from certimetric.auditing.retrieval.ranking import class_name
from certimetric.auditing.retrieval.request import RetrievalRequest
from certimetric.base.arrays import Array, Indices
from certimetric.deep import Attack, Index

N_EXAMPLES, N_RESULTS = 4, 5
_MAP_POINTS, _MAP_ATTACKED, _MAP_CLASSES = 400, 60, 10
_NUMBERS = 2**24  # numbers of embeddings that a map is made of: those of raw pixels may be very long


def examples(request: RetrievalRequest, index: Index, attack: Attack) -> list[dict[str, Any]]:
    """Queries with their first results before and after the attack, those that it breaks first.

    Returns
    -------
    examples : list of dict
        ``query``, ``label``, ``broken``, ``original``, ``difference``, ``adversarial`` (pictures), ``magnified`` (None
        where nothing was changed), and ``clean`` and ``attacked``: results with ``picture``, ``label`` and ``right``.
    """
    queries = request.queries
    hit = index.score(queries)["recall_at_1"].bool().cpu()
    # Right to begin with, and spread over the classes, so that the examples are not four times the same.
    rows = _spread(hit.nonzero()[:, 0].numpy(), queries.labels.cpu().numpy(), 8 * N_EXAMPLES)
    if not len(rows):
        return []
    chosen = queries.select(torch.from_numpy(rows))
    attacked = index.attacked(chosen, attack)
    originals = chosen.tensor()
    before = index.nearest(originals, chosen.keys, N_RESULTS).cpu()
    after = index.nearest(attacked, chosen.keys, N_RESULTS).cpu()
    labels = request.gallery.labels.cpu()
    broken = (labels[after[:, 0]] != chosen.labels.cpu()).numpy()
    found = []
    for i in np.argsort(~broken, kind="stable")[:N_EXAMPLES]:
        label = int(chosen.labels[i])
        found.append(
            {
                "query": int(chosen.ids[i]),
                "label": class_name(request.class_names, label),
                "broken": bool(broken[i]),
                **before_and_after(originals[i], attacked[i].cpu(), queries.kind.pictures).told(),
                "clean": [_result(request, int(row), label) for row in before[i]],
                "attacked": [_result(request, int(row), label) for row in after[i]],
            }
        )
    return found


def _spread(rows: Indices, labels: Indices, limit: int) -> Indices:
    """Up to ``limit`` of the rows, one of each class in turn."""
    order: dict[int, int] = {}
    turns = []
    for row in rows:
        turns.append(order.get(int(labels[row]), 0))
        order[int(labels[row])] = turns[-1] + 1
    return np.sort(rows[np.argsort(turns, kind="stable")[:limit]])


def _result(request: RetrievalRequest, row: int, label: int) -> dict[str, Any]:
    own = int(request.gallery.labels[row])
    item = request.gallery.select(torch.tensor([row])).tensor()[0]
    picture = on_its_own(item, request.gallery.kind.pictures)
    return {"picture": picture, "label": class_name(request.class_names, own), "right": own == label}


def embedding_map(request: RetrievalRequest, index: Index, attack: Attack) -> dict[str, Any]:
    """Gallery and attacked queries on the two directions along which the gallery spreads most.

    Returns
    -------
    map : dict
        ``points``: [x, y, class] of gallery items of the classes shown; ``moves``: [x, y, x', y', class, broken] of
        queries before and after the attack; ``classes``: their names; ``explained``: share of the variance.
    """
    labels = request.gallery.labels.cpu().numpy()
    kept = _kept(labels, index.embeddings.shape[1])
    embeddings, labels = np.asarray(index.embeddings[torch.from_numpy(kept)].double().cpu()), labels[kept]
    shown, (centre, axes) = _frequent(labels), _plane(embeddings)
    own = request.queries.labels.cpu().numpy()
    asked = _spread(np.flatnonzero(np.isin(own, shown)), own, _MAP_ATTACKED)
    chosen = request.queries.select(torch.from_numpy(asked))
    moves = []
    if len(chosen):
        attacked = index.attacked(chosen, attack)
        nearest = index.nearest(attacked, chosen.keys, 1)[:, 0].cpu()
        broken = (request.gallery.labels.cpu()[nearest] != chosen.labels.cpu()).numpy()
        before, after = (_project(index, x, centre, axes) for x in (chosen.tensor(), attacked))
        codes = np.searchsorted(shown, own[asked])
        moves = [[*_short(a), *_short(b), int(c), bool(w)] for a, b, c, w in zip(before, after, codes, broken)]
    return flat_map(embeddings, labels, request.class_names) | {"moves": moves}


def flat_map(embeddings: NDArray[Any], labels: Indices, class_names: Sequence[str]) -> dict[str, Any]:
    """The same of embeddings alone: nobody moves."""
    kept = _kept(labels, embeddings.shape[1])
    embeddings, labels = embeddings[kept], labels[kept]
    shown, (centre, axes) = _frequent(labels), _plane(embeddings)
    rows = _spread(np.flatnonzero(np.isin(labels, shown)), labels, _MAP_POINTS)
    about = embeddings - centre
    places, total = about[rows] @ axes.T, float((about**2).sum())
    codes = np.searchsorted(shown, labels[rows])
    return {
        "points": [[*_short(place), int(code)] for place, code in zip(places, codes)],
        "moves": [],
        "classes": [class_name(class_names, int(label)) for label in shown],
        "explained": float(((about @ axes.T) ** 2).sum()) / total if total > 0 else 0.0,
    }


def _kept(labels: Indices, dim: int) -> Indices:
    """Rows that a map is made of: all, or as many of every class in turn as memory is given to."""
    return _spread(np.arange(len(labels)), labels, max(_MAP_POINTS, _NUMBERS // dim))


def _frequent(labels: Indices) -> Indices:
    """The classes with the most items, as many as can be told apart on a map."""
    classes, counts = np.unique(labels, return_counts=True)
    return np.sort(classes[np.argsort(-counts, kind="stable")][:_MAP_CLASSES])


def _plane(embeddings: Array) -> tuple[Array, Array]:
    """Mean of embeddings, and the two directions along which they spread most."""
    centre = embeddings.mean(axis=0)
    about = embeddings - centre
    n, d = about.shape
    if d <= n:
        axes = np.linalg.eigh(about.T @ about)[1].T[:-3:-1]
    else:  # the same axes from the products of rows, of which there are fewer
        axes = np.linalg.eigh(about @ about.T)[1].T[:-3:-1] @ about
        size = np.linalg.norm(axes, axis=1, keepdims=True)
        axes = np.divide(axes, size, out=np.zeros_like(axes), where=size > 1e-9 * max(np.abs(about).max(), 1e-300))
    axes = np.vstack([axes, np.zeros((2, d))])[:2]
    # The sign of an eigenvector is arbitrary; the map shall not be.
    heaviest = axes[np.arange(2), np.abs(axes).argmax(axis=1)]
    return centre, axes * np.where(heaviest < 0, -1.0, 1.0)[:, None]


def _project(index: Index, images: Any, centre: NDArray[Any], axes: NDArray[Any]) -> Array:
    from certimetric.deep import embed

    embedded = np.asarray(embed(index.model, images, index.batch_size, index.gallery.kind).double().cpu())
    return np.asarray((embedded - centre) @ axes.T)


def _short(point: Array) -> list[float]:
    return [float(f"{value:.4g}") for value in point]
