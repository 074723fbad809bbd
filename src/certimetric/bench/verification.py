"""Verification: do two instances belong to one class, judged by their distance alone?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from certimetric.base.arrays import Array, Indices
from certimetric.bench.comparison import Grid
from certimetric.bench.tabular import Fitted
from certimetric.certify import verification_curve
from certimetric.constraints.pairs import pairs_of_classes

# False positive rates at which true positive rates are kept.
RATES = (0.0, 0.01, 0.02, *(round(0.05 * step, 2) for step in range(1, 21)))


def balanced_pairs(y: Indices, limit: int, seed: int | Sequence[int]) -> tuple[Indices, Indices]:
    """Distinct pairs of rows (m, 2) with labels ±1, as many of one class as of two, at most ``limit`` of each kind.

    A ValueError where there are not pairs of both kinds.

    Examples
    --------
    >>> pairs, labels = balanced_pairs(np.array([0, 0, 0, 1]), 100, 0)
    >>> sorted(labels.tolist())
    [-1, -1, -1, 1, 1, 1]
    """
    pairs, labels = pairs_of_classes(y, limit, np.random.RandomState(seed))
    count = min(int((labels == 1).sum()), int((labels == -1).sum()))
    if not count:
        raise ValueError("verification needs pairs of one class and of two among the test instances")
    rows = np.concatenate([np.flatnonzero(labels == sign)[:count] for sign in (1, -1)])
    return pairs[rows], labels[rows]


def threefold(
    X: Array, codes: Indices, by_classes: bool, seed: int | Sequence[int]
) -> tuple[Indices, Indices, Indices]:
    """Rows for training, calibration and test: two fifths of the classes, and half of the others each; or of instances.

    By classes no class is in two parts. Either way no row is in two parts to the last digit: the later part leaves it
    out.

    Raises
    ------
    ValueError
        If a part would have fewer than two classes.

    Examples
    --------
    >>> codes = np.repeat(np.arange(10), 5)
    >>> parts = threefold(np.random.default_rng(0).random((50, 2)), codes, True, 0)
    >>> [len(np.unique(codes[rows])) for rows in parts]
    [4, 3, 3]
    """
    rng = np.random.default_rng(seed)
    names = np.unique(codes)
    if by_classes:
        if len(names) < 6:
            raise ValueError(f"three parts of two classes at least need six classes, got {len(names)}")
        order = rng.permutation(names)
        ends = [round(0.4 * len(names)), round(0.7 * len(names))]
        parts = [np.flatnonzero(np.isin(codes, some)) for some in np.split(order, ends)]
    else:
        found: list[list[Indices]] = [[], [], []]
        for name in names:
            rows = rng.permutation(np.flatnonzero(codes == name))
            for part, some in zip(found, np.split(rows, [round(0.4 * len(rows)), round(0.7 * len(rows))])):
                part.append(some)
        parts = [np.sort(np.concatenate(part)) for part in found]
    _, group = np.unique(X, axis=0, return_inverse=True)
    group = group.ravel()
    train, calibration, test = parts
    calibration = calibration[~np.isin(group[calibration], group[train])]
    test = test[~np.isin(group[test], group[np.concatenate([train, calibration])])]
    return train, calibration, test


def roc(distances: Array, labels: Indices) -> tuple[float, list[float]]:
    """Area under the ROC curve of distances against labels ±1 (+1 for one class), and the curve at :data:`RATES`.

    The curve is the largest true positive rate at each false positive rate or less.

    Examples
    --------
    >>> area, curve = roc(np.array([0.1, 0.4, 0.2, 0.9]), np.array([1, 1, -1, -1]))
    >>> area, curve[0], curve[-1]
    (0.75, 0.5, 1.0)
    """
    curve = verification_curve(distances, labels)
    last = np.searchsorted(curve.far, np.asarray(RATES) + 1e-12, side="right") - 1
    return curve.auc, curve.tar[last].tolist()


def verify(fitted: Fitted, limit: int, seed: int | Sequence[int]) -> dict[str, Any]:
    """AUC and ROC curve of the learned distance on balanced pairs of test instances."""
    pairs, labels = balanced_pairs(fitted.y_test, limit, seed)
    first, second = (fitted.X_test[pairs[:, side]] for side in (0, 1))
    area, curve = roc(np.asarray(fitted.metric.distance(first, second)), labels)
    return {"auc": area, "roc": curve, "n_pairs": len(pairs)}


def roc_figure(grid: Grid, names: Sequence[str]) -> dict[str, Any]:
    """The mean ROC curve over splits and data sets."""
    one = len(names) == 1
    return {
        "kind": "curves",
        "name": f"roc-{names[0]}" if one else "roc",
        "title": f"{names[0]}: verification" if one else f"Verification: mean ROC curve over {len(names)} data sets",
        "reading": (
            "Share of the pairs of one class that are recognised, against the share of the pairs of two classes that "
            "are taken for one, as the threshold on the distance rises; chance is the diagonal."
        ),
        "learners": [grid.line(spec, lambda result: result["roc"], names) for spec in grid.learners],
        "x": list(RATES),
        "x_label": "false positive rate",
        "y_label": "true positive rate",
        "symbol": "FPR",
    }
