"""``SCML`` and ``SCML_Supervised`` with metric-learn's signatures."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import check_random_state

from certimetric.constraints.tuples import Tuples
from certimetric.learners.scml import SCML as Learner
from certimetric.learners.scml import basis_size, local_discriminants
from certimetric.metric_learn import wording
from certimetric.metric_learn._translation import Supervised, Translated
from certimetric.metric_learn.base_metric import _TripletsClassifierMixin
from certimetric.metric_learn.constraints import Constraints, codes_of

_STEPS = "all triplets are used at every quasi-Newton step, instead of mini-batches"


class _BaseSCML(Translated):
    """What both learn by: :class:`certimetric.SCML`."""

    _tuple_size = 3
    _ignored = {"gamma": _STEPS, "output_iter": _STEPS, "batch_size": _STEPS}
    _bases: tuple[str, ...] = ("triplet_diffs",)

    def __init__(
        self,
        beta: float = 1e-5,
        basis: Any = "triplet_diffs",
        n_basis: int | None = None,
        gamma: float = 5e-3,
        max_iter: int = 10_000,
        output_iter: int = 500,
        batch_size: int = 10,
        verbose: bool = False,
        preprocessor: Any = None,
        random_state: Any = None,
    ):
        super().__init__(preprocessor)
        self.beta = beta
        self.basis = basis
        self.n_basis = n_basis
        self.gamma = gamma
        self.max_iter = max_iter
        self.output_iter = output_iter
        self.batch_size = batch_size
        self.verbose = verbose
        self.random_state = random_state

    def _compose(self, tuples: Tuples, basis: Any) -> Any:
        learner = Learner(
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
        if isinstance(self.basis, str) and self.basis in self._bases:
            return None
        if isinstance(self.basis, str) or np.ndim(self.basis) != 2:
            raise ValueError(wording.wrong_basis(self._bases))
        return self.basis


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
    verbose : bool, default=False
    preprocessor : array-like of shape (n, d) or callable, default=None
    random_state : int, RandomState or None, default=None

    Attributes
    ----------
    components_ : array of shape (d, d)
    n_iter_ : int
    learner_ : certimetric.SCML
    """

    def fit(self, triplets: ArrayLike) -> Any:
        """Learn from triplets (instance, target neighbour, impostor), (m, 3, d) or (m, 3) of indicators."""
        basis = self._given_basis()
        tuples, _ = self._tuples(triplets)
        return self._compose(tuples, basis)


class SCML_Supervised(Supervised, _BaseSCML):
    """Sparse compositional metric learning from labels, of which triplets are made, by :class:`certimetric.SCML`.

    Parameters
    ----------
    k_genuine, k_impostor : int, default=3 and 10
        Nearest instances of the same and of other classes that triplets are made of.
    basis : {"lda", "triplet_diffs"} or array of shape (n_basis, d), default="lda"
        "lda" for discriminants of neighbourhoods.
    beta, n_basis, gamma, max_iter, output_iter, batch_size, verbose, preprocessor, random_state
        As of :class:`SCML`.

    Attributes
    ----------
    components_ : array of shape (d, d)
    n_iter_ : int
    learner_ : certimetric.SCML
    """

    _bases = ("lda", "triplet_diffs")

    def __init__(
        self,
        k_genuine: int = 3,
        k_impostor: int = 10,
        beta: float = 1e-5,
        basis: Any = "lda",
        n_basis: int | None = None,
        gamma: float = 5e-3,
        max_iter: int = 10_000,
        output_iter: int = 500,
        batch_size: int = 10,
        verbose: bool = False,
        preprocessor: Any = None,
        random_state: Any = None,
    ):
        super().__init__(
            beta, basis, n_basis, gamma, max_iter, output_iter, batch_size, verbose, preprocessor, random_state
        )
        self.k_genuine = k_genuine
        self.k_impostor = k_impostor

    def fit(self, X: ArrayLike, y: ArrayLike) -> Any:
        """Learn from X, (n, d) or (n,) of indicators, and class labels; a negative label is unknown."""
        basis = self._given_basis()
        X, y = self._labelled(X, y)
        labels = codes_of(y)
        triplets = Constraints(labels).generate_knntriplets(X, self.k_genuine, self.k_impostor)
        if not len(triplets):
            raise ValueError(wording.without_triplets(type(self).__name__))
        if basis is None and self.basis == "lda":
            known = X[labels >= 0]
            codes = np.unique(labels[labels >= 0], return_inverse=True)[1]
            size = self.n_basis or basis_size(X.shape[1])
            basis = local_discriminants(known, codes, size, check_random_state(self.random_state))
        return self._compose(Tuples(X, triplets), basis)
