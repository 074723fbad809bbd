"""``SCML`` and ``SCML_Supervised`` with metric-learn's signatures."""

from __future__ import annotations

from typing import Any

from numpy.typing import ArrayLike

from certimetric.constraints.tuples import Tuples
from certimetric.learners.scml import SCML as Learner
from certimetric.metric_learn._translation import Supervised, Translated
from certimetric.metric_learn.base_metric import _TripletsClassifierMixin
from certimetric.metric_learn.constraints import Constraints, codes_of

_STEPS = "all triplets are used at every quasi-Newton step, instead of mini-batches"


class _BaseSCML(Translated):
    """What both learn by: :class:`certimetric.SCML`."""

    _tuple_size = 3
    _ignored = {"gamma": _STEPS, "output_iter": _STEPS, "batch_size": _STEPS}

    def __init__(
        self,
        beta: float = 1e-5,
        basis: Any = None,
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
