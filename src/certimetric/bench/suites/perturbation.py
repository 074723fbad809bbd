"""``perturbation``: metrics with and without the perturbation loss on tabular data, arXiv 2006.05945."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from certimetric.bench.comparison import Grid, Measure, datasets_table, label, p_text
from certimetric.bench.datasets import FURTHER, SIXTEEN, Found, NamedSet
from certimetric.bench.noise import KINDS
from certimetric.bench.statistics import mean_ranks, wilcoxon, win_tie_loss
from certimetric.bench.suites.base import Suite
from certimetric.bench.tabular import load_cell, measure, settings
from certimetric.runs.key import Cell, Record

ERROR = Measure("error", "Error", "%", lambda result: result["error"])
NOISE = {
    kind: Measure(
        f"noise-{kind}",
        f"Error under {kind} noise",
        "%",
        lambda result, kind=kind: result["noise"][kind][-1],  # type: ignore[misc]
        note="At the strongest noise, a signal-to-noise ratio of 5 dB.",
    )
    for kind in KINDS
}
RADIUS = Measure(
    "radius",
    "Median certified radius",
    "std",
    lambda result: float(result["median_radius"]),
    "higher",
    "ℓ₂, in standard deviations of a feature; an instance that is predicted wrongly counts 0.",
)
MARGIN = Measure(
    "margin",
    "Median adversarial margin",
    "std",
    lambda result: result["median_margin"],
    "higher",
    "Of test instances with their nearest target neighbour and nearest impostor; 0 where the impostor is nearer.",
)
TIME = Measure(
    "time",
    "Time of one fit",
    "s",
    lambda result: result["fit_seconds"],
    note="Processor time of one thread, after the choice of parameters.",
)


class PerturbationSuite(Suite):
    """k-NN under learned metrics: error, error under noise, adversarial margins, certified radii, time."""

    name = "perturbation"
    title = "Perturbation loss on tabular data"
    about = (
        "3-NN on repeated stratified 70/30 splits under metrics learned with and without the perturbation loss: error, "
        "error under noise, adversarial margins, certified radii, training time. After Yang et al., arXiv 2006.05945."
    )
    needs = "16 tabular sets and 15 further ones, from --data-root, bundled, or OpenML; what is missing is told"
    minutes = 60.0
    splits = 3
    protocol = "tabular/3"
    learners: tuple[str, ...] = (
        "euclidean", "lmnn", "lmnn+pl", "scml", "scml+pl", "nca", "nca+pl", "itml", "gmml",
    )  # fmt: skip

    def datasets(self) -> Sequence[NamedSet]:
        return SIXTEEN

    def further(self) -> Sequence[NamedSet]:
        return FURTHER

    def parameters(self, found: Found, learner: str) -> dict[str, Any]:
        return settings(learner, found.named)

    def run(self, cell: Cell) -> Mapping[str, Any]:
        return measure(*load_cell(cell, self.named(cell)), cell)

    def describe(self, records: Sequence[Record]) -> dict[str, Any]:
        grid = Grid(records, self.learners)
        tables = [datasets_table(grid, records, self.datasets(), self.further())]
        figures: list[dict[str, Any]] = []
        summary: list[str] = []
        if grid.datasets:
            compared = [ERROR, *NOISE.values(), RADIUS, MARGIN]
            pairs = [(f"{base}+pl", base) for base in self.learners if f"{base}+pl" in self.learners]
            tables = [
                grid.table(ERROR),
                grid.pairs_table("With the perturbation loss and without", pairs, compared),
                grid.friedman_table(compared),
                *(grid.table(measure) for measure in compared[1:]),
                grid.table(TIME, ranked=False),
                *tables,
            ]
            drawn = [grid.ranks_figure(measure) for measure in (ERROR, NOISE["spherical"], RADIUS)]
            figures = [figure for figure in drawn if figure is not None]
            figures += [self._noise_figure(grid, kind, records) for kind in KINDS]
            summary = [_sentence(grid, *pair) for pair in pairs]
        return {"summary": summary, "tables": tables, "figures": figures, "learners": grid.told_learners()}

    def _noise_figure(self, grid: Grid, kind: str, records: Sequence[Record]) -> dict[str, Any]:
        levels = list(records[0].cell.parameters["snr"])
        return {
            "kind": "curves",
            "name": f"noise-{kind}",
            "title": f"Error under {kind} noise",
            "reading": "Mean error over the data sets; the lower the signal-to-noise ratio, the stronger the noise.",
            "learners": [
                grid.line(spec, lambda result: result["noise"][kind], grid.datasets) for spec in grid.learners
            ],
            "x": levels,
            "x_label": "signal-to-noise ratio (dB)",
            "y_label": "error",
            "symbol": "SNR",
        }


def _sentence(grid: Grid, first: str, second: str) -> str:
    """What the comparison of a pair says, in figures."""
    a, b = grid.learners.index(first), grid.learners.index(second)
    errors = grid.means(ERROR)
    ranks = mean_ranks(errors)
    told = []
    for judged, words in ((NOISE["spherical"], "in error under spherical noise"), (RADIUS, "in certified radius")):
        means = grid.means(judged)
        wins, _, _ = win_tie_loss(means[:, a], means[:, b], lower_is_better=judged.lower_is_better)
        told.append(f"{words} on {wins} of {len(means)} data sets (p {p_text(wilcoxon(means[:, a], means[:, b]))})")
    return (
        f"{label(first)} has mean rank {ranks[a]:.2f} in error, {label(second)} {ranks[b]:.2f} "
        f"(p {p_text(wilcoxon(errors[:, a], errors[:, b]))}); it is better {' and '.join(told)}."
    )


SUITE = PerturbationSuite()
