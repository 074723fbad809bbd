"""``defenses``, ``defenses-l2``: all robust training losses side by side, robustness against accuracy against cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

from certimetric.base.wording import PIXELS
from certimetric.bench.comparison import plus_minus
from certimetric.bench.datasets import Found
from certimetric.bench.image_cells import CLEAN, WORST, asked, attack, scores, settings, trained
from certimetric.bench.image_sets import DIGITS, MNIST, OMNIGLOT, NamedImages
from certimetric.bench.suites.base import Suite
from certimetric.bench.tables import Table
from certimetric.runs.key import Cell, Record
from certimetric.training import sections

if TYPE_CHECKING:
    from torch import nn

    from certimetric.deep import ImageSet

QUERIES = 500
ERS_QUERIES = 200
NATURAL, REFERENCE = "natural", "tuple (positive)"
_CLEAN_LOSS = 0.05  # of R@1 that a defense may lie below the reference and still be called better


@dataclass(frozen=True)
class Setting:
    """How models are trained on a data set."""

    model: Mapping[str, Any]
    training: Mapping[str, Any]


_CNN = {"name": "small-cnn", "dim": 128, "downsample": "max", "norm": "none", "mean": 0.0, "std": 1.0}
SETTINGS = {
    "digits": Setting({"name": "small-cnn", "dim": 64}, {"epochs": 15, "batch_size": 112, "per_class": 11}),
    "mnist": Setting(_CNN, {"epochs": 6, "batch_size": 112, "per_class": 4, "schedule": "cosine"}),
    "omniglot": Setting(_CNN, {"epochs": 16, "batch_size": 112, "per_class": 4, "schedule": "cosine"}),
}

# Of perturbations in training, and of the queries.
RADII = {
    "linf": {"digits": 0.1, "mnist": 77 / 255, "omniglot": 0.1},
    "l2": {"digits": 0.5, "mnist": 1.5, "omniglot": 1.0},
}
_BALLS = {"linf": "l∞", "l2": "l2"}

_ATTACKED = {"steps": 5}
DEFENSES: dict[str, dict[str, Any]] = {
    NATURAL: {"kind": "none"},
    "perturbation loss": {"kind": "perturbation", "weight": 0.1},
    REFERENCE: {"kind": "tuple", "role": "positive", **_ATTACKED},
    "tuple (anchor)": {"kind": "tuple", "role": "anchor", **_ATTACKED},
    "batch": {"kind": "batch", **_ATTACKED},
    "EST": {"kind": "est", **_ATTACKED},
    "SES": {"kind": "ses", **_ATTACKED},
    "TRADES": {"kind": "trades", "weight": 5.0, **_ATTACKED},
    "ACT": {"kind": "act", **_ATTACKED},
    "HM (gradual)": {"kind": "hm", **_ATTACKED},
    "HM (semi-hard)": {"kind": "hm", "destination": "semihard", **_ATTACKED},
    "HM (constant)": {"kind": "hm", "destination": "constant", **_ATTACKED},
    "decoupled": {"kind": "decoupled", **_ATTACKED},
    "ensemble": {"kind": "ensemble", "sources": ["natural"], **_ATTACKED},
    "single step": {"kind": "single-step"},
    "free": {"kind": "free", "replays": 4},
    "noise": {"kind": "noise", "sigma": 0.25},
}


def compared() -> dict[str, dict[str, Any]]:
    """Those, and every further kind there is, with its defaults."""
    if find_spec("torch") is None:  # results can be told where nothing can be trained
        return DEFENSES
    from certimetric.deep.defenses import DEFENSES as KINDS

    known = {defense["kind"] for defense in DEFENSES.values()}
    return DEFENSES | {kind: {"kind": kind} for kind in KINDS if kind not in known}


class DefensesSuite(Suite):
    """Retrieval by models that were trained with every defense: accuracy, robustness, cost.

    The norm, "linf" or "l2", is that of perturbations in training and of the queries; the empirical robustness score is
    in l∞ in both.
    """

    title = "Defenses of embedding models"
    needs = "the extra 'deep'; digits is bundled, mnist and omniglot come from --data-root; what is missing is told"
    minutes = 90.0
    splits = 2
    protocol = "defenses/1"
    datasets = (DIGITS, MNIST, OMNIGLOT)

    def __init__(self, norm: str):
        self.norm = norm
        self.name, self.instance = {"linf": ("defenses", "SUITE"), "l2": ("defenses-l2", "SUITE_L2")}[norm]
        self.about = (
            f"Embedding models trained with every defense in {_BALLS[norm]} and the triplet loss: R@1 and mAP@R, clean "
            "and under the worst of PGD and Auto-PGD on the queries, the empirical robustness score, and seconds of an "
            "epoch. ACT and the score after Zhou et al., arXiv 2106.03614, EST after arXiv 2002.11293, HM after arXiv "
            "2203.01439, and further ones."
        )

    @property
    def learners(self) -> tuple[str, ...]:
        return (PIXELS, *compared())

    def parameters(self, found: Found, learner: str) -> dict[str, Any]:
        config = None if learner == PIXELS else configuration(found.named, compared()[learner], self.norm)
        sources = [configuration(found.named, DEFENSES[NATURAL], self.norm)] if learner == "ensemble" else []
        attacks = attacks_on(self.norm, RADII[self.norm][found.named.name])
        return {**settings(learner, config, attacks, QUERIES, sources), "ers_queries": ERS_QUERIES}

    def run(self, cell: Cell) -> Mapping[str, Any]:
        named = self.named(cell)
        model, told = trained(cell, named)
        queries, gallery = asked(cell, named)
        return {
            **told,
            **scores(model, queries, gallery, cell.parameters["attacks"], WORST_OF),
            **robustness_score(model, queries, gallery, cell),
        }

    def describe(self, records: Sequence[Record]) -> dict[str, Any]:
        found = Results(records)
        learners = [{"spec": learner, "label": learner} for learner in self.learners]
        tables, figures, summary = [], [], []
        if found.datasets:
            tables = [_table(found, self.norm)]
            figures = [_figure(found, name, self.norm) for name in found.datasets]
            summary = [_sentence(found, name) for name in found.datasets if found.has(name, REFERENCE)]
        return {
            "summary": [text for text in summary if text],
            "tables": tables,
            "figures": figures,
            "learners": learners,
        }


def configuration(named: NamedImages, defense: Mapping[str, Any], norm: str) -> dict[str, Any]:
    """The training configuration of a defense on a data set."""
    setting = SETTINGS[named.name]
    told = dict(defense)
    keys = sections.defense(told["kind"]).keys
    if "norm" in keys:
        told |= {"norm": norm, "radius" if "radius" in keys else "eps": RADII[norm][named.name]}
    training = dict(setting.training)
    if "replays" in keys:  # as many steps of the optimiser as the others, for about the price of natural training
        training["epochs"] = max(1, round(training["epochs"] / told["replays"]))
    return {"data": {"name": named.name}, "model": setting.model, "defense": told, "training": training}


def attacks_on(norm: str, eps: float) -> list[dict[str, Any]]:
    """PGD at half the radius, and PGD and Auto-PGD at the radius."""
    return [
        attack("PGD ε / 2", "PGD", norm, eps / 2, steps=20),
        attack("PGD ε", "PGD", norm, eps, steps=20),
        attack("APGD ε", "APGD", norm, eps, steps=20),
    ]


WORST_OF = ("PGD ε", "APGD ε")


def robustness_score(model: nn.Module, queries: ImageSet, gallery: ImageSet, cell: Cell) -> dict[str, Any]:
    """``{"ers": …}`` from 0 to 100 with its components, at the published budget for small pictures."""
    from certimetric.deep import empirical_robustness_score

    found = empirical_robustness_score(
        model, queries, gallery, n_queries=cell.parameters["ers_queries"], seed=cell.split
    )
    return {
        "ers": float(found.score["mean"]),
        "ers_components": {row["name"]: float(row["scaled"]) for row in found.components},
    }


class Results:
    """Figures of the cells that are done, by data set and learner."""

    def __init__(self, records: Sequence[Record]):
        self._found: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
        for record in records:
            if record.result is not None:
                self._found.setdefault((record.cell.dataset, record.cell.learner), []).append(record.result)
        self.datasets = list(dict.fromkeys(dataset for dataset, _ in self._found))

    def has(self, dataset: str, learner: str) -> bool:
        return (dataset, learner) in self._found

    def learners(self, dataset: str) -> list[str]:
        """Learners with figures on a data set, in the order of the suite."""
        return [learner for learner in SUITE.learners if self.has(dataset, learner)]

    def values(self, dataset: str, learner: str, *path: str) -> list[float]:
        """One figure of every split that has it."""
        results: Any = self._found[dataset, learner]
        found = (reduce(lambda told, key: (told or {}).get(key), path, result) for result in results)
        return [float(value) for value in found if value is not None]

    def mean(self, dataset: str, learner: str, *path: str) -> float:
        values = self.values(dataset, learner, *path)
        return float(np.mean(values)) if values else float("nan")


_COLUMNS = (
    ("R@1", ("recall_at_1", CLEAN), 100.0),
    ("mAP@R", ("map_at_r", CLEAN), 100.0),
    ("R@1, PGD ε / 2", ("recall_at_1", "PGD ε / 2"), 100.0),
    ("R@1, worst at ε", ("recall_at_1", WORST), 100.0),
    ("mAP@R under the R@1 attacks at ε", ("map_at_r", WORST), 100.0),
    ("ERS", ("ers",), 1.0),
)


def _table(found: Results, norm: str) -> Table:
    """A row for each learner on each data set; the best of a column on a data set is marked."""
    rows: list[list[str]] = []
    best: list[tuple[int, int]] = []
    for dataset in found.datasets:
        top = len(rows)
        for learner in found.learners(dataset):
            told = [_told(found.values(dataset, learner, *path), factor) for _, path, factor in _COLUMNS]
            epoch, whole = (found.mean(dataset, learner, key) for key in ("epoch_seconds", "train_seconds"))
            cost = ["–", "–"] if learner == PIXELS else [f"{epoch:.2f}", f"{whole:.0f}"]
            rows.append([f"{dataset} ({_radius(dataset, norm)})", learner, *told, *cost])
        for j in range(2, 2 + len(_COLUMNS)):
            means = [_leading(row[j]) for row in rows[top:]]
            known = [value for value in means if not np.isnan(value)]
            if len(set(known)) > 1:
                best += [(top + i, j) for i, value in enumerate(means) if value == max(known)]
    note = (
        "In per cent, ERS from 0 to 100; mean ± standard deviation over splits: other weights, batches and queries, "
        "the same classes. Worst: of PGD and Auto-PGD, each of 20 steps, for each query. An ERS rewards collapse: read "
        "it beside R@1. “free” has a quarter of the epochs, in which every batch is passed four times; the whole "
        "training of “ensemble” includes that of its other model. Seconds of one processor."
    )
    header = ["data set", "defense", *(name for name, _, _ in _COLUMNS), "seconds per epoch", "training, seconds"]
    return Table("defenses", "Defenses", header, rows, best, note)


def _radius(dataset: str, norm: str) -> str:
    return f"{_BALLS[norm]} ε = {RADII[norm][dataset]:.3g}"


def _told(values: Sequence[float], factor: float) -> str:
    if not values:
        return "–"
    scaled = factor * np.array(values)
    return f"{scaled.mean():.1f}{plus_minus(scaled)}"


def _leading(text: str) -> float:
    return float("nan") if text == "–" else float(text.split(" ")[0])


def _figure(found: Results, dataset: str, norm: str) -> dict[str, Any]:
    """Attacked against clean R@1, and against the time of an epoch beside that of natural training."""
    natural = found.mean(dataset, NATURAL, "epoch_seconds") if found.has(dataset, NATURAL) else float("nan")
    learners = []
    for learner in found.learners(dataset):
        cost = found.mean(dataset, learner, "epoch_seconds") / natural
        learners.append(
            {
                "spec": learner,
                "label": learner,
                "accuracy": found.mean(dataset, learner, "recall_at_1", CLEAN),
                "robustness": found.mean(dataset, learner, "recall_at_1", WORST),
                "cost": cost if np.isfinite(cost) else None,
            }
        )
    radius = _radius(dataset, norm)
    return {
        "kind": "tradeoff",
        "name": f"{dataset}-tradeoff",
        "title": f"{dataset}: robustness, accuracy, cost",
        "reading": f"Each defense once, at the height of its R@1 under attack at {radius}: on the left by its "
        "clean R@1, on the right by the time of an epoch beside that of natural training. Up and right is better on "
        "the left, up and left on the right; raw pixels cost no training.",
        "labels": ["R@1, clean", f"R@1, attacked at {radius}", "time of an epoch"],
        "learners": learners,
    }


def _sentence(found: Results, dataset: str) -> str:
    """The defense that withstands most at no more than five points of clean R@1 below the reference."""

    def clean(learner: str) -> float:
        return found.mean(dataset, learner, "recall_at_1", CLEAN)

    def attacked(learner: str) -> float:
        return found.mean(dataset, learner, "recall_at_1", WORST)

    able = [
        learner
        for learner in found.learners(dataset)
        if learner not in (PIXELS, REFERENCE) and clean(learner) >= clean(REFERENCE) - _CLEAN_LOSS
    ]
    if not able:
        return ""
    best = max(able, key=attacked)
    fold = f", {attacked(best) / attacked(REFERENCE):.1f} times as much" if attacked(REFERENCE) > 0 else ""
    text = (
        f"{dataset}: of the defenses whose clean R@1 is at most 5 points below that of {REFERENCE}, {best} withstands "
        f"most: R@1 {100 * attacked(best):.1f} % under attack, {REFERENCE} {100 * attacked(REFERENCE):.1f} %{fold}; "
        f"clean {100 * clean(best):.1f} % and {100 * clean(REFERENCE):.1f} %"
    )
    scored = [learner for learner in able if found.values(dataset, learner, "ers")]
    if scored and found.values(dataset, REFERENCE, "ers"):
        top = max(scored, key=lambda learner: found.mean(dataset, learner, "ers"))
        text += (
            f". {top} has the highest ERS, {found.mean(dataset, top, 'ers'):.1f} against "
            f"{found.mean(dataset, REFERENCE, 'ers'):.1f} of {REFERENCE}"
        )
    return f"{text}."


SUITE, SUITE_L2 = DefensesSuite("linf"), DefensesSuite("l2")
