"""The shared solver: quasi-Newton descent over components, with active sets that follow the metric."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from certimetric.objectives.gradient import MetricObjective

Array = NDArray[np.float64]

_STEPS_BETWEEN_REFRESHES = 10


@dataclass(frozen=True)
class Solution:
    """Where a solver stopped.

    Parameters
    ----------
    components : array of shape (k, d)
    path : list of float
        True objective at the start and after each round: it never rises.
    n_iter : int
        Quasi-Newton steps.
    converged : bool
    """

    components: Array
    path: list[float]
    n_iter: int
    converged: bool


def minimize_components(
    objective: MetricObjective,
    L: Array,
    *,
    max_iter: int,
    tol: float,
    callback: Callable[[int, float], None] | None = None,
) -> Solution:
    """Minimise an objective over L by rounds of L-BFGS.

    Between rounds the active sets are refreshed and the *true* objective is taken. A round that made it worse looked
    at too few impostors: it is undone, and the active sets reach farther from then on. So the recorded objective
    never rises, and the last one is exact.

    Parameters
    ----------
    objective : MetricObjective
    L : array of shape (k, d)
        Starting point.
    max_iter : int
        Bound on quasi-Newton steps.
    tol : float
        Stop when a round lowers the true objective by less than this fraction.
    callback : callable, optional
        Called with the steps so far and the true objective after every round.
    """
    shape = L.shape

    def value_and_gradient(flat: Array) -> tuple[float, Array]:
        value, gradient = objective.in_components(flat.reshape(shape))
        return value, gradient.ravel()

    objective.refresh(L)
    path = [objective.in_components(L)[0]]
    n_iter, converged = 0, False
    while n_iter < max_iter and not converged:
        steps = min(_STEPS_BETWEEN_REFRESHES, max_iter - n_iter)
        options = {"maxiter": steps, "maxcor": 20, "ftol": 1e-12, "gtol": 1e-10 * max(abs(path[0]), 1e-12)}
        result = minimize(value_and_gradient, L.ravel(), jac=True, method="L-BFGS-B", options=options)
        n_iter += max(int(result.nit), 1)
        proposal = result.x.reshape(shape)
        objective.refresh(proposal)
        value = objective.in_components(proposal)[0]
        if not value <= path[-1]:
            if not objective.widen():
                break
            objective.refresh(L)
            continue
        L = proposal
        converged = path[-1] - value <= tol * max(abs(path[-1]), 1e-12)
        path.append(value)
        if callback is not None:
            callback(n_iter, value)
    return Solution(L, path, n_iter, converged)


def print_progress(learner: str) -> Callable[[int, float], None]:
    """A callback that prints the objective as it falls."""

    def report(n_iter: int, value: float) -> None:
        print(f"[{learner}] step {n_iter:4d}  objective {value:.6g}")

    return report
