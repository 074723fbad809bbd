"""Reliability checks of tables themselves: are rows sound, are labels classes, is a feature an identifier."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from certimetric.auditing.checks import Outcome, check
from certimetric.auditing.tables.checks import Observed
from certimetric.base.arrays import Array, Indices
from certimetric.base.wording import counted, listing

REPEATED_SHARE = 0.01
MANY_VALUES = 20  # different numbers as labels: more than these are rarely classes
FEW_A_VALUE = 5  # instances for each of them: fewer are rarely classes
LEAST_ROWS = 20  # in fewer rows, different whole numbers are no surprise


@check("CM004", "Duplicates across train and test", "table")
def duplicates_across_parts(observed: Observed) -> Outcome:
    """A test instance whose twin is in the training part is recognised rather than predicted: errors look smaller than
    they are. It is an issue where more than 1 % of rows repeat an earlier one."""
    request = observed.request
    twin = _twins(request.data.X)
    repeated = len(twin) - len(np.unique(twin))
    if not repeated:
        return Outcome("passed", "No two rows are equal.")
    leaked, tested = 0, 0
    for split in range(request.repeats):
        train, test = request.rows(split)
        leaked, tested = leaked + int(np.isin(twin[test], twin[train]).sum()), tested + len(test)
    return Outcome(
        "issue" if repeated > REPEATED_SHARE * len(twin) else "tip",
        f"{counted(repeated, 'row')} of {len(twin)} {'repeats' if repeated == 1 else 'repeat'} an earlier one, so that "
        f"{leaked} of {tested} test instances have an equal row in the training part: remove "
        f"duplicates before the audit.",
    )


@check("CM005", "Duplicates with conflicting labels", "table")
def conflicting_duplicates(observed: Observed) -> Outcome:
    """Equal rows with different labels cannot all be right, and nothing is certified for them. It is an issue where
    more than 1 % of rows are concerned."""
    request = observed.request
    twin = _twins(request.data.X)
    pairs = np.unique(np.stack([twin, request.codes]), axis=1)
    groups, labels = np.unique(pairs[0], return_counts=True)
    concerned = int(np.isin(twin, groups[labels > 1]).sum())
    if not concerned:
        return Outcome("passed", "Equal rows, if any, have equal labels.")
    return Outcome(
        "issue" if concerned > REPEATED_SHARE * len(twin) else "tip",
        f"{counted(concerned, 'row')} of {len(twin)} equal another row with another label: such instances "
        f"cannot be certified.",
    )


@check("CM006", "Constant features", "table", severity="tip")
def constant_features(observed: Observed) -> Iterator[Outcome]:
    """A feature that does not vary cannot be standardised: it keeps its own unit, in which a perturbation of it is
    then measured."""
    request = observed.request
    X, names = request.data.X, request.data.feature_names
    always = np.flatnonzero(np.ptp(X, axis=0) == 0)
    sometimes: set[int] = set()
    for split in range(request.repeats):
        train, _ = request.rows(split)
        sometimes.update(np.flatnonzero(np.ptp(X[train], axis=0) == 0).tolist())
    sometimes -= set(always.tolist())
    if len(always):
        yield Outcome(
            "tip", f"{counted(len(always), 'feature')} of {len(names)} never vary, {names[always[0]]!r} among them."
        )
    if sometimes:
        first = names[min(sometimes)]
        yield Outcome(
            "tip",
            f"{counted(len(sometimes), 'feature')} of {len(names)} do not vary in the training part of some split, "
            f"{first!r} among them, so that the test part has them in their original unit.",
        )
    if not len(always) and not sometimes:
        yield Outcome("passed", "Every feature varies in every training part.")


@check("CM007", "Small classes", "table")
def small_classes(observed: Observed) -> Iterator[Outcome]:
    """A class with fewer than k training instances can hardly win a vote of k neighbours; one with a single instance is
    not tested at all, which is an issue."""
    request = observed.request
    counts = np.bincount(request.codes, minlength=len(request.classes))
    train, test = request.rows(0)
    kept = np.bincount(request.codes[train], minlength=len(request.classes))
    unknown = np.setdiff1d(request.codes[test], request.codes[train])
    if len(unknown):
        yield Outcome(
            "issue",
            f"{counted(len(unknown), 'class')} of {len(counts)} are tested, but not learned from "
            f"({request.classes[unknown[0]]!r}): none of their instances can be told right.",
        )
    single = np.flatnonzero(counts == 1)
    small = np.flatnonzero((kept < request.n_neighbors) & (counts > 1))
    if len(single):
        name = request.classes[single[0]]
        yield Outcome(
            "issue",
            f"{counted(len(single), 'class')} of {len(counts)} have one instance ({name!r}), which is kept for "
            f"training: the figures say nothing about them.",
        )
    if len(small):
        name = request.classes[small[0]]
        yield Outcome(
            "tip",
            f"{counted(len(small), 'class')} of {len(counts)} have fewer than {request.n_neighbors} training instances "
            f"({name!r} has {kept[small[0]]}): they can hardly win a vote.",
        )
    if not len(single) and not len(small):
        yield Outcome("passed", f"Every class has at least {request.n_neighbors} training instances.")


@check("CM014", "Labels are classes", "table")
def labels_are_classes(observed: Observed) -> Outcome:
    """Labels that are many different numbers look like the target of a regression, whose order and distances an audit
    of classes does not see; labels that mostly occur once look like an identifier, which nothing can predict."""
    request = observed.request
    counts = np.bincount(request.codes)
    n, classes = len(request.codes), len(counts)
    once, each = int((counts == 1).sum()), f"{round(n / classes, 1):,.10g}"
    if once > n / 2:
        example = request.classes[int(counts.argmin())]
        told = f"{once} of {n} labels occur once, {example!r} among them"
        return Outcome("issue", f"{told}: the target looks like an identifier, or like that of a regression.")
    if request.data.y.dtype.kind in "iuf" and classes > MANY_VALUES:
        return Outcome(
            "issue" if n < FEW_A_VALUE * classes else "tip",
            f"The labels are {classes} different numbers, with {each} instances each on average: if "
            f"their order means something this is a regression, and here the next number is as wrong as any other.",
        )
    return Outcome("passed", f"{classes} classes, with {each} instances each on average.")


@check("CM015", "No feature is an identifier", "table")
def no_identifier(observed: Observed) -> Iterator[Outcome]:
    """A feature that is a row number, a key or a date of entry has another value in every row. It says nothing of a new
    row, and where rows are sorted by class it gives the labels away."""
    X, names = observed.request.data.X, observed.request.data.feature_names
    distinct = [(name, column) for name, column in zip(names, X.T) if _all_different(column)]
    counting = [name for name, column in distinct if _counts_rows(column)]
    others = [name for name, _ in distinct if name not in counting]
    if counting:
        told = f"Numbers that count the rows: {listing(counting)}"
        yield Outcome(
            "issue", f"{told}. It looks like an identifier: leave it out, or a metric learns the order of rows."
        )
    if others:
        told = f"Another whole number in every row: {listing(others)}"
        yield Outcome("tip", f"{told}. If it is an identifier and no measurement, leave it out.")
    if not distinct:
        yield Outcome("passed", "No feature is another whole number in every row.")


@check("CM016", "No value was missing", "table", severity="tip")
def no_gaps(observed: Observed) -> Outcome:
    """Values that were missing are medians of the training part of each split, never of the test part. Such a value was
    not measured: a radius in that feature is about a value that nobody knows."""
    data = observed.request.data
    if data.imputed is None or not data.imputed.any():
        return Outcome("passed", "No value was filled in.")
    cells, rows = int(data.imputed.sum()), int(data.imputed.any(axis=1).sum())
    names = [name for name, gaps in zip(data.feature_names, data.imputed.T) if gaps.any()]
    return Outcome(
        "tip",
        f"{counted(cells, 'value')} in {counted(rows, 'row')} of {data.n_samples} were missing ({listing(names)}): "
        f"each is the median of its feature in the training part of the split.",
    )


def _all_different(column: Array) -> bool:
    """Whether a column is another whole number in every row."""
    whole = len(column) >= LEAST_ROWS and bool((column == np.floor(column)).all())
    return whole and len(np.unique(column)) == len(column)


def _counts_rows(column: Array) -> bool:
    """Whether different whole numbers are in order, or are 1 … n in any order with few of them missing."""
    steps = np.diff(column)
    return bool((steps > 0).all() or (steps < 0).all() or np.ptp(column) < 2 * len(column))


def _twins(X: Array) -> Indices:
    """A number for every row, the same for equal rows; compared as bytes, which is quick for wide rows."""
    rows = np.ascontiguousarray(X + 0.0)  # −0 and 0 are equal numbers
    packed = rows.view(np.dtype((np.void, rows.itemsize * rows.shape[1]))).ravel()
    return np.unique(packed, return_inverse=True)[1].astype(np.int64)
