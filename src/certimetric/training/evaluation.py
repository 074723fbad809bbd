"""``[evaluation]``: R@1 on the test side while training goes on, clean and under PGD."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from certimetric.base.arguments import require
from certimetric.datasets.images.sets import Images

if TYPE_CHECKING:
    from torch import nn


class Evaluation:
    """What is asked of the test side, and when.

    Parameters
    ----------
    every : int, default=0
        Epochs between evaluations; 0 for the end only.
    queries : int, default=500
        Images that are asked for, always the same; all of the side is the gallery.
    norm : {"linf", "l2"}, default="linf"
    eps : float, optional
        Radius of the attack; None for no evaluation.
    steps : int, default=20
        Of PGD.
    """

    def __init__(
        self,
        every: int = 0,
        queries: int = 500,
        norm: Literal["linf", "l2"] = "linf",
        eps: float | None = None,
        steps: int = 20,
    ):
        require(every >= 0, "every", "must be at least 0", every)
        require(queries >= 1, "queries", "must be at least 1", queries)
        require(eps is None or eps >= 0, "eps", "must not be negative", eps)
        require(steps >= 1, "steps", "must be at least 1", steps)
        wanted = "needs eps, the size of the perturbation"
        require(every == 0 or eps is not None, "every", wanted, every, beside=["eps"])
        self.every, self.queries, self.norm, self.eps, self.steps = every, queries, norm, eps, steps

    @property
    def sides(self) -> tuple[str, ...]:
        """Sides of the image set that a run needs."""
        return ("train",) if self.eps is None else ("train", "test")

    def is_due(self, epoch: int, epochs: int) -> bool:
        """Whether there is one after an epoch."""
        return self.eps is not None and (epoch >= epochs or bool(self.every and epoch % self.every == 0))

    def __call__(self, model: nn.Module, data: Images) -> dict[str, float]:
        """R@1, clean and attacked."""
        import torch

        from certimetric.deep import PGD, ImageSet, evaluate_retrieval
        from certimetric.deep.defenses.base import training_ball

        assert self.eps is not None
        gallery = ImageSet(data.images, torch.from_numpy(data.labels))
        rows = torch.randperm(len(data), generator=torch.Generator().manual_seed(0))[: self.queries].sort().values
        attack = PGD(training_ball(self.norm, self.eps), self.steps)
        queries = gallery.select(rows)
        found = evaluate_retrieval(model, queries, gallery, attacks=[attack], with_pixels=False, with_nmi=False)
        clean, attacked = found.rows
        return {"recall_at_1": clean["recall_at_1"], "attacked": attacked["recall_at_1"]}
