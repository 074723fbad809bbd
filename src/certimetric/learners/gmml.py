"""Geometric mean metric learning: the metric between the scatters of similar and of dissimilar pairs."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import _fit_context
from sklearn.utils._param_validation import Interval
from sklearn.utils.validation import check_is_fitted, validate_data

from certimetric.base.arrays import Array
from certimetric.base.lazy_arrays import is_lazy
from certimetric.base.threads import limited_threads
from certimetric.constraints.class_scatter import ClassScatter
from certimetric.constraints.scatter import PairScatter
from certimetric.geometry.spd import check_symmetric, factor_psd, geodesic, inverse
from certimetric.learners.base import MahalanobisLearner
from certimetric.learners.chunks import scatter_of_blocks, scatter_of_chunks
from certimetric.learners.coordinates import Coordinates


class ScatterLearner(MahalanobisLearner):
    """Base of the learners that need only the scatters of the pairs: streams and merges come for free.

    From labels no pair is drawn: *all* pairs count, and sizes, means and scatters of the classes determine their sum.
    So the metric is the same from an array (``fit``), from Dask arrays in blocks of any size (``fit``) and from an
    iterator of chunks (``fit_chunks``), but for the rounding of sums taken in another order. What else the learner does
    (the confusion stage of :class:`AML` too) takes place on those d×d sums, after the last row was read.

    Attributes
    ----------
    scatter_ : PairScatter
        All that is kept of the pairs seen so far.
    """

    reg: float
    _scatter: PairScatter
    _axes: Array | None

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: ArrayLike, y: ArrayLike) -> Any:
        """Learn from *all* pairs of a labelled sample: no pair is drawn at random, and none is formed.

        Parameters
        ----------
        X : array-like or Dask array of shape (n, d)
            A Dask array is summed up block by block on its scheduler, and never gathered. Blocks along the features are
            joined; a block of rows, with all features, has to fit into the memory of a worker.
        y : array-like or Dask array of shape (n,)
            Class labels. Beside a Dask X, it is cut into the same blocks of rows.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            On NaN or infinity, a single class, no two instances of one class, or Dask arrays of unknown length.
        """
        if is_lazy(X):
            if y is None:
                raise ValueError(f"{type(self).__name__} requires y to be passed, but the target y is None")
            scatter = scatter_of_blocks(X, y)
            self._check_width(scatter.means.shape[1], reset=True)
            return self._fit_classes(scatter)
        X, codes = self._validate_labelled(X, y)
        coordinates = Coordinates.of(X, rescale=False)
        return self._fit_scatter(PairScatter.from_labels(coordinates.X, codes), coordinates.axes)

    @_fit_context(prefer_skip_nested_validation=True)
    def fit_chunks(self, chunks: Iterable[tuple[ArrayLike, ArrayLike]]) -> Any:
        """Learn from all pairs of a labelled sample that is read once, chunk by chunk, and need not fit into memory.

        Pairs of rows of different chunks count as those within a chunk: the result is that of :meth:`fit` on all rows.

        Parameters
        ----------
        chunks : iterable of (X, y)
            X of shape (m, d), y of shape (m,); m may differ, and not every chunk needs to have every class. One chunk
            is held at a time, beside a d×d matrix for each class.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            As :meth:`fit`; what is wrong with a chunk is told with its number, from 0.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from certimetric import GMML
        >>> X, y = load_iris(return_X_y=True)
        >>> streamed = GMML().fit_chunks((X[i : i + 40], y[i : i + 40]) for i in range(0, 150, 40))
        >>> np.abs(streamed.get_mahalanobis_matrix() - GMML().fit(X, y).get_mahalanobis_matrix()).max() < 1e-10
        np.True_
        """

        def check(first: bool) -> Any:
            return partial(validate_data, self, dtype=np.float64, order="C", reset=first)

        return self._fit_classes(scatter_of_chunks(chunks, check))

    @_fit_context(prefer_skip_nested_validation=True)
    def fit_pairs(self, pairs: ArrayLike, y: ArrayLike) -> Any:
        """Learn from pairs, shape (n, 2, d), labelled +1 (similar) or −1 (dissimilar), shape (n,)."""
        pairs, y = self._validate_pairs(pairs, y)
        self.n_samples_fit_ = 2 * len(pairs)
        return self._fit_scatter(PairScatter.from_pairs(pairs, y))

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit_pairs(self, pairs: ArrayLike, y: ArrayLike) -> Any:
        """Learn from further pairs besides all seen before, as if all had come at once.

        While only one kind of pairs has been seen, they are counted and the metric is not there yet.
        """
        first = not hasattr(self, "_scatter")
        pairs, y = self._validate_pairs(pairs, y, reset=first)
        scatter = PairScatter.from_pairs(pairs, y)
        if not first:
            scatter = self.scatter_ + scatter
        self.n_samples_fit_ = 2 * (scatter.n_similar + scatter.n_dissimilar)
        if scatter.n_similar and scatter.n_dissimilar:
            return self._fit_scatter(scatter)
        self._scatter, self._axes = scatter, None
        return self

    @_fit_context(prefer_skip_nested_validation=True)
    def fit_scatter(self, scatter: PairScatter) -> Any:
        """Learn from scatters that were summed elsewhere, for instance merged from several machines by ``+``."""
        sums = [check_symmetric(getattr(scatter, name), name) for name in ("similar_sum", "dissimilar_sum")]
        if sums[0].shape != sums[1].shape:
            raise ValueError(
                f"similar_sum and dissimilar_sum must have one shape, got {sums[0].shape} and {sums[1].shape}"
            )
        self._check_width(len(scatter.similar_sum), reset=True)
        self.n_samples_fit_ = 2 * (scatter.n_similar + scatter.n_dissimilar)
        return self._fit_scatter(scatter)

    def _fit_classes(self, scatter: ClassScatter) -> Any:
        self._set_classes(scatter.labels, int(scatter.counts.sum()))
        with limited_threads(self.n_features_in_):
            pairs = scatter.pairs()
        return self._fit_scatter(pairs)

    @property
    def scatter_(self) -> PairScatter:
        """All that is kept of the pairs seen so far, in the features of the data."""
        check_is_fitted(self, "_scatter")
        return self._scatter if self._axes is None else self._scatter.along(self._axes)

    def _fit_scatter(self, scatter: PairScatter, axes: Array | None = None) -> Any:
        """Learn from scatters in the features of the data, or in coordinates along orthonormal axes, shape (r, d)."""
        if not scatter.n_similar or not scatter.n_dissimilar:
            raise ValueError(
                f"{type(self).__name__} needs at least one similar and one dissimilar pair, got "
                f"{scatter.n_similar} and {scatter.n_dissimilar}"
            )
        self._scatter, self._axes = scatter, axes
        d = self.n_features_in_
        with limited_threads(len(scatter.similar_sum)):
            M = self._solve(ridged(scatter.similar, self.reg, d), ridged(scatter.dissimilar, self.reg, d))
            self._set_components(Coordinates(M, axes=axes).lift(factor_psd(M)))
        if not scatter.similar_sum.any() and not scatter.dissimilar_sum.any():
            self._set_converged(self.converged_, "learned nothing: all of its pairs are of equal instances")
        return self

    def _solve(self, S: Array, D: Array) -> Array:
        """M of the positive definite scatters of similar and dissimilar pairs."""
        raise NotImplementedError


def ridged(scatter: Array, reg: float, n_features: int | None = None) -> Array:
    """A positive definite scatter: ``reg`` times its mean eigenvalue is added to every direction.

    A scatter of 0 (all pairs are duplicates) becomes the identity times ``reg``. Of a scatter in the span of instances
    ``n_features`` tells the number of features, over which the eigenvalues are averaged.
    """
    mean = np.trace(scatter) / (n_features or len(scatter))
    # The floor keeps a singular scatter invertible even with reg = 0.
    return scatter + max(reg, 1e-10) * (mean if mean > 0 else 1.0) * np.eye(len(scatter))


class GMML(ScatterLearner):
    """Geometric mean metric learning: ``M = S⁻¹ #_t D``, in closed form.

    S and D are the mean outer products of the differences of similar and dissimilar pairs. At t = 1/2, M minimises
    ``tr(M S) + tr(M⁻¹ D)``: similar pairs are close, and dissimilar ones far in the inverse metric.

    From labels *all* pairs count and none is drawn, so that S and D do not depend on how the rows are cut: ``fit``
    takes Dask arrays besides arrays, and ``fit_chunks`` an iterator of chunks.

    Parameters
    ----------
    t : float, default=0.5
        Place on the geodesic from S⁻¹ (0) to D (1).
    reg : float, default=0.01
        Ridge on both scatters, as a fraction of their mean eigenvalue.

    Attributes
    ----------
    components_ : array of shape (d, d)
        After :meth:`fit` on n < d instances fewer rows, at most n: those in the span of their differences.
    metric_ : MahalanobisMetric
    scatter_ : PairScatter
    converged_ : bool
        Always True: there is nothing to iterate.

    References
    ----------
    Zadeh, Hosseini, Sra (2016), *Geometric mean metric learning*, ICML, arXiv 1607.05002.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from certimetric import GMML
    >>> X, y = load_iris(return_X_y=True)
    >>> GMML().fit(X, y).get_mahalanobis_matrix().shape
    (4, 4)
    """

    _parameter_constraints = {
        "t": [Interval(Real, 0, 1, closed="both")],
        "reg": [Interval(Real, 0, None, closed="left")],
    }

    def __init__(self, t: float = 0.5, *, reg: float = 0.01):
        self.t = t
        self.reg = reg

    def _solve(self, S: Array, D: Array) -> Array:
        self._set_converged(True)
        return geodesic(inverse(S), D, self.t)
