"""One cell of a tabular experiment: split, standardise, choose, fit, and measure on the test part."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from certimetric.auditing.tables.cells import warm_up
from certimetric.base.arrays import Array, Indices
from certimetric.bench.datasets import NamedSet, load_checked
from certimetric.bench.noise import KINDS, noise
from certimetric.bench.tuning import candidates_of, choose
from certimetric.certify import CertifiedKNeighborsClassifier
from certimetric.geometry.mahalanobis import MahalanobisMetric
from certimetric.learners.specs import make_learner
from certimetric.runs.key import Cell, told
from certimetric.runs.splits import Preparation, class_draw, honest_split

# What the figures of a tabular cell depend on, besides its data, learner, split and seed.
SETTINGS: dict[str, Any] = {
    "n_neighbors": 3,
    "test_size": 0.3,
    "pca": 0,
    "subset": 0,
    "folds": 3,
    "tune_rows": 500,
    "fit_rows": 2000,
    "test_rows": 2000,
    "certified_rows": 500,
    "snr": [20.0, 15.0, 10.0, 5.0],
}


def settings(learner: str, named: NamedSet, **changed: Any) -> dict[str, Any]:
    """The parameters of a cell: all of :data:`SETTINGS`, and the candidates of its learner."""
    return {**SETTINGS, "pca": named.pca, "drop": named.drop, "candidates": candidates_of(learner), **changed}


def load_cell(cell: Cell, named: NamedSet) -> tuple[Array, Indices]:
    """Instances and class codes of a cell's data set; a ValueError if they are not those that the plan was made for."""
    data = load_checked(named, cell.source)
    if data.sha256() != cell.digest:
        raise ValueError(f"{cell.source!r} is not the table that the plan was made for: its content has changed")
    codes = np.unique(data.y, return_inverse=True)[1].astype(np.int64)
    if not (subset := cell.parameters.get("subset")):
        return data.X, codes
    rows = class_draw(codes, subset, np.random.default_rng([cell.seed, 31]))
    return data.X[rows], codes[rows]


class Fitted:
    """A learner fitted on the training part of a cell, and the test part, prepared as the training part tells.

    ``split`` are the rows for training and for testing, where the experiment itself draws them; by default
    :func:`honest_split` does.
    """

    def __init__(self, X: Array, codes: Indices, cell: Cell, split: tuple[Indices, Indices] | None = None):
        how = cell.parameters
        train, test = split or honest_split(X, codes, how["test_size"], cell.seed, cell.split)
        self.duplicates = len(X) - len(train) - len(test)
        test = test[class_draw(codes[test], how["test_rows"], np.random.default_rng([cell.seed, cell.split, 32]))]
        self.n_neighbors = int(how["n_neighbors"])
        seed = int(np.random.default_rng([cell.seed, cell.split, 33]).integers(2**31))
        # From here to the fitted metric only the training part is in sight.
        X_train, y_train = X[train], codes[train]
        unit_length = bool(how.get("unit_length", False))
        self.preparation = Preparation.fit(X_train, how["pca"], unit_length)
        self.X_train, self.y_train = self.preparation(X_train), y_train
        warm_up(make_learner(cell.learner, random_state=seed), self.X_train, y_train)
        # One thread, so that the time on the processor is that of a quiet machine, whatever else runs on this one.
        start = time.process_time()
        self.choice = choose(
            cell.learner,
            how["candidates"],
            X_train,
            y_train,
            pca=how["pca"],
            n_neighbors=self.n_neighbors,
            folds=how["folds"],
            limit=how["tune_rows"],
            seed=seed,
            unit_length=unit_length,
        )
        self.tune_seconds = time.process_time() - start
        rows = class_draw(y_train, how["fit_rows"], np.random.default_rng([cell.seed, cell.split, 34]))
        learner = make_learner(self.choice.spec, random_state=seed)
        start = time.process_time()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            learner.fit(self.X_train[rows], y_train[rows])
        self.fit_seconds = time.process_time() - start
        self.metric: MahalanobisMetric = learner.metric_
        self.learner = learner
        self.X_test, self.y_test = self.preparation(X[test]), codes[test]

    def classifier(self, n_neighbors: int | None = None) -> CertifiedKNeighborsClassifier:
        """k-NN under the metric with the whole training part."""
        k = n_neighbors or self.n_neighbors
        return CertifiedKNeighborsClassifier(k, metric=self.metric).fit(self.X_train, self.y_train)

    def error(self) -> float:
        """Error of k-NN on the test part."""
        return float((self.classifier().predict(self.X_test) != self.y_test).mean())

    def facts(self) -> dict[str, Any]:
        """What every cell tells about its fit."""
        return {
            "chosen": self.choice.spec,
            "candidates": self.choice.errors,
            "fitted": self.preparation.digest(self.metric.components),
            "fit_seconds": self.fit_seconds,
            "tune_seconds": self.tune_seconds,
            "n_train": len(self.X_train),
            "n_test": len(self.X_test),
            "duplicates": self.duplicates,
        }


def measure(X: Array, codes: Indices, cell: Cell) -> Mapping[str, Any]:
    """Error, error under noise, adversarial margin and certified radius of a cell."""
    fitted = Fitted(X, codes, cell)
    classifier = fitted.classifier()
    X_test, y_test = fitted.X_test, fitted.y_test
    power = float(fitted.X_train.var(axis=0).mean())

    def error(change: Array | float = 0.0) -> float:
        return float((classifier.predict(X_test + change) != y_test).mean())

    noisy = {
        kind: [error(noise(kind, X_test.shape, power, snr, cell.seed, cell.split)) for snr in cell.parameters["snr"]]
        for kind in KINDS
    }
    some = class_draw(y_test, cell.parameters["certified_rows"], np.random.default_rng([cell.seed, cell.split, 35]))
    radii = classifier.correctness_radius(X_test[some], y_test[some])
    return {
        **fitted.facts(),
        "error": error(),
        "noise": noisy,
        "median_radius": told(float(np.median(radii))),
        "median_margin": float(np.median(adversarial_margins(fitted, some))),
    }


def adversarial_margins(fitted: Fitted, rows: Indices) -> Array:
    """Margin of each test instance's triplet with its nearest target neighbour and impostor; 0 where it is broken."""
    L = fitted.metric.components
    mapped = fitted.X_train @ L.T
    margins = np.zeros(len(rows))
    for i, row in enumerate(rows):
        squared = ((mapped - fitted.X_test[row] @ L.T) ** 2).sum(axis=1)
        same = fitted.y_train == fitted.y_test[row]
        if same.all() or not same.any():
            continue
        j, l = (int(np.flatnonzero(side)[squared[side].argmin()]) for side in (same, ~same))
        across = np.linalg.norm(L.T @ (mapped[j] - mapped[l]))
        if squared[l] > squared[j] and across > 0:
            margins[i] = (squared[l] - squared[j]) / (2.0 * across)
    return margins
