"""The shared solvers: descent over components, with active sets that follow the metric, or by mini-batches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import OptimizeResult, minimize

from certimetric.objectives.gradient import ActiveSetTerm, MetricObjective

Array = NDArray[np.float64]

_STEPS_BETWEEN_REFRESHES = 10
_STEPS_BETWEEN_REPORTS = 20
_ADAM_MEAN, _ADAM_SQUARE = 0.9, 0.999  # what the running moments keep at a step


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
    """Minimise an objective over L by L-BFGS, in rounds where it has active sets.

    Between rounds the active sets are refreshed and the *true* objective is taken. A round that made it worse looked
    at too few impostors: it is undone, and the active sets reach farther from then on, or the rounds become shorter
    where no set can. So the recorded objective never rises, and the last one is exact.

    Parameters
    ----------
    objective : MetricObjective
    L : array of shape (k, d)
        Starting point.
    max_iter : int
        Bound on quasi-Newton steps.
    tol : float
        Stop when a round, or ten steps, lower the true objective by less than this fraction.
    callback : callable, optional
        Called with the steps so far and the true objective after every round or ten steps.
    """
    shape = L.shape

    def value_and_gradient(flat: Array) -> tuple[float, Array]:
        value, gradient = objective.in_components(flat.reshape(shape))
        return value, gradient.ravel()

    if not any(isinstance(term, ActiveSetTerm) for term in objective.terms):
        return _minimize_smooth(value_and_gradient, L, max_iter, tol, callback)
    objective.refresh(L)
    path = [objective.in_components(L)[0]]
    n_iter, converged, round_length = 0, False, _STEPS_BETWEEN_REFRESHES
    while n_iter < max_iter and not converged:
        steps = min(round_length, max_iter - n_iter)
        options = _quasi_newton_options(steps, path[0])
        result = minimize(value_and_gradient, L.ravel(), jac=True, method="L-BFGS-B", options=options)
        n_iter += max(int(result.nit), 1)
        proposal = result.x.reshape(shape)
        objective.refresh(proposal)
        value = objective.in_components(proposal)[0]
        if not value <= path[-1]:
            if not objective.widen():
                if round_length == 1:
                    break
                round_length //= 2
            objective.refresh(L)
            continue
        L = proposal
        converged = _stalled(path[-1], value, tol)
        path.append(value)
        if callback is not None:
            callback(n_iter, value)
    return Solution(L, path, n_iter, converged)


def _quasi_newton_options(steps: int, value: float) -> dict[str, float]:
    return {"maxiter": steps, "maxcor": 20, "ftol": 1e-12, "gtol": 1e-10 * max(abs(value), 1e-12)}


def _minimize_smooth(
    value_and_gradient: Callable[[Array], tuple[float, Array]],
    L: Array,
    max_iter: int,
    tol: float,
    callback: Callable[[int, float], None] | None,
) -> Solution:
    """L-BFGS that need not forget the curvature it has seen, for nothing is refreshed.

    Where it stalls it begins anew, once by a step downhill, and it ends where that gains nothing either.
    """
    flat, first, n_iter, converged = L.ravel(), 0, 0, False
    path = [value_and_gradient(flat)[0]]

    def report(value: float) -> None:
        path.append(value)
        if callback is not None:
            callback(n_iter, value)

    def after_step(intermediate_result: OptimizeResult) -> None:
        nonlocal n_iter
        n_iter += 1
        if (n_iter - first) % _STEPS_BETWEEN_REFRESHES == 0:
            report(float(intermediate_result.fun))
            if _stalled(path[-2], path[-1], tol):
                raise StopIteration

    while n_iter < max_iter and not converged:
        first, start = n_iter, path[-1]
        options = _quasi_newton_options(max_iter - n_iter, path[0])
        result = minimize(value_and_gradient, flat, jac=True, method="L-BFGS-B", options=options, callback=after_step)
        if not result.fun <= path[-1]:
            break
        flat = result.x
        if (n_iter - first) % _STEPS_BETWEEN_REFRESHES:
            report(float(result.fun))
        converged = n_iter == first or (n_iter < max_iter and _stalled(start, path[-1], tol))
    return Solution(flat.reshape(L.shape), path, max(n_iter, 1), converged)


def _stalled(before: float, after: float, tol: float) -> bool:
    return before - after <= tol * max(abs(before), 1e-12)


def minimize_stochastic(
    draw: Callable[[Array], MetricObjective],
    L: Array,
    *,
    learning_rate: float,
    max_iter: int,
    callback: Callable[[int, float], None] | None = None,
) -> Solution:
    """Minimise an expected objective over L by Adam on mini-batches, with a learning rate that falls to 0.

    Parameters
    ----------
    draw : callable
        Gives the objective of the next mini-batch, for the components that it gets.
    L : array of shape (k, d)
        Starting point.
    learning_rate : float
        Size of the first step in each entry of L, in units of the root mean square entry of the singular values of L.
    max_iter : int
        Steps.
    callback : callable, optional
        Called with the steps so far and the mean objective of the last ones.

    Returns
    -------
    Solution
        Its path holds means over the mini-batches of every twenty steps: it falls on the whole, but not always.

    References
    ----------
    Kingma & Ba (2015), *Adam: a method for stochastic optimization*, ICLR, arXiv 1412.6980.
    """
    L = L.copy()
    mean, square = np.zeros_like(L), np.zeros_like(L)
    size = np.linalg.norm(L) / np.sqrt(len(L)) or 1.0
    path: list[float] = []
    recent: list[float] = []
    for step in range(1, max_iter + 1):
        value, gradient = draw(L).in_components(L)
        mean += (1.0 - _ADAM_MEAN) * (gradient - mean)
        square += (1.0 - _ADAM_SQUARE) * (gradient**2 - square)
        unbiased = np.sqrt(square / (1.0 - _ADAM_SQUARE**step))
        direction = np.divide(mean, unbiased, out=np.zeros_like(L), where=unbiased > 0)
        rate = learning_rate * size * (1.0 - (step - 1) / max_iter)
        L -= rate / (1.0 - _ADAM_MEAN**step) * direction
        recent.append(value)
        if len(recent) == _STEPS_BETWEEN_REPORTS or step == max_iter:
            path.append(float(np.mean(recent)))
            recent.clear()
            if callback is not None:
                callback(step, path[-1])
    return Solution(L, path, max_iter, True)


def print_progress(learner: str) -> Callable[[int, float], None]:
    """A callback that prints the objective as it falls."""

    def report(n_iter: int, value: float) -> None:
        print(f"[{learner}] step {n_iter:4d}  objective {value:.6g}")

    return report
