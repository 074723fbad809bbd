"""What a search for the smallest perturbation gives: sizes, proofs, and witnesses that were checked."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from certimetric.certify.reference import ReferenceSet

Array = NDArray[np.float64]
Indices = NDArray[np.int64]

PROVEN = 1e-6  # relative difference of radius and proven lower bound up to which a radius counts as proven
# Of a step, tried in turn until the prediction changes: the first is enough that it does not hang on the last digit.
_OVERSHOOT = (1e-9, 1e-8, 1e-7, 1e-6)


@dataclass(frozen=True, eq=False)
class MinimalPerturbation:
    """The smallest change of each query that changes its prediction; unpacks as ``radii, witnesses``.

    Parameters
    ----------
    radii : array of shape (m,)
        Size of the smallest change found: the infimum over changes that lead to another prediction, a tie counting
        as a change. Infinity where nothing changes the prediction.
    witnesses : array of shape (m, d)
        The changed query, pushed outward by at most 1e-6 of the change until ``predict`` gives another label; the
        query itself where there is none.
    lower : array of shape (m,)
        Proven lower bound, rounded down; it rests on dual multipliers and not on the witness.
    proven : bool array of shape (m,)
        Whether ``lower`` equals the radius up to 1e-6 of it (always so for 1-NN but for numerical trouble).
    verified : bool array of shape (m,)
        Whether ``predict`` gives another label at the witness. False where the change is a tie that no push breaks:
        instances of two classes at the same place, say.
    """

    radii: Array
    witnesses: Array
    lower: Array
    proven: NDArray[np.bool_]
    verified: NDArray[np.bool_]

    def __iter__(self) -> Iterator[Array]:
        yield self.radii
        yield self.witnesses

    def frame(self) -> pd.DataFrame:
        """One row a query: radius, proven lower bound, and the two flags."""
        return pd.DataFrame(
            {"radius": self.radii, "lower": self.lower, "proven": self.proven, "verified": self.verified}
        )

    def to_json(self) -> str:
        """The result as JSON; an infinite radius is null."""
        return json.dumps(
            {
                "radii": _finite(self.radii),
                "witnesses": self.witnesses.tolist(),
                "lower": _finite(self.lower),
                "proven": self.proven.tolist(),
                "verified": self.verified.tolist(),
            },
            allow_nan=False,
        )


def _finite(values: Array) -> list[float | None]:
    return [value if np.isfinite(value) else None for value in values.tolist()]


def push_outward(
    reference: ReferenceSet,
    X: Array,
    steps: Array,
    inwards: Array,
    k: int,
    predicted: Indices,
    exclude: Indices,
    rows: Indices,
) -> tuple[Array, NDArray[np.bool_]]:
    """Step from the queries ``rows`` to where their prediction changes, and a little beyond until ``predict`` agrees.

    Parameters
    ----------
    reference : ReferenceSet
    X, steps, inwards : array of shape (m, d)
        Queries, changes of them to the boundary, and directions from there into the inside of the new region: scaling
        a change crosses a boundary that has a normal, a nudge inwards crosses any other.
    k : int
    predicted, exclude : int array of shape (m,)
    rows : int array
        Queries that have a change at all.

    Returns
    -------
    witnesses : array of shape (m, d)
    verified : bool array of shape (m,)
    """
    witnesses, verified = X.copy(), np.zeros(len(X), dtype=bool)
    witnesses[rows] += steps[rows]
    for overshoot in _OVERSHOOT:
        for inward in (False, True):
            left = rows[~verified[rows]]
            if not len(left):
                return witnesses, verified
            push = inwards[left] if inward else steps[left]
            points = X[left] + steps[left] + overshoot * push
            labels = reference.predict(reference.embed(points)[0], k, exclude=exclude[left])
            flips = labels != predicted[left]
            witnesses[left[flips]], verified[left[flips]] = points[flips], True
    return witnesses, verified
