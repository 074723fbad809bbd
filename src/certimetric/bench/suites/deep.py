"""``deep``: natural against robust training of embedding models under attack, after arXiv 2102.07265."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from certimetric.base.wording import PIXELS
from certimetric.bench.comparison import Grid, line, plus_minus
from certimetric.bench.datasets import Found
from certimetric.bench.image_cells import CLEAN, attack, measure, settings
from certimetric.bench.image_sets import CARS196, CUB, DIGITS, OMNIGLOT, SOP, NamedImages
from certimetric.bench.suites.base import Suite
from certimetric.bench.tables import Table, best_places
from certimetric.runs.key import Cell, Record
from certimetric.training.sections import LOSSES

QUERIES = 500


@dataclass(frozen=True)
class Setting:
    """How models are trained on a data set, and the sizes of the attacks."""

    model: Mapping[str, Any]
    training: Mapping[str, Any]
    eps: float  # radius in l∞ of the attacks in training, and the middle one of the evaluation
    eps_l2: float
    studies: bool = True  # whether all learners are trained on it, or only those of the paper's table


_RESNET = {"name": "resnet50", "dim": 128, "weights": "imagenet"}
_RESNET_TRAINING = {
    "epochs": 150, "batch_size": 112, "per_class": 2, "optimizer": "adam", "learning_rate": 1e-5, "weight_decay": 4e-4,
    "augment": ["flip", "shift"], "workers": 8, "precision": "bf16-mixed",
}  # fmt: skip

SETTINGS = {
    "digits": Setting(
        {"name": "small-cnn", "dim": 64}, {"epochs": 15, "batch_size": 112, "per_class": 11}, eps=0.1, eps_l2=0.5
    ),
    "omniglot": Setting(
        {"name": "small-cnn", "dim": 128, "downsample": "max", "norm": "none", "mean": 0.0, "std": 1.0},
        {"epochs": 20, "batch_size": 112, "per_class": 4, "learning_rate": 1e-3, "schedule": "cosine"},
        eps=0.1,
        eps_l2=1.0,
    ),
    "cub": Setting(_RESNET, _RESNET_TRAINING, eps=0.01, eps_l2=1.0, studies=False),
    "cars196": Setting(_RESNET, _RESNET_TRAINING, eps=0.01, eps_l2=1.0, studies=False),
    "sop": Setting(_RESNET, {**_RESNET_TRAINING, "epochs": 100}, eps=0.01, eps_l2=1.0, studies=False),
}


@dataclass(frozen=True)
class Recipe:
    """A loss and a defense; ``scale`` is the radius of the attack in training beside that of the setting."""

    loss: str
    defense: Mapping[str, Any]
    scale: float = 1.0

    def config(self, named: NamedImages, setting: Setting) -> dict[str, Any]:
        """The training configuration on a data set."""
        defense = dict(self.defense)
        if defense["kind"] != "none":
            defense["eps"] = self.scale * (setting.eps_l2 if defense.get("norm") == "l2" else setting.eps)
        if defense.get("steps") == 1:
            defense["step_size"] = 1.25 * defense["eps"]  # FGSM from a random start
        data = {"name": named.name, **({} if named.size is None else {"size": named.size})}
        loss = {"name": self.loss, **LOSSES[self.loss][1]}
        return {"data": data, "model": setting.model, "loss": loss, "defense": defense, "training": setting.training}


def _tuple(role: str, **changed: Any) -> dict[str, Any]:
    return {"kind": "tuple", "role": role, "steps": 5, **changed}


NATURAL = {"kind": "none"}
RECIPES: dict[str, Recipe] = {}
for _loss in LOSSES:
    RECIPES[_loss] = Recipe(_loss, NATURAL)
    for _role in ("positive", "negative", "anchor"):
        RECIPES[f"{_loss}, {_role}"] = Recipe(_loss, _tuple(_role))
    RECIPES[f"{_loss}, batch"] = Recipe(_loss, {"kind": "batch", "steps": 5})
    RECIPES[f"{_loss}, positive, ℓ₂"] = Recipe(_loss, _tuple("positive", norm="l2"))
RECIPES |= {
    "triplet, positive, rate 0.25": Recipe("triplet", _tuple("positive", attack_rate=0.25)),
    "triplet, positive, rate 0.5": Recipe("triplet", _tuple("positive", attack_rate=0.5)),
    "triplet, positive, ε / 2": Recipe("triplet", _tuple("positive"), 0.5),
    "triplet, positive, 2 ε": Recipe("triplet", _tuple("positive"), 2.0),
    "triplet, positive, FGSM": Recipe("triplet", _tuple("positive", steps=1)),
}

# The comparisons: title, learners in the order of what is varied, what to look for.
TRAINING = (PIXELS, "contrastive", "contrastive, positive", "triplet", "triplet, positive")
STUDIES: dict[str, tuple[str, tuple[str, ...], str]] = {
    "training": (
        "Natural and robust training",
        TRAINING,
        "Robust training is the paper's: positives perturbed, 5 steps of PGD in l∞.",
    ),
    "roles": (
        "What is perturbed",
        tuple(f"{loss}, {role}" for loss in LOSSES for role in ("positive", "negative", "anchor", "batch")),
        "One role of each tuple, or the whole batch jointly.",
    ),
    "rates": (
        "Share of the tuples that are perturbed",
        ("triplet", "triplet, positive, rate 0.25", "triplet, positive, rate 0.5", "triplet, positive"),
        "None, a quarter, half, all.",
    ),
    "sizes": (
        "Size of the perturbation in training",
        ("triplet", "triplet, positive, ε / 2", "triplet, positive", "triplet, positive, 2 ε"),
        "None, half, once and twice the ε of the data set.",
    ),
    "norms": (
        "Norm of the perturbation in training",
        tuple(f"{loss}{norm}" for loss in LOSSES for norm in ("", ", positive", ", positive, ℓ₂")),
        "None, l∞, l2.",
    ),
    "steps": (
        "Attack in training",
        ("triplet", "triplet, positive, FGSM", "triplet, positive"),
        "None, one step from a random start, five steps of PGD.",
    ),
}


def attacks_on(setting: Setting) -> list[dict[str, Any]]:
    """The attacks of the evaluation: three radii of PGD, and FGSM, PGD in l2 and Carlini and Wagner's at the middle."""
    eps, eps_l2 = setting.eps, setting.eps_l2
    return [
        *(attack(f"PGD {words}", "PGD", "linf", scale * eps, steps=20) for words, scale in RADII.items()),
        attack("FGSM ε", "FGSM", "linf", eps),
        attack("PGD ℓ₂", "PGD", "l2", eps_l2, steps=20),
        attack("C&W ℓ₂", "CarliniWagner", "l2", eps_l2, steps=30, searches=3, learning_rate=0.05),
    ]


RADII = {"ε / 2": 0.5, "ε": 1.0, "2 ε": 2.0}
NAMES = (CLEAN, *(entry["name"] for entry in attacks_on(SETTINGS["digits"])))
MIDDLE = "PGD ε"


class DeepSuite(Suite):
    """Retrieval by embedding models that were trained naturally and robustly: R@1 and mAP@R under attack."""

    name = "deep"
    title = "Robust training of embedding models"
    about = (
        "Embedding models trained naturally and robustly with contrastive and triplet loss: R@1 and mAP@R, clean and "
        "under FGSM, PGD and Carlini and Wagner's attack on the queries; which role is perturbed in training, how many "
        "of the tuples, how far, in which norm. After Panum et al., arXiv 2102.07265."
    )
    needs = (
        "the extra 'deep'; digits is bundled; omniglot, cub, cars196 and sop come from --data-root, and the last three "
        "need timm or torchvision, and hours on a GPU; what is missing is told"
    )
    minutes = 50.0
    splits = 2
    protocol = "deep/1"
    datasets = (DIGITS, OMNIGLOT, CUB, CARS196, SOP)
    learners = (PIXELS, *RECIPES)

    def learners_on(self, found: Found) -> Sequence[str]:
        return self.learners if SETTINGS[found.named.name].studies else TRAINING

    def parameters(self, found: Found, learner: str) -> dict[str, Any]:
        named, setting = found.named, SETTINGS[found.named.name]
        config = None if learner == PIXELS else RECIPES[learner].config(named, setting)
        return settings(learner, config, attacks_on(setting), QUERIES)

    def run(self, cell: Cell) -> Mapping[str, Any]:
        return measure(cell, self.named(cell))

    def describe(self, records: Sequence[Record]) -> dict[str, Any]:
        tables: list[Table] = []
        for name, (title, learners, note) in STUDIES.items():
            grid = Grid(records, learners)
            if grid.datasets:
                tables.append(_table(grid, "recall_at_1", name, f"{title}: R@1 [%]", note))
        grid = Grid(records, TRAINING)
        figures, summary = [], []
        if grid.datasets:
            tables.insert(1, _table(grid, "map_at_r", "training-map", "Natural and robust training: mAP@R [%]", ""))
            tables.append(_cost(records))
            figures = [_figure(grid, dataset) for dataset in grid.datasets]
            summary = [_sentence(grid, dataset, loss) for dataset in grid.datasets for loss in LOSSES]
        return {"summary": summary, "tables": tables, "figures": figures, "learners": grid.told_learners()}


def _values(grid: Grid, dataset: str, learner: str, key: str, name: str) -> list[float]:
    return [100.0 * result[key][name] for result in grid.results(dataset, learner)]


def _mean(grid: Grid, dataset: str, learner: str, name: str) -> float:
    return float(np.mean(_values(grid, dataset, learner, "recall_at_1", name)))


def _table(grid: Grid, key: str, name: str, title: str, note: str) -> Table:
    """A row for each learner on each data set, a column for each attack; the best learner of a data set is marked."""
    rows: list[list[str]] = []
    best: list[tuple[int, int]] = []
    for dataset in grid.datasets:
        setting, top = SETTINGS[dataset], len(rows)
        means = []
        for learner in grid.learners:
            values = [_values(grid, dataset, learner, key, attacked) for attacked in NAMES]
            means.append([f"{np.mean(value):.1f}" for value in values])
            sizes = f"{dataset} (ε = {setting.eps:g}, ℓ₂ {setting.eps_l2:g})"
            rows.append([sizes, learner, *(mean + plus_minus(value) for mean, value in zip(means[-1], values))])
        for column in range(len(NAMES)):
            texts = [row[column] for row in means]
            best += [(top + i, column + 2) for i in best_places(texts, max(texts, key=float))]
    words = "Mean ± standard deviation over splits: other weights, batches and queries, the same classes."
    return Table(name, title, ["data set", "learner", *NAMES], rows, best, f"{note} {words}".strip())


def _cost(records: Sequence[Record]) -> Table:
    """Seconds of an epoch of training, for every learner that has been trained."""
    found: dict[tuple[str, str], list[float]] = {}
    for record in records:
        if record.result is not None and record.cell.learner != PIXELS:
            found.setdefault((record.cell.dataset, record.cell.learner), []).append(record.result["epoch_seconds"])
    rows = [
        [dataset, learner, f"{np.mean(seconds):.2f}", f"{np.mean(seconds) / np.mean(natural):.1f} ×"]
        for (dataset, learner), seconds in found.items()
        if (natural := found.get((dataset, RECIPES[learner].loss)))
    ]
    header = ["data set", "learner", "seconds per epoch", "beside natural training"]
    return Table(
        "cost", "Cost of training", header, rows, note="Seconds of one processor, or of the clock where a GPU trains."
    )


def _figure(grid: Grid, dataset: str) -> dict[str, Any]:
    """R@1 against ε."""
    x = {CLEAN: 0.0, **{f"PGD {words}": scale * SETTINGS[dataset].eps for words, scale in RADII.items()}}
    learners = [
        line(learner, learner, [_mean(grid, dataset, learner, name) / 100.0 for name in x]) for learner in grid.learners
    ]
    return {
        "kind": "curves",
        "name": f"{dataset}-recall",
        "title": f"{dataset}: R@1 under PGD",
        "reading": "How often the nearest picture is of the right class when each query is changed by PGD of 20 steps "
        "in l∞. Attacks were tried, not all changes: the truth lies on the line or below it.",
        "learners": learners,
        "x": list(x.values()),
        "x_label": "size of the change ε (l∞, pixels from 0 to 1)",
        "y_label": "R@1",
        "symbol": "ε",
    }


def _sentence(grid: Grid, dataset: str, loss: str) -> str:
    """What robust training does to a loss on a data set."""
    natural, robust = (
        [_mean(grid, dataset, learner, name) for name in (CLEAN, MIDDLE)] for learner in (loss, f"{loss}, positive")
    )
    fold = f"{robust[1] / natural[1]:.1f} times as much" if natural[1] > 0 else "where nothing was left"
    return (
        f"{dataset}, {loss} loss: R@1 under PGD at ε = {SETTINGS[dataset].eps:g} is {natural[1]:.1f} % after natural "
        f"training and {robust[1]:.1f} % after robust training, {fold}; clean it is {natural[0]:.1f} % and "
        f"{robust[0]:.1f} %. Raw pixels: {_mean(grid, dataset, PIXELS, MIDDLE):.1f} % and "
        f"{_mean(grid, dataset, PIXELS, CLEAN):.1f} %."
    )


SUITE = DeepSuite()
