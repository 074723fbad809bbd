"""How embeddings are compared: by Euclidean distance, as they are or on the unit sphere, or by their cosine."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

METRICS = ("euclidean", "cosine", "normalized-euclidean")
_TINY = 1e-24  # below it a squared distance counts as none, and has no direction


@dataclass(frozen=True)
class EmbeddingMetric:
    """A distance of embeddings.

    Embeddings are placed first, by :meth:`place`; the other methods take placed ones.

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
    tensor([1.])
    """

    name: str = "euclidean"

    def __post_init__(self) -> None:
        if self.name not in METRICS:
            raise ValueError(
                f"metric must be {', '.join(map(repr, METRICS[:-1]))} or {METRICS[-1]!r}, got {self.name!r}"
            )

    def place(self, embeddings: Tensor) -> Tensor:
        """Embeddings (…, k) as they are compared: on the unit sphere, or where they are; single precision at least."""
        embeddings = wide(embeddings)
        return embeddings if self.name == "euclidean" else nn.functional.normalize(embeddings, dim=-1)

    def paired(self, a: Tensor, b: Tensor) -> Tensor:
        """Distances (…) of pairs (…, k), differentiable."""
        return 1.0 - (a * b).sum(dim=-1) if self.name == "cosine" else distance(a, b)

    def between(self, a: Tensor, b: Tensor) -> Tensor:
        """Distances (m, n) of all pairs of a (m, k) and b (n, k), by products."""
        b = b.to(a.dtype)
        return 1.0 - a @ b.T if self.name == "cosine" else torch.cdist(a, b)

    def slope(self, a: Tensor, b: Tensor, distances: Tensor, weights: Tensor) -> Tensor:
        """Gradient (m, k) in a of the distances (m, n), summed with weights (m, n); none where points coincide."""
        b = b.to(a.dtype)
        if self.name == "cosine":
            return -weights @ b
        share = torch.where(distances**2 > _TINY, weights / distances, torch.zeros_like(weights))
        return share.sum(dim=1, keepdim=True) * a - share @ b


def wide(embeddings: Tensor) -> Tensor:
    """In single precision, or in double where they came so."""
    return embeddings if embeddings.dtype == torch.float64 else embeddings.float()


def distance(a: Tensor, b: Tensor) -> Tensor:
    """Euclidean distance of paired embeddings, (…, k) to (…), with gradient 0 where they coincide."""
    return (wide(a) - wide(b)).pow(2).sum(dim=-1).clamp_min(_TINY).sqrt()
