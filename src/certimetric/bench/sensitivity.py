"""Error and verification of adversarial metric learning over a grid of its two parameters, α and β."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from certimetric.base.arrays import Array
from certimetric.bench.comparison import Grid, label, line
from certimetric.bench.datasets import NamedSet
from certimetric.bench.tables import Table
from certimetric.bench.tabular import Fitted, load_cell, settings
from certimetric.bench.tuning import with_options
from certimetric.bench.verification import verify
from certimetric.runs.key import Cell, Record

PART = "sensitivity"
SETS = ("wine", "breast_cancer", "ionosphere", "sonar", "vowel", "segment")
ALPHAS = (0.01, 0.1, 1.0, 10.0, 100.0)
BETAS = {"aml": (0.3, 3.0, 10.0, 30.0, 100.0), "aml:confusion=ascent": (2.5, 4.0, 8.0, 32.0, 128.0)}
DEFAULTS = {"aml": (10.0, 30.0), "aml:confusion=ascent": (1.0, 8.0)}
MEASURES = {"error": "error", "auc": "AUC"}


def sensitivity_plan(named: NamedSet, **how: Any) -> dict[str, dict[str, Any]]:
    """Parameters of the cell on a data set, by learner: the whole grid, and α = 0, which is GMML."""
    if named.name not in SETS:
        return {}
    grid = {"candidates": [""], "alpha": list(ALPHAS)}
    return {spec: settings(spec, named, part=PART, **grid, beta=list(betas), **how) for spec, betas in BETAS.items()}


def run_sensitivity(cell: Cell, named: NamedSet) -> Mapping[str, Any]:
    """Error and AUC at every point of the grid, rows α and columns β, and without an adversary."""
    X, codes = load_cell(cell, named)
    seed = [cell.seed, cell.split, 61]

    def at(options: str) -> dict[str, float]:
        fitted = Fitted(X, codes, replace(cell, learner=with_options(cell.learner, options)))
        return {"error": fitted.error(), "auc": verify(fitted, cell.parameters["pairs"], seed)["auc"]}

    how = cell.parameters
    grid = [[at(f"alpha={alpha:g},beta={beta:g}") for beta in how["beta"]] for alpha in how["alpha"]]
    none = at("alpha=0")
    return {name: {"grid": [[point[name] for point in row] for row in grid], "none": none[name]} for name in MEASURES}


def tell_sensitivity(records: Sequence[Record]) -> dict[str, list[Any]]:
    """Curves, tables and a sentence for either confusion; nothing without results."""
    told: dict[str, list[Any]] = {"summary": [], "tables": [], "figures": []}
    for spec in BETAS:
        grid = Grid([record for record in records if record.cell.learner == spec], [spec])
        if grid.datasets:
            for what, some in _tell(grid, spec).items():
                told[what] += some
    return told


def _tell(grid: Grid, spec: str) -> dict[str, list[Any]]:
    values = {name: _means(grid, spec, name) for name in MEASURES}
    errors, none = 100 * values["error"][0].mean(axis=0), 100 * values["error"][1].mean()
    spread = 100 * np.ptp(values["error"][0], axis=(1, 2))
    sentence = (
        f"Over α from {ALPHAS[0]:g} to {ALPHAS[-1]:g} and β from {BETAS[spec][0]:g} to {BETAS[spec][-1]:g}, the mean "
        f"error of {label(spec)} on {len(grid.datasets)} data sets is between {errors.min():.1f} and "
        f"{errors.max():.1f} % ({none:.1f} % without an adversary); on one data set it moves by "
        f"{np.median(spread):.1f} points in the median, and by {spread.max():.1f} at most."
    )
    n = len(grid.datasets)
    tables = [_grid_table(spec, values, n), _sets_table(spec, grid.datasets, values)]
    return {"summary": [sentence], "tables": tables, "figures": [_figure(spec, values, name, n) for name in MEASURES]}


def _name(spec: str) -> str:
    """The part of the report on a confusion."""
    return PART if spec == "aml" else f"{PART}-{spec.partition('=')[2]}"


def _means(grid: Grid, spec: str, name: str) -> tuple[Array, Array]:
    """Means over splits: on the grid (n_datasets, n_alphas, n_betas), and without an adversary (n_datasets,)."""
    results = [grid.results(dataset, spec) for dataset in grid.datasets]
    return (
        np.array([np.mean([result[name]["grid"] for result in found], axis=0) for found in results]),
        np.array([np.mean([result[name]["none"] for result in found]) for found in results]),
    )


def _grid_table(spec: str, values: Mapping[str, tuple[Array, Array]], n: int) -> Table:
    errors, areas = 100 * values["error"][0].mean(axis=0), values["auc"][0].mean(axis=0)
    rows = [
        [f"{alpha:g}", *(f"{errors[i, j]:.2f} / {areas[i, j]:.3f}" for j in range(len(BETAS[spec])))]
        for i, alpha in enumerate(ALPHAS)
    ]
    shown = np.round(errors, 2)
    best = [(i, j + 1) for i, row in enumerate(shown.tolist()) for j, error in enumerate(row) if error == shown.min()]
    note = (
        f"Error in per cent / AUC, means over {n} data sets; the lowest error marked. Without an adversary (α = 0): "
        f"{100 * values['error'][1].mean():.2f} / {values['auc'][1].mean():.3f}."
    )
    header = ["α", *(f"β = {beta:g}" for beta in BETAS[spec])]
    return Table(_name(spec), f"{label(spec)}: sensitivity to α and β", header, rows, best, note)


def _sets_table(spec: str, datasets: Sequence[str], values: Mapping[str, tuple[Array, Array]]) -> Table:
    rows = []
    alpha, beta = DEFAULTS[spec]
    for k, name in enumerate(datasets):
        row = [name]
        for measure, factor, digits in (("error", 100, 1), ("auc", 1, 3)):
            found, none = (factor * part[k] for part in values[measure])
            default = found[ALPHAS.index(alpha), BETAS[spec].index(beta)]
            row += [f"{v:.{digits}f}" for v in (none, default, found.min(), found.max())]
        rows.append(row)
    words = ("without", f"at α = {alpha:g}, β = {beta:g}", "lowest", "highest")
    header = ["data set", *(f"{measure}, {word}" for measure in ("error [%]", "AUC") for word in words)]
    note = "Without an adversary, with the first candidate of the choice of parameters, and the range over the grid."
    return Table(f"{_name(spec)}-sets", f"{label(spec)}: sensitivity by data set", header, rows, note=note)


def _figure(spec: str, values: Mapping[str, tuple[Array, Array]], name: str, n: int) -> dict[str, Any]:
    grid, none = values[name][0].mean(axis=0), float(values[name][1].mean())
    learners = [line(f"beta={beta:g}", f"β = {beta:g}", grid[:, j]) for j, beta in enumerate(BETAS[spec])]
    shown = f"{100 * none:.1f} %"
    return {
        "kind": "curves",
        "name": f"{_name(spec)}-{name}",
        "title": f"{MEASURES[name].capitalize() if name == 'error' else MEASURES[name]} of {label(spec)} over α and β",
        "reading": (
            f"Mean over {n} data sets. α weighs the adversarial pairs; the smaller β, the farther they are moved. "
            f"Without an adversary: {shown}."
        ),
        "learners": learners,
        "x": list(ALPHAS),
        "x_label": "weight of the adversarial pairs α",
        "y_label": MEASURES[name],
        "symbol": "α",
        "logarithmic": True,
    }
