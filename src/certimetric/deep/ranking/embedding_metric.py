"""How embeddings are compared: by Euclidean distance, as they are or on the unit sphere, or by their cosine."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from certimetric.deep.ranking.ranks import by_differences, expanded

METRICS = ("euclidean", "cosine", "normalized-euclidean")


@dataclass(frozen=True)
class EmbeddingMetric:
    """A distance of embeddings.

    Embeddings are placed first, by :meth:`place`; the other methods take placed ones. All of it is computed in double
    precision, and nothing in it has a size of its own: embeddings of any length and any spread are compared alike.

    Parameters
    ----------
    name : {"euclidean", "cosine", "normalized-euclidean"}, default="euclidean"
        ``cosine`` is 1 − cos, half the square of the Euclidean distance on the unit sphere: both rank alike.

    Raises
    ------
    ValueError
        If the name is another.

    Examples
    --------
    >>> metric = EmbeddingMetric("cosine")
    >>> metric.paired(metric.place(torch.tensor([[2.0, 0.0]])), metric.place(torch.tensor([[0.0, 5.0]])))
    tensor([1.], dtype=torch.float64)
    """

    name: str = "euclidean"

    def __post_init__(self) -> None:
        if self.name not in METRICS:
            raise ValueError(
                f"metric must be {', '.join(map(repr, METRICS[:-1]))} or {METRICS[-1]!r}, got {self.name!r}"
            )

    def place(self, embeddings: Tensor) -> Tensor:
        """Embeddings (…, k) as they are compared: where they are, in single precision at least, or on the unit sphere,
        in double precision."""
        if self.name == "euclidean":
            return wide(embeddings)
        embeddings = embeddings.double()
        size = torch.linalg.vector_norm(embeddings, dim=-1, keepdim=True)
        return embeddings / torch.where(size > 0, size, torch.ones_like(size))

    def paired(self, a: Tensor, b: Tensor) -> Tensor:
        """Distances (…) of pairs (…, k), differentiable."""
        # 1 − cos as half of a square: the difference of two numbers near 1 would lose its digits.
        return (a.double() - b.double()).pow(2).sum(dim=-1) / 2 if self.name == "cosine" else separation(a, b)

    def between(self, a: Tensor, b: Tensor) -> Tensor:
        """Distances (m, n) of all pairs of a (m, k) and b (n, k), by differences: equal pairs are at equal distance."""
        found = by_differences(a, b)
        return found**2 / 2 if self.name == "cosine" else found

    def squares(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """Squared Euclidean distances (m, n) of all pairs, by products of points moved to the middle of b, and a bound
        (m, n) on their error, that of the difference included."""
        centre = b.mean(dim=0, dtype=torch.double)
        (a, of_a, share), (b, of_b, item_share) = expanded(a, centre), expanded(b, centre)
        squares = torch.addmm(of_b, a, b.T, alpha=-2).add_(of_a[:, None]).clamp_min_(0.0)
        return squares, share[:, None] + item_share

    def of_squares(self, squares: Tensor) -> Tensor:
        """Distances from squared Euclidean ones."""
        return squares / 2 if self.name == "cosine" else squares.sqrt()

    def slope(self, a: Tensor, b: Tensor, distances: Tensor, weights: Tensor) -> Tensor:
        """Gradient (m, k) in a of the distances (m, n), summed with weights (m, n); none where points coincide."""
        share = weights
        if self.name != "cosine":
            share = torch.where(distances > 0, weights / distances, torch.zeros_like(weights))
        centre = b.mean(dim=0, dtype=torch.double)
        return share.sum(dim=1, keepdim=True) * (a.double() - centre) - share @ (b.double() - centre)


def wide(embeddings: Tensor) -> Tensor:
    """In single precision, or in double where they came so."""
    return embeddings if embeddings.dtype == torch.float64 else embeddings.float()


def distance(a: Tensor, b: Tensor) -> Tensor:
    """Euclidean distance of paired embeddings, (…, k) to (…), with gradient 0 where they coincide.

    In the precision of the embeddings, single at least; no square of a small or large number is lost on the way.
    """
    return separation(a, b).to(torch.promote_types(wide(a).dtype, wide(b).dtype))


def separation(a: Tensor, b: Tensor) -> Tensor:
    """The same in double precision: the difference of two of them keeps the digits that the embeddings have."""
    return torch.linalg.vector_norm(a.double() - b.double(), dim=-1)
