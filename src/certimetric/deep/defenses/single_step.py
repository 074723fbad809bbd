"""Robust training at the price of natural training, or little more: one step with a guard, and free perturbations."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from certimetric.base.arguments import require
from certimetric.deep.attacks.balls import Ball
from certimetric.deep.attacks.gradient import PGD
from certimetric.deep.defenses.base import Batch, Defense, training_ball
from certimetric.deep.defenses.batches import PerturbedBatch, attacked_jointly
from certimetric.deep.defenses.loss_support import Places, memory_places, set_memory_places, without_memory
from certimetric.deep.models.calling import frozen

_FULL_STEP = 1.25  # of the radius, from a random start
_SMALLEST_STEP = 0.25
_MANY_STEPS = 5
_STATE = ("step", "restored", "_batches", "_kept", "_moments", "_places")
_SHARE = 0.5  # of the harm that many steps do: a single step that does less no longer finds what there is


class DefenseInBall(Defense):
    """A defense with steps of its own."""

    has_radius = True

    def __init__(self, ball: Ball | None = None):
        self.ball = training_ball() if ball is None else ball

    def _ball_now(self) -> Ball:
        return replace(self.ball, eps=self._shrunk * self.ball.eps)


class SingleStepDefense(PerturbedBatch, DefenseInBall):
    """One step along the gradient from a random start, guarded against catastrophic overfitting.

    Training on a single step may end in a model that withstands this one step and nothing else. Two guards:

    * of ``points`` points on the way of the step, the one with the highest loss is trained on: in a model that begins
      to overfit the end of the step is no longer the worst;
    * every ``check_every`` batches the harm of a full step is set against that of five steps of PGD. Where it does less
      than half of it, the weights return to those of the last check that went well, with the moments of the optimiser
      and what else :meth:`attach` was told of, and steps are half as long from then on (but a quarter of the radius at
      least, where weights are no longer taken back).

    Parameters
    ----------
    ball
        As of :class:`Defense`.
    points : int, default=2
        Forward passes without gradients; 1 for the end of the step alone, which needs none.
    check_every : int, default=50
        Batches between checks; 0 for none.

    Attributes
    ----------
    step : float
        Length of the step as a share of the radius.
    restored : int
        How often the weights were taken back.

    References
    ----------
    Wong et al., *Fast is better than free*, arXiv 2001.03994 [wong2020fast]; points on the way after Kim et al., arXiv
    2010.01799 [kim2020understanding]; what overfits, Andriushchenko & Flammarion, arXiv 2007.02617
    [andriushchenko2020understanding].

    Examples
    --------
    >>> from certimetric.deep import LinfBall
    >>> defense = SingleStepDefense(LinfBall(0.1))
    """

    def __init__(self, ball: Ball | None = None, points: int = 2, check_every: int = 50):
        require(points >= 1, "points", "must be at least 1", points, self)
        require(check_every >= 0, "check_every", "must not be negative", check_every, self)
        super().__init__(ball)
        self.points, self.check_every = points, check_every
        self.step, self.restored = _FULL_STEP, 0
        self._batches = 0
        self._kept: dict[str, Tensor] = {}
        self._moments: dict[Any, Any] = {}
        self._places: Places = {}
        self._optimizer: torch.optim.Optimizer | None = None
        self._followers: tuple[nn.Module, ...] = ()

    def attach(self, optimizer: torch.optim.Optimizer, *followers: nn.Module) -> None:
        self._optimizer, self._followers = optimizer, followers

    def _perturbed(self, batch: Batch, found: Any, embeddings: Tensor | None) -> Tensor:
        if self.check_every and self._batches % self.check_every == 0:
            self._check(batch, found)
        self._batches += 1
        perturbed = self._attacked(batch, found, 1, self.step)
        if self.points == 1:
            return perturbed
        way = [batch.images + (i + 1) / self.points * (perturbed - batch.images) for i in range(self.points)]
        return way[int(torch.stack([harm(batch, x, found) for x in way]).argmax())]

    def _attacked(self, batch: Batch, found: Any, steps: int, share: float) -> Tensor:
        """The batch after steps of a share of the radius."""
        ball = self._ball_now()
        return attacked_jointly(PGD(ball, steps, share * ball.eps), batch.model, batch, found)

    def _check(self, batch: Batch, found: Any) -> None:
        """Keep the weights, or return to those that were kept."""
        points = (
            batch.images,
            self._attacked(batch, found, 1, _FULL_STEP),
            self._attacked(batch, found, _MANY_STEPS, 2.0 / _MANY_STEPS),
        )
        clean, one, several = (float(harm(batch, x, found)) for x in points)
        overfitted = one - clean < _SHARE * (several - clean)
        if not overfitted or not self._kept:
            self._keep(batch)
        elif self.step > _SMALLEST_STEP:
            self._take_back(batch)
            self.step, self.restored = max(self.step / 2, _SMALLEST_STEP), self.restored + 1

    def _keep(self, batch: Batch) -> None:
        self._kept = {name: value.detach().clone() for name, value in self._weights(batch).items()}
        self._places = memory_places(batch.loss_fn)
        if self._optimizer is not None:
            self._moments = copy.deepcopy(self._optimizer.state_dict()["state"])

    @torch.no_grad()
    def _take_back(self, batch: Batch) -> None:
        for name, value in self._weights(batch).items():
            value.copy_(self._kept[name])
        set_memory_places(batch.loss_fn, self._places)
        if self._optimizer is not None:
            # Moments of the weights that are given up would carry the next steps there again. Learning rates stay.
            groups = self._optimizer.state_dict()["param_groups"]
            self._optimizer.load_state_dict({"state": copy.deepcopy(self._moments), "param_groups": groups})

    def _weights(self, batch: Batch) -> dict[str, Tensor]:
        """Parameters and buffers of model and loss, and of what follows them."""
        modules: dict[str, Any] = {"model": batch.model, "loss": batch.loss_fn}
        modules |= {f"follower{i}": module for i, module in enumerate(self._followers)}
        return {
            f"{name}.{key}": value
            for name, module in modules.items()
            if isinstance(module, nn.Module)
            for key, value in module.state_dict().items()
            if isinstance(value, Tensor)
        }

    def state_dict(self) -> dict[str, Any]:
        return {name.lstrip("_"): getattr(self, name) for name in _STATE}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for name in _STATE:
            setattr(self, name, state[name.lstrip("_")])


class FreeDefense(DefenseInBall):
    """Free adversarial training: the gradient of the update perturbs the next pass over the same batch.

    One backward pass gives the gradient in the weights and that in the images. A training loop takes the loss of each
    batch ``replays`` times, with a step of the optimiser each time, and has perturbations of so many steps at no
    further cost; for the cost of natural training divide the epochs by ``replays``. The perturbation is handed on from
    batch to batch.

    Parameters
    ----------
    ball
        As of :class:`Defense`.
    replays : int, default=4

    References
    ----------
    Shafahi et al., *Adversarial training for free!*, arXiv 1904.12843 [shafahi2019adversarial].

    Examples
    --------
    >>> from certimetric.deep import LinfBall
    >>> defense = FreeDefense(LinfBall(0.1))
    """

    def __init__(self, ball: Ball | None = None, replays: int = 4):
        require(replays >= 1, "replays", "must be at least 1", replays, self)
        super().__init__(ball)
        self.replays = replays
        self._change: Tensor | None = None

    def compute_loss(self, batch: Batch) -> Tensor:
        images, change, ball = batch.images, self._change, self._ball_now()
        if change is None or change.shape != images.shape:
            change = torch.zeros_like(images)
        # The ball and the bounds are those of the images of this batch.
        x = ball.project(images + change.to(images), images).detach().requires_grad_(True)

        def ascend(gradient: Tensor) -> None:
            with torch.no_grad():
                moved = ball.step(x, torch.nan_to_num(gradient), ball.eps)
                self._change = ball.project(moved, images) - images

        x.register_hook(ascend)
        # Mined on the pass that there is anyway: another on the clean batch would not be free.
        return batch.loss_of(x)

    def state_dict(self) -> dict[str, Any]:
        return {} if self._change is None else {"change": self._change}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._change = state.get("change")


@torch.no_grad()
def harm(batch: Batch, x: Tensor, found: Any) -> Tensor:
    """Loss of images on fixed tuples, the model in evaluation mode as attacks have it; a memory takes nothing in."""
    with frozen(batch.model):
        return without_memory(batch.loss_fn)(batch.model(x), batch.labels, found)
