"""One cell of an experiment with pictures: train an embedding model, then rank a gallery by it, clean and attacked."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from certimetric.base.wording import PIXELS
from certimetric.bench.image_sets import NamedImages, digest, load_sides
from certimetric.datasets.images.sets import Images
from certimetric.runs.key import Cell
from certimetric.training.config import TrainingConfig

if TYPE_CHECKING:
    from torch import nn

    from certimetric.deep import Attack, ImageSet

CLEAN, WORST = "clean", "worst"
_WHOLE = 64  # pixels: larger pictures are averaged to _POOLED as embeddings, or a gallery would not fit into memory
_POOLED = 32


def attack(name: str, kind: str, norm: str, eps: float, **options: Any) -> dict[str, Any]:
    """An attack as the parameters of a cell hold it: its name in the results, its class, ball and options."""
    return {"name": name, "kind": kind, "norm": norm, "eps": eps, "options": options}


def settings(
    learner: str,
    config: Mapping[str, Any] | None,
    attacks: Sequence[Mapping[str, Any]],
    queries: int,
    sources: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """The parameters of a cell; no configuration for raw pixels, which are not trained.

    Configurations are those of ``certimetric train`` with all of their defaults: a change of one makes another cell.
    ``sources`` are those of the models that an ensemble attacks with, which are trained first.
    """

    def complete(given: Mapping[str, Any]) -> dict[str, Any]:
        return TrainingConfig.from_mapping(given, f"the setting of {learner!r}").to_mapping()

    return {
        "config": None if learner == PIXELS else complete(config or {}),
        **({"sources": [complete(source) for source in sources]} if sources else {}),
        "attacks": [dict(entry) for entry in attacks],
        "queries": queries,
    }


def measure(cell: Cell, named: NamedImages) -> dict[str, Any]:
    """R@1 and mAP@R of a cell, clean and under each of its attacks, and what training took."""
    model, told = trained(cell, named)
    queries, gallery = asked(cell, named)
    return {**told, **scores(model, queries, gallery, cell.parameters["attacks"])}


def trained(cell: Cell, named: NamedImages) -> tuple[nn.Module, dict[str, Any]]:
    """The model of a cell and the cost of its training; the pictures themselves where it has no configuration."""
    data, _ = _sides(cell, named)
    how = cell.parameters
    if how["config"] is None:
        return raw_pixels(max(data.images.shape[2:])), {"train_seconds": 0.0, "epoch_seconds": 0.0, "loss": []}
    seed = int(np.random.default_rng([cell.seed, cell.split, 51]).integers(2**31))
    fits = [_fit(source, data, seed + 1 + i, ()) for i, source in enumerate(how.get("sources", ()))]
    others = [model.eval() for model, _, _ in fits]
    model, history, seconds = _fit(how["config"], data, seed, others)
    return model.eval(), {
        "train_seconds": seconds + sum(spent for _, _, spent in fits),
        "epoch_seconds": seconds / len(history),
        "loss": history,
    }


def _fit(
    told: Mapping[str, Any], data: Images, seed: int, others: Sequence[nn.Module]
) -> tuple[nn.Module, list[float], float]:
    """A model trained as configured, the loss of every epoch, and seconds: the processor's, unless a GPU trained it."""
    from certimetric.deep.models.calling import device_of, seeded
    from certimetric.training.run import make_component, make_defense, make_loader, make_model, make_trainer

    config = TrainingConfig.from_mapping({**told, "training": {**told["training"], "seed": seed}})
    with seeded(seed):
        model = make_model(config, data.images.shape[1])
        loss = make_component(config, "loss", len(data.class_names))
    trainer = make_trainer(config, model, loss, make_defense(config, others))
    began = time.perf_counter(), time.process_time()
    trainer.fit(make_loader(config, data))
    passed, used = time.perf_counter() - began[0], time.process_time() - began[1]
    # Cells share the machine with others: the processor's time does not grow with what those do.
    return trainer.trained, trainer.history, used if device_of(trainer.trained).type == "cpu" else passed


def raw_pixels(size: int) -> nn.Module:
    """The pictures themselves as embeddings, averaged to 32 × 32 pixels where they are larger than 64."""
    from torch import nn

    return nn.Flatten() if size <= _WHOLE else nn.Sequential(nn.AdaptiveAvgPool2d(_POOLED), nn.Flatten())


def asked(cell: Cell, named: NamedImages) -> tuple[ImageSet, ImageSet]:
    """Queries drawn from the test side, the same for all learners of a split, and the whole side as the gallery."""
    import torch

    from certimetric.deep import ImageSet
    from certimetric.deep.retrieval.evaluation import with_positive

    _, side = _sides(cell, named)
    gallery = ImageSet(side.images, torch.from_numpy(side.labels))
    able = with_positive(gallery, gallery).nonzero()[:, 0]
    rng = np.random.default_rng([cell.seed, cell.split, 52])
    rows = rng.permutation(len(able))[: cell.parameters["queries"]]
    return gallery.select(able[torch.from_numpy(np.sort(rows))]), gallery


def scores(
    model: nn.Module,
    queries: ImageSet,
    gallery: ImageSet,
    attacks: Sequence[Mapping[str, Any]],
    worst: Sequence[str] = (),
) -> dict[str, Any]:
    """``{"recall_at_1": {attack: …}, "map_at_r": {attack: …}}``, with "clean" among the attacks.

    "worst" takes for each query the worst over the attacks that ``worst`` names.
    """
    from certimetric.deep import Index
    from certimetric.deep.retrieval.evaluation import worst_of

    index = Index(model, gallery)
    values = {CLEAN: index.score(queries)}
    values |= {entry["name"]: index.score(queries, make_attack(entry)) for entry in attacks}
    if worst:
        values[WORST] = worst_of([values[name] for name in worst])
    found = {
        key: {name: float(value[key].double().mean()) for name, value in values.items()}
        for key in ("recall_at_1", "map_at_r")
    }
    return {**found, "n_queries": len(queries), "n_gallery": len(gallery)}


def make_attack(entry: Mapping[str, Any]) -> Attack:
    """The attack that :func:`attack` describes."""
    from certimetric.deep.attacks import ATTACKS, ball

    kinds = {kind.__name__: kind for kind in ATTACKS.values()}
    return kinds[entry["kind"]](ball(entry["norm"], entry["eps"]), **entry["options"])


def _sides(cell: Cell, named: NamedImages) -> tuple[Images, Images]:
    sides = load_sides(named, cell.source)
    if digest(sides, cell.source) != cell.digest:
        raise ValueError(f"{cell.source!r} holds other pictures than the plan was made for: its content has changed")
    return sides
