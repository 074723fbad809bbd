"""Figures of many cells as tables: data sets × learners, with ranks and tests."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from certimetric.base.arrays import Array
from certimetric.bench.datasets import NamedSet
from certimetric.bench.statistics import critical_difference, friedman, groups, mean_ranks, wilcoxon, win_tie_loss
from certimetric.bench.tables import Table, best_places
from certimetric.learners.specs import describe
from certimetric.report.formatting import p_value
from certimetric.runs.key import Record


@dataclass(frozen=True)
class Measure:
    """One figure of a cell, read from its result; ``better`` is "lower" or "higher"."""

    name: str
    title: str
    unit: str
    read: Callable[[Mapping[str, Any]], float]
    better: str = "lower"
    note: str = ""

    @property
    def lower_is_better(self) -> bool:
        return self.better == "lower"


def plus_minus(values: ArrayLike, digits: int = 1) -> str:
    """The standard deviation as a table shows it behind a mean; nothing for one value, or where one is not finite.

    Examples
    --------
    >>> plus_minus([1.0, 2.0, 3.0]), plus_minus([1.0])
    (' ± 1.0', '')
    """
    found = np.asarray(values, dtype=float)
    return f" ± {found.std(ddof=1):.{digits}f}" if len(found) > 1 and np.isfinite(found).all() else ""


def label(spec: str) -> str:
    """The short name of a learner, as the papers have it.

    Examples
    --------
    >>> label("lmnn+pl"), label("euclidean")
    ('LMNN-PL', 'Euclidean')
    """
    return describe(spec).replace(" + perturbation loss", "-PL")


def line(spec: str, name: str, values: ArrayLike) -> dict[str, Any]:
    """A learner in a figure of curves: values without intervals."""
    return {"spec": spec, "label": name, "points": [[float(value), None, None] for value in np.asarray(values)]}


class Grid:
    """Results by data set and learner (columns, in order), over the splits that all learners have finished.

    ``datasets`` are those with such a split, in the order of the records; ``partial`` are the others, with the learners
    that they lack.
    """

    def __init__(self, records: Sequence[Record], learners: Sequence[str]):
        self.learners = list(learners)
        self._results: dict[tuple[str, str], dict[int, Mapping[str, Any]]] = {}
        names: dict[str, None] = {}
        for record in records:
            names[record.cell.dataset] = None
            if record.result is not None:
                place = (record.cell.dataset, record.cell.learner)
                self._results.setdefault(place, {})[record.cell.split] = record.result
        self._splits = {
            name: sorted(set.intersection(*(set(self._results.get((name, spec), {})) for spec in self.learners)))
            for name in names
        }
        self.datasets = [name for name in names if self._splits[name]]
        self.partial = {
            name: [label(spec) for spec in self.learners if (name, spec) not in self._results]
            for name in names
            if not self._splits[name]
        }

    def results(self, dataset: str, learner: str) -> list[Mapping[str, Any]]:
        """Results of a learner on the splits that count."""
        found = self._results[dataset, learner]
        return [found[split] for split in self._splits[dataset]]

    def line(self, spec: str, read: Callable[[Mapping[str, Any]], Any], names: Sequence[str]) -> dict[str, Any]:
        """A learner in a figure of curves: the mean over data sets of the mean over splits."""
        curves = [np.mean([read(result) for result in self.results(name, spec)], axis=0) for name in names]
        return line(spec, label(spec), np.mean(curves, axis=0))

    def splits(self, dataset: str) -> int:
        """Number of splits that count."""
        return len(self._splits[dataset])

    def means(self, measure: Measure) -> Array:
        """Means over splits, shape (n_datasets, n_learners), without the last digits: equal figures are to tie."""
        means = np.array(
            [
                [np.mean([measure.read(result) for result in self.results(name, spec)]) for spec in self.learners]
                for name in self.datasets
            ]
        ).reshape(len(self.datasets), len(self.learners))
        return np.round(means, 12)

    def ranks(self, measure: Measure) -> Array:
        """Mean rank of each learner over the data sets."""
        return mean_ranks(self.means(measure), lower_is_better=measure.lower_is_better)

    def ranking(self, measure: Measure) -> str:
        """Learners with their mean ranks, the best first."""
        ranks = self.ranks(measure)
        return ", ".join(f"{label(self.learners[j])} {ranks[j]:.2f}" for j in np.argsort(ranks, kind="stable"))

    def table(self, measure: Measure, *, ranked: bool = True) -> Table:
        """Mean ± standard deviation, the best of each data set marked, and the mean ranks."""
        factor = 100.0 if measure.unit == "%" else 1.0
        means = factor * self.means(measure)
        digits = 1 if measure.unit == "%" else 3
        rows, best = [], []
        for i, name in enumerate(self.datasets):
            row = [name]
            for j, spec in enumerate(self.learners):
                values = factor * np.array([measure.read(result) for result in self.results(name, spec)])
                row.append(f"{_number(means[i, j], digits)}{plus_minus(values, digits)}")
            rows.append(row)
            if ranked:
                texts = [_number(value, digits) for value in means[i]]
                top = _number(means[i].min() if measure.lower_is_better else means[i].max(), digits)
                best += [(i, j + 1) for j in best_places(texts, top)]
        if ranked and self.datasets:
            ranks = self.ranks(measure)
            rows.append(["mean rank", *(f"{rank:.2f}" for rank in ranks)])
            best += [(len(rows) - 1, j + 1) for j, rank in enumerate(ranks) if rank == ranks.min()]
        title = f"{measure.title} [{measure.unit}]" if measure.unit else measure.title
        return Table(measure.name, title, ["data set", *map(label, self.learners)], rows, best, measure.note)

    def friedman_table(self, measures: Sequence[Measure]) -> Table:
        """Friedman's test and Nemenyi's difference for each measure."""
        rows = []
        for measure in measures:
            statistic, p = friedman(self.means(measure))
            cd = critical_difference(len(self.learners), len(self.datasets))
            rows.append(
                [
                    measure.title,
                    str(len(self.datasets)),
                    _number(statistic, 2),
                    p_value(p),
                    f"{cd:.2f}",
                    self.ranking(measure),
                ]
            )
        header = ["measure", "data sets", "Friedman χ²", "p", "critical difference", "mean ranks, best first"]
        return Table(
            "friedman", "Do the learners differ?", header, rows, note="Critical difference: Nemenyi, α = 0.05."
        )

    def pairs_table(self, title: str, pairs: Sequence[tuple[str, str]], measures: Sequence[Measure]) -> Table:
        """Each learner against its base: wins, ties, losses, mean ranks and Wilcoxon's test."""
        rows = []
        for first, second in pairs:
            a, b = self.learners.index(first), self.learners.index(second)
            for measure in measures:
                means, ranks = self.means(measure), self.ranks(measure)
                wins, ties, losses = win_tie_loss(means[:, a], means[:, b], lower_is_better=measure.lower_is_better)
                rows.append(
                    [
                        f"{label(first)} against {label(second)}",
                        measure.title,
                        f"{wins} / {ties} / {losses}",
                        f"{100 * wins / max(len(means), 1):.0f} %",
                        f"{ranks[a]:.2f}",
                        f"{ranks[b]:.2f}",
                        p_value(wilcoxon(means[:, a], means[:, b])),
                    ]
                )
        header = ["pair", "measure", "win / tie / loss", "better on", "its mean rank", "the other's", "Wilcoxon p"]
        note = (
            "Means over splits; ranks are those among all learners. p is two-sided, exact, by Pratt's method, and not "
            "corrected for many tests."
        )
        return Table("pairs", title, header, rows, note=note)

    def ranks_figure(self, measure: Measure) -> dict[str, Any] | None:
        """Critical-difference plot; None with fewer than two data sets."""
        if len(self.datasets) < 2:
            return None
        ranks = self.ranks(measure)
        cd = critical_difference(len(self.learners), len(self.datasets))
        return {
            "kind": "ranks",
            "name": f"ranks-{measure.name}",
            "title": f"Mean ranks: {measure.title[:1].lower()}{measure.title[1:]}",
            "reading": f"Mean rank over {len(self.datasets)} data sets, 1 is best. Learners joined by a bar are not "
            f"told apart by Nemenyi’s test at α = 0.05: their mean ranks differ by less than {cd:.2f}.",
            "learners": self.told_learners(),
            "ranks": ranks.tolist(),
            "difference": cd,
            "groups": groups(ranks, cd),
        }

    def told_learners(self) -> list[dict[str, str]]:
        """Specification and name of each learner."""
        return [{"spec": spec, "label": label(spec)} for spec in self.learners]


def p_text(p: float) -> str:
    """A p-value as the end of "p …" in a sentence.

    Examples
    --------
    >>> p_text(0.0123), p_text(0.00001)
    ('= 0.012', '< 0.001')
    """
    return text if (text := p_value(p)).startswith("<") else f"= {text}"


def datasets_table(
    grid: Grid, records: Sequence[Record], sixteen: Sequence[NamedSet], further: Sequence[NamedSet]
) -> Table:
    """What each data set of a grid is, how much of it was used, and how many splits count."""
    named_sets = {named.name: named for named in (*sixteen, *further)}
    first = {named.name for named in sixteen}
    cells = {record.cell.dataset: record.cell for record in records}
    rows = []
    for name in (*grid.datasets, *grid.partial):
        named = named_sets[name]
        told = next((r.result for r in records if r.cell.dataset == name and r.result), None)
        sizes = ["–", "–", "–"] if told is None else [str(told[k]) for k in ("n_train", "n_test", "duplicates")]
        features = f"{named.pca} of {named.features}" if named.pca else str(named.features - named.drop)
        done = str(grid.splits(name)) if name in grid.datasets else f"0: lacks {', '.join(grid.partial[name])}"
        origin = "sixteen" if name in first else "further"
        rows.append([name, origin, features, str(len(named.classes)), *sizes, done, cells[name].digest[:12]])
    header = ["data set", "of", "features", "classes", "trained on", "tested", "duplicates", "splits", "sha256"]
    note = (
        "“40 of 64” features are principal components of the training part. Duplicates: test instances that are in "
        "the training part too, left out. Splits: those that all learners finished, which alone are compared."
    )
    return Table("datasets", "Data sets", header, rows, note=note)


def failures_table(records: Sequence[Record]) -> Table | None:
    """What failed or was stopped; None if nothing did."""
    rows = [
        [record.cell.dataset, label(record.cell.learner), str(record.cell.split), record.status, record.error]
        for record in records
        if record.status != "done"
    ]
    if not rows:
        return None
    return Table("failures", "Cells that failed", ["data set", "learner", "split", "status", "error"], rows)


def _number(value: float, digits: int) -> str:
    if math.isnan(value):
        return "–"
    return "∞" if math.isinf(value) else f"{value:.{digits}f}"
