"""Distances of embeddings, each in one place: paired, of all pairs by differences or by products, and by their names.

By differences they are as exact as the embeddings. The products ``‖g‖² − 2 qᵀg``, of points moved to the middle of the
gallery, are many times quicker; how far they may be off is told with them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from certimetric.base.arguments import require

METRICS = ("euclidean", "cosine", "normalized-euclidean")
_CACHED = 2**18  # products that the cache of one core holds


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


def unit(embeddings: Tensor) -> Tensor:
    """Embeddings (…, k) scaled to length 1, however short they are; those of length 0 stay."""
    length = embeddings.norm(dim=-1, keepdim=True)
    return embeddings / torch.where(length > 0, length, 1.0)


def by_differences(queries: Tensor, items: Tensor) -> Tensor:
    """Distances (…, q, c) by differences. Those of equal pairs are equal, whatever the shapes that they come in."""
    return torch.cdist(queries.double(), items.double(), compute_mode="donot_use_mm_for_euclid_dist")


def expanded(points: Tensor, centre: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Points from the centre, their squared norms, and their share in the error of a comparison by products.

    With S = ‖q‖² + ‖g‖² ≥ ‖q − g‖² / 2 and k numbers added in any order, product and norms err by less than
    2 (k + 3) u S, the difference by (2k + 16) u S, and the centre moves it by 4 u S; granted is about twice the sum.
    """
    wide, k = points.double() - centre, points.shape[1]
    squares = wide.pow(2).sum(dim=1)
    precision = torch.finfo(wide.dtype)
    return wide, squares, 4 * (k + 8) * (precision.eps * squares + precision.tiny)


def expansions(wide: Tensor, gallery: Tensor, centre: Tensor, memory: int) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Rows of the gallery, ``‖g‖² − 2 qᵀg`` of shape (q, c), and the items' share in its error."""
    block = min(memory // 4, _CACHED * torch.get_num_threads()) if wide.device.type == "cpu" else memory // 4
    for rows in slices(len(gallery), block // max(wide.shape)):
        items, squares, share = expanded(gallery[rows], centre)
        yield rows, torch.addmm(squares, wide, items.T, alpha=-2), share


def slices(n: int, step: int) -> list[slice]:
    """From 0 to n in parts of at most ``step``, and of at least 1."""
    step = max(1, step)
    return [slice(start, min(start + step, n)) for start in range(0, n, step)]


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
        known = f"{', '.join(map(repr, METRICS[:-1]))} or {METRICS[-1]!r}"
        require(self.name in METRICS, "metric", f"must be {known}", self.name)

    def place(self, embeddings: Tensor) -> Tensor:
        """Embeddings (…, k) as they are compared: where they are, in single precision at least, or on the unit sphere,
        in double precision."""
        return wide(embeddings) if self.name == "euclidean" else unit(embeddings.double())

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
