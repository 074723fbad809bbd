"""The shared solvers: descent over components, with active sets that follow the metric, or by mini-batches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import OptimizeResult, minimize

from certimetric.base.arrays import Array
from certimetric.objectives.gradient import ActiveSetTerm, MetricObjective

_STEPS_BETWEEN_REFRESHES = 10
_STEPS_BETWEEN_SEARCHES = 30  # of estimates, whose searches cost more than steps
_STEP_OF_RESOLUTION = 0.05  # the share of what an estimate can tell that a step should gain
_STEPS_BETWEEN_REPORTS = 20
_STEPS_REMEMBERED = 20  # by a quasi-Newton method,
_STEPS_TO_A_GAP = 6  # and by one that ends at a gap, after few steps
_LEAST_GAIN = 1e-11  # of ten steps, as a fraction: less is rounding, however far above its minimum an objective may be
_NO_STEP = 1e-10  # relative change of components that is rounding
_ADAM_MEAN, _ADAM_SQUARE = 0.9, 0.999  # what the running moments keep at a step
_LARGEST_DRIFT = 0.5  # mean of the gradient over its root mean square, at which mini-batches have converged


@dataclass(frozen=True)
class Solution:
    """Where a solver stopped, and why.

    Parameters
    ----------
    components : array of shape (k, d)
    path : list of float
        Of quasi-Newton methods the true objective at the start and after each round, which never rises. Of mini-batches
        means over the batches of several steps, which fall on the whole but may rise.
    n_iter : int
        Steps.
    converged : bool
        Whether more steps would have gained less than the tolerance; of mini-batches, whether the gradient has no
        direction left that stands out of its noise.
    reason : str
        What a warning should say after the name of the learner: why it did not converge, or that it did not move.
        Empty where all is well.
    """

    components: Array
    path: list[float]
    n_iter: int
    converged: bool
    reason: str = ""


def minimize_components(
    objective: MetricObjective,
    L: Array,
    *,
    max_iter: int,
    tol: float,
    callback: Callable[..., None] | None = None,
    gap: Callable[[Array, Array], float] | None = None,
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
        Stop when a round, or ten steps, lower the true objective by less than this fraction. With a ``gap``, when the
        objective is at most this fraction above its minimum.
    callback : callable, optional
        Called with the steps so far and the true objective after every round or ten steps, and with what bounds its
        minimum from below where there is a ``gap``.
    gap : callable, optional
        For an objective of at least 0 without active sets: of components and the gradient there, how far it lies above
        its minimum at most.
    """
    shape = L.shape

    def value_and_gradient(flat: Array) -> tuple[float, Array]:
        value, gradient = objective.in_components(flat.reshape(shape))
        return value, gradient.ravel()

    if not any(isinstance(term, ActiveSetTerm) for term in objective.terms):
        return _minimize_smooth(value_and_gradient, L, max_iter, tol, callback, gap)
    objective.refresh(L)
    seen, slope = objective.in_components(L)
    path, start = [objective.true_value(L)], L
    resolution = objective.resolution(L)
    n_iter, converged = 0, False
    round_length = _STEPS_BETWEEN_REFRESHES if resolution == 0 else _STEPS_BETWEEN_SEARCHES
    while n_iter < max_iter and not converged:
        steps = min(round_length, max_iter - n_iter)
        options = _quasi_newton_options(steps, path[0], resolution)
        result = minimize(value_and_gradient, L.ravel(), jac=True, method="L-BFGS-B", options=options)
        proposal, taken, fell_to = result.x.reshape(shape), int(result.nit), float(result.fun)
        del result  # and with it all steps that the method remembers, before neighbours are searched
        n_iter += max(taken, 1)
        objective.refresh(proposal)
        value = objective.true_value(proposal)
        resolution = objective.resolution(proposal)
        if not value <= path[-1]:
            if value - path[-1] <= resolution * abs(path[-1]):  # an estimate tells no more
                converged = True
                break
            if not objective.widen():
                if round_length == 1:  # where not even a step lowers it, the true objective has a minimum
                    converged = True
                    break
                round_length //= 2
            objective.refresh(L)
            seen = objective.in_components(L)[0] if resolution else value
            continue
        L = proposal
        # With nothing left to gain on its lists, and the lists having told the truth, an estimate needs no other round.
        told = abs((seen - fell_to) - (path[-1] - value)) <= resolution * abs(value)
        converged = _stalled(path[-1], value, max(tol, resolution)) or (told and resolution > 0 and taken < steps)
        seen = objective.in_components(L)[0] if resolution else value
        path.append(value)
        if callback is not None:
            callback(n_iter, value)
    return solution_of(start, slope, L, path, n_iter, converged, max_iter)


def solution_of(
    start: Array,
    slope: Array,
    L: Array,
    path: list[float],
    n_iter: int,
    converged: bool,
    max_iter: int,
    least: float | None = None,
) -> Solution:
    """The solution of a quasi-Newton method that went from ``start``, where the gradient was ``slope``, to L, with what
    is known to bound the minimum from below."""
    reason = ""
    if not has_moved(start, L):
        converged = False
        if np.any(slope):
            why = f"no step from its starting point lowers the objective, {path[0]:.6g}"
        else:
            why = (
                f"no pair or triplet of instances is active at its starting point, where the objective is {path[0]:.6g}"
            )
        reason = f"did not move: {why}; scale each feature to unit variance, or start from another point"
    elif not converged and least is not None:
        why, remedy = (f" in max_iter={max_iter} steps", "max_iter or tol") if n_iter >= max_iter else ("", "tol")
        reason = (
            f"did not converge{why}: its objective is {path[-1]:.4g}, the minimum may be {least:.4g}; raise {remedy}"
        )
    elif not converged and n_iter >= max_iter:
        reason = f"did not converge in max_iter={max_iter} steps, from {path[0]:.6g} to {path[-1]:.6g}; raise max_iter"
    elif not converged:
        reason = f"did not converge: no step lowers the objective below {path[-1]:.6g}"
    elif not L.any():
        reason = "ended at the metric 0, under which all instances are equal"
    return Solution(L, path, n_iter, converged, reason)


def has_moved(start: Array, L: Array) -> bool:
    """Whether components differ from those of the start by more than the rounding of a gradient makes of no step.

    Examples
    --------
    >>> has_moved(np.eye(2), np.eye(2) * (1.0 + 1e-15)), has_moved(np.eye(2), np.eye(2) * 1.001)
    (False, True)
    """
    return bool(np.linalg.norm(L - start) > _NO_STEP * np.linalg.norm(start))


def _quasi_newton_options(
    steps: int, value: float, resolution: float = 0.0, remembered: int = _STEPS_REMEMBERED
) -> dict[str, float]:
    ftol = max(1e-12, _STEP_OF_RESOLUTION * resolution)
    return {"maxiter": steps, "maxcor": min(steps, remembered), "ftol": ftol, "gtol": 1e-10 * max(abs(value), 1e-12)}


def _minimize_smooth(
    value_and_gradient: Callable[[Array], tuple[float, Array]],
    L: Array,
    max_iter: int,
    tol: float,
    callback: Callable[..., None] | None,
    gap: Callable[[Array, Array], float] | None,
) -> Solution:
    """L-BFGS that need not forget the curvature it has seen, for nothing is refreshed.

    Where it stalls it begins anew, once by a step downhill, and it ends where that gains nothing either.
    """
    flat, first, n_iter, converged = L.ravel(), 0, 0, False
    value, slope = value_and_gradient(flat)
    path, gradient, least = [value], slope, 0.0
    stall = tol if gap is None else _LEAST_GAIN

    def remembered(x: Array) -> tuple[float, Array]:
        nonlocal gradient
        if n_iter == 0 and np.array_equal(x, flat):  # where it was taken before
            return path[0], slope
        value, gradient = value_and_gradient(x)
        return value, gradient

    def report(value: float) -> None:
        path.append(value)
        if callback is not None:
            callback(n_iter, value, *(() if gap is None else (least,)))

    def after_step(intermediate_result: OptimizeResult) -> None:
        nonlocal n_iter, least, converged
        n_iter += 1
        value = float(intermediate_result.fun)
        if gap is not None:  # a step ends where the gradient was taken last
            least = max(least, value - gap(intermediate_result.x.reshape(L.shape), gradient.reshape(L.shape)))
            converged = value - least <= tol * least
        if told := (n_iter - first) % _STEPS_BETWEEN_REFRESHES == 0:
            report(value)
        if converged or (told and _stalled(path[-2], path[-1], stall)):
            raise StopIteration

    while n_iter < max_iter and not converged:
        first, start = n_iter, path[-1]
        remember = _STEPS_REMEMBERED if gap is None else _STEPS_TO_A_GAP
        options = _quasi_newton_options(max_iter - n_iter, path[0], remembered=remember)
        result = minimize(remembered, flat, jac=True, method="L-BFGS-B", options=options, callback=after_step)
        ended = not result.fun <= path[-1]
        if ended:  # begun anew, it took no step, and its start rounds to a little more than where it had stalled
            stalled = 0 < first == n_iter and bool(np.isfinite(result.fun))
        else:
            flat = result.x
            if (n_iter - first) % _STEPS_BETWEEN_REFRESHES:
                report(float(result.fun))
            ended = stalled = n_iter == first or (n_iter < max_iter and _stalled(start, path[-1], stall))
        converged = converged or (stalled and gap is None)
        if ended:
            break
    bound = None if gap is None else least
    return solution_of(L, slope, flat.reshape(L.shape), path, max(n_iter, 1), converged, max_iter, bound)


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
        Its path holds means over the mini-batches of every twenty steps: it falls on the whole, but not always. It has
        converged if the running mean of the gradient is at most half its running root mean square: one direction alone
        would make them equal, noise about a minimum leaves less than a quarter.

    References
    ----------
    Kingma & Ba (2015), *Adam: a method for stochastic optimization*, ICLR, arXiv 1412.6980 [kingma2014adam].
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
    drift = float(np.linalg.norm(mean) / (1.0 - _ADAM_MEAN**max_iter))
    noise = float(np.sqrt(square.sum() / (1.0 - _ADAM_SQUARE**max_iter)))
    converged, reason = 0 < drift <= _LARGEST_DRIFT * noise, ""
    if not drift > 0:
        reason = "did not move: no pair or triplet of instances is active in any mini-batch"
    elif not converged:
        reason = f"did not converge in max_iter={max_iter} steps of mini-batches; raise max_iter or learning_rate"
    return Solution(L, path, max_iter, converged, reason)


def print_progress(learner: str) -> Callable[..., None]:
    """A callback that prints the objective as it falls, and what bounds its minimum from below if that is known."""

    def report(n_iter: int, value: float, least: float | None = None) -> None:
        bound = "" if least is None else f", at least {least:.6g}"
        print(f"[{learner}] step {n_iter:4d}  objective {value:.6g}{bound}")

    return report
