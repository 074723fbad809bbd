"""``verification``: what a calibrated threshold on a learned distance is worth, clean, under attack, and proven."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.spatial import cKDTree

from certimetric.attacks import PairAttack
from certimetric.base.arrays import Array, Indices
from certimetric.bench.comparison import Grid, Measure, label, plus_minus
from certimetric.bench.datasets import BY_NAME, DIGITS, Found, NamedSet
from certimetric.bench.suites.base import Suite
from certimetric.bench.tables import Table, best_places
from certimetric.bench.tabular import Fitted, load_cell, settings
from certimetric.bench.verification import balanced_pairs, roc, roc_figure, threefold
from certimetric.certify import ClassCounts, PairVerifier, class_intervals
from certimetric.constraints.labels import class_draw
from certimetric.runs.key import Cell, Record

PARTS = ("classes", "instances")  # what training, calibration and test do not share
FARS = ("0.1", "0.01")  # false accept rates that thresholds are calibrated to
SIZES = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0)  # of changes, in units of the scale of a split
SMALL, LARGE = SIZES.index(0.1), SIZES.index(0.3)  # those of the tables
CERTIFIED = "certified-accuracy"
HOW = {"n_neighbors": 1, "snr": [], "fit_rows": 600, "test_rows": 1500, "pairs": 3000, "resamples": 200}
_APART = {"classes": "other classes", "instances": "other instances of the same classes"}


class VerificationSuite(Suite):
    """True and false accept rates of one threshold for each metric: clean, attacked and certified."""

    name = "verification"
    title = "Verification, certified"
    about = (
        "Pairs are accepted where their distance is at most a threshold that was calibrated, on other classes than "
        "those of training and test, to a false accept rate: true and false accept rates of learned metrics, clean, "
        "under dodging and impersonation (ℓ₂, standardised features), and certified. The same with instances apart "
        "and classes shared, as in arXiv 1802.03170."
    )
    needs = "digits, which is bundled, and letter, usps and vowel from --data-root or OpenML; what is missing is told"
    minutes = 8.0
    splits = 3
    protocol = "verification/1"
    datasets = (replace(DIGITS, openml=""), BY_NAME["letter"], BY_NAME["usps"], BY_NAME["vowel"])
    learners = ("euclidean", "lmnn", "lmnn+pl", "arml", "gmml", "aml", "itml")

    def parameters(self, found: Found, learner: str) -> dict[str, Any]:
        # Defaults of the library: a choice by the error of k-NN would not be one for verification.
        return settings(learner, found.named, candidates=[""], **HOW)

    def cells_of(self, data: Sequence[Found], seed: int, split: int) -> list[Cell]:
        cells = super().cells_of(data, seed, split)
        return [replace(cell, parameters={**cell.parameters, "part": part}) for part in PARTS for cell in cells]

    def run(self, cell: Cell) -> Mapping[str, Any]:
        return run_verification(cell, self.named(cell))

    def describe(self, records: Sequence[Record]) -> dict[str, Any]:
        told: dict[str, Any] = {"summary": [], "tables": [], "figures": [], "learners": []}
        violations = 0
        for part in PARTS:
            of_part = [record for record in records if record.cell.parameters["part"] == part]
            violations += sum(record.result["violations"] for record in of_part if record.result)
            grid = Grid(of_part, self.learners)
            told["learners"] = grid.told_learners()
            if grid.datasets:
                _tell_part(told, grid, part)
        if told["tables"]:
            told["summary"].append(
                "No attack changed a decision within its certified radius."
                if not violations
                else f"{violations} attacks succeeded within a certified radius: that is an error in this library."
            )
        return told


def run_verification(cell: Cell, named: NamedSet) -> Mapping[str, Any]:
    """Rates of a learner at thresholds that are calibrated apart from the test pairs."""
    X, codes = load_cell(cell, named)
    how = cell.parameters
    train, calibration, test = threefold(X, codes, how["part"] == "classes", [cell.seed, cell.split, 62])
    fitted = Fitted(X, codes, cell, (train, test))
    rng = np.random.default_rng([cell.seed, cell.split, 63])
    calibration = calibration[class_draw(codes[calibration], how["test_rows"], rng)]
    X_calibration, y_calibration = fitted.preparation(X[calibration]), codes[calibration]
    tuning, tuning_labels = balanced_pairs(y_calibration, how["pairs"], [cell.seed, cell.split, 64])
    index, labels = balanced_pairs(fitted.y_test, how["pairs"], [cell.seed, cell.split, 61])
    pairs = fitted.X_test[index[:, 0]], fitted.X_test[index[:, 1]]
    subjects = fitted.y_test[index]
    scale = _scale(fitted)
    verifier = PairVerifier(fitted.metric, threshold=0.0).fit()
    distances = verifier.pair_distance(pairs)
    area, curve = roc(distances, labels)
    violations, rates = 0, {}
    for far in FARS:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that so few pairs cannot show it, which the report says
            verifier.calibrate(
                (X_calibration[tuning[:, 0]], X_calibration[tuning[:, 1]]), tuning_labels, criterion="far",
                value=float(far),
            )  # fmt: skip
        decisions, radii = verifier.predict_with_radius(pairs)
        changes = PairAttack()(verifier, pairs).distances
        violations += int((changes < radii * (1.0 - 1e-12)).sum())
        rates[far] = {
            "threshold": verifier.threshold_,
            "certified": _rates(decisions, radii / scale, subjects, how["resamples"]),
            "attacked": _rates(decisions, changes / scale, subjects, 0),
        }
    curves = class_intervals(
        distances, subjects, {"auc": lambda c: c.auc, "eer": lambda c: c.eer}, n_resamples=how["resamples"]
    )
    return {
        **{name: value for name, value in fitted.facts().items() if name != "duplicates"},
        "n_calibration": len(calibration),
        "n_classes": [len(np.unique(part)) for part in (fitted.y_train, y_calibration, fitted.y_test)],
        "n_pairs": [int((tuning_labels == 1).sum()), int((labels == 1).sum())],  # of each kind
        "scale": scale,
        "auc": area,
        "roc": curve,
        "curve": curves,
        "rates": rates,
        "violations": violations,
    }


def _scale(fitted: Fitted) -> float:
    """Median Euclidean distance of training instances from their nearest: the unit of changes, whatever the learner."""
    distances = cKDTree(fitted.X_train).query(fitted.X_train, k=2)[0][:, 1]
    return float(np.median(distances[distances > 0.0]))


def _rates(decisions: Indices, sizes: Array, subjects: Indices, resamples: int) -> dict[str, Any]:
    """TAR and FAR at every size of change: of pairs that change their decision only beyond it, or at most at it.

    A decision with its size is one signed number, −size where a pair is accepted: a genuine pair stays accepted up to
    ε where it is at most −ε, and an impostor can be accepted where it is below ε.
    """
    signed = np.where(decisions == 1, -sizes, sizes)
    eps = np.array(SIZES)
    # At no change, an impostor on the boundary is what it is decided to be.
    thresholds = np.concatenate([-eps, np.where(eps > 0, np.nextafter(eps, -np.inf), -0.0)])
    signed[(decisions != 1) & (signed <= 0.0)] = np.nextafter(0.0, 1.0)
    names, places = np.unique(subjects, return_inverse=True)
    places = places.reshape(subjects.shape)
    counts = ClassCounts(thresholds, len(names))
    counts.add(signed, places[:, 0], places[:, 1])
    if not resamples:
        far, tar = counts.rates()
        return {"tar": tar[: len(eps)].tolist(), "far": far[len(eps) :].tolist()}
    found = counts.intervals(n_resamples=resamples)
    parts = {"tar": found["tar"][: len(eps)], "far": found["far"][len(eps) :]}
    return {
        name if end == "value" else f"{name}_{end}": [interval[end] for interval in intervals]
        for name, intervals in parts.items()
        for end in ("value", "low", "high")
    }


def measures(far: str) -> list[Measure]:
    """What a table shows of the thresholds of a false accept rate."""

    def rate(kind: str, name: str, size: int, words: str) -> Measure:
        def read(result: Mapping[str, Any]) -> float:
            return float(result["rates"][far][kind][name][size])

        return Measure(f"{kind}-{name}-{SIZES[size]:g}", words, "%", read, "higher" if name == "tar" else "lower")

    def accuracy(result: Mapping[str, Any]) -> float:
        certified = result["rates"][far]["certified"]
        return float(certified["tar"][LARGE] + 1.0 - certified["far"][LARGE]) / 2.0

    small, large = (f"ε = {SIZES[size]:g}" for size in (SMALL, LARGE))
    return [
        Measure("auc", "AUC", "%", lambda result: result["auc"], "higher"),
        Measure("eer", "EER", "%", lambda result: result["curve"]["eer"]["value"]),
        rate("certified", "tar", 0, "TAR"),
        rate("certified", "far", 0, "FAR"),
        rate("certified", "tar", SMALL, f"certified TAR, {small}"),
        rate("certified", "tar", LARGE, f"certified TAR, {large}"),
        rate("attacked", "tar", LARGE, f"TAR under dodging, {large}"),
        rate("certified", "far", LARGE, f"certified FAR, {large}"),
        rate("attacked", "far", LARGE, f"FAR under impersonation, {large}"),
        Measure(CERTIFIED, f"certified accuracy, {large}", "%", accuracy, "higher"),
    ]


def _tell_part(told: dict[str, Any], grid: Grid, part: str) -> None:
    for far in FARS:
        shown = measures(far)
        told["tables"] += [_table(grid, part, far, shown), _intervals(grid, part, far)]
        for measure in shown:
            if measure.name in (f"certified-tar-{SIZES[LARGE]:g}", CERTIFIED):
                told["summary"].append(_sentence(grid, measure, f"{part} apart, thresholds of FAR {far}"))
    told["figures"] += [roc_figure(grid, [name]) | {"name": f"roc-{part}-{name}"} for name in grid.datasets]
    for name in grid.datasets:
        told["figures"] += [_figure(grid, name, part, FARS[0], kind) for kind in ("tar", "far")]


def _table(grid: Grid, part: str, far: str, shown: Sequence[Measure]) -> Table:
    """Every measure on every data set, and the mean ranks."""
    rows: list[list[str]] = []
    best: list[tuple[int, int]] = []
    for i, name in enumerate(grid.datasets):
        for measure in shown:
            values = [[100.0 * measure.read(result) for result in grid.results(name, spec)] for spec in grid.learners]
            means = 100.0 * grid.means(measure)[i]
            texts = [f"{mean:.1f}" for mean in means]
            top = f"{means.min() if measure.lower_is_better else means.max():.1f}"
            best += [(len(rows), j + 2) for j in best_places(texts, top)]
            rows.append([name, measure.title, *(t + plus_minus(v) for t, v in zip(texts, values))])
    for measure in shown:
        ranks = grid.ranks(measure)
        best += [(len(rows), j + 2) for j, rank in enumerate(ranks) if rank == ranks.min()]
        rows.append(["mean rank", measure.title, *(f"{rank:.2f}" for rank in ranks)])
    note = (
        "In per cent, means ± standard deviations over splits, of which each draws other classes or instances. FAR is "
        "that of the test pairs. Sizes ε are in units of the median distance of a training instance from its nearest. "
        "Certified accuracy is the mean of certified TAR and 1 − certified FAR."
    )
    header = ["data set", "figure", *map(label, grid.learners)]
    return Table(f"{part}-far-{far}", f"Thresholds of FAR {far}, {part} apart", header, rows, best, note)


def _intervals(grid: Grid, part: str, far: str) -> Table:
    """Ends of intervals over classes, their means over splits."""

    def ends(name: str, spec: str, read: Any) -> str:
        found = np.mean([[100 * value for value in read(result)] for result in grid.results(name, spec)], axis=0)
        return f"{found[0]:.1f}–{found[1]:.1f}"

    def rate(kind: str, size: int) -> Any:
        return lambda r: [r["rates"][far]["certified"][f"{kind}_{end}"][size] for end in ("low", "high")]

    rows = []
    for name in grid.datasets:
        for words, read in (
            ("AUC", lambda r: [r["curve"]["auc"][end] for end in ("low", "high")]),
            ("EER", lambda r: [r["curve"]["eer"][end] for end in ("low", "high")]),
            ("TAR", rate("tar", 0)),
            (f"certified TAR, ε = {SIZES[LARGE]:g}", rate("tar", LARGE)),
            ("FAR", rate("far", 0)),
            (f"certified FAR, ε = {SIZES[LARGE]:g}", rate("far", LARGE)),
        ):
            rows.append([name, words, *(ends(name, spec, read) for spec in grid.learners)])
    note = "In per cent. 95 % intervals by resampling the test classes of a split; the mean of their ends over splits."
    header = ["data set", "figure", *map(label, grid.learners)]
    return Table(
        f"{part}-far-{far}-intervals",
        f"Intervals over classes: thresholds of FAR {far}, {part} apart",
        header,
        rows,
        note=note,
    )


def _figure(grid: Grid, name: str, part: str, far: str, kind: str) -> dict[str, Any]:
    words = {
        "tar": ("true", "Share of genuine pairs that no change of the probe of size ε makes rejected."),
        "far": ("false", "Share of impostor pairs that are not proven to stay rejected under changes of size ε."),
    }[kind]
    return {
        "kind": "curves",
        "name": f"certified-{kind}-{part}-{name}",
        "title": f"{name}: certified {words[0]} accept rate ({_APART[part]})",
        "reading": f"{words[1]} Thresholds are calibrated to a FAR of {far}.",
        "learners": [grid.line(spec, lambda r: r["rates"][far]["certified"][kind], [name]) for spec in grid.learners],
        "x": list(SIZES),
        "x_label": "size of the change ε (median distance of nearest training instances)",
        "y_label": f"certified {words[0]} accept rate",
        "symbol": "ε",
    }


def _sentence(grid: Grid, measure: Measure, where: str) -> str:
    """Who is best, on how many data sets, and the mean ranks."""
    means = grid.means(measure)
    best = [grid.learners[j] for j in means.argmax(axis=1)]
    won = {spec: best.count(spec) for spec in grid.learners if spec in best}
    wins = ", ".join(f"{label(spec)} on {count}" for spec, count in won.items())
    return (
        f"{measure.title} ({where}): mean ranks {grid.ranking(measure)}; the best is {wins}, of {len(means)} data sets."
    )


SUITE = VerificationSuite()
