"""Reliability checks of the question itself: is every class found, are labels classes, is a feature an identifier."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from certimetric.auditing.tables.checks import Evidence, Verdict, check
from certimetric.base.wording import counted, listing

MANY_VALUES = 20  # different numbers as labels: more than these are rarely classes
FEW_A_VALUE = 5  # instances for each of them: fewer are rarely classes
LEAST_ROWS = 20  # in fewer rows, different whole numbers are no surprise


@check("CM013", "Every class is found")
def every_class_is_found(evidence: Evidence) -> Iterator[Verdict]:
    """A class of which no test instance was ever told right is not learned at all, however small the error is over all
    classes: where it is rare, always answering another class has that error too."""
    fine = 0
    for learner in evidence.learners:
        rows = learner["per_class"]
        if not rows:
            yield "skipped", learner["spec"], "Not checked: no split could be fitted."
            continue
        missed = [row for row in rows if row["recall"] == 0]
        if not missed:
            fine += 1
            continue
        tested = sum(row["count"] for row in missed)
        yield (
            "issue",
            learner["spec"],
            f"{len(missed)} of {counted(len(rows), 'class')} never found ({listing(row['class'] for row in missed)}): "
            f"none of {counted(tested, 'test instance')} was told right in any split.",
        )
    if fine:
        yield "passed", None, f"{counted(fine, 'learner')} told some instances of every class right."


@check("CM014", "Labels are classes")
def labels_are_classes(evidence: Evidence) -> Iterator[Verdict]:
    """Labels that are many different numbers look like the target of a regression, whose order and distances an audit
    of classes does not see; labels that mostly occur once look like an identifier, which nothing can predict."""
    request = evidence.request
    counts = np.bincount(request.codes)
    n, classes = len(request.codes), len(counts)
    once, each = int((counts == 1).sum()), f"{round(n / classes, 1):,.10g}"
    if once > n / 2:
        example = request.classes[int(counts.argmin())]
        told = f"{once} of {n} labels occur once, {example!r} among them"
        yield "issue", None, f"{told}: the target looks like an identifier, or like that of a regression."
    elif request.data.y.dtype.kind in "iuf" and classes > MANY_VALUES:
        yield (
            "issue" if n < FEW_A_VALUE * classes else "tip",
            None,
            f"The labels are {classes} different numbers, with {each} instances each on average: if "
            f"their order means something this is a regression, and here the next number is as wrong as any other.",
        )
    else:
        yield "passed", None, f"{classes} classes, with {each} instances each on average."


@check("CM015", "No feature is an identifier")
def no_identifier(evidence: Evidence) -> Iterator[Verdict]:
    """A feature that is a row number, a key or a date of entry has another value in every row. It says nothing of a new
    row, and where rows are sorted by class it gives the labels away."""
    X, names = evidence.request.data.X, evidence.request.data.feature_names
    distinct = [(name, column) for name, column in zip(names, X.T) if _all_different(column)]
    counting = [name for name, column in distinct if _counts_rows(column)]
    others = [name for name, _ in distinct if name not in counting]
    if counting:
        told = f"Numbers that count the rows: {listing(counting)}"
        yield "issue", None, f"{told}. It looks like an identifier: leave it out, or a metric learns the order of rows."
    if others:
        told = f"Another whole number in every row: {listing(others)}"
        yield "tip", None, f"{told}. If it is an identifier and no measurement, leave it out."
    if not distinct:
        yield "passed", None, "No feature is another whole number in every row."


@check("CM016", "No value was missing")
def no_gaps(evidence: Evidence) -> Iterator[Verdict]:
    """Values that were missing are medians of the training part of each split, never of the test part. Such a value was
    not measured: a radius in that feature is about a value that nobody knows."""
    data = evidence.request.data
    if data.imputed is None or not data.imputed.any():
        yield "passed", None, "No value was filled in."
        return
    cells, rows = int(data.imputed.sum()), int(data.imputed.any(axis=1).sum())
    names = [name for name, gaps in zip(data.feature_names, data.imputed.T) if gaps.any()]
    yield (
        "tip",
        None,
        f"{counted(cells, 'value')} in {counted(rows, 'row')} of {data.n_samples} were missing ({listing(names)}): "
        f"each is the median of its feature in the training part of the split.",
    )


def _all_different(column: NDArray[np.float64]) -> bool:
    """Whether a column is another whole number in every row."""
    whole = len(column) >= LEAST_ROWS and bool((column == np.floor(column)).all())
    return whole and len(np.unique(column)) == len(column)


def _counts_rows(column: NDArray[np.float64]) -> bool:
    """Whether different whole numbers are in order, or are 1 … n in any order with few of them missing."""
    steps = np.diff(column)
    return bool((steps > 0).all() or (steps < 0).all() or np.ptp(column) < 2 * len(column))
