"""Cosine and inner product as Euclidean distance: of other embeddings, and of the same order.

*Cosine.* With ĝ = g/‖g‖, ``‖p − ĝ‖² = ‖p‖² + 1 − 2 ‖p‖ cos(p, g)``: of items on the unit sphere the nearest to p is the
one of the largest cosine, whatever the length of p. So a certificate of the embedding p *before* it is scaled to the
sphere is one of the search by cosine, and no constant of the scaling is lost. Where the constant is wanted, for the
rounding of an item say: outside of a ball of norm ρ it is 1/ρ, for x ↦ ρ x/‖x‖ is there the projection onto that ball,
which is convex, and projections onto convex sets bring no two points apart.

*Inner product.* With R ≥ ‖g‖ for every item, g′ = (g, √(R² − ‖g‖²)) and p′ = (p, 0),
``‖p′ − g′‖² = ‖p‖² + R² − 2 pᵀg``: the nearest g′ has the largest inner product, and as p moves p′ does by as much.
(Bachrach et al., RecSys 2014, with another R.) Here R² is twice the largest ‖g‖², so that the root loses no digits.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from certimetric.deep.models.calling import as_module
from certimetric.deep.models.network import EmbeddingNetwork
from certimetric.deep.ranking.distances import unit

SEARCHES = ("euclidean", "cosine", "dot")
"""How a search compares embeddings."""


class OnSphere(nn.Module):
    """Embeddings scaled to length 1: what an :class:`EmbeddingNetwork` does last, unless told otherwise."""

    def forward(self, x: Tensor) -> Tensor:
        return unit(x)


class Padded(nn.Module):
    """Embeddings (b, k) of queries with a 0 in the place of what items lack in length: (b, k + 1)."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.pad(x, (0, 1))


def check_search(metric: str) -> str:
    """The name of a search; a ValueError for another."""
    if metric not in SEARCHES:
        raise ValueError(f"metric must be {', '.join(map(repr, SEARCHES[:-1]))} or {SEARCHES[-1]!r}, got {metric!r}")
    return metric


def querying(model: nn.Module, metric: str) -> nn.Module:
    """The model whose embeddings of queries a search compares by Euclidean distance."""
    on_sphere = type(model) is EmbeddingNetwork and model.normalise
    if check_search(metric) == "euclidean" or (metric == "cosine" and on_sphere):
        return model
    # A Module in another precision is kept as it is: certificates read its layers.
    module = model if isinstance(model, nn.Module) else as_module(model)
    return nn.Sequential(module, OnSphere() if metric == "cosine" else Padded()).train(module.training)


def check_lengths(items: Tensor) -> None:
    """A ValueError for embeddings (n, k) of a gallery of which one has length 0: of the others alone the nearest is the
    same before a query is scaled to the sphere."""
    if bool((items.norm(dim=1) == 0).any()):
        raise ValueError("the gallery holds an embedding of length 0, which cannot be scaled to length 1")


def placed_queries(points: Tensor, metric: str) -> Tensor:
    """Embeddings (m, k) of queries as Euclidean distance compares them; in double precision if they are moved."""
    if check_search(metric) == "euclidean":
        return points
    return unit(points.double()) if metric == "cosine" else nn.functional.pad(points.double(), (0, 1))


def placed_items(points: Tensor, metric: str) -> Tensor:
    """The same of a gallery (n, k).

    Examples
    --------
    >>> queries, items = torch.tensor([[1.0, 2.0]]), torch.tensor([[4.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    >>> torch.cdist(placed_queries(queries, "dot"), placed_items(items, "dot")).argsort()  # inner products 4, 3, 2
    tensor([[0, 1, 2]])
    """
    if metric != "dot":
        return placed_queries(points, metric)
    wide = points.double()
    squares = wide.pow(2).sum(dim=1, keepdim=True)
    return torch.cat([wide, (2 * squares.max() - squares).sqrt()], dim=1)
