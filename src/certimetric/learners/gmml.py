"""Geometric mean metric learning: the metric between the scatters of similar and of dissimilar pairs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import issparse
from sklearn.base import _fit_context
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted, validate_data

from certimetric.base.arrays import Array, Indices
from certimetric.base.lazy_arrays import is_lazy
from certimetric.base.threads import limited_threads
from certimetric.constraints.class_scatter import ClassScatter
from certimetric.constraints.preprocessors import check_preprocessor
from certimetric.constraints.scatter import PairScatter
from certimetric.constraints.tuples import Tuples, check_pair_labels
from certimetric.geometry.spd import check_spd, check_symmetric, factor_psd, geodesic, inverse
from certimetric.learners.base import CLASS_WEIGHT
from certimetric.learners.chunks import scatter_of_blocks, scatter_of_chunks
from certimetric.learners.coordinates import Coordinates
from certimetric.learners.tuple_learner import PairLearner

COVARIANCE_RIDGE = 1e-6  # of priors, as a fraction of its mean eigenvalue


class ScatterLearner(PairLearner):
    """Base of the learners that need only the scatters of the pairs: streams and merges come for free.

    From labels no pair is drawn: *all* pairs count, and sizes, means and scatters of the classes determine their sum.
    With weights of the instances a pair weighs as much as the product of its two. Sparse rows are summed up as they
    are, without a dense copy (where there are more rows than features, so that the metric is the smaller).
    So the metric is the same from an array (``fit``), from Dask arrays in blocks of any size (``fit``) and from an
    iterator of chunks (``fit_chunks``), but for the rounding of sums taken in another order. Dask arrays are summed up
    block by block on their scheduler and never gathered: blocks along the features are joined, a block of rows has to
    fit into the memory of a worker, and y is cut into the same blocks of rows. What else the learner does (the
    confusion stage of :class:`AML` too) takes place on those d×d sums, after the last row was read.

    Attributes
    ----------
    scatter_ : PairScatter
        All that is kept of the pairs seen so far.
    """

    _takes_sparse = True

    reg: float
    _scatter: PairScatter
    _axes: Array | None

    def _learn_labels(self, X: ArrayLike, y: ArrayLike | None, sample_weight: ArrayLike | None = None) -> Any:
        """*All* pairs of the sample count: no pair is drawn at random, and none is formed."""
        if is_lazy(X):
            self._check_unweighted("rows in a Dask array", sample_weight)
            if y is None:
                raise ValueError(f"{type(self).__name__} requires y to be passed, but the target y is None")
            scatter = scatter_of_blocks(X, y)
            self._check_width(scatter.means.shape[1], reset=True)
            return self._fit_classes(scatter)
        X, codes, of_instances = self._validate_labelled(X, y, sample_weight)
        coordinates = Coordinates.of(X, rescale=False, reduce=self._in_span() and not issparse(X))
        return self._fit_scatter(PairScatter.from_labels(coordinates.X, codes, of_instances), coordinates.axes)

    def _learn_tuples(self, tuples: Tuples, y: Indices | None) -> Any:
        assert y is not None
        return self._fit_scatter(PairScatter.from_tuples(tuples, y))

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

        self._check_unweighted("chunks")

        def check(first: bool) -> Any:
            return partial(validate_data, self, dtype=np.float64, order="C", reset=first)

        return self._fit_classes(scatter_of_chunks(chunks, check))

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit_pairs(self, pairs: ArrayLike, y: ArrayLike) -> Any:
        """Learn from further pairs besides all seen before, as if all had come at once.

        While only one kind of pairs has been seen, they are counted and the metric is not there yet.
        """
        first = not hasattr(self, "_scatter")
        given = Tuples.of(pairs, 2, check_preprocessor(self.preprocessor))
        self._check_width(given.n_features, reset=first)
        scatter = PairScatter.from_tuples(given, check_pair_labels(y, len(given)))
        if not first:
            scatter = self.scatter_ + scatter
        self.n_samples_fit_ = int(2 * (scatter.n_similar + scatter.n_dissimilar))
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
        self.n_samples_fit_ = int(2 * (scatter.n_similar + scatter.n_dissimilar))
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
            M = self._solve(*self._ridged(scatter, d))
            self._set_components(Coordinates(M, axes=axes).lift(factor_psd(M)))
        if not scatter.similar_sum.any() and not scatter.dissimilar_sum.any():
            self._set_converged(self.converged_, "learned nothing: all of its pairs are of equal instances")
        return self

    def _in_span(self) -> bool:
        """Whether the learner may work in the span of the instances."""
        return True

    def _ridged(self, scatter: PairScatter, d: int) -> tuple[Array, Array]:
        """Positive definite scatters of similar and dissimilar pairs, of d features in all."""
        return ridged(scatter.similar, self.reg, d), ridged(scatter.dissimilar, self.reg, d)

    def _solve(self, S: Array, D: Array) -> Array:
        """M of the positive definite scatters of similar and dissimilar pairs."""
        raise NotImplementedError


def ridged(scatter: Array, reg: float, n_features: int | None = None, shape: Array | None = None) -> Array:
    """A positive definite scatter: ``reg`` times its mean eigenvalue is added to every direction.

    A scatter of 0 (all pairs are duplicates) becomes the identity times ``reg``. Of a scatter in the span of instances
    ``n_features`` tells the number of features, over which the eigenvalues are averaged. ``shape`` is what is added in
    place of the identity: a positive definite matrix, whose size does not count.
    """
    d = n_features or len(scatter)
    mean = np.trace(scatter) / d
    added = np.eye(len(scatter)) if shape is None else shape / (np.trace(shape) / d)
    # The floor keeps a singular scatter invertible even with reg = 0.
    ridge: Array = scatter + max(reg, 1e-10) * (mean if mean > 0 else 1.0) * added
    return ridge


class GMML(ScatterLearner):
    """Geometric mean metric learning: ``M = S⁻¹ #_t D``, in closed form.

    S and D are the mean outer products of the differences of similar and dissimilar pairs. At t = 1/2, M minimises
    ``tr(M S) + tr(M⁻¹ D)``: similar pairs are close, and dissimilar ones far in the inverse metric. A prior M₀ draws M
    towards itself, as in the paper: a multiple of M₀⁻¹ is added to S, and one of M₀ to D.

    From labels *all* pairs count and none is drawn, so that S and D do not depend on how the rows are cut: ``fit``
    takes Dask arrays besides arrays, and ``fit_chunks`` an iterator of chunks.

    Parameters
    ----------
    t : float, default=0.5
        Place on the geodesic from S⁻¹ (0) to D (1).
    reg : float, default=0.01
        Share of the prior in both scatters, as a fraction of their mean eigenvalue: a ridge with the identity. The
        larger, the nearer is M to a multiple of the prior.
    prior : {"identity", "covariance"} or array-like of shape (d, d), default="identity"
        M₀, positive definite, of whose size nothing depends; "covariance" is the inverse scatter of all pairs seen,
        from labels that of the covariance, with a small ridge.
    class_weight : dict, "balanced" or None, default=None
        Of labelled instances: a weight for each class, or as much in all for every class.
    preprocessor : array-like of shape (n, d) or callable, default=None
        Points by row number, or a function of indicators that gives points: :meth:`fit` and all that answers about
        tuples then takes indicators, so that tuples are indices and no point is copied.

    Attributes
    ----------
    components_ : array of shape (d, d)
        After :meth:`fit` on n < d instances fewer rows, at most n, where the prior is no array: those in the span of
        their differences.
    metric_ : MahalanobisMetric
    scatter_ : PairScatter
    converged_ : bool
        Always True: there is nothing to iterate.

    References
    ----------
    Zadeh, Hosseini, Sra (2016), *Geometric mean metric learning*, ICML, arXiv 1607.05002 [zadeh2016geometric].

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
        "prior": [StrOptions({"identity", "covariance"}), "array-like"],
        "class_weight": CLASS_WEIGHT,
        "preprocessor": ["array-like", callable, None],
    }

    def __init__(
        self,
        t: float = 0.5,
        *,
        reg: float = 0.01,
        prior: Any = "identity",
        class_weight: Mapping[Any, float] | str | None = None,
        preprocessor: Any = None,
    ):
        self.t = t
        self.reg = reg
        self.prior = prior
        self.class_weight = class_weight
        self.preprocessor = preprocessor

    def _in_span(self) -> bool:
        """A prior that is a matrix ties the span of the instances to the rest."""
        return isinstance(self.prior, str)

    def _ridged(self, scatter: PairScatter, d: int) -> tuple[Array, Array]:
        if isinstance(self.prior, str) and self.prior == "identity":
            return super()._ridged(scatter, d)
        if isinstance(self.prior, str):
            inverse_prior = ridged(scatter.similar_sum + scatter.dissimilar_sum, COVARIANCE_RIDGE, d)
            prior = inverse(inverse_prior)
        else:
            prior = check_spd(self.prior, "prior")
            if prior.shape != (d, d):
                raise ValueError(f"prior must have shape ({d}, {d}), got {prior.shape}")
            inverse_prior = inverse(prior)
        similar = ridged(scatter.similar, self.reg, d, inverse_prior)
        return similar, ridged(scatter.dissimilar, self.reg, d, prior)

    def _solve(self, S: Array, D: Array) -> Array:
        self._set_converged(True)
        return geodesic(inverse(S), D, self.t)
