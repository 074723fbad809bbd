"""``certified``: certified and attacked robust error against ε, after arXiv 2006.07024."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from certimetric.attacks import BestOf, RegionAttack, SmoothedVoteAttack
from certimetric.base.arrays import Array, Indices
from certimetric.bench.comparison import Grid, label, line
from certimetric.bench.datasets import BREAST_CANCER, BY_NAME, DIGITS, WINE, Found
from certimetric.bench.suites.base import Suite
from certimetric.bench.tables import Table, best_places
from certimetric.bench.tabular import Fitted, load_cell, settings
from certimetric.constraints.labels import class_draw
from certimetric.runs.key import Cell, Record, told

NEIGHBORS = (1, 11)
_PAPER = ("dna", "pendigits", "satimage", "usps")
_FRACTIONS = (0.25, 0.5, 1.0)  # of the Euclidean median radius: the sizes of the tables
_N_EPS = 21
HOW = {"n_neighbors": 1, "snr": [], "k": list(NEIGHBORS), "certified_rows": 200, "attacked_rows": 30}
_ATTACKS = (RegionAttack(n_opponents=3), SmoothedVoteAttack())  # more opponents: slower threefold, hardly nearer
_WRONG = -1.0  # radius and distance of an instance that is predicted wrongly


class CertifiedSuite(Suite):
    """Robust error of k-NN under learned metrics: at most what is certified, at least what an attack reaches."""

    name = "certified"
    title = "Certified and attacked robust error"
    about = (
        "k-NN for k = 1 and k = 11 under learned metrics: robust error against the size ε of a change (ℓ₂, "
        "standardised features), bounded from above by certificates and from below by attacks, for k = 1 exactly. "
        "After Wang et al., arXiv 2006.07024."
    )
    needs = "3 bundled sets, and dna, pendigits, satimage and usps from --data-root; what is missing is told"
    minutes = 30.0
    splits = 2
    protocol = "certified/2"
    datasets = (WINE, BREAST_CANCER, replace(DIGITS, openml=""), *(replace(BY_NAME[name], pca=0) for name in _PAPER))
    learners = ("euclidean", "arml", "lmnn", "lmnn+pl", "nca", "itml")

    def parameters(self, found: Found, learner: str) -> dict[str, Any]:
        return settings(learner, found.named, **HOW)

    def run(self, cell: Cell) -> Mapping[str, Any]:
        fitted = Fitted(*load_cell(cell, self.named(cell)), cell)
        rng = np.random.default_rng([cell.seed, cell.split, 41])
        rows = class_draw(fitted.y_test, cell.parameters["certified_rows"], rng)
        some = class_draw(fitted.y_test[rows], cell.parameters["attacked_rows"], rng)
        measured = {
            str(k): _robustness(fitted, k, rows, some) for k in cell.parameters["k"] if k <= len(fitted.X_train)
        }
        return {**fitted.facts(), "k": measured}

    def describe(self, records: Sequence[Record]) -> dict[str, Any]:
        grid = Grid(records, self.learners)
        tables: list[Table] = []
        figures: list[dict[str, Any]] = []
        summary: list[str] = []
        for k in map(str, NEIGHBORS) if grid.datasets else ():
            tables.append(_table(grid, k))
            for dataset in grid.datasets:
                figures += [_figure(grid, dataset, k, kind) for kind in ("radii", "distances")]
            summary.append(_sentence(grid, k))
        if grid.datasets:
            broken = sum(
                result["k"][k]["violations"]
                for dataset in grid.datasets
                for spec in grid.learners
                for result in grid.results(dataset, spec)
                for k in result["k"]
            )
            summary.append(
                "No attack succeeded inside a certified radius."
                if not broken
                else f"{broken} attacks succeeded inside a certified radius: that is an error in this library."
            )
        return {"summary": summary, "tables": tables, "figures": figures, "learners": grid.told_learners()}


def _robustness(fitted: Fitted, k: int, rows: Indices, some: Indices) -> dict[str, Any]:
    """Certified radii of the rows, and distances of successful attacks on some of them."""
    classifier = fitted.classifier(k)
    X, y = fitted.X_test[rows], fitted.y_test[rows]
    labels, radii = classifier.predict_with_radius(X)
    right = labels == y
    if k == 1:
        distances = classifier.minimal_perturbation(X[some]).radii
    else:
        distances = BestOf(_ATTACKS)(classifier, X[some], threat="l2").distances
    return {
        "radii": [told(radius) for radius in np.where(right, radii, _WRONG)],
        "distances": [told(size) for size in np.where(right[some], distances, _WRONG)],
        "violations": int((distances < radii[some] * (1.0 - 1e-9)).sum()),
    }


def robust_error(sizes: Array, eps: float, kind: str) -> float:
    """Share of instances that are wrong, or not certified up to ε ("radii"), or attacked within ε ("distances")."""
    wrong = sizes < 0
    return float((wrong | (sizes < eps if kind == "radii" else (sizes <= eps) & (eps > 0))).mean())


def _sizes(grid: Grid, dataset: str, spec: str, k: str, kind: str) -> list[Array]:
    return [np.array([float(v) for v in result["k"][k][kind]]) for result in grid.results(dataset, spec)]


def _scale(grid: Grid, dataset: str, k: str) -> float:
    """Median certified radius of the right predictions under the Euclidean distance."""
    pooled = np.concatenate(_sizes(grid, dataset, grid.learners[0], k, "radii"))
    known = pooled[(pooled > 0) & np.isfinite(pooled)]
    return float(np.median(known)) if len(known) else 1.0


def _table(grid: Grid, k: str) -> Table:
    rows: list[list[str]] = []
    best: list[tuple[int, int]] = []
    for dataset in grid.datasets:
        scale = _scale(grid, dataset, k)
        for fraction in (0.0, *_FRACTIONS):
            eps = fraction * scale
            found = [
                [
                    100 * float(np.mean([robust_error(s, eps, kind) for s in _sizes(grid, dataset, spec, k, kind)]))
                    for spec in grid.learners
                ]
                for kind in ("radii", "distances")
            ]
            texts = [f"{certified:.1f}" for certified in found[0]]
            top = f"{min(found[0]):.1f}"
            best += [(len(rows), j + 2) for j in best_places(texts, top)]
            shown = texts if not fraction else [f"{text} / {attacked:.1f}" for text, attacked in zip(texts, found[1])]
            rows.append([dataset, f"{eps:.3g}", *shown])
    note = (
        "In per cent: at most (certified) / at least (attacked; for k = 1 exact), the lowest certified marked; ε = 0 "
        "is the error. Sizes are a quarter, a half and all of the Euclidean median radius. Attacks are on a part of "
        "the instances."
    )
    header = ["data set", "ε", *map(label, grid.learners)]
    return Table(f"robust-error-k{k}", f"Robust error, k = {k}", header, rows, best, note)


def _figure(grid: Grid, dataset: str, k: str, kind: str) -> dict[str, Any]:
    eps = [float(f"{x:.4g}") for x in np.linspace(0.0, 2.0 * _scale(grid, dataset, k), _N_EPS)]
    learners = []
    for spec in grid.learners:
        parts = _sizes(grid, dataset, spec, k, kind)
        values = [np.mean([robust_error(s, size, kind) for s in parts]) for size in eps]
        learners.append(line(spec, label(spec), values))
    words = {
        "radii": ("certified", "Share that is wrong or not certified up to ε: the true robust error is at most this."),
        "distances": (
            "attacked" if k != "1" else "exact",
            "Share that is wrong or was attacked within ε: the true robust error is at least this."
            if k != "1"
            else "Share that is wrong or can be made wrong within ε, by the exact smallest change.",
        ),
    }[kind]
    return {
        "kind": "curves",
        "name": f"{dataset}-k{k}-{words[0]}",
        "title": f"{dataset}, k = {k}: {words[0]} robust error",
        "reading": words[1],
        "learners": learners,
        "x": eps,
        "x_label": "size of the change ε (std)",
        "y_label": "robust error",
        "symbol": "ε",
    }


def _sentence(grid: Grid, k: str) -> str:
    """Who has the largest median radius, on how many data sets."""
    won = dict.fromkeys(grid.learners, 0)
    for dataset in grid.datasets:
        medians = [
            float(np.mean([np.median(np.maximum(s, 0.0)) for s in _sizes(grid, dataset, spec, k, "radii")]))
            for spec in grid.learners
        ]
        won[grid.learners[int(np.argmax(medians))]] += 1
    told_ = ", ".join(f"{label(spec)} on {count}" for spec, count in sorted(won.items(), key=lambda w: -w[1]) if count)
    return f"k = {k}: the largest median certified radius has {told_}, of {len(grid.datasets)} data sets."


SUITE = CertifiedSuite()
