"""What each section of a configuration configures; their keys are the parameters of these."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from certimetric.base.arguments import require
from certimetric.base.wording import did_you_mean
from certimetric.datasets.images.pixels import check_size
from certimetric.datasets.images.sets import Images, load_images
from certimetric.training.keys import Key, Part

if TYPE_CHECKING:
    from torch import nn

# Short names of losses with the settings of the paper; every other loss goes by its class.
LOSSES: dict[str, tuple[str, dict[str, Any]]] = {
    "triplet": ("TripletMarginLoss", {"margin": 0.2}),
    "contrastive": ("ContrastiveLoss", {"neg_margin": 1.0}),
}
CERTIFIED = "certified"  # a loss of our own
# What a loss needs to know of model and data, which it is told.
TOLD = ("embedding_size", "num_classes")
# Parameters that are components themselves: a table with a name, of a class of this module, and its own parameters.
_COMPONENTS = {
    "loss": "losses",
    "miner": "miners",
    "distance": "distances",
    "reducer": "reducers",
    "embedding_regularizer": "regularizers",
    "weight_regularizer": "regularizers",
}
# What is no plain value, and cannot be said in a file: a loss with such parts is for RobustTrainer in Python.
OBJECTS = ("weight_init_func", "mat_based_loss")
_LOGGERS = {"csv": "CSVLogger", "tensorboard": "TensorBoardLogger"}
_TRIED = ("small-cnn", "lipschitz-cnn")  # without memory for their weights; others ask for packages and more


def data() -> Part:
    def check(size: int | None = None, **others: Any) -> None:
        if size is not None:
            check_size(size)

    return Part(load_images, skip=["split"], check=check)


def evaluation() -> Part:
    return Part(Evaluation)


def defense(kind: str) -> Part:
    """One of the list ``certimetric.deep.defenses.DEFENSES``; models are told by the folders of their runs."""
    from certimetric.deep.defenses import DEFENSES
    from certimetric.deep.defenses.base import MADE_BY, MODELS

    return Part(DEFENSES[kind], makers={**MADE_BY, MODELS: _folders})


def _folders(sources: tuple[str, ...]) -> tuple[str, ...]:
    return sources


def training() -> dict[str, Part]:
    """The parts of ``[training]``, by what they make."""
    import torch

    from certimetric.deep.train import (
        ClassBalancedBatches,
        RobustTrainer,
        augmentation,
        balanced_loader,
        optimizer_of,
        scheduler_of,
    )

    def check_batches(workers: int = 0, turns: bool = False, **batches: int) -> None:
        require(workers >= 0, "workers", "must be at least 0", workers)
        ClassBalancedBatches(torch.tensor([0, 1]), **batches)

    epochs = {"max_epochs": "epochs"}
    return {
        "trainer": Part(
            RobustTrainer, {"model": torch.nn.Identity(), "loss": None}, ["verbose", "checkpoint_dir"], epochs
        ),
        "loader": Part(balanced_loader, check=check_batches),
        "optimizer": Part(optimizer_of),
        "scheduler": Part(scheduler_of, names=epochs),
        "augment": Part(augmentation),
        "loggers": Part(loggers_in, {"folder": None}),
    }


def model() -> Part:
    """Name and length; options are those of :func:`model_keys`."""
    from certimetric.deep.models.network import embedding_model

    def check(name: str, dim: int = 1, **others: Any) -> None:
        require(dim >= 1, "dim", "must be at least 1", dim)

    return Part(embedding_model, skip=["in_channels", "seed"], check=check)


def model_keys(name: str) -> dict[str, Key] | None:
    """Keys of the options of a model; None where it takes any, a ValueError if there is no such model."""
    from certimetric.deep.models.network import MODELS, model_factory, model_options
    from certimetric.deep.models.sources import is_source

    if name in MODELS or is_source(name, factories=False):
        return Part(model_factory(name), skip=["dim", "in_channels"]).keys
    names = model_options(name)
    return None if names is None else dict.fromkeys(names, Key(Any, None))


def try_model(name: str, **options: Any) -> None:
    """Raise an error if a built-in model refuses options."""
    import torch

    from certimetric.deep.models.network import embedding_model

    if name in _TRIED:
        with torch.device("meta"):
            embedding_model(name, 1, **options)


def component_class(section: str, name: str) -> Callable[..., Any]:
    """The class of pytorch-metric-learning that ``[loss]`` or ``[miner]`` names; "certified" is a loss of our own."""
    if section == "loss" and name == CERTIFIED:
        from certimetric.deep.train import CertifiedMarginLoss

        return CertifiedMarginLoss
    module = importlib.import_module(f"pytorch_metric_learning.{_COMPONENTS[section]}")
    classes = [key for key in dir(module) if inspect.isclass(getattr(module, key))]
    wanted = LOSSES[name][0] if section == "loss" and name in LOSSES else name
    if wanted not in classes:
        short = [*LOSSES, CERTIFIED] if section == "loss" else []
        hint = did_you_mean(name, [*short, *classes])
        raise ValueError(f"name in [{section}] is no class of pytorch_metric_learning.{_COMPONENTS[section]}{hint}")
    return getattr(module, wanted)


def component_parameters(made: Callable[..., Any]) -> dict[str, Any]:
    """The parameters of a class with their defaults, those of its bases among them."""
    found: dict[str, Any] = {}
    for base in inspect.getmro(made):  # type: ignore[arg-type]
        if not base.__module__.startswith(("pytorch_metric_learning", "certimetric")):
            continue
        for parameter in inspect.signature(base).parameters.values():
            if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
                found.setdefault(parameter.name, parameter.default)
    return found


def component_keys(made: Callable[..., Any]) -> dict[str, Key]:
    """Keys of a loss or a miner: numbers and truths are known by their defaults, since such classes have no types."""
    kinds: dict[type, Any] = {bool: bool, int: float, float: float}
    found = {"name": Key(str)}
    for name, default in component_parameters(made).items():
        if name not in (*TOLD, *OBJECTS):
            found[name] = Key(Mapping[str, Any] if name in _COMPONENTS else kinds.get(type(default), Any), None)
    return found


def make_component(section: str, said: Mapping[str, Any], dim: int, n_classes: int) -> Any:
    """The loss or the miner, told of model and data what it asks for."""
    options = dict(said)
    name = options.pop("name")
    for key in options.keys() & _COMPONENTS.keys():
        if not isinstance(options[key].get("name"), str):
            raise ValueError(f"{key} in [{section}] needs the key 'name', got {dict(options[key])}")
        options[key] = make_component(key, options[key], dim, n_classes)
    made = component_class(section, name)
    defaults = LOSSES[name][1] if name in LOSSES else {}
    asked = component_parameters(made)
    told = {key: value for key, value in zip(TOLD, (dim, n_classes)) if key in asked}
    try:
        return made(**{**defaults, **told, **options})
    except (TypeError, ValueError, AssertionError) as error:
        raise ValueError(f"[{section}] {name!r} cannot be made: {error}") from None


class Evaluation:
    """What is asked of the test side while training goes on: R@1, clean and under PGD.

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


def loggers_in(folder: Path | None, loggers: tuple[Literal["csv", "tensorboard"], ...] = ()) -> list[Any]:
    """Loggers of Lightning Fabric that write below a folder; none without one."""
    if folder is None or not loggers:
        return []
    from lightning.fabric import loggers as fabric

    made: list[Any] = []
    for name in loggers:
        try:
            made.append(getattr(fabric, _LOGGERS[name])(str(folder), name=name))
        except ModuleNotFoundError:
            raise ImportError(f'the logger {name!r} needs tensorboardX: pip install "certimetric[logging]"') from None
    return made
