"""Robust training on one device or several: any model, a metric loss, a defense, an optimiser by name; resumable."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from certimetric.base.arguments import chosen, require
from certimetric.deep.defenses import Defense, Miner, NoDefense
from certimetric.deep.defenses.loss_support import check_loss, memory_places, set_memory_places
from certimetric.deep.models.calling import seed_all, seeded
from certimetric.deep.models.images import PICTURES, Kind
from certimetric.deep.train.batches import Augmentation
from certimetric.deep.train.checkpoints import load_checkpoint, save_checkpoint
from certimetric.deep.train.named_parameters import frozen_parts, parameter_groups
from certimetric.deep.train.parallel import ShardedModel, add_gradients, gather_batch
from certimetric.deep.train.precision import PreciseModel

Callback = Callable[["RobustTrainer", int, float], Any]

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd": partial(torch.optim.SGD, momentum=0.9),
}
SCHEDULES: dict[str, Callable[..., Any] | None] = {
    "constant": None,
    "cosine": torch.optim.lr_scheduler.CosineAnnealingLR,  # down to 0 in the last epoch
}


def optimizer_of(
    optimizer: str = "adam", learning_rate: float = 1e-3, weight_decay: float = 4e-4
) -> Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]:
    """What makes an optimiser for parameters, as `RobustTrainer` takes it.

    Raises
    ------
    ValueError
        If the name is unknown, or a number does not fit.

    Examples
    --------
    >>> optimizer_of("sgd", 0.1)(nn.Linear(2, 2).parameters()).param_groups[0]["momentum"]
    0.9
    """
    chosen("optimizer", optimizer, OPTIMIZERS)
    require(learning_rate > 0, "learning_rate", "must be positive", learning_rate)
    require(weight_decay >= 0, "weight_decay", "must not be negative", weight_decay)
    return partial(OPTIMIZERS[optimizer], lr=learning_rate, weight_decay=weight_decay)


def scheduler_of(
    schedule: str = "constant", max_epochs: int = 20, warmup: int = 0
) -> Callable[[torch.optim.Optimizer], Any] | None:
    """What makes a schedule for an optimiser, as `RobustTrainer` takes it; None for a constant learning rate.

    In each of the first ``warmup`` epochs the rate is larger by the same step, up to that of the optimiser after them.

    Examples
    --------
    >>> optimizer = torch.optim.SGD(nn.Linear(2, 2).parameters(), lr=0.4)
    >>> scheduler, rates = scheduler_of("constant", 20, warmup=3)(optimizer), []
    >>> for _ in range(5):
    ...     rates.append(round(optimizer.param_groups[0]["lr"], 3))
    ...     optimizer.step()
    ...     scheduler.step()
    >>> rates
    [0.1, 0.2, 0.3, 0.4, 0.4]
    """
    chosen("schedule", schedule, SCHEDULES)
    require(0 <= warmup < max_epochs, "warmup", "must be at least 0 and less than the epochs", warmup)
    made = SCHEDULES[schedule]
    after = None if made is None else partial(made, T_max=max_epochs - warmup)
    if not warmup:
        return after
    before = partial(torch.optim.lr_scheduler.LinearLR, start_factor=1 / (warmup + 1), total_iters=warmup)
    return before if after is None else partial(_in_turn, before, after, warmup)


def _in_turn(before: Any, after: Any, epochs: int, optimizer: torch.optim.Optimizer) -> Any:
    parts = [before(optimizer), after(optimizer)]
    return torch.optim.lr_scheduler.SequentialLR(optimizer, parts, milestones=[epochs])


class RobustTrainer:
    """Train an embedding model with a metric loss under a defense.

    Lightning Fabric places it: one CPU, one GPU, or several processes, by the same script under ``fabric run`` or
    ``torchrun``. With several, tuples are mined over the batches of all processes together, and the update is that of
    one process with the whole batch.

    Parameters
    ----------
    model : Module
        Images (b, c, h, w) from 0 to 1 to embeddings (b, k).
    loss : callable
        Of pytorch-metric-learning, but for the few that ``certimetric.deep.defenses.loss_support`` names, or any
        callable of ``(embeddings, labels, indices_tuple)``; its own parameters, if any, are trained too.
    miner : callable, optional
    defense : Defense, optional
        None for natural training.
    optimizer : callable, optional
        ``optimizer(parameters)``, of a list of parameters or, with ``learning_rates``, of groups of them; None for
        ``optimizer_of()`` of ``certimetric.deep.train``: Adam with a learning rate of 0.001 and weight decay of 0.0004.
    scheduler : callable, optional
        ``scheduler(optimizer)``, stepped once an epoch.
    max_epochs : int, default=20
    eps_warmup : int, default=0
        Epochs in which the radius of the defense is larger by the same step each time, up to its own after them: a
        model that cannot yet tell classes apart learns from a strong attacker that they are all at one point.
    freeze : sequence of str, optional
        Parts that stay as they are, statistics of batches included: beginnings of names of parameters, under ``model``
        and ``loss``, such as "model.body.layer1".
    learning_rates : mapping of str to float, optional
        Rates of parts of their own, by beginnings of names too, the longest that fits counts: ``{"loss": 0.1}``.
    accumulate : int, default=1
        Batches whose mean gradient is one update.
    clip_norm : float, optional
        Length to which the gradient of an update is shortened.
    ema : float, optional
        Keep ``ema_model``, in which parameters are averaged with this decay.
    accelerator, devices, strategy, precision
        Of Fabric; ``strategy="ddp"`` for several processes, ``precision="bf16-mixed"`` for less memory. "16-mixed" is
        refused: it would need gradients to be scaled, in attacks too.
    augment : callable, optional
        ``augment(images)`` of every batch before it is used, such as one of torchvision's transforms.
    loggers : sequence of Fabric loggers, optional
        The mean loss of every epoch goes to them.
    checkpoint_dir : path, optional
        Where a checkpoint is written after every epoch.
    callbacks : sequence of callable
        ``callback(trainer, epoch, mean_loss)`` after every epoch. One with a method ``resumed(trainer, epoch)`` is told
        of a checkpoint that was loaded, before training goes on.
    seed : int, default=0
        Same seed, same run, also when it was interrupted between. The global random numbers of torch, NumPy and Python
        are seeded with it, for models, losses and augmentations that draw from them, and go on afterwards as if nothing
        had been drawn.
    verbose : bool, default=False
    kind : Kind, optional
        What is trained on, where it is no pictures: ``samples.kind``. The balls of attacks have bounds of their own.

    Attributes
    ----------
    history : list of float
        Mean loss of every epoch.
    ema_model : Module or None
    is_main : bool
        Whether this process is the first, which writes and tells.

    Examples
    --------
    >>> from pytorch_metric_learning.losses import TripletMarginLoss
    >>> from certimetric.deep import PGD, LinfBall, TupleDefense, embedding_model
    >>> images, labels = torch.rand(16, 1, 8, 8), torch.arange(16) % 4
    >>> loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(images, labels), batch_size=16)
    >>> defense = TupleDefense("anchor", PGD(LinfBall(0.1), steps=2))
    >>> trainer = RobustTrainer(embedding_model("small-cnn", 8), TripletMarginLoss(0.2), defense=defense, max_epochs=1)
    >>> len(trainer.fit(loader).history)
    1
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Callable[..., Tensor],
        *,
        miner: Miner | None = None,
        defense: Defense | None = None,
        optimizer: Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer] | None = None,
        scheduler: Callable[[torch.optim.Optimizer], Any] | None = None,
        max_epochs: int = 20,
        eps_warmup: int = 0,
        freeze: Sequence[str] = (),
        learning_rates: Mapping[str, float] | None = None,
        accumulate: int = 1,
        clip_norm: float | None = None,
        ema: float | None = None,
        accelerator: Literal["auto", "cpu", "gpu", "cuda", "mps", "tpu"] = "auto",
        devices: int = 1,
        strategy: Literal["auto", "ddp"] = "auto",
        precision: Literal["32-true", "bf16-mixed", "bf16-true", "64-true"] | None = None,
        augment: Augmentation | None = None,
        loggers: Sequence[Any] = (),
        checkpoint_dir: str | os.PathLike[str] | None = None,
        callbacks: Sequence[Callback] = (),
        seed: int = 0,
        verbose: bool = False,
        kind: Kind = PICTURES,
    ):
        require(max_epochs >= 1, "max_epochs", "must be at least 1", max_epochs)
        require(accumulate >= 1, "accumulate", "must be at least 1", accumulate)
        require(clip_norm is None or clip_norm > 0, "clip_norm", "must be positive", clip_norm)
        for prefix, rate in (learning_rates or {}).items():
            require(rate > 0, "learning_rates", "must be positive", {prefix: rate})
        require(ema is None or 0 < ema < 1, "ema", "must lie between 0 and 1", ema)
        require(devices >= 1, "devices", "must be at least 1", devices)
        require(seed >= 0, "seed", "must be at least 0", seed)
        half = str(precision).startswith("16")
        require(not half, "precision", "must be 'bf16-mixed', '32-true' or '64-true'", precision)
        require(0 <= eps_warmup < max_epochs, "eps_warmup", "must be at least 0 and less than the epochs", eps_warmup)
        self.model, self.loss, self.miner = model, loss, miner
        self.eps_warmup = eps_warmup
        self.defense = NoDefense() if defense is None else defense
        self.optimizer, self.scheduler = optimizer, scheduler
        self.max_epochs, self.ema, self.seed = max_epochs, ema, seed
        self.accelerator, self.devices, self.strategy, self.precision = accelerator, devices, strategy, precision
        self.augment, self.loggers = augment, loggers
        self.checkpoint_dir, self.callbacks, self.verbose = checkpoint_dir, callbacks, verbose
        self.history: list[float] = []
        self.ema_model: nn.Module | None = None
        self.is_main = True
        self.kind = kind
        self.freeze, self.learning_rates = tuple(freeze), dict(learning_rates or {})
        self.accumulate, self.clip_norm = accumulate, clip_norm
        replays = self.defense.replays
        require(accumulate == 1 or replays == 1, "accumulate", "must be 1 where batches are replayed", accumulate)

    @property
    def trained(self) -> nn.Module:
        """The model that training gives: the average of its weights, where that is kept."""
        return self.model if self.ema_model is None else self.ema_model

    def fit(self, loader: Iterable[tuple[Tensor, Tensor]], resume: bool = False) -> RobustTrainer:
        """Train on batches (images, labels).

        Parameters
        ----------
        loader : iterable of (images, labels)
            A DataLoader, say: every iteration is an epoch, and draws from the global random numbers, which are seeded
            anew for each epoch.
        resume : bool, default=False
            Go on from the checkpoint in ``checkpoint_dir``, if there is one.

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            On images that are not from 0 to 1, a loss that cannot be trained or is not finite, a damaged checkpoint, or
            ``resume`` without a folder.
        """
        from lightning.fabric import Fabric

        if resume and self.checkpoint_dir is None:
            raise ValueError("resume needs a checkpoint_dir")
        without = f"must be 0 under {type(self.defense).__name__}, which has no radius"
        require(not self.eps_warmup or self.defense.has_radius, "eps_warmup", without, self.eps_warmup)
        check_loss(self.loss, tuples=self.miner is not None)
        placing: dict[str, Any] = {"accelerator": self.accelerator, "devices": self.devices, "strategy": self.strategy}
        fabric = Fabric(**placing, precision=self.precision, loggers=list(self.loggers))
        fabric.launch()
        self.is_main = fabric.global_rank == 0
        trained = {"model": self.model} | ({"loss": self.loss} if isinstance(self.loss, nn.Module) else {})
        for module in trained.values():
            module.to(fabric.device)
        groups = parameter_groups(trained, self.learning_rates, self.freeze)
        optimizer = (self.optimizer or optimizer_of())(groups)
        scheduler = None if self.scheduler is None else self.scheduler(optimizer)
        if self.ema is not None:
            self.ema_model = copy.deepcopy(self.model).requires_grad_(False)
        self.history = []
        start = self._restore(optimizer, scheduler) if resume else 0
        for callback in self.callbacks:
            if start and hasattr(callback, "resumed"):
                callback.resumed(self, start)
        self.defense.attach(optimizer, *([] if self.ema_model is None else [self.ema_model]))
        still = frozen_parts(trained, self.freeze)
        fixed = [p for part in still for p in part.parameters(recurse=False) if p.requires_grad]
        try:
            for parameter in fixed:
                parameter.requires_grad_(False)
            with seeded(self.seed):
                self._train(
                    fabric, loader, range(start, self.max_epochs), [*trained.values()], still, optimizer, scheduler
                )
        finally:
            for parameter in fixed:
                parameter.requires_grad_(True)
        return self

    def _train(
        self,
        fabric: Any,
        loader: Iterable[tuple[Tensor, Tensor]],
        epochs: range,
        trained: list[nn.Module],
        still: list[nn.Module],
        optimizer: torch.optim.Optimizer,
        scheduler: Any,
    ) -> None:
        several = fabric.world_size > 1
        model = self.model if self.precision is None else PreciseModel(self.model, fabric.autocast)
        model = ShardedModel(model) if several else model
        for epoch in epochs:
            seed_all(1_000_003 * self.seed + epoch)
            self.defense.shrink(min((epoch + 1) / (self.eps_warmup + 1), 1.0))
            losses = []
            for module in trained:
                module.train()
            for module in still:
                module.eval()
            held = 0  # batches since the last update
            for images, labels in loader:
                images, labels = images.to(fabric.device), labels.to(fabric.device)
                if several:
                    images, labels = gather_batch(images, labels)
                self.kind.check(images)
                if self.augment is not None:
                    images = self.augment(images)
                    self.kind.check(images)
                for _ in range(self.defense.replays):
                    if not held:
                        optimizer.zero_grad()
                    loss = self.defense.loss(model, images, labels, self.loss, self.miner)
                    if not bool(torch.isfinite(loss)):
                        raise ValueError(f"the loss of epoch {epoch + 1} is not finite: {float(loss.detach())}")
                    loss.backward()
                    losses.append(loss.detach())
                    held += 1
                    if held == self.accumulate:
                        self._update(optimizer, held, several)
                        held = 0
            if held:
                self._update(optimizer, held, several)
            if not losses:
                raise ValueError("the loader gives no batches")
            if scheduler is not None:
                scheduler.step()
            self.history.append(float(torch.stack(losses).mean()))
            fabric.log("loss", self.history[-1], step=epoch + 1)
            for logger in fabric.loggers:
                logger.save()  # loggers keep what they are told for a while: an interrupted run would lose it
            if self.is_main:
                self._save(epoch + 1, optimizer, scheduler)
                if self.verbose:
                    print(f"epoch {epoch + 1:3d} of {self.max_epochs}  loss {self.history[-1]:.4f}", flush=True)
            for callback in self.callbacks:
                callback(self, epoch + 1, self.history[-1])

    def _update(self, optimizer: torch.optim.Optimizer, batches: int, several: bool) -> None:
        """A step along the mean gradient of some batches."""
        if several:  # parameters of the loss have seen the whole of the batch in every process
            add_gradients([value for value in self.model.parameters() if value.requires_grad])
        moved = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        if batches > 1:
            for parameter in moved:
                parameter.grad.div_(batches)
        if self.clip_norm is not None:
            nn.utils.clip_grad_norm_(moved, self.clip_norm)
        optimizer.step()
        self._average()

    @torch.no_grad()
    def _average(self) -> None:
        if self.ema_model is None or self.ema is None:
            return
        for average, value in zip(self.ema_model.parameters(), self.model.parameters()):
            average.lerp_(value, 1.0 - self.ema)
        for average, value in zip(self.ema_model.buffers(), self.model.buffers()):
            average.copy_(value)

    def _modules(self) -> dict[str, nn.Module]:
        modules = {"model": self.model, "loss": self.loss, "ema": self.ema_model}
        return {name: module for name, module in modules.items() if isinstance(module, nn.Module)}

    def _save(self, epoch: int, optimizer: torch.optim.Optimizer, scheduler: Any) -> None:
        if self.checkpoint_dir is None:
            return
        modules = self._modules().items()
        held = {f"{name}.{key}": value for name, module in modules for key, value in module.state_dict().items()}
        tensors = {key: value for key, value in held.items() if isinstance(value, Tensor)}
        state = {
            "optimizer": optimizer.state_dict(),
            "history": self.history,
            "defense": self.defense.state_dict(),
            "memories": memory_places(self.loss),
            "extra": {key: value for key, value in held.items() if key not in tensors},  # of ``get_extra_state``
        }
        if scheduler is not None:
            state["scheduler"] = scheduler.state_dict()
        save_checkpoint(self.checkpoint_dir, epoch, tensors, state)

    def _restore(self, optimizer: torch.optim.Optimizer, scheduler: Any) -> int:
        found = load_checkpoint(self.checkpoint_dir)  # type: ignore[arg-type]  # resume asked for it
        if found is None:
            return 0
        epoch, tensors, state = found
        held = {**tensors, **state.get("extra", {})}
        try:
            for name, module in self._modules().items():
                prefix = f"{name}."
                module.load_state_dict({k.removeprefix(prefix): v for k, v in held.items() if k.startswith(prefix)})
            set_memory_places(self.loss, state.get("memories", {}))
            optimizer.load_state_dict(state["optimizer"])
            if defense := state.get("defense"):
                self.defense.load_state_dict(defense)
            if scheduler is not None:
                scheduler.load_state_dict(state["scheduler"])
        except (KeyError, RuntimeError, ValueError) as error:
            reason = " ".join(str(error).split())[:200]
            raise ValueError(f"the checkpoint in {str(self.checkpoint_dir)!r} is of another model: {reason}") from None
        self.history = list(state["history"])
        return epoch
