"""metric-learn's estimators that learn from quadruplets and triplets, or from those drawn of labels: LSML, SCML."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import check_random_state

from certimetric import learners
from certimetric.constraints.tuples import Tuples
from certimetric.learners.directions import basis_size, local_discriminants
from certimetric.metric_learn import wording
from certimetric.metric_learn._translation import Supervised, Translated
from certimetric.metric_learn.base_metric import _QuadrupletsClassifierMixin, _TripletsClassifierMixin
from certimetric.metric_learn.constraints import Constraints, codes_of

_STEPS = "all triplets are used at every quasi-Newton step, instead of mini-batches"


class _BaseLSML(Translated):
    _tuple_size = 4

    def _order(self, tuples: Tuples, weights: Any) -> Any:
        learner = learners.LSML(
            self._matrix("prior", tuples.points, strict_pd=True),
            max_iter=self.max_iter,
            tol=self.tol,
            random_state=self.random_state,
            verbose=self.verbose,
        )
        return self._learn_tuples(learner, tuples, weights=weights)


@dataclass(eq=False, repr=False)
class LSML(_BaseLSML, _QuadrupletsClassifierMixin):
    """Least squared residual metric learning from quadruplets, by :class:`certimetric.LSML`.

    Parameters
    ----------
    tol : float, default=1e-3
        How far the objective may lie above its minimum, as a fraction of it.
    max_iter : int, default=1000
        Bound on the quasi-Newton steps.
    prior : {"identity", "covariance", "random"} or array of shape (d, d), default="identity"

    Examples
    --------
    >>> from certimetric.metric_learn import LSML
    >>> points = [[0.0, 0.0], [0.0, 1.2], [1.0, 0.0]]
    >>> quadruplets = [[0, 1, 0, 2]]
    >>> LSML(preprocessor=points).fit(quadruplets).components_.shape
    (2, 2)
    """

    tol: float = 1e-3
    max_iter: int = 1000
    prior: Any = "identity"
    verbose: bool = False
    preprocessor: Any = None
    random_state: Any = None

    def fit(self, quadruplets: ArrayLike, weights: ArrayLike | None = None) -> Any:
        """Learn from quadruplets (a, b, c, d) with a nearer to b than c to d, (m, 4, d) or (m, 4) of indicators.

        ``weights``, of shape (m,), are shares of the quadruplets; equal by default.
        """
        tuples, _ = self._tuples(quadruplets)
        return self._order(tuples, weights)


@dataclass(eq=False, repr=False)
class LSML_Supervised(Supervised, _BaseLSML):
    """Least squared residual metric learning from labels, of which quadruplets are drawn, by :class:`certimetric.LSML`.

    Parameters
    ----------
    tol, max_iter, prior
        As of :class:`LSML`.
    n_constraints : int, default=None
        Quadruplets; None for 20 c² with c classes, but at most 15,000.
    weights : array-like of shape (n_constraints,), default=None
        Shares of the quadruplets.

    Examples
    --------
    >>> from certimetric.metric_learn import LSML_Supervised
    >>> from sklearn.datasets import load_iris
    >>> LSML_Supervised(n_constraints=50, random_state=0).fit(*load_iris(return_X_y=True)).components_.shape
    (4, 4)
    """

    tol: float = 1e-3
    max_iter: int = 1000
    prior: Any = "identity"
    n_constraints: int | None = None
    weights: Any = None
    verbose: bool = False
    preprocessor: Any = None
    random_state: Any = None
    num_constraints: Any = "deprecated"

    def fit(self, X: ArrayLike, y: ArrayLike) -> Any:
        """Learn from X, (n, d) or (n,) of indicators, and class labels; a negative label is unknown."""
        X, y = self._labelled(X, y)
        drawn = self._drawn_pairs(X, y, same_length=True)[1]
        return self._order(Tuples(X, np.stack(drawn, axis=1)), self.weights)


class _BaseSCML(Translated):
    _tuple_size = 3
    _ignored = {"gamma": _STEPS, "output_iter": _STEPS, "batch_size": _STEPS}
    _bases: tuple[str, ...] = ("triplet_diffs",)

    def _compose(self, tuples: Tuples, basis: Any) -> Any:
        if isinstance(basis, np.ndarray) and basis.shape[1] != tuples.n_features:
            raise ValueError(wording.WRONG_BASIS_WIDTH.format(width=basis.shape[1], n_features=tuples.n_features))
        learner = learners.SCML(
            self.n_basis,
            l1=self.beta,
            basis=basis,
            max_iter=self.max_iter,
            random_state=self.random_state,
            verbose=self.verbose,
        )
        return self._learn_tuples(learner, tuples)

    def _given_basis(self) -> Any:
        """The parameter ``basis`` where it is an array, None where it is the name of one."""
        for name in ("max_iter", "output_iter", "batch_size", "n_basis", "k_genuine", "k_impostor"):
            given = getattr(self, name, None)
            if given is not None and not isinstance(given, Integral):
                raise ValueError(wording.NOT_AN_INTEGER.format(name=name, kind=type(given)))
        if isinstance(self.basis, str) and self.basis in self._bases:
            return None
        if isinstance(self.basis, str) or np.ndim(self.basis) != 2:
            raise ValueError(wording.WRONG_BASIS.format(allowed="', '".join(self._bases)))
        return np.asarray(self.basis)


@dataclass(eq=False, repr=False)
class SCML(_BaseSCML, _TripletsClassifierMixin):
    """Sparse compositional metric learning from triplets, by :class:`certimetric.SCML`.

    Parameters
    ----------
    beta : float, default=1e-5
        Price of a unit of weight.
    basis : "triplet_diffs" or array of shape (n_basis, d), default="triplet_diffs"
    n_basis : int, default=None
        Size of the basis; None for ten times the number of features, between 100 and 1000.
    gamma : float, default=5e-3
        Ignored.
    max_iter : int, default=10000
        Bound on the quasi-Newton steps.
    output_iter : int, default=500
        Ignored.
    batch_size : int, default=10
        Ignored.

    Examples
    --------
    >>> from certimetric.metric_learn import SCML
    >>> points = [[0.0, 0.0], [0.0, 2.0], [1.0, 0.0], [1.0, 1.0]]
    >>> triplets = [[0, 1, 2], [2, 3, 0], [3, 2, 1]]
    >>> SCML(n_basis=10, preprocessor=points, random_state=0).fit(triplets).predict(triplets).tolist()
    [1, 1, 1]
    """

    beta: float = 1e-5
    basis: Any = "triplet_diffs"
    n_basis: int | None = None
    gamma: float = 5e-3
    max_iter: int = 10_000
    output_iter: int = 500
    batch_size: int = 10
    verbose: bool = False
    preprocessor: Any = None
    random_state: Any = None

    def fit(self, triplets: ArrayLike) -> Any:
        """Learn from triplets (instance, target neighbour, impostor), (m, 3, d) or (m, 3) of indicators."""
        basis = self._given_basis()
        tuples, _ = self._tuples(triplets)
        return self._compose(tuples, basis)


@dataclass(eq=False, repr=False)
class SCML_Supervised(Supervised, _BaseSCML):
    """Sparse compositional metric learning from labels, of which triplets are made, by :class:`certimetric.SCML`.

    Parameters
    ----------
    k_genuine, k_impostor : int, default=3 and 10
        Nearest instances of the same and of other classes that triplets are made of.
    basis : {"lda", "triplet_diffs"} or array of shape (n_basis, d), default="lda"
        "lda" for discriminants of neighbourhoods.
    beta, n_basis, gamma, max_iter, output_iter, batch_size
        As of :class:`SCML`.

    Examples
    --------
    >>> from certimetric.metric_learn import SCML_Supervised
    >>> from sklearn.datasets import load_iris
    >>> SCML_Supervised(n_basis=40, random_state=0).fit(*load_iris(return_X_y=True)).get_mahalanobis_matrix().shape
    (4, 4)
    """

    _bases = ("lda", "triplet_diffs")

    k_genuine: int = 3
    k_impostor: int = 10
    beta: float = 1e-5
    basis: Any = "lda"
    n_basis: int | None = None
    gamma: float = 5e-3
    max_iter: int = 10_000
    output_iter: int = 500
    batch_size: int = 10
    verbose: bool = False
    preprocessor: Any = None
    random_state: Any = None

    def fit(self, X: ArrayLike, y: ArrayLike) -> Any:
        """Learn from X, (n, d) or (n,) of indicators, and class labels; a negative label is unknown."""
        basis = self._given_basis()
        X, y = self._labelled(X, y)
        labels = codes_of(y)
        triplets = Constraints(labels).generate_knntriplets(X, self.k_genuine, self.k_impostor)
        if not len(triplets):
            raise ValueError(wording.WITHOUT_TRIPLETS.format(name=type(self).__name__))
        if basis is None and self.basis == "lda":
            known = X[labels >= 0]
            codes = np.unique(labels[labels >= 0], return_inverse=True)[1]
            size = self.n_basis or basis_size(X.shape[1])
            basis = local_discriminants(known, codes, size, check_random_state(self.random_state))
        return self._compose(Tuples(X, triplets), basis)
