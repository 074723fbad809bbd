"""The toy experiment of adversarial metric learning: two classes in the plane, learned from a biased sample.

Both classes are long in x and short in y and differ a little in x and more in y. The biased sample comes from the
middle of each class: it shows a spread in x that is a quarter of the true one, so that x looks more telling than it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from certimetric.base.arrays import Array, Indices
from certimetric.bench.comparison import Grid, label, plus_minus
from certimetric.bench.datasets import Found, NamedSet
from certimetric.bench.tables import Table
from certimetric.bench.tabular import Fitted, settings
from certimetric.bench.verification import balanced_pairs
from certimetric.learners import AML
from certimetric.runs.key import Cell, Record

NAME = "toy"
TRAINED, TESTED, DRAWS = 50, 500, 10  # instances of each class, and samples for each split
KINDS = {"biased": "biased sample", "unbiased": "unbiased sample"}
DRAWN = ("euclidean", "gmml", "aml")  # metrics in the picture
_CENTRE, _SPREAD, _BIASED_SPREAD = (0.5, 0.8), (2.0, 0.5), (0.5, 0.5)
PAIRS = 4  # of each kind in the picture
TOY = Found(NamedSet(NAME, "", 2 * (TRAINED + TESTED), 2, (TRAINED + TESTED,) * 2), "", "made from the seed")


def toy_plan(learners: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Parameters of the cells, by learner; the data are made from the seed."""
    how = {"part": NAME, "snr": [], "draws": DRAWS, "trained": TRAINED, "tested": TESTED, "pairs": PAIRS}
    return {learner: settings(learner, TOY.named, **how) for learner in learners}


def toy_sample(
    biased: bool, trained: int, tested: int, rng: np.random.Generator
) -> tuple[Array, Indices, tuple[Indices, Indices]]:
    """Instances, class codes, and the rows for training and for testing; only the training rows are biased.

    Parameters
    ----------
    biased : bool
        With the same random numbers, the two kinds have the same test part.
    trained, tested : int
        Instances of each class.
    rng : Generator
    """
    parts = []
    for count, spread in ((tested, _SPREAD), (trained, _BIASED_SPREAD if biased else _SPREAD)):
        codes = np.repeat([0, 1], count)
        parts.append((rng.normal(size=(2 * count, 2)) * spread + np.outer(2 * codes - 1, _CENTRE), codes))
    X, codes = (np.concatenate(part) for part in zip(*parts))
    return X, codes.astype(np.int64), (np.arange(2 * tested, len(X)), np.arange(2 * tested))


def run_toy(cell: Cell) -> Mapping[str, Any]:
    """Errors after learning from biased and from unbiased samples, and what the picture of the first one needs."""
    how = cell.parameters
    errors: dict[str, list[float]] = {kind: [] for kind in KINDS}
    picture: dict[str, Any] = {}
    for draw in range(how["draws"]):
        for kind in KINDS:
            rng = np.random.default_rng([cell.seed, cell.split, 51, draw])
            X, codes, rows = toy_sample(kind == "biased", how["trained"], how["tested"], rng)
            fitted = Fitted(X, codes, cell, rows)
            errors[kind].append(fitted.error())
            if kind == "biased" and not picture:
                picture = {**fitted.facts(), **_picture(fitted, how["pairs"], [cell.seed, cell.split, 52])}
    return {"errors": errors, "picture": picture}


def _picture(fitted: Fitted, limit: int, seed: list[int]) -> dict[str, Any]:
    """The metric, the training instances, and for AML some pairs before and after the confusion stage."""
    told: dict[str, Any] = {
        "matrix": fitted.metric.matrix.tolist(),
        "points": np.round(fitted.X_train, 4).tolist(),
        "classes": fitted.y_train.tolist(),
    }
    if isinstance(fitted.learner, AML):
        rows, labels = balanced_pairs(fitted.y_train, limit, seed)
        pairs = fitted.X_train[rows]
        moved = fitted.learner.confuse_pairs(pairs, labels)
        told |= {
            "pairs": np.round(pairs, 4).tolist(),
            "adversarial": np.round(moved, 4).tolist(),
            "labels": labels.tolist(),
            "beta": fitted.learner.beta_,
        }
    return told


def tell_toy(records: Sequence[Record], learners: Sequence[str]) -> dict[str, list[Any]]:
    """Table, picture and sentence of the toy experiment; nothing without results of all learners."""
    grid = Grid(records, learners)
    if not grid.datasets:
        return {"summary": [], "tables": [], "figures": []}
    errors = {
        kind: [
            100 * np.concatenate([result["errors"][kind] for result in grid.results(NAME, spec)])
            for spec in grid.learners
        ]
        for kind in KINDS
    }
    rows, best = [], []
    for i, (kind, words) in enumerate(KINDS.items()):
        texts = [f"{np.mean(values):.1f}" for values in errors[kind]]
        rows.append([words, *(f"{text}{plus_minus(values)}" for text, values in zip(texts, errors[kind]))])
        best += [(i, j + 1) for j, text in enumerate(texts) if text == min(texts, key=float)]
    n = len(errors["biased"][0])
    note = (
        f"3-NN, mean ± standard deviation over {n} samples of {TRAINED} instances a class; the test part, {TESTED} a "
        "class, is never biased."
    )
    header = ["learned from", *map(label, grid.learners)]
    table = Table("toy", "Toy experiment with sampling bias: error [%]", header, rows, best, note)
    means = [dict(zip(grid.learners, map(np.mean, errors[kind]))) for kind in KINDS]
    sentences = [
        f"Toy, learned from {words}s: error {found['aml']:.1f} % with AML, {found['gmml']:.1f} % with GMML, "
        f"{found['euclidean']:.1f} % with the Euclidean distance."
        for words, found in zip(KINDS.values(), means)
    ]
    return {"summary": sentences, "tables": [table], "figures": [_figure(grid)]}


def _figure(grid: Grid) -> dict[str, Any]:
    pictures = {spec: grid.results(NAME, spec)[0]["picture"] for spec in grid.learners}
    aml = pictures["aml"]
    return {
        "kind": "ellipses",
        "name": "toy",
        "title": "Three metrics learned from a biased sample",
        "reading": (
            "The training instances of the first sample, and the points that each metric holds equally far from the "
            "middle, scaled to one area: a metric stretches what is short in its ellipse. Grey lines are pairs of "
            "training instances, the coloured dotted ones the adversarial pairs that AML made of them."
        ),
        "learners": [
            {**told, "matrix": pictures[told["spec"]]["matrix"] if told["spec"] in DRAWN else None}
            for told in grid.told_learners()
        ],
        "points": aml["points"],
        "classes": aml["classes"],
        "pairs": aml["pairs"],
        "adversarial": aml["adversarial"],
        "maker": "aml",
        "x_label": "x (std)",
        "y_label": "y (std)",
        "note": (
            f"Chosen by cross-validation: {pictures['gmml']['chosen']}, {aml['chosen']}; β in force {aml['beta']:.3g}."
        ),
    }
