"""``frontier``: certified accuracy against ε and against the rows that a prediction looks at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from certimetric.auditing.tables.summary import certified_accuracy
from certimetric.base.arrays import Array
from certimetric.bench.comparison import Grid, label, line
from certimetric.bench.datasets import BREAST_CANCER, FURTHER, IRIS, SIXTEEN, WINE, Found
from certimetric.bench.rules import FAMILIES, Part, choose_rules, radii_of_right, told_choice
from certimetric.bench.suites.base import Suite
from certimetric.bench.tables import Table, best_places
from certimetric.bench.tabular import load_cell
from certimetric.runs.key import Cell, Record, told
from certimetric.runs.splits import Preparation, honest_split

FRACTIONS = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0)  # of half the Euclidean median radius
GOAL = FRACTIONS.index(1.0)
REFERENCE = ("lmnn+pl", "all")
_BUNDLED = (IRIS, WINE, BREAST_CANCER)
_LEFT_OUT = {"letter", "optdigits", "usps", "dna"}  # the slowest, beside sets like them
HOW = {"test_size": 0.3, "subset": 700, "folds": 3}


class FrontierSuite(Suite):
    """Which training set and which metric certify most at which ε, and how many rows a prediction looks at."""

    name = "frontier"
    title = "The frontier: certified accuracy against ε and against cost"
    about = (
        "k-NN over all rows, 1-NN over adversarially pruned, edited and condensed rows, under learned metrics, and "
        "1-NN over learned prototypes: certified accuracy (ℓ₂, standardised features) against ε in units of half the "
        "Euclidean median radius, and against the number of rows that a prediction looks at. Pruning after Yang et "
        "al., arXiv 1906.03310, prototypes after Saralajew et al., NeurIPS 2020."
    )
    needs = "3 bundled sets; 22 further ones are used where --data-root has them"
    minutes = 6.0
    splits = 1
    protocol = "frontier/1"
    datasets = _BUNDLED
    further = tuple(named for named in (*SIXTEEN, *FURTHER) if named not in _BUNDLED and named.name not in _LEFT_OUT)
    learners = ("euclidean", "lmnn+pl", "arml", "gmlvq")

    def parameters(self, found: Found, learner: str) -> dict[str, Any]:
        return {**HOW, "pca": found.named.pca, "drop": found.named.drop}

    def run(self, cell: Cell) -> Mapping[str, Any]:
        how = cell.parameters
        X, codes = load_cell(cell, self.named(cell))
        train, test = honest_split(X, codes, how["test_size"], cell.seed, cell.split)
        preparation = Preparation.fit(X[train], how["pca"])
        seed = int(np.random.default_rng([cell.seed, cell.split, 43]).integers(2**31))
        part = Part(cell.learner, preparation(X[train]), codes[train], seed)
        chosen = choose_rules(part, X[train], codes[train], folds=how["folds"], pca=how["pca"])
        X_test, y_test = preparation(X[test]), codes[test]
        rules: dict[str, dict[str, Any]] = {}
        for family, (choice, score) in chosen.items():
            rule = part.rule(choice)
            rules[family] = {
                "radii": [told(radius) for radius in radii_of_right(rule, X_test, y_test)],
                "rows": len(rule.X_),
                "chosen": told_choice(choice),
                "validated": score,
            }
        return {
            "unit": part.unit,
            "rules": rules,
            "n_train": len(train),
            "n_classes": int(codes.max()) + 1,
            "certified_fraction": {
                family: [
                    certified_accuracy(np.array([float(r) for r in rule["radii"]]), f * part.unit) for f in FRACTIONS
                ]
                for family, rule in rules.items()
            },
        }

    def describe(self, records: Sequence[Record]) -> dict[str, Any]:
        grid = Grid(records, self.learners)
        if not grid.datasets:
            return {"summary": [], "tables": [], "figures": [], "learners": grid.told_learners()}
        results = _Results(grid)
        return {
            "summary": results.summary(),
            "tables": [results.goal_table(), results.mean_table()],
            "figures": [results.curves(), results.tradeoff()],
            "learners": [results.look(rule) for rule in results.rules],
        }


class _Results:
    """Figures of the rules, by data set: a rule is a learner with a family, such as ("arml", "pruned")."""

    def __init__(self, grid: Grid):
        self.grid = grid
        self.rules = [
            (learner, family)
            for learner in grid.learners
            for family in (("prototypes",) if learner == "gmlvq" else FAMILIES)
        ]

    def mean(self, dataset: str, rule: tuple[str, str], read: str) -> Array:
        """A figure of a rule on a data set, its mean over splits."""
        learner, family = rule
        part = "certified_fraction" if read == "certified" else "rules"
        found = [result[part] for result in self.grid.results(dataset, learner)]
        return np.mean([each[family] if read == "certified" else each[family][read] for each in found], axis=0)

    def chosen(self, dataset: str) -> list[tuple[str, str]]:
        """The rule with the highest cross-validated figure on every split; the one with fewer rows where that ties."""
        found = []
        for split in range(self.grid.splits(dataset)):

            def place(rule: tuple[str, str], split: int = split) -> tuple[float, int]:
                told_ = self.grid.results(dataset, rule[0])[split]["rules"][rule[1]]
                return told_["validated"], -told_["rows"]

            found.append(max(self.rules, key=place))
        return found

    def of_chosen(self, dataset: str) -> Array:
        """Certified accuracy at every fraction of the rule that was chosen, the mean over splits."""
        return np.mean(
            [
                self.grid.results(dataset, learner)[split]["certified_fraction"][family]
                for split, (learner, family) in enumerate(self.chosen(dataset))
            ],
            axis=0,
        )

    def envelope(self, dataset: str) -> tuple[float, tuple[str, str]]:
        """The highest certified accuracy of any rule at the goal's ε, and whose it is: known only in hindsight."""
        best = max(self.rules, key=lambda rule: self.mean(dataset, rule, "certified")[GOAL])
        return float(self.mean(dataset, best, "certified")[GOAL]), best

    def ratios(self) -> tuple[Array, Array]:
        """What is chosen, and the envelope, over the reference at the goal's ε, by data set."""
        reference = np.array([self.mean(name, REFERENCE, "certified")[GOAL] for name in self.grid.datasets])
        chosen = np.array([self.of_chosen(name)[GOAL] for name in self.grid.datasets])
        envelope = np.array([self.envelope(name)[0] for name in self.grid.datasets])
        with np.errstate(divide="ignore", invalid="ignore"):
            return chosen / reference, envelope / reference

    def summary(self) -> list[str]:
        chosen, envelope = self.ratios()
        counted = ", ".join(
            f"{rule_label(rule)} on {count}"
            for rule, count in sorted(
                ((rule, sum(rule in self.chosen(name) for name in self.grid.datasets)) for rule in self.rules),
                key=lambda pair: -pair[1],
            )
            if count
        )
        return [
            f"Certified accuracy at half the Euclidean median radius, over that of {rule_label(REFERENCE)}, in the "
            f"median over {len(self.grid.datasets)} data sets: {np.median(chosen):.3f} with the rule chosen by "
            f"cross-validation, {np.median(envelope):.3f} with the best rule in hindsight (the upper envelope).",
            f"Chosen: {counted}.",
        ]

    def goal_table(self) -> Table:
        rows: list[list[str]] = []
        best: list[tuple[int, int]] = []
        reduced = [rule for rule in self.rules if rule[1] not in ("all", "prototypes")]
        shown = [rule for rule in self.rules if rule not in reduced]
        for name, chosen, envelope in zip(self.grid.datasets, *self.ratios()):
            unit = float(np.mean([result["unit"] for result in self.grid.results(name, self.grid.learners[0])]))
            values = [self.mean(name, rule, "certified")[GOAL] for rule in shown]
            values.append(max(self.mean(name, rule, "certified")[GOAL] for rule in reduced))
            texts = [f"{100 * value:.1f}" for value in values]
            best += [(len(rows), j + 2) for j in best_places(texts, f"{100 * max(values):.1f}")]
            which = ", ".join(dict.fromkeys(map(rule_label, self.chosen(name))))
            rows.append(
                [
                    name,
                    f"{unit:.3g}",
                    *texts,
                    f"{100 * self.of_chosen(name)[GOAL]:.1f}",
                    which,
                    f"{chosen:.2f}",
                    f"{envelope:.2f}",
                ]
            )
        medians = [f"{np.median(ratio):.3f}" for ratio in self.ratios()]
        rows.append(["median", *[""] * (len(shown) + 4), *medians])
        header = [
            "data set",
            "ε",
            *map(rule_label, shown),
            "best reduced",
            "chosen",
            "which",
            "chosen, ratio",
            "envelope, ratio",
        ]
        note = (
            "Per cent at ε, half the Euclidean median radius of the training part. “Best reduced”: the best of pruned, "
            "edited and condensed rows under any metric, in hindsight. “Chosen”: the rule, of all, with the highest "
            f"cross-validated figure. Ratios are to {rule_label(REFERENCE)} over all rows, its k chosen likewise."
        )
        return Table(
            "certified-accuracy", "Certified accuracy at half the Euclidean median radius", header, rows, best, note
        )

    def mean_table(self) -> Table:
        names, rows = self.grid.datasets, list[list[str]]()
        figures = [np.mean([self.mean(name, rule, "certified") for name in names], axis=0) for rule in self.rules]
        figures.append(np.mean([self.of_chosen(name) for name in names], axis=0))
        for rule, values in zip((*self.rules, None), figures):
            cost = "" if rule is None else f"{np.median([self.mean(name, rule, 'rows') for name in names]):.0f}"
            rows.append(["chosen" if rule is None else rule_label(rule), cost, *(f"{100 * v:.1f}" for v in values)])
        best: list[tuple[int, int]] = []
        for j in range(2, len(FRACTIONS) + 2):
            column = [row[j] for row in rows]
            best += [(i, j) for i in best_places(column, max(column, key=float))]
        header = ["rule", "rows", *(f"{fraction:g}" for fraction in FRACTIONS)]
        note = (
            "Per cent, the mean over data sets, at ε in units of half the Euclidean median radius; rows that a "
            "prediction looks at, in the median. What each rule has to choose was chosen at ε = 1."
        )
        return Table("frontier", "Certified accuracy against ε and cost", header, rows, best, note)

    def curves(self) -> dict[str, Any]:
        shown = [rule for rule in self.rules if rule[1] in ("all", "prototypes")]
        for family in FAMILIES[1:]:
            shown.append(max((r for r in self.rules if r[1] == family), key=lambda r: self._overall(r)[GOAL]))
        lines = [line(spec_of(rule), rule_label(rule), self._overall(rule)) for rule in shown]
        lines.append(line("chosen", "chosen", np.mean([self.of_chosen(name) for name in self.grid.datasets], axis=0)))
        return {
            "kind": "curves",
            "name": "frontier",
            "title": "Certified accuracy against ε",
            "reading": "Mean over data sets of the share that is right and certified up to ε. Of pruned, edited and "
            "condensed rows the metric with the highest figure at ε = 1 is shown.",
            "learners": lines,
            "x": list(FRACTIONS),
            "x_label": "ε, in units of half the Euclidean median radius",
            "y_label": "certified accuracy",
            "symbol": "ε",
        }

    def tradeoff(self) -> dict[str, Any]:
        names = self.grid.datasets
        learners = []
        for rule in self.rules:
            values = self._overall(rule)
            per_class = [self.mean(n, rule, "rows") / self.grid.results(n, rule[0])[0]["n_classes"] for n in names]
            learners.append(
                {
                    **self.look(rule),
                    "accuracy": float(values[0]),
                    "robustness": float(values[GOAL]),
                    "cost": float(np.median(per_class)),
                }
            )
        return {
            "kind": "tradeoff",
            "name": "cost",
            "title": "Certified accuracy, accuracy, cost",
            "reading": "Each rule once, at the height of its certified accuracy at half the Euclidean median radius: "
            "on the left by its accuracy, on the right by the rows that a prediction looks at for each class. Up and "
            "right is better on the left, up and left on the right.",
            "labels": ["accuracy", "certified accuracy", "rows a class"],
            "learners": learners,
        }

    def _overall(self, rule: tuple[str, str]) -> Array:
        return np.mean([self.mean(name, rule, "certified") for name in self.grid.datasets], axis=0)

    def look(self, rule: tuple[str, str]) -> dict[str, str]:
        return {"spec": spec_of(rule), "label": rule_label(rule)}


def spec_of(rule: tuple[str, str]) -> str:
    learner, family = rule
    return learner if family in ("all", "prototypes") else f"{learner} {family}"


def rule_label(rule: tuple[str, str]) -> str:
    learner, family = rule
    return label(learner) if family in ("all", "prototypes") else f"{label(learner)}, {family}"


SUITE = FrontierSuite()
