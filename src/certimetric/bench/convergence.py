"""How the objective of adversarial metric learning falls, iteration by iteration, with either of its solvers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from certimetric.base.arrays import Array
from certimetric.bench.comparison import Grid
from certimetric.bench.datasets import NamedSet
from certimetric.bench.tables import Table
from certimetric.bench.tabular import Fitted, load_cell, settings
from certimetric.runs.key import Cell, Record

PART = "convergence"
SETS = ("wine", "breast_cancer", "ionosphere", "segment")
CONFUSIONS = ("opposite", "ascent")
SOLVERS = {
    f"aml:confusion={confusion},solver={solver}": f"{confusion}, {solver}"
    for confusion in CONFUSIONS
    for solver in ("bilevel", "alternating")
}
CLOSE = 1e-6  # relative excess of the objective that counts as arrived


def convergence_plan(named: NamedSet, **how: Any) -> dict[str, dict[str, Any]]:
    """Parameters of the cells on a data set, by learner: each solver with the default parameters of the learner."""
    solvers = SOLVERS if named.name in SETS else ()
    return {learner: settings(learner, named, part=PART, candidates=[""], **how) for learner in solvers}


def run_convergence(cell: Cell, named: NamedSet) -> Mapping[str, Any]:
    """The objective after every iteration."""
    fitted = Fitted(*load_cell(cell, named), cell)
    learner: Any = fitted.learner
    return {**fitted.facts(), "path": list(learner.objective_path_), "beta": learner.beta_}


def tell_convergence(records: Sequence[Record]) -> dict[str, list[Any]]:
    """Curves, a table and a sentence; nothing without results."""
    grid = Grid(records, list(SOLVERS))
    if not grid.datasets:
        return {"summary": [], "tables": [], "figures": []}
    rows = []
    iterations: dict[str, list[int]] = {spec: [] for spec in SOLVERS}
    highest = 0.0
    rises = runs = 0
    for name in grid.datasets:
        for spec in SOLVERS:
            results = grid.results(name, spec)
            excess = [_excess(grid, name, split)[spec] for split in range(len(results))]
            steps = [len(path) - 1 for path in excess]
            arrived = [int(np.argmax(path <= CLOSE)) if (path <= CLOSE).any() else None for path in excess]
            iterations[spec] += steps
            highest = max(highest, *(float(path[-1]) for path in excess))
            runs += len(excess)
            rises += sum(bool((np.diff(result["path"]) > 0).any()) for result in results)
            rows.append(
                [
                    name,
                    SOLVERS[spec],
                    _listed(steps),
                    _listed(arrived),
                    ", ".join(f"{path[-1]:.1e}" for path in excess),
                    ", ".join(f"{result['beta']:.3g}" for result in results),
                ]
            )
    header = ["data set", "confusion, solver", "iterations", "within 1e-6", "excess at its end", "β in force"]
    note = (
        "A figure for each split. Excess: of the objective over the lowest that either solver reached with the same "
        "confusion, as a fraction of that. Within 1e-6: the first iteration with no more excess than that."
    )
    table = Table(PART, "Convergence of AML", header, rows, note=note)
    medians = " and ".join(f"{np.median(iterations[spec]):g} ({name})" for spec, name in SOLVERS.items())
    sentence = (
        f"AML’s objective rose in {rises or 'none'} of {runs} runs; the solvers took a median of {medians} iterations, "
        f"and ended at most {100 * highest:.2g} % above the lowest objective reached."
    )
    return {"summary": [sentence], "tables": [table], "figures": [_figure(grid, name) for name in grid.datasets]}


def relative_excess(paths: Sequence[Sequence[float]]) -> list[Array]:
    """Each path less the lowest value of all of them, divided by that.

    Examples
    --------
    >>> [excess.tolist() for excess in relative_excess([[4.0, 2.0], [3.0, 3.0]])]
    [[1.0, 0.0], [0.5, 0.5]]
    """
    lowest = min(min(path) for path in paths)
    return [(np.asarray(path, dtype=float) - lowest) / lowest for path in paths]


def _excess(grid: Grid, name: str, split: int) -> dict[str, Array]:
    """Relative excess of every path, among the solvers of its confusion: these minimise one objective."""
    found: dict[str, Array] = {}
    for confusion in CONFUSIONS:
        specs = [spec for spec, told in SOLVERS.items() if told.startswith(confusion)]
        found |= zip(specs, relative_excess([grid.results(name, spec)[split]["path"] for spec in specs]))
    return found


def _listed(numbers: Sequence[int | None]) -> str:
    return ", ".join("never" if number is None else str(number) for number in numbers)


def _figure(grid: Grid, name: str) -> dict[str, Any]:
    """The first split: runs of other splits have other lengths, and would blur the ends."""
    excess = _excess(grid, name, 0)
    return {
        "kind": "descents",
        "name": f"convergence-{name}",
        "title": f"{name}: how AML’s objective falls",
        "reading": (
            "Relative excess of the objective over the lowest that either solver reached with the same confusion, "
            "after every iteration, on the first split. The alternating solver stops where its next metric would no "
            "longer lower the objective."
        ),
        "learners": [
            {"spec": spec, "label": solver, "points": excess[spec].tolist()} for spec, solver in SOLVERS.items()
        ],
        "x_label": "iteration",
        "y_label": "relative excess",
    }
