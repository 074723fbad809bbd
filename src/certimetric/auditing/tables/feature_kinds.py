"""Kinds of features as the data show them, and what an attacker may do who keeps to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from certimetric.attacks import ThreatModel
from certimetric.auditing.tables.request import Request
from certimetric.base.arrays import Array, Indices
from certimetric.geometry import Norm
from certimetric.runs.splits import Split

LEAST_ROWS = 10  # of fewer, whole numbers say nothing about the kind of a feature
NUMBER, WHOLE, BINARY, GROUPED, CONSTANT = "number", "whole number", "0 or 1", "one of a group", "constant"


@dataclass(frozen=True, eq=False)
class Kinds:
    """What values the features of a table take."""

    names: tuple[str, ...]  # of each feature: "number", "whole number", "0 or 1", "one of a group" or "constant"
    low: Array  # of each feature the least value, (d,)
    high: Array  # and the largest
    groups: tuple[Indices, ...]  # features of which exactly one is 1 in every row, the others 0

    def threat(self, norm: Norm) -> ThreatModel | None:
        """Changes that could occur: whole numbers stay whole and within their range, of a group one is 1, and what
        never varies stays; None where every feature is a number. The norm is of changes in original units.
        """
        kinds = np.array(self.names)
        integer = (kinds == WHOLE) | (kinds == BINARY)
        if not integer.any() and not self.groups:
            return None
        mutable = ThreatModel(norm).bind(len(kinds)).mutable & (kinds != CONSTANT)
        for group in self.groups:
            mutable[group] &= mutable[group].all()
        return ThreatModel(
            norm,
            bounds=(np.where(integer, self.low, -np.inf), np.where(integer, self.high, np.inf)),
            immutable=np.flatnonzero(~mutable).tolist(),
            integer=np.flatnonzero(integer).tolist(),
            one_hot=[group.tolist() for group in self.groups],
        )

    def keep(self, threat: ThreatModel, X: Array, feature_names: Sequence[str] | None = None) -> ThreatModel:
        """A threat model under which, besides, whole numbers stay whole, 0/1 is 0 or 1, and of a group one is 1.

        Features of which the instances X (m, d) have other values already, such as medians, are left free.
        """
        bound, kinds = threat.bind(X.shape[1], feature_names), np.array(self.names)
        bits, taken = ((X == 0) | (X == 1)).all(axis=0), {j for group in bound.one_hot for j in group.tolist()}
        groups = [
            group
            for group in self.groups
            if taken.isdisjoint(group.tolist())
            and bits[group].all()
            and (X[:, group].sum(axis=1) == 1).all()
            and len(set(bound.mutable[group].tolist())) == 1
            and (bound.low[group] <= 0).all()
            and (bound.high[group] >= 1).all()
        ]
        grouped = np.isin(np.arange(X.shape[1]), [*taken, *(j for group in groups for j in group.tolist())])
        binary = np.isin(kinds, (BINARY, GROUPED)) & bits & ~grouped
        whole = (kinds == WHOLE) & (np.rint(X) == X).all(axis=0) & (np.ceil(bound.low) <= np.floor(bound.high))
        return replace(
            threat,
            bounds=(
                np.where(binary, np.maximum(bound.low, 0), bound.low),
                np.where(binary, np.minimum(bound.high, 1), bound.high),
            ),
            integer=np.flatnonzero(bound.integer | binary | whole).tolist(),
            one_hot=[group.tolist() for group in (*bound.one_hot, *groups)],
        )


def find_kinds(X: Array, feature_names: Sequence[str], imputed: NDArray[np.bool_] | None = None) -> Kinds:
    """Look at the values of every feature, but not at those that were filled in.

    Examples
    --------
    >>> X = np.column_stack([np.arange(12) / 7, np.arange(12), np.arange(12) % 2])
    >>> find_kinds(X, ["weight", "age", "smokes"]).names
    ('number', 'whole number', '0 or 1')
    """
    names = []
    for j in range(X.shape[1]):
        values = X[:, j] if imputed is None else X[~imputed[:, j], j]
        names.append(_kind(values) if len(values) >= LEAST_ROWS else NUMBER)
    groups = _groups(X, feature_names, names)
    for group in groups:
        for j in group.tolist():
            names[j] = GROUPED
    return Kinds(tuple(names), X.min(axis=0), X.max(axis=0), tuple(groups))


def _kind(values: Array) -> str:
    if values.min() == values.max():
        return CONSTANT
    if ((values == 0) | (values == 1)).all():
        return BINARY
    return WHOLE if (values == np.rint(values)).all() else NUMBER


def _groups(X: Array, names: Sequence[str], kinds: Sequence[str]) -> list[Indices]:
    """Columns ``NAME=text``, ``NAME is missing`` or ``NAME_text`` of which one is 1 in every row."""
    stems: dict[str, list[int]] = {}
    for j, name in enumerate(names):
        if kinds[j] == BINARY:
            stem = name.removesuffix(" is missing")
            stem = stem.partition("=")[0] if "=" in stem else stem.rpartition("_")[0] or stem
            stems.setdefault(stem, []).append(j)
    return [np.array(group) for group in stems.values() if len(group) > 1 and (X[:, group].sum(axis=1) == 1).all()]


def describe_features(request: Request, part: Split) -> list[dict[str, Any]]:
    """Of every feature its kind, its least and largest value, and one standard deviation in its own unit.

    The standard deviation is that of the training part of the first split, ``part``; None for a feature that is
    constant there, which keeps its own unit.
    """
    kinds = find_kinds(request.data.X, request.data.feature_names, request.data.imputed)
    varies = np.ptp(part.X_train, axis=0) > 0
    return [
        {
            "name": name,
            "kind": kinds.names[j],
            "std": float(part.scale[j]) if varies[j] else None,
            "low": float(kinds.low[j]),
            "high": float(kinds.high[j]),
        }
        for j, name in enumerate(request.data.feature_names)
    ]
