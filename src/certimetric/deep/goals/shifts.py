"""Goals of one embedding: away from a reference, or towards one."""

from __future__ import annotations

import torch
from torch import Tensor

from certimetric.deep.goals.base import LevelGoal
from certimetric.deep.ranking.distances import EmbeddingMetric

ALIKE = 0.99  # cosine from which an embedding counts as another one


class AwayFromPositive(LevelGoal):
    """Distance to a reference, such as the nearest positive of each sample; broken from ``reach`` on.

    Parameters
    ----------
    references : tensor of shape (b, k)
        Embeddings; no gradient flows into them.
    reach : tensor of shape (b,) or float, optional
        By default the distance at which an embedding of the length of its reference stops counting as the same: that
        of a cosine of 0.99, 0.14 of the length.
    metric : {"euclidean", "cosine", "normalized-euclidean"}, default="euclidean"
        How distances are measured.

    Examples
    --------
    >>> references = torch.tensor([[0.0, 0.0], [0.0, 2.0]])
    >>> moved = torch.tensor([[1.0, 0.0], [0.0, 3.0]])
    >>> goal = AwayFromPositive(references, reach=1.0)
    >>> goal(moved).tolist(), goal.broken(moved).tolist()
    ([1.0, 1.0], [True, True])
    """

    per_sample = ("references", "reach")

    def __init__(self, references: Tensor, reach: Tensor | float | None = None, *, metric: str = "euclidean"):
        self.metric = EmbeddingMetric(metric)
        self.references = self.metric.place(references.detach())
        if reach is not None:
            reach = torch.as_tensor(reach, device=references.device).expand(len(references))
        self.reach = reach

    def __call__(self, embeddings: Tensor) -> Tensor:
        return self.metric.paired(self.metric.place(embeddings), self.references)

    def level(self) -> Tensor:
        if self.reach is not None:
            return self.reach
        length = torch.linalg.vector_norm(self.references.double(), dim=-1)
        return self.metric.of_squares(2 * (1 - ALIKE) * length**2)


class EmbeddingShift(AwayFromPositive):
    """Distance from the clean embedding of the sample itself; broken as :class:`AwayFromPositive` is.

    Parameters
    ----------
    references : tensor of shape (b, k)
        Embeddings of the clean samples.
    reach, metric
        As of :class:`AwayFromPositive`.

    Examples
    --------
    >>> clean = torch.tensor([[3.0, 0.0], [0.0, 3.0]])
    >>> EmbeddingShift(clean).broken(torch.tensor([[3.0, 0.1], [1.0, 3.0]])).tolist()
    [False, True]
    """


class TowardsNegative(AwayFromPositive):
    """Minus the distance to a reference of another class; broken within ``reach``, by default where the two are alike.

    Parameters are those of :class:`AwayFromPositive`.

    Examples
    --------
    >>> references = torch.tensor([[0.0, 0.0], [0.0, 2.0]])
    >>> moved = torch.tensor([[1.0, 0.0], [0.0, 3.0]])
    >>> goal = TowardsNegative(references, reach=1.0)
    >>> goal(moved).tolist(), goal.broken(moved).tolist()
    ([-1.0, -1.0], [True, True])
    """

    def __call__(self, embeddings: Tensor) -> Tensor:
        return -super().__call__(embeddings)

    def level(self) -> Tensor:
        return -super().level()


class TargetEmbedding(TowardsNegative):
    """Minus the distance to a wanted embedding; broken within ``reach`` of it, by default where the two are alike.

    Parameters
    ----------
    references : tensor of shape (b, k)
        The wanted embeddings.
    reach, metric
        As of :class:`AwayFromPositive`.

    Examples
    --------
    >>> goal = TargetEmbedding(torch.tensor([[1.0, 0.0]]), reach=0.5)
    >>> goal.broken(torch.tensor([[1.0, 0.25]])).tolist()
    [True]
    """


class Dodging(AwayFromPositive):
    """A genuine pair is rejected: the probe gets farther from its enrolled reference than the threshold.

    Parameters
    ----------
    references : tensor of shape (b, k)
        Enrolled embeddings, one for each probe.
    threshold : float or tensor of shape (b,)
        A pair is accepted where its distance is at most this.
    metric : {"euclidean", "cosine", "normalized-euclidean"}, default="euclidean"

    Examples
    --------
    >>> goal = Dodging(torch.tensor([[0.0], [0.0]]), 1.0)
    >>> goal(torch.tensor([[1.0], [1.5]])), goal.broken(torch.tensor([[1.0], [1.5]]))
    (tensor([1.0000, 1.5000], dtype=torch.float64), tensor([False,  True]))
    """

    def __init__(self, references: Tensor, threshold: Tensor | float, *, metric: str = "euclidean"):
        # Beyond the threshold, not at it: from the next number on.
        limit = torch.as_tensor(threshold, dtype=torch.double, device=references.device)
        super().__init__(references, torch.nextafter(limit, torch.full_like(limit, torch.inf)), metric=metric)


class Impersonation(TowardsNegative):
    """An impostor pair is accepted: the probe comes within the threshold of an enrolled reference of another subject.

    Parameters are those of :class:`Dodging`.

    Examples
    --------
    >>> goal = Impersonation(torch.tensor([[0.0], [0.0]]), 1.0)
    >>> goal.broken(torch.tensor([[1.0], [1.5]])).tolist()
    [True, False]
    """

    def __init__(self, references: Tensor, threshold: Tensor | float, *, metric: str = "euclidean"):
        limit = torch.as_tensor(threshold, dtype=torch.double, device=references.device)
        super().__init__(references, limit, metric=metric)


class TargetedMismatch(TargetEmbedding):
    """Cosine of the embedding with that of another picture (TMA); broken from 0.99 on.

    Parameters
    ----------
    targets : tensor of shape (b, k)
        Embeddings.

    References
    ----------
    Tolias et al., *Targeted mismatch adversarial attack*, arXiv 1908.09163 [tolias2019targeted].

    Examples
    --------
    >>> goal = TargetedMismatch(torch.tensor([[2.0, 0.0]]))
    >>> goal(torch.tensor([[3.0, 4.0]])).item().__round__(6), goal.broken(torch.tensor([[5.0, 0.0]])).tolist()
    (0.6, [True])
    """

    def __init__(self, targets: Tensor):
        super().__init__(targets, metric="cosine")

    def __call__(self, embeddings: Tensor) -> Tensor:
        return 1.0 + super().__call__(embeddings)

    def level(self) -> Tensor:
        return 1.0 + super().level()
