"""Robust training at the price of natural training, or little more: one step with a guard, and free perturbations."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from certimetric.deep.attacks.balls import Ball, LinfBall
from certimetric.deep.attacks.gradient import PGD
from certimetric.deep.defenses.base import EPS, Defense, Loss, Miner, batch_loss, without_memory
from certimetric.deep.defenses.batches import attacked_jointly, mined
from certimetric.deep.defenses.memory import Places, memory_places, set_memory_places
from certimetric.deep.models.calling import frozen

_FULL_STEP = 1.25  # of the radius, from a random start
_SMALLEST_STEP = 0.25
_MANY_STEPS = 5
_SHARE = 0.5  # of the harm that many steps do: a single step that does less no longer finds what there is


class SingleStepDefense(Defense):
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
    ball : Ball, default=None
        None for the l∞ ball of 0.01.
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
    Wong et al., *Fast is better than free*, arXiv 2001.03994; points on the way after Kim et al., arXiv 2010.01799;
    what overfits, Andriushchenko & Flammarion, arXiv 2007.02617.
    """

    def __init__(self, ball: Ball | None = None, points: int = 2, check_every: int = 50):
        if points < 1 or check_every < 0:
            raise ValueError(f"points must be at least 1 and check_every at least 0, got {points} and {check_every}")
        self.ball = LinfBall(EPS) if ball is None else ball
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

    def loss(
        self, model: nn.Module, images: Tensor, labels: Tensor, loss_fn: Loss, miner: Miner | None = None
    ) -> Tensor:
        found, empty = mined(model, images, labels, miner)
        if empty:
            return self._nothing(model(images))
        if self.check_every and self._batches % self.check_every == 0:
            self._check(model, images, labels, loss_fn, found)
        self._batches += 1
        perturbed = self._perturbed(model, images, labels, loss_fn, found, self.step)
        if self.points > 1:
            way = [images + (i + 1) / self.points * (perturbed - images) for i in range(self.points)]
            harms = torch.stack([harm(model, x, labels, loss_fn, found) for x in way])
            perturbed = way[int(harms.argmax())]
        return batch_loss(loss_fn, model(perturbed), labels, found)

    def _perturbed(
        self, model: nn.Module, images: Tensor, labels: Tensor, loss_fn: Loss, found: Any, step: float
    ) -> Tensor:
        attack = PGD(self.ball, 1, step * self.ball.eps)
        return attacked_jointly(attack, model, images, labels, loss_fn, found)

    def _check(self, model: nn.Module, images: Tensor, labels: Tensor, loss_fn: Loss, found: Any) -> None:
        """Keep the weights, or return to those that were kept."""
        many = PGD(self.ball, _MANY_STEPS, 2.0 * self.ball.eps / _MANY_STEPS)
        points = (
            images,
            self._perturbed(model, images, labels, loss_fn, found, _FULL_STEP),
            attacked_jointly(many, model, images, labels, loss_fn, found),
        )
        clean, one, several = (float(harm(model, x, labels, loss_fn, found)) for x in points)
        overfitted = one - clean < _SHARE * (several - clean)
        if not overfitted or not self._kept:
            self._keep(model, loss_fn)
        elif self.step > _SMALLEST_STEP:
            self._take_back(model, loss_fn)
            self.step, self.restored = max(self.step / 2, _SMALLEST_STEP), self.restored + 1

    def _keep(self, model: nn.Module, loss_fn: Loss) -> None:
        self._kept = {name: value.detach().clone() for name, value in self._weights(model, loss_fn).items()}
        self._places = memory_places(loss_fn)
        if self._optimizer is not None:
            self._moments = copy.deepcopy(self._optimizer.state_dict()["state"])

    @torch.no_grad()
    def _take_back(self, model: nn.Module, loss_fn: Loss) -> None:
        for name, value in self._weights(model, loss_fn).items():
            value.copy_(self._kept[name])
        set_memory_places(loss_fn, self._places)
        if self._optimizer is not None:
            # Moments of the weights that are given up would carry the next steps there again. Learning rates stay.
            groups = self._optimizer.state_dict()["param_groups"]
            self._optimizer.load_state_dict({"state": copy.deepcopy(self._moments), "param_groups": groups})

    def _weights(self, model: nn.Module, loss_fn: Loss) -> dict[str, Tensor]:
        """Parameters and buffers of model and loss, and of what follows them."""
        modules = {"model": model, **({"loss": loss_fn} if isinstance(loss_fn, nn.Module) else {})}
        modules |= {f"follower{i}": module for i, module in enumerate(self._followers)}
        return {
            f"{name}.{key}": value
            for name, module in modules.items()
            for key, value in module.state_dict().items()
            if isinstance(value, Tensor)
        }

    def state_dict(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "restored": self.restored,
            "batches": self._batches,
            "kept": dict(self._kept),
            "moments": self._moments,
            "places": self._places,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.step, self.restored, self._batches = state["step"], state["restored"], state["batches"]
        self._kept, self._moments, self._places = dict(state["kept"]), state["moments"], state["places"]


class FreeDefense(Defense):
    """Free adversarial training: the gradient of the update perturbs the next pass over the same batch.

    One backward pass gives the gradient in the weights and that in the images. A training loop takes the loss of each
    batch ``replays`` times, with a step of the optimiser each time, and has perturbations of so many steps at no
    further cost; for the cost of natural training divide the epochs by ``replays``. The perturbation is handed on from
    batch to batch.

    Parameters
    ----------
    ball : Ball, default=None
        None for the l∞ ball of 0.01.
    replays : int, default=4

    References
    ----------
    Shafahi et al., *Adversarial training for free!*, arXiv 1904.12843.
    """

    def __init__(self, ball: Ball | None = None, replays: int = 4):
        if replays < 1:
            raise ValueError(f"replays of FreeDefense must be at least 1, got {replays}")
        self.ball, self.replays = LinfBall(EPS) if ball is None else ball, replays
        self._change: Tensor | None = None

    def loss(
        self, model: nn.Module, images: Tensor, labels: Tensor, loss_fn: Loss, miner: Miner | None = None
    ) -> Tensor:
        change = self._change
        if change is None or change.shape != images.shape:
            change = torch.zeros_like(images)
        # The ball and the bounds are those of the images of this batch.
        x = self.ball.project(images + change.to(images), images).detach().requires_grad_(True)

        def ascend(gradient: Tensor) -> None:
            with torch.no_grad():
                moved = self.ball.step(x, torch.nan_to_num(gradient), self.ball.eps)
                self._change = self.ball.project(moved, images) - images

        x.register_hook(ascend)
        embeddings = model(x)
        # Mined on the pass that there is anyway: another on the clean batch would not be free.
        found = None if miner is None else miner(embeddings.detach(), labels)
        return batch_loss(loss_fn, embeddings, labels, found)

    def state_dict(self) -> dict[str, Any]:
        return {} if self._change is None else {"change": self._change}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._change = state.get("change")


@torch.no_grad()
def harm(model: nn.Module, x: Tensor, labels: Tensor, loss_fn: Loss, found: Any) -> Tensor:
    """Loss of a batch on fixed tuples, the model in evaluation mode as attacks have it; a memory takes nothing in."""
    with frozen(model):
        return without_memory(loss_fn)(model(x), labels, found)
