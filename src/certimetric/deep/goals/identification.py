"""Goals of a probe that is looked for among the enrolled: not to be found as who it is, or to be taken for anyone."""

from __future__ import annotations

import torch
from torch import Tensor

from certimetric.base.arguments import chosen
from certimetric.deep.goals.base import LevelGoal
from certimetric.deep.ranking.distances import EmbeddingMetric

TEMPLATES = ("nearest", "mean", "multi")


class Templates:
    """What is kept of the enrolled pictures of each subject, and the distance of probes to a subject.

    Parameters
    ----------
    embeddings : tensor of shape (n, k)
        Of enrolled pictures; no gradient flows into them.
    labels : int tensor of shape (n,)
        Their subjects.
    kind : {"nearest", "mean", "multi"}, default="nearest"
        The distance to a subject is that to the nearest of its pictures, to the mean of their embeddings (on the unit
        sphere scaled to length 1 again), or the mean of the distances to all of its pictures.
    metric : {"euclidean", "cosine", "normalized-euclidean"}, default="euclidean"

    Attributes
    ----------
    subjects : int tensor of shape (s,)

    Examples
    --------
    >>> points, labels = torch.tensor([[0.0], [2.0], [9.0]]), torch.tensor([5, 5, 7])
    >>> [Templates(points, labels, kind)(torch.tensor([[2.0]]))[0].tolist() for kind in TEMPLATES]
    [[0.0, 7.0], [1.0, 7.0], [1.0, 7.0]]
    """

    def __init__(self, embeddings: Tensor, labels: Tensor, kind: str = "nearest", metric: str = "euclidean"):
        chosen("templates", kind, TEMPLATES)
        self.kind, self.metric = kind, EmbeddingMetric(metric)
        self.subjects, self.codes = torch.unique(labels.to(embeddings.device), return_inverse=True)
        self.counts = torch.bincount(self.codes).double()
        points = self.metric.place(embeddings.detach()).double()
        if kind == "mean":
            total = torch.zeros(len(self.subjects), points.shape[1], dtype=torch.double, device=points.device)
            points = self.metric.place(total.index_add_(0, self.codes, points) / self.counts[:, None])
        self.points = points

    def __call__(self, embeddings: Tensor) -> Tensor:
        """Distances (b, s) of embeddings (b, k) to each subject, differentiable."""
        found = self.metric.between(self.metric.place(embeddings), self.points)
        if self.kind == "mean":
            return found
        which = self.codes.expand(found.shape)
        empty = torch.zeros(len(found), len(self.subjects), dtype=found.dtype, device=found.device)
        if self.kind == "nearest":
            return empty.scatter_reduce(1, which, found, "amin", include_self=False)
        return empty.scatter_add(1, which, found) / self.counts


class MissedIdentification(LevelGoal):
    """An enrolled subject is not found: its distance passes the threshold, or another subject is as near.

    Parameters
    ----------
    labels : int tensor of shape (b,)
        Subjects of the probes, all of them enrolled.
    templates : Templates
    threshold : float
        A probe is accepted where the distance to the nearest subject is at most this.

    Raises
    ------
    ValueError
        If a probe is of a subject that is not enrolled.

    Examples
    --------
    >>> templates = Templates(torch.tensor([[0.0], [4.0]]), torch.tensor([7, 8]))
    >>> goal = MissedIdentification(torch.tensor([7, 7]), templates, threshold=1.0)
    >>> goal.broken(torch.tensor([[0.5], [1.5]])).tolist()
    [False, True]
    """

    per_sample = ("own",)

    def __init__(self, labels: Tensor, templates: Templates, threshold: float):
        same = labels.to(templates.subjects.device)[:, None] == templates.subjects
        if not bool(same.any(dim=1).all()):
            raise ValueError("a probe that is to be missed must be of an enrolled subject")
        self.own, self.templates = same.long().argmax(dim=1), templates
        limit = torch.tensor(float(threshold), dtype=torch.double)
        self.limit = float(torch.nextafter(limit, torch.full_like(limit, torch.inf)))

    def __call__(self, embeddings: Tensor) -> Tensor:
        distances = self.templates(embeddings)
        own = distances.gather(1, self.own[:, None])[:, 0]
        others = distances.scatter(1, self.own[:, None], torch.inf).amin(dim=1)
        return own - others.clamp_max(self.limit)


class FalseIdentification(LevelGoal):
    """A subject that is not enrolled is taken for one that is: the nearest comes within the threshold.

    Parameters
    ----------
    templates : Templates
    threshold : float

    Examples
    --------
    >>> templates = Templates(torch.tensor([[0.0], [4.0]]), torch.tensor([7, 8]))
    >>> FalseIdentification(templates, threshold=1.0).broken(torch.tensor([[2.0], [3.5]])).tolist()
    [False, True]
    """

    def __init__(self, templates: Templates, threshold: float):
        self.templates, self.threshold = templates, float(threshold)

    def __call__(self, embeddings: Tensor) -> Tensor:
        return -self.templates(embeddings).amin(dim=1)

    def level(self) -> float:
        return -self.threshold
