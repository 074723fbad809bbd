"""``aml``: adversarial metric learning beside what it builds on and others, arXiv 1802.03170."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from certimetric.bench.comparison import Grid, Measure, datasets_table, p_text
from certimetric.bench.convergence import PART as CONVERGENCE
from certimetric.bench.convergence import convergence_plan, run_convergence, tell_convergence
from certimetric.bench.datasets import FURTHER, SIXTEEN, Found, NamedSet
from certimetric.bench.sampling_bias import NAME as SAMPLING_BIAS
from certimetric.bench.sampling_bias import TOY, run_toy, tell_toy, toy_plan
from certimetric.bench.sensitivity import PART as SENSITIVITY
from certimetric.bench.sensitivity import SETS as ROC_SETS
from certimetric.bench.sensitivity import run_sensitivity, sensitivity_plan, tell_sensitivity
from certimetric.bench.statistics import wilcoxon, win_tie_loss
from certimetric.bench.suites.base import Suite
from certimetric.bench.tabular import Fitted, load_cell, settings
from certimetric.bench.tuning import UNTUNED
from certimetric.bench.verification import roc_figure, verify
from certimetric.runs.key import Cell, Record

TABULAR = "tabular"
HOW = {"snr": [], "fit_rows": 1000, "test_rows": 1000, "pairs": 2000}

ERROR = Measure("error", "Error", "%", lambda result: result["error"])
AUC = Measure(
    "auc",
    "Verification AUC",
    "",
    lambda result: result["auc"],
    "higher",
    "Area under the ROC curve of the question whether two test instances have one class, judged by their distance.",
)


class AmlSuite(Suite):
    """k-NN and verification under adversarial metric learning, its behaviour under bias, its solvers and parameters."""

    name = "aml"
    title = "Adversarial metric learning"
    about = (
        "A toy experiment with sampling bias; 3-NN error and verification of pairs (ROC, AUC) on tabular data; "
        "convergence of both solvers; sensitivity to α and β; each with either "
        "confusion stage. Parameters are chosen by cross-validation, and GMML and AML are there with their defaults "
        "too. After Chen et al., arXiv 1802.03170."
    )
    needs = "16 tabular sets and 15 further ones, from --data-root, bundled, or OpenML; what is missing is told"
    minutes = 5.0
    splits = 2
    protocol = "aml/2"
    datasets: Sequence[NamedSet] = SIXTEEN
    further: Sequence[NamedSet] = FURTHER
    learners = ("euclidean", "itml", "lmnn", "gmml", "aml", "aml:confusion=ascent", *UNTUNED)

    def parameters(self, found: Found, learner: str) -> dict[str, Any]:
        return settings(learner, found.named, part=TABULAR, **HOW)

    def cells_of(self, data: Sequence[Found], seed: int, split: int) -> list[Cell]:
        plans = [
            (TOY, toy_plan(self.learners)),
            *((found, convergence_plan(found.named, **HOW)) for found in data),
            *((found, sensitivity_plan(found.named, **HOW)) for found in data),
        ]
        cells = [
            found.cell(self.name, learner, split, seed, self.protocol, how)
            for found, plan in plans
            for learner, how in plan.items()
        ]
        return cells + super().cells_of(data, seed, split)

    def run(self, cell: Cell) -> Mapping[str, Any]:
        part = cell.parameters["part"]
        if part == SAMPLING_BIAS:
            return run_toy(cell)
        run = {CONVERGENCE: run_convergence, SENSITIVITY: run_sensitivity, TABULAR: run_tabular}[part]
        return run(cell, self.named(cell))

    def describe(self, records: Sequence[Record]) -> dict[str, Any]:
        def of(part: str) -> list[Record]:
            return [record for record in records if record.cell.parameters["part"] == part]

        grid = Grid(of(TABULAR), self.learners)
        parts = [
            tell_toy(of(SAMPLING_BIAS), self.learners),
            self._tell_tabular(grid),
            tell_convergence(of(CONVERGENCE)),
            tell_sensitivity(of(SENSITIVITY)),
        ]
        told: dict[str, Any] = {
            what: [item for part in parts for item in part[what]] for what in ("summary", "tables", "figures")
        }
        told["tables"].append(datasets_table(grid, of(TABULAR), self.datasets, self.further))
        return {**told, "learners": grid.told_learners()}

    def _tell_tabular(self, grid: Grid) -> dict[str, list[Any]]:
        if not grid.datasets:
            return {"summary": [], "tables": [], "figures": []}
        compared = [ERROR, AUC]
        pairs = [("aml", other) for other in self.learners if other != "aml"] + [UNTUNED[::-1]]
        tables = [
            grid.table(ERROR),
            grid.table(AUC),
            grid.pairs_table("AML against the others", pairs, compared),
            grid.friedman_table(compared),
        ]
        figures = [figure for measure in compared if (figure := grid.ranks_figure(measure)) is not None]
        if len(grid.datasets) > 1:
            figures.append(roc_figure(grid, grid.datasets))
        figures += [roc_figure(grid, [name]) for name in grid.datasets if name in ROC_SETS]
        summary = [_sentence(grid, measure) for measure in compared]
        return {"summary": summary, "tables": tables, "figures": figures}


def run_tabular(cell: Cell, named: NamedSet) -> Mapping[str, Any]:
    """Error of k-NN, and verification of pairs of test instances."""
    fitted = Fitted(*load_cell(cell, named), cell)
    pairs = verify(fitted, cell.parameters["pairs"], [cell.seed, cell.split, 61])
    return {**fitted.facts(), "error": fitted.error(), **pairs}


def _sentence(grid: Grid, measure: Measure) -> str:
    """AML beside GMML, tuned and not, in figures."""
    means = grid.means(measure)
    told = []
    for first, second, how in (("aml", "gmml", "with tuned"), (*UNTUNED[::-1], "with default")):
        a, b = (means[:, grid.learners.index(spec)] for spec in (first, second))
        wins, ties, losses = win_tie_loss(a, b, lower_is_better=measure.lower_is_better)
        told.append(f"{how} parameters on {wins}, equal on {ties}, worse on {losses} (p {p_text(wilcoxon(a, b))})")
    ranking = f"{measure.title}, mean ranks on {len(means)} data sets: {grid.ranking(measure)}"
    return f"{ranking}. AML is better than GMML {'; '.join(told)}."


SUITE = AmlSuite()
