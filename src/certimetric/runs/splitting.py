"""Which rows of a table are for training and which for testing: at random, by groups, by time, or as given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from certimetric.base.arrays import Array, Indices
from certimetric.runs.splits import (
    FEWEST_OF_A_CLASS,
    SAMPLE_STREAM,
    SPLIT_STREAM,
    held_out_counts,
    shares_of,
    split_indices,
    stream,
    taken,
)

RANDOM, GROUPS, LATEST, GIVEN = "random", "groups", "latest", "given"
_DRAWS = 20  # of groups for a test part, at most, until all classes are left to learn from


@dataclass(frozen=True, eq=False)
class Splitting:
    """How a table of n rows is split; of ``groups``, ``times`` and ``given`` one at most is said.

    Parameters
    ----------
    codes : int array of shape (n,)
        Class codes.
    test_size : float
        Share that is held out: of every class, of the rows in whole groups, or of the rows by time.
    seed : int
    groups : int array of shape (n,), optional
        No group is in both parts.
    times : float array of shape (n,), optional
        The latest rows are the test part; rows of one time are in one part. There is one such split.
    given : bool array of shape (n,), optional
        The test part itself. There is one such split.

    Raises
    ------
    ValueError
        If a part would be empty: all rows are of one group, or of one time, or for testing.
    """

    codes: Indices
    test_size: float
    seed: int
    groups: Indices | None = None
    times: Array | None = None
    given: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        if self.groups is not None and (n := len(np.unique(self.groups))) < 2:
            raise ValueError(f"groups must hold at least two groups, one for training and one for testing, got {n}")
        if self.times is not None and len(np.unique(self.times)) < 2:
            raise ValueError("times must hold at least two different times, an earlier for training and a later one")
        if self.given is not None and not 0 < self.given.sum() < len(self.given):
            raise ValueError(
                f"test must leave rows for training and hold some for testing, got {int(self.given.sum())} test rows "
                f"of {len(self.given)}"
            )

    @property
    def kind(self) -> str:
        """``"random"``, ``"groups"``, ``"latest"`` or ``"given"``."""
        told = ((GROUPS, self.groups), (LATEST, self.times), (GIVEN, self.given))
        return next((kind for kind, rows in told if rows is not None), RANDOM)

    @property
    def single(self) -> bool:
        """Whether there is one split only, whatever the seed."""
        return self.kind in (LATEST, GIVEN)

    def indices(
        self, split: int, *, train_rows: int | None = None, test_rows: int | None = None
    ) -> tuple[Indices, Indices]:
        """Rows of the training part and of the test part, each rising.

        With ``train_rows`` or ``test_rows`` a part is a random sample of it that has about so many rows, of every class
        its share; a larger sample holds the smaller one.

        Examples
        --------
        >>> latest = Splitting(np.array([0, 1, 0, 1]), 0.25, 0, times=np.array([3.0, 9.0, 1.0, 2.0]))
        >>> latest.indices(0)
        (array([0, 2, 3]), array([1]))
        """
        if self.kind == RANDOM:
            rows = {"train_rows": train_rows, "test_rows": test_rows}
            return split_indices(self.codes, self.test_size, self.seed, split, **rows)
        tested = self.given if self.given is not None else self._latest() if self.groups is None else self._drawn(split)
        train = self._sampled(np.flatnonzero(~tested), train_rows, FEWEST_OF_A_CLASS, split)
        return train, self._sampled(np.flatnonzero(tested), test_rows, 1, split)

    def _sampled(self, rows: Indices, size: int | None, least: int, split: int) -> Indices:
        """Of every class its share, ``least`` where it has them."""
        if size is None or size >= len(rows):
            return rows
        codes, rng = self.codes[rows], stream(self.seed, split, SAMPLE_STREAM)
        counts = np.bincount(codes)
        drawn = [rng.permutation(rows[codes == code]) for code in range(len(counts))]
        return taken(drawn, shares_of(counts, size, least))

    def _latest(self) -> NDArray[np.bool_]:
        """The rows after a time, as near to the share as whole times allow."""
        assert self.times is not None
        times, counts = np.unique(self.times, return_counts=True)
        later = len(self.times) - np.cumsum(counts)[:-1]  # rows after each time but the last
        return np.asarray(self.times > times[np.abs(later - self.test_size * len(self.times)).argmin()])

    def _drawn(self, split: int) -> NDArray[np.bool_]:
        """Groups in random order, as many as come nearest to the share."""
        assert self.groups is not None
        rng = stream(self.seed, split, SPLIT_STREAM)
        sizes, n_classes = np.bincount(self.groups), len(np.unique(self.codes))
        best, most = np.zeros(len(self.groups), dtype=bool), -1
        for _ in range(_DRAWS):
            order = rng.permutation(np.flatnonzero(sizes))
            held = np.cumsum(sizes[order])[:-1]
            some = order[: 1 + int(np.abs(held - self.test_size * len(self.groups)).argmin())]
            tested = np.isin(self.groups, some)
            if (kept := len(np.unique(self.codes[~tested]))) > most:
                best, most = tested, kept
            if most == n_classes:
                break
        return best

    def check(self, repeats: int, classes: Sequence[str], n_neighbors: int) -> list[str]:
        """See that every split can be learned from and tested; give the classes that some test part has.

        A ValueError says what is too small.
        """
        if self.kind == RANDOM:
            held_out = held_out_counts(np.bincount(self.codes, minlength=len(classes)), self.test_size)
            tested, n_train = held_out > 0, len(self.codes) - int(held_out.sum())
            if not tested.any():
                raise ValueError(
                    f"y must have a class of at least two instances, or nothing can be tested: {len(classes)} "
                    f"labels are all different, as in an identifier or the target of a regression"
                )
        else:
            tested, n_train = np.zeros(len(classes), dtype=bool), len(self.codes)
            for split in range(repeats):
                train, test = self.indices(split)
                tested |= np.bincount(self.codes[test], minlength=len(classes)) > 0
                n_train = min(n_train, len(train))
                if len(there := np.unique(self.codes[train])) < 2:
                    raise ValueError(
                        f"the training part of split {split} must have at least two classes, got {classes[there[0]]!r} "
                        f"only: {len(train)} rows are learned from and {len(test)} tested"
                    )
        if n_neighbors > n_train:
            raise ValueError(
                f"n_neighbors must be at most the number of training instances of a split, {n_train} of "
                f"{len(self.codes)}, got {n_neighbors}"
            )
        return [name for name, there in zip(classes, tested) if there]


def group_codes(groups: Any, n: int) -> Indices:
    """Groups of n rows as codes; a missing one is a group of its own. A ValueError says that the shape is wrong."""
    import pandas as pd

    values = pd.Series(np.asarray(groups, dtype=object))
    if len(values) != n:
        raise ValueError(f"groups must hold one for each of the {n} rows of X, got {len(values)}")
    return np.asarray(
        values.astype("object").where(values.notna(), None).factorize(use_na_sentinel=False)[0], dtype=np.int64
    )


def time_values(times: Any, n: int) -> Array:
    """Times of n rows as numbers: numbers stay, dates and ISO texts become days. A ValueError says what is none."""
    import pandas as pd

    from certimetric.datasets.tables.columns import days_of, kind_of, numbers_of

    series = times.reset_index(drop=True) if isinstance(times, pd.Series) else pd.Series(np.asarray(times))
    if len(series) != n:
        raise ValueError(f"times must hold one for each of the {n} rows of X, got {len(series)}")
    series = series.infer_objects()
    found = numbers_of(series) if kind_of(series) == "number" else days_of(series)
    if found is None:
        raise ValueError("times must be numbers, or dates such as 2024-01-31, got other text among them")
    if not np.isfinite(found).all():
        raise ValueError(f"times must not be missing, got none in row {int((~np.isfinite(found)).argmax())}")
    return found
