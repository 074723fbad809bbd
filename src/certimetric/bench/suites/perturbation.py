"""``perturbation``, ``perturbation-authors``: metrics with and without the perturbation loss, arXiv 2006.05945.

The second is the first by the protocol of the authors' own code, on the table that they publish it with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from certimetric.base.arrays import Array
from certimetric.bench.comparison import Grid, Measure, datasets_table, label, p_text
from certimetric.bench.datasets import BY_NAME, FURTHER, SIXTEEN, Found, NamedSet
from certimetric.bench.noise import KINDS
from certimetric.bench.statistics import wilcoxon, win_tie_loss
from certimetric.bench.suites.base import Suite
from certimetric.bench.tables import Table
from certimetric.bench.tabular import Fitted, load_cell, measure, settings
from certimetric.report.formatting import p_value
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
    datasets: Sequence[NamedSet] = SIXTEEN
    further: Sequence[NamedSet] = FURTHER
    learners: tuple[str, ...] = (
        "euclidean", "lmnn", "lmnn+pl", "scml", "scml+pl", "nca", "nca+pl", "itml", "gmml",
    )  # fmt: skip

    def parameters(self, found: Found, learner: str) -> dict[str, Any]:
        return settings(learner, found.named)

    def run(self, cell: Cell) -> Mapping[str, Any]:
        return measure(*load_cell(cell, self.named(cell)), cell)

    def describe(self, records: Sequence[Record]) -> dict[str, Any]:
        grid = Grid(records, self.learners)
        tables = [datasets_table(grid, records, self.datasets, self.further)]
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
    errors, ranks = grid.means(ERROR), grid.ranks(ERROR)
    told = []
    for judged, words in ((NOISE["spherical"], "in error under spherical noise"), (RADIUS, "in certified radius")):
        means = grid.means(judged)
        wins, _, _ = win_tie_loss(means[:, a], means[:, b], lower_is_better=judged.lower_is_better)
        told.append(f"{words} on {wins} of {len(means)} data sets (p {p_text(wilcoxon(means[:, a], means[:, b]))})")
    return (
        f"{label(first)} has mean rank {ranks[a]:.2f} in error, {label(second)} {ranks[b]:.2f} "
        f"(p {p_text(wilcoxon(errors[:, a], errors[:, b]))}); it is better {' and '.join(told)}."
    )


# Of the authors' protocol: target neighbours and impostors of an instance, folds, and random settings in a search.
TARGETS, IMPOSTORS, FOLDS, DRAWS = 3, 10, 5, 30
TUNED, TUNED_PL = f"lmnn:n_impostors={IMPOSTORS}", f"lmnn+pl:n_impostors={IMPOSTORS}"
# What stands beside the two that are tuned has one setting: its defaults, and the same with the fixed impostors.
FIXED, FIXED_PL = f"{TUNED},push_weight=0.5", f"{TUNED_PL},push_weight=0.5"


def authors_options(mu: float, weight: float, tau: float) -> str:
    """Options of LMNN for ``(1 − μ) mean hinge + μ mean pull + λ mean [τ² − r²]_+`` over fixed nearest triplets.

    LMNN's own push is the sum over the impostors of a target, ten times its mean, and the two weights add up to 1: the
    objective is divided by what makes them do so, which moves no minimum. Without λ there is no third term.

    Examples
    --------
    >>> authors_options(0.5, 0.0, 1.0), authors_options(0.5, 1.1, 0.5)
    ('push_weight=0.09091', 'push_weight=0.09091,weight=2,tau=0.25,relative=False')
    """
    push = (1.0 - mu) / IMPOSTORS
    options = f"push_weight={push / (mu + push):.4g}"
    return f"{options},weight={weight / (mu + push):.4g},tau={tau**2:.4g},relative=False" if weight else options


def authors_draws(seed: int, split: int) -> Mapping[str, list[str]]:
    """Random settings of the two learners that are tuned, the same μ for both: other ones in every split."""
    rng = np.random.default_rng([seed, split, 41])
    mu, tau = rng.uniform(0.02, 0.98, DRAWS), rng.uniform(0.05, 1.0, DRAWS)
    weight = 10.0 ** rng.uniform(-1.5, 2.0, DRAWS)
    return {
        TUNED: [authors_options(m, 0.0, t) for m, t in zip(mu, tau, strict=True)],
        TUNED_PL: [authors_options(m, w, t) for m, w, t in zip(mu, weight, tau, strict=True)],
    }


class AuthorsSuite(PerturbationSuite):
    """LMNN-PL as its authors' code has it: unit length, fixed nearest triplets, a random search in every split."""

    name = "perturbation-authors"
    title = "LMNN-PL by its authors' protocol"
    about = (
        "Accuracy of 3-NN on Australian, every instance scaled to unit length: LMNN with the perturbation loss and "
        "without, over fixed nearest triplets, parameters by a random search in cross-validation. After the code of "
        "Yang et al., arXiv 2006.05945."
    )
    needs = "the table australian, from --data-root or OpenML"
    minutes = 10.0
    splits = 20
    protocol = "perturbation-authors/1"
    datasets = (BY_NAME["australian"],)
    further = ()
    learners = ("euclidean", "lmnn", "lmnn+pl", FIXED, FIXED_PL, TUNED, TUNED_PL)
    instance = "AUTHORS"

    def cells_of(self, data: Sequence[Found], seed: int, split: int) -> list[Cell]:
        drawn = authors_draws(seed, split)
        return [
            found.cell(
                self.name,
                learner,
                split,
                seed,
                self.protocol,
                settings(
                    learner,
                    found.named,
                    candidates=drawn.get(learner, [""]),
                    n_neighbors=TARGETS,
                    folds=FOLDS,
                    snr=[],
                    unit_length=True,
                ),
            )
            for found in data
            for learner in self.learners
        ]

    def run(self, cell: Cell) -> Mapping[str, Any]:
        fitted = Fitted(*load_cell(cell, self.named(cell)), cell)
        return {**fitted.facts(), "error": fitted.error()}

    def describe(self, records: Sequence[Record]) -> dict[str, Any]:
        grid = Grid(records, self.learners)
        tables = [_paired_table(grid, name, TUNED_PL) for name in grid.datasets]
        tables += [grid.table(TIME, ranked=False)] if grid.datasets else []
        tables.append(datasets_table(grid, records, self.datasets, ()))
        summary = [_authors_sentence(grid, name) for name in grid.datasets]
        return {"summary": summary, "tables": tables, "figures": [], "learners": grid.told_learners()}


def _told(spec: str) -> str:
    """The short name of a learner of the authors' suite."""
    return f"{label(spec)}, tuned" if spec in (TUNED, TUNED_PL) else label(spec)


def _accuracies(grid: Grid, dataset: str, learner: str) -> Array:
    return np.array([1.0 - result["error"] for result in grid.results(dataset, learner)])


def _paired_table(grid: Grid, dataset: str, judged: str) -> Table:
    """Accuracy over splits, and on the same splits one learner against each of the others."""
    ours = _accuracies(grid, dataset, judged)
    rows = []
    for spec in grid.learners:
        theirs = _accuracies(grid, dataset, spec)
        row = [_told(spec), f"{theirs.mean():.4f}", f"{theirs.std(ddof=1):.4f}" if len(theirs) > 1 else "–"]
        if spec != judged:
            wins = " / ".join(map(str, win_tie_loss(ours, theirs, lower_is_better=False)))
            row += [f"{(ours - theirs).mean():+.4f}", wins, p_value(wilcoxon(ours, theirs))]
        rows.append([*row, *[""] * (6 - len(row))])
    header = ["learner", "accuracy", "± over splits", "difference", "win / tie / loss", "Wilcoxon p"]
    note = (
        f"{_told(judged)} against each, over {len(ours)} splits. The p-values take splits for independent: those of "
        "one table are not, and the p-values too small."
    )
    return Table(f"accuracy-{dataset}", f"Accuracy on {dataset}", header, rows, note=note)


def _authors_sentence(grid: Grid, dataset: str) -> str:
    means = {spec: _accuracies(grid, dataset, spec).mean() for spec in grid.learners}
    return (
        f"On {dataset}, mean accuracy over {grid.splits(dataset)} splits: "
        f"{', '.join(f'{_told(spec)} {mean:.4f}' for spec, mean in means.items())}."
    )


SUITE, AUTHORS = PerturbationSuite(), AuthorsSuite()
