"""Whether figures of a model under attack can be believed: gradients to follow, embeddings that stay the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from certimetric.base.warnings import warn
from certimetric.deep.attacks.balls import Ball
from certimetric.deep.attacks.base import Attack, with_gradient
from certimetric.deep.goals.base import Goal
from certimetric.deep.models.calling import embed, frozen
from certimetric.deep.models.images import PICTURES, ImageSet, Kind
from certimetric.deep.ranking.distances import distance
from certimetric.deep.retrieval.index import Index

FEW_ZEROS = 0.1  # share of queries without a gradient up to which attacks by gradients are believed
_SAMPLE, _ALONE = 64, 8  # pictures whose gradients are looked at, and that are embedded one by one


def gradient_trouble(model: nn.Module, x: Tensor, goal: Goal) -> tuple[Tensor, Tensor]:
    """Which samples (b, …) have a gradient of zero, and which one that is not finite, bool (b,)."""
    with frozen(model):
        flat = with_gradient(model, x, lambda embeddings: (goal(embeddings), None), finite=False)[1].flatten(1)
    return (flat == 0).all(dim=1), ~flat.isfinite().all(dim=1)


def unsteadiness(model: nn.Module, images: Tensor, kind: Kind = PICTURES) -> str | None:
    """A sentence where the same pictures are not embedded alike again, or alone; None where they are."""
    together, again = (embed(model, images, kind=kind) for _ in range(2))
    alone = torch.cat([embed(model, images[i : i + 1], kind=kind) for i in range(len(images))])
    scale = float(together.norm(dim=1).max()) or 1.0
    if float(distance(together, again).max()) > 1e-4 * scale:
        return "The model is randomised: embedding the same pictures again gives others."
    if float(distance(together, alone).max()) > 1e-3 * scale:
        return "The embedding of a picture depends on the others of its batch."
    return None


def depends_on_mode(model: nn.Module) -> bool:
    """Whether the model is in training mode and has layers that know the difference: dropout, statistics of batches."""
    kinds = (nn.modules.dropout._DropoutNd, nn.modules.batchnorm._NormBase)
    return any(module.training and isinstance(module, kinds) for module in model.modules())


@dataclass(frozen=True)
class Attackable:
    """What is looked at: the model, that which attacks are computed on, and the goal of some queries there."""

    model: nn.Module
    seen: nn.Module
    device: torch.device
    batch_size: int
    goal: Callable[[ImageSet], Goal]

    @classmethod
    def of(cls, index: Index) -> Attackable:
        """Queries of a gallery."""
        seen = index.attacker
        return cls(index.model, seen.model, seen.device, index.batch_size, seen.goal)


def warn_of_attacks(index: Attackable, queries: ImageSet, attacks: Sequence[Attack]) -> None:
    """Warn where figures of a model under these attacks say less than they seem to."""
    if depends_on_mode(index.model):
        warn("the model came in training mode: figures are those of evaluation mode")
    if not attacks:
        return
    few = queries.select(torch.arange(min(_SAMPLE, index.batch_size, len(queries))))
    if told := unsteadiness(index.model, few.tensor()[:_ALONE], few.kind):
        warn(f"figures under attack change from run to run. {told}")
    white = [attack for attack in attacks if attack.uses_gradients and attack.ball.eps > 0]
    if not white:
        return
    ball, x = white[0].ball, few.tensor().to(index.device)
    # Not at the pictures themselves: there, goals such as a shift of the embedding have no gradient yet.
    draws = torch.Generator(device=x.device).manual_seed(0)
    start = ball.random_start(x, draws) if isinstance(ball, Ball) else x
    zero, infinite = gradient_trouble(index.seen, start, index.goal(few))
    n = len(few)
    if bool(infinite.any()):
        n_blind = int(infinite.sum())
        warn(f"{n_blind} of {n} queries have a gradient that is not finite: attacks by gradients are blind there")
    if float(zero.double().mean()) > FEW_ZEROS:
        warn(
            f"{int(zero.sum())} of {n} queries have a gradient of zero: attacks by gradients are blind there, compare "
            "SquareAttack or NESAttack"
        )
