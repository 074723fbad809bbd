"""Sparse distance metric learning: a graphical lasso on the prior and the differences of pairs."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any

import numpy as np
import scipy.linalg
from numpy.typing import ArrayLike
from sklearn.covariance import graphical_lasso
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions

from certimetric.base.arrays import Array, Indices
from certimetric.base.threads import limited_threads
from certimetric.constraints.pairs import pairs_of_classes
from certimetric.constraints.scatter import PairScatter
from certimetric.constraints.tuples import Tuples
from certimetric.geometry.spd import factor_psd, inverse
from certimetric.learners.base import CLASS_WEIGHT
from certimetric.learners.coordinates import Coordinates
from certimetric.learners.starts import PRIORS, prior_components
from certimetric.learners.tuple_learner import PairLearner

_LEAST = 0.1  # smallest eigenvalue of P, in the coordinates of the prior and over the 1 of the prior itself


class SDML(PairLearner):
    """Sparse distance metric learning (SDML): most features of similar pairs do not interact.

    Minimises ::

        tr(M P) − log det M + sparsity · Σ_{a≠b} |M_ab|        P = M₀⁻¹ + balance · mean over pairs of y Δ Δᵀ

    with y = ±1 for similar and dissimilar pairs of difference Δ, and a prior M₀: the graphical lasso, that
    scikit-learn's coordinate descent solves. (The published loss is the sum over pairs, not their mean: its balance is
    this one divided by the number of pairs.)

    *Shift.* Dissimilar pairs make P indefinite at a large balance, and then there is no minimum, or none worth
    having. Where P has an eigenvalue below 0.1, in the coordinates where the prior is the identity, ``shift_`` times
    M₀⁻¹ is added to P, and a warning says so: the least shift after which the smallest eigenvalue is a tenth of that
    of ``(1 + shift_) M₀⁻¹``. But for the scale of M that is to divide ``balance`` and ``sparsity`` by ``1 + shift_``.
    By default the balance is one that needs no shift.

    No perturbation loss can be added: the graphical lasso is solved by itself.

    Parameters
    ----------
    balance : float, default=None
        Weight of the pairs against the prior, in units of one over squared distances. None for 0.9 over the largest
        eigenvalue, by absolute value, of what it multiplies, in the coordinates of the prior. Where the prior is no
        array and the root mean square of the standard deviations of the features lies below 0.1 or above √10, balance
        and sparsity are meant for the features divided by the power of ten nearest to it.
    sparsity : float, default=0.01
        Price of the entries of M off its diagonal: the larger, the more of them are 0, up to the rounding of
        ``components_``.
    prior : {"identity", "covariance", "random"} or array-like of shape (d, d), default="identity"
        M₀, positive definite; "covariance" is the inverse covariance of the instances, with a small ridge.
    class_weight : dict, "balanced" or None, default=None
        Of labelled instances: a weight for each class, or as much in all for every class. By these, times
        ``sample_weight``, pairs are drawn; one drawn twice counts twice then.
    n_constraints : int, default=None
        Draws of similar and of as many dissimilar pairs that :meth:`fit` makes of labels; a pair drawn twice counts
        once. None for 20 c² with c classes, but at most 15,000. Only their scatters are kept.
    max_iter : int, default=200
        Bound on the sweeps over the features.
    tol : float, default=1e-4
        Stop when the objective is proven to lie at most this much above its minimum (by the dual gap).
    preprocessor : array-like of shape (n, d) or callable, default=None
        Points by row number, or a function of indicators that gives points: :meth:`fit` and all that answers about
        tuples then takes indicators, so that tuples are indices and no point is copied.
    random_state : int, RandomState or None, default=None
        Draws of pairs, and a random prior.
    verbose : bool, default=False
        Print the objective and the dual gap of every sweep.

    Attributes
    ----------
    components_ : array of shape (d, d)
        Where there are more features than instances and the prior is no array, as many rows as their differences span;
        what is sparse is then the metric along their principal axes.
    metric_ : MahalanobisMetric
    balance_ : float
        The balance in force, before the shift.
    shift_ : float
        What P was shifted by, in units of the inverse prior; 0 for none.
    objective_ : float
    n_iter_ : int
        Sweeps.
    converged_ : bool
        Whether the dual gap fell below ``tol``; a :class:`~sklearn.exceptions.ConvergenceWarning` says if not, of a
        shift, and if nothing was learned.
    classes_ : array

    References
    ----------
    Qi, Tang, Zha, Chua, Zhang (2009), *An efficient sparse metric learning in high-dimensional space via l1-penalized
    log-determinant regularization* [qi2009efficient], ICML. Friedman, Hastie, Tibshirani (2008), *Sparse inverse
    covariance estimation with the graphical lasso*, Biostatistics 9, arXiv 0708.3517 [friedman2008sparse].

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from certimetric import SDML
    >>> X, y = load_iris(return_X_y=True)
    >>> sdml = SDML(random_state=0).fit(X, y)
    >>> sdml.get_mahalanobis_matrix().shape, sdml.shift_
    ((4, 4), 0.0)
    """

    _parameter_constraints = {
        "balance": [Interval(Real, 0, None, closed="left"), None],
        "sparsity": [Interval(Real, 0, None, closed="left")],
        "prior": [StrOptions(PRIORS), "array-like"],
        "class_weight": CLASS_WEIGHT,
        "n_constraints": [Interval(Integral, 1, None, closed="left"), None],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="neither")],
        "preprocessor": ["array-like", callable, None],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        balance: float | None = None,
        *,
        sparsity: float = 0.01,
        prior: Any = "identity",
        class_weight: Mapping[Any, float] | str | None = None,
        n_constraints: int | None = None,
        max_iter: int = 200,
        tol: float = 1e-4,
        preprocessor: Any = None,
        random_state: Any = None,
        verbose: bool = False,
    ):
        self.balance = balance
        self.sparsity = sparsity
        self.prior = prior
        self.class_weight = class_weight
        self.n_constraints = n_constraints
        self.max_iter = max_iter
        self.tol = tol
        self.preprocessor = preprocessor
        self.random_state = random_state
        self.verbose = verbose

    def _learn_labels(self, X: ArrayLike, y: ArrayLike | None, sample_weight: ArrayLike | None) -> None:
        X, codes, weights = self._validate_labelled(X, y, sample_weight)
        rng = check_random_state(self.random_state)
        self._solve(self._coordinates(X), *pairs_of_classes(codes, self._n_draws(), rng, weights), rng)

    def _learn_tuples(self, tuples: Tuples, y: Indices | None) -> None:
        assert y is not None
        rng = check_random_state(self.random_state)
        self._solve(self._coordinates(tuples.points), tuples.index, y, rng)

    def _coordinates(self, X: Array) -> Coordinates:
        """A prior that is a matrix has the units of the data, and ties the span of the instances to the rest."""
        free = isinstance(self.prior, str)
        return Coordinates.of(X, rescale=free, reduce=free)

    def _solve(self, coordinates: Coordinates, pairs: Indices, y: Indices, rng: np.random.RandomState) -> None:
        X = coordinates.X
        with limited_threads(X.shape[1]):
            prior = prior_components(self.prior, X, self.n_features_in_, rng)
            scatter = PairScatter.from_tuples(Tuples(X, pairs), y)
            loss = (scatter.similar_sum - scatter.dissimilar_sum) / len(pairs)
            self.balance_, self.shift_, smallest = self._balanced(prior @ loss @ prior.T)
            P = (1.0 + self.shift_) * inverse(prior.T @ prior) + self.balance_ * loss
            M, gap = self._graphical_lasso(P)
            entries = float(np.abs(M).sum() - np.trace(M))
        self.objective_ = float(np.vdot(M, P) - np.linalg.slogdet(M)[1]) + self.sparsity * entries
        self._set_components(coordinates.lift(factor_psd(M)))
        converged, reason = bool(gap <= self.tol), ""
        if not converged:
            reason = (
                f"did not converge in max_iter={self.max_iter} sweeps: its dual gap is {gap:.3g}; raise max_iter or tol"
            )
        elif not loss.any():
            reason = "learned nothing: all of its pairs are of equal instances"
        elif self.shift_:
            reason = (
                f"shifted its matrix by {self.shift_:.4g} times the inverse prior: at balance={self.balance_:.4g} its "
                f"smallest eigenvalue, in coordinates of the prior, is {smallest:.3g}, below {_LEAST}; a balance of "
                f"{self.balance_ / (1 + self.shift_):.4g} needs no shift"
            )
        self._set_converged(converged, reason)

    def _balanced(self, loss: Array) -> tuple[float, float, float]:
        """The balance, the shift, and the smallest eigenvalue of P before it, all in the coordinates of the prior."""
        eigenvalues = scipy.linalg.eigvalsh((loss + loss.T) / 2)
        largest = float(np.abs(eigenvalues).max())
        if self.balance is None:
            return (1.0 - _LEAST) / largest if largest > 0 else 0.0, 0.0, _LEAST
        smallest = 1.0 + float(self.balance) * float(eigenvalues[0])
        # Over 1 + shift, the eigenvalue 1 + balance λ becomes 1 + balance λ / (1 + shift).
        shift = (1.0 - smallest) / (1.0 - _LEAST) - 1.0
        return float(self.balance), max(shift, 0.0), smallest

    def _graphical_lasso(self, P: Array) -> tuple[Array, float]:
        """M and the dual gap, by scikit-learn."""
        self.n_iter_ = 1
        if len(P) == 1 or not self.sparsity:
            return inverse(P), 0.0
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)  # told by the gap
                _, M, costs, n_iter = graphical_lasso(
                    P,
                    self.sparsity,
                    tol=self.tol,
                    enet_tol=max(1e-3 * self.tol, 1e-12),  # looser ones cost sweeps
                    max_iter=self.max_iter,
                    return_costs=True,
                    return_n_iter=True,
                )
        except FloatingPointError:
            M, costs, n_iter = np.full_like(P, np.nan), [], 0
        M = (M + M.T) / 2
        if not np.isfinite(M).all() or scipy.linalg.eigvalsh(M)[0] <= 0:
            raise ValueError(
                f"the graphical lasso fails on a matrix of the condition number {np.linalg.cond(P):.0e}; take another "
                f"prior, or change sparsity, {self.sparsity}"
            )
        if self.verbose:
            for sweep, (value, gap) in enumerate(costs, 1):
                print(f"[SDML] sweep {sweep:4d}  objective {value:.6g}, dual gap {gap:.3g}")
        self.n_iter_ = max(int(n_iter), 1)
        return M, abs(float(costs[-1][1])) if costs else 0.0
