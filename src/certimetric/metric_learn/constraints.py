"""Labels to pairs, triplets and chunks, under metric-learn's names."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_random_state

from certimetric.base.arrays import Indices
from certimetric.base.warnings import warn
from certimetric.constraints.chunklets import chunklets_of_classes
from certimetric.constraints.neighbors import nearest_triplets
from certimetric.constraints.pairs import pairs_of_classes
from certimetric.metric_learn import wording

__all__ = ["Constraints"]

_ROUNDS = 10  # of draws: pairs that were drawn before are drawn anew


class Constraints:
    """Pairs, triplets and chunks of instances that labels tell, as row numbers.

    Parameters
    ----------
    partial_labels : array-like of int, shape (n,)
        Classes; a negative one is unknown, and its instance is in no constraint.

    Examples
    --------
    >>> a, b, c, d = Constraints([0, 0, 1, 1, -1]).positive_negative_pairs(2, random_state=0)
    >>> sorted(zip(a.tolist(), b.tolist()))
    [(0, 1), (2, 3)]
    """

    def __init__(self, partial_labels: ArrayLike):
        self.partial_labels = np.asanyarray(partial_labels, dtype=int)

    def positive_negative_pairs(
        self,
        n_constraints: int,
        same_length: bool = False,
        random_state: Any = None,
        num_constraints: Any = "deprecated",
    ) -> tuple[Indices, Indices, Indices, Indices]:
        """Distinct pairs of one class and of two classes, drawn at random.

        Parameters
        ----------
        n_constraints : int
            Pairs of each kind; a warning says where the labels give fewer.
        same_length : bool, default=False
            Whether the larger kind is cut to the size of the other.
        random_state : int, RandomState or None

        Returns
        -------
        a, b, c, d : int arrays
            Similar pairs are (a, b), dissimilar ones (c, d).
        """
        n_constraints = renamed(n_constraints, num_constraints, "num_constraints", "n_constraints")
        known, codes = self._known()
        rng = check_random_state(random_state)
        drawn: list[Indices] = [np.empty((0, 2), dtype=np.int64)] * 2
        for _ in range(_ROUNDS):
            if min(len(some) for some in drawn) >= n_constraints or not len(known):
                break
            pairs, kinds = pairs_of_classes(codes, n_constraints, rng)
            drawn = [_joined(some, pairs[kinds == kind]) for some, kind in zip(drawn, (1, -1))]
        for name, some in zip(("positive", "negative"), drawn):
            if len(some) < n_constraints:
                warn(wording.FEW_PAIRS.format(count=len(some), kind=name, wanted=n_constraints))
        similar, dissimilar = (known[some[:n_constraints]] for some in drawn)
        if same_length:
            n = min(len(similar), len(dissimilar))
            similar, dissimilar = similar[:n], dissimilar[:n]
        return similar[:, 0], similar[:, 1], dissimilar[:, 0], dissimilar[:, 1]

    def generate_knntriplets(self, X: ArrayLike, k_genuine: int, k_impostor: int) -> Indices:
        """Triplets (instance, target neighbour, impostor) of the nearest of both kinds, shape (m, 3).

        Parameters
        ----------
        X : array-like of shape (n, d)
        k_genuine, k_impostor : int
            Nearest instances of the same and of other classes; a warning says where a class has fewer.
        """
        known, codes = self._known()
        sizes = np.bincount(codes)
        for label, size in zip(np.unique(self.partial_labels[known]), sizes):
            if size <= k_genuine:
                warn(wording.FEW_TARGETS.format(label=label, size=size, wanted=k_genuine + 1, given=size - 1))
            if len(known) - size < k_impostor:
                warn(wording.FEW_IMPOSTORS.format(label=label, others=len(known) - size, wanted=k_impostor))
        points = np.ascontiguousarray(np.asarray(X, dtype=np.float64)[known])
        most = max(len(known) - 1, 1)
        triplets = nearest_triplets(points, codes, min(k_genuine, most), min(k_impostor, most))
        return known[triplets]

    def chunks(
        self, n_chunks: int = 100, chunk_size: int = 2, random_state: Any = None, num_chunks: Any = "deprecated"
    ) -> Indices:
        """Disjoint chunks of instances of one class, drawn at random.

        Returns
        -------
        chunks : int array of shape (n,)
            The chunk of each instance, −1 for none.

        Raises
        ------
        ValueError
            If the labels do not give as many.
        """
        n_chunks = renamed(n_chunks, num_chunks, "num_chunks", "n_chunks")
        known, codes = self._known()
        rng = check_random_state(random_state)
        rows = known[chunklets_of_classes(codes, chunk_size, rng)]
        if len(rows) < n_chunks:
            raise ValueError(wording.FEW_CHUNKS.format(n_chunks=n_chunks, chunk_size=chunk_size, possible=len(rows)))
        chunks = np.full(len(self.partial_labels), -1, dtype=np.int64)
        chunks[rows[:n_chunks]] = np.arange(n_chunks)[:, None]
        return chunks

    def _known(self) -> tuple[Indices, Indices]:
        """Row numbers of instances of known classes, and codes 0, 1, … of these."""
        known = np.flatnonzero(self.partial_labels >= 0)
        _, codes = np.unique(self.partial_labels[known], return_inverse=True)
        return known, codes.astype(np.int64)


def wrap_pairs(X: ArrayLike, constraints: tuple[ArrayLike, ArrayLike, ArrayLike, ArrayLike]) -> tuple[Any, Indices]:
    """Pairs of instances, (m, 2, d), and their labels ±1, of what :meth:`Constraints.positive_negative_pairs` gives."""
    pairs, y = labelled_pairs(constraints)
    return np.asarray(X)[pairs], y


def labelled_pairs(constraints: tuple[ArrayLike, ArrayLike, ArrayLike, ArrayLike]) -> tuple[Indices, Indices]:
    """Pairs as row numbers, (m, 2), and their labels ±1."""
    a, b, c, d = (np.asarray(some, dtype=np.int64) for some in constraints)
    pairs = np.concatenate([np.stack([a, b], axis=1), np.stack([c, d], axis=1)])
    return pairs, np.repeat(np.array([1, -1]), [len(a), len(c)])


def renamed(value: Any, old_value: Any, old: str, new: str) -> Any:
    """The value of a parameter that had another name once."""
    if isinstance(old_value, str) and old_value == "deprecated":
        return value
    warn(wording.RENAMED.format(old=old, new=new), FutureWarning)
    return old_value


def codes_of(y: NDArray[Any]) -> NDArray[Any]:
    """Class labels of any type as integers: negative ones, which are unknown classes, stay."""
    if y.dtype.kind in "iu":
        return y
    if y.dtype.kind == "f" and (y == np.floor(y)).all():
        return y.astype(np.int64)
    return np.unique(y, return_inverse=True)[1]


def _joined(first: Indices, second: Indices) -> Indices:
    """Rows of both, in their order, each once."""
    both = np.concatenate([first, second])
    _, places = np.unique(both, axis=0, return_index=True)
    return both[np.sort(places)]
