"""Which pairs of pictures are compared: those that were given, or each of two sets with each, in blocks."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from certimetric.base.arguments import ArgumentError
from certimetric.base.arrays import Array, Indices
from certimetric.certify.rates import check_kinds
from certimetric.deep.models.images import ImageSet, check_comparable
from certimetric.deep.ranking.distances import EmbeddingMetric, slices
from certimetric.deep.retrieval.same_pictures import exclusion_keys, with_own_ids

_BLOCK = 2**21  # pairs that are looked at together
_LISTED = 2**22  # up to so many pairs are listed when some are drawn


class Pairs:
    """Pairs of a probe and an enrolled picture.

    Parameters
    ----------
    probes : ImageSet
    enrolled : ImageSet, optional
        By default the probes themselves: each two of them are one pair.
    pairs : int array-like of shape (m, 2), optional
        Rows of probes and of enrolled; by default all that have no key (``ImageSet.keys``) in common.

    Attributes
    ----------
    codes, enrolled_codes : int arrays of shape (n,)
        Subjects of either side, numbered together.
    n_subjects : int

    Raises
    ------
    ArgumentError, ValueError
        If pairs are not rows of the two sets, one of a picture with itself, or all of one kind.
    """

    def __init__(self, probes: ImageSet, enrolled: ImageSet | None = None, pairs: ArrayLike | None = None):
        self.alone = enrolled is None
        self.enrolled = probes if enrolled is None else enrolled
        check_comparable(probes, self.enrolled)
        self.probes = with_own_ids(probes, self.enrolled) if pairs is None else probes
        sides = self.probes.labels.cpu(), self.enrolled.labels.cpu()
        names, codes = torch.unique(torch.cat(sides), return_inverse=True)
        self.n_subjects = len(names)
        self.codes, self.enrolled_codes = (np.asarray(part) for part in codes.split([len(side) for side in sides]))
        self.listed = None if pairs is None else self._checked(np.asarray(pairs))
        self._keys = tuple(np.asarray(part.cpu()) for part in exclusion_keys(self.probes, self.enrolled))
        if self.listed is not None:
            same = self.same(self.listed)
            check_kinds(int(same.sum()), int((~same).sum()))

    def _checked(self, pairs: Indices) -> Indices:
        if pairs.ndim != 2 or pairs.shape[1] != 2 or pairs.dtype.kind not in "iu":
            raise ArgumentError("pairs", "must be rows of probes and of enrolled, int of shape (m, 2)", pairs.shape)
        for side, n in zip(pairs.T, (len(self.probes), len(self.enrolled))):
            if len(side) and not (side.min() >= 0 and side.max() < n):
                raise ArgumentError("pairs", f"must be rows from 0 to {n - 1}", int(side[(side < 0) | (side >= n)][0]))
        if self.alone and (own := pairs[:, 0] == pairs[:, 1]).any():
            row = int(pairs[own][0, 0])
            raise ArgumentError("pairs", "must be of two pictures each", (row, row))
        return pairs.astype(np.int64)

    def same(self, pairs: Indices) -> NDArray[np.bool_]:
        """Which pairs (m, 2) are genuine."""
        return self.codes[pairs[:, 0]] == self.enrolled_codes[pairs[:, 1]]

    def subjects(self, pairs: Indices) -> Indices:
        """Of either side of pairs, (m, 2)."""
        return np.stack([self.codes[pairs[:, 0]], self.enrolled_codes[pairs[:, 1]]], axis=1)

    def blocks(self) -> Iterator[Indices | tuple[slice, slice, NDArray[np.bool_]]]:
        """Pairs (m, 2) that were given; or rows of probes and of enrolled, and which of these pairs count (q, c)."""
        if self.listed is not None:
            for rows in slices(len(self.listed), _BLOCK):
                yield self.listed[rows]
            return
        n = len(self.enrolled)
        for rows in slices(len(self.probes), _BLOCK // n):
            columns = slice(rows.start if self.alone else 0, n)
            yield rows, columns, self._counting(rows, columns)

    def _counting(self, rows: slice, columns: slice) -> NDArray[np.bool_]:
        counts = self._keys[0][rows, None] != self._keys[1][columns]
        if self.alone:  # each two once
            counts &= np.arange(columns.start, columns.stop) > np.arange(rows.start, rows.stop)[:, None]
        return counts

    def distances(
        self, metric: EmbeddingMetric, probes: Tensor, enrolled: Tensor
    ) -> Iterator[tuple[Array, Indices, Indices]]:
        """Distances of all pairs, of placed embeddings, in blocks, and the rows of either side; arrays of shape (m,).

        Each is computed by differences, as exactly as the embeddings are known: equal pairs are at equal distance.
        """
        for block in self.blocks():
            if isinstance(block, np.ndarray):
                first, second = block.T
                sides = probes[torch.from_numpy(first)], enrolled[torch.from_numpy(second)]
                yield np.asarray(metric.paired(*sides).cpu()), first, second
            else:
                rows, columns, counts = block
                found = np.asarray(metric.between(probes[rows], enrolled[columns]).cpu())
                where = np.nonzero(counts)
                yield found[counts], where[0] + rows.start, where[1] + columns.start

    def drawn(self, n: int | None, seed: int) -> Indices:
        """At most n pairs of each kind, drawn alike among all of the kind, as int (m, 2): genuine ones first.

        Of pictures that are probes and enrolled at once either may be the probe.
        """
        rng = np.random.default_rng(seed)
        if self.listed is None and n is not None and len(self.probes) * len(self.enrolled) > _LISTED:
            return np.concatenate([self._drawn_of_many(n, kind, rng) for kind in (True, False)])
        listed = self.listed
        if listed is None:
            whole = slice(0, len(self.probes)), slice(0, len(self.enrolled))
            listed = np.argwhere(self._counting(*whole))
            if self.alone:
                turned = rng.random(len(listed)) < 0.5
                listed[turned] = listed[turned, ::-1]
        same = self.same(listed)
        parts = []
        for kind in (same, ~same):
            rows = kind.nonzero()[0]
            parts.append(rows if n is None or len(rows) <= n else np.sort(rng.choice(rows, n, replace=False)))
        return listed[np.concatenate(parts)]

    def _drawn_of_many(self, n: int, genuine: bool, rng: np.random.Generator) -> Indices:
        """By rejection, for sets of which the pairs are too many to be listed."""
        order = np.argsort(self.enrolled_codes, kind="stable")
        sizes = np.bincount(self.enrolled_codes, minlength=self.n_subjects)
        first = np.concatenate([[0], np.cumsum(sizes)[:-1]])
        shares = sizes[self.codes].astype(float)  # enrolled pictures of the subject of each probe
        found, n_probes = np.empty((0, 2), dtype=np.int64), len(self.probes)
        for _ in range(20):
            if genuine:
                rows = rng.choice(n_probes, 2 * n, p=shares / shares.sum())
                columns = order[first[self.codes[rows]] + rng.integers(0, sizes[self.codes[rows]])]
            else:
                rows, columns = rng.integers(0, n_probes, 2 * n), rng.integers(0, len(self.enrolled), 2 * n)
            pairs = np.stack([rows, columns], axis=1)
            kept = (self._keys[0][rows] != self._keys[1][columns]) & (self.same(pairs) == genuine)
            both = np.concatenate([found, pairs[kept]])
            seen = np.sort(both, axis=1) if self.alone else both  # either way round is one pair
            found = both[np.sort(np.unique(seen, axis=0, return_index=True)[1])]
            if len(found) >= n:
                break
        return found[:n]
