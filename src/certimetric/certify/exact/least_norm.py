"""The smallest vector of a polyhedron ``{η : A η ≥ b}``, with multipliers that prove it is no smaller.

For any multipliers λ ≥ 0 and any feasible η, ``λᵀb ≤ λᵀAη ≤ ‖Aᵀλ‖_* ‖η‖``: so ``λᵀb / ‖Aᵀλ‖_*`` bounds ‖η‖ from below,
whatever the solver did. l2 is a quadratic program, solved here by a dual active-set method; l∞ and l1 are linear ones.
"""

from __future__ import annotations

import numba as nb
import numpy as np
from scipy.optimize import linprog

from certimetric.base.arrays import Array, Indices
from certimetric.base.rounding import INFLATED_UNIT

OPTIMAL, INFEASIBLE, OVER_LIMIT, STALLED = 0, 1, 2, 3

_FEASIBLE = 1e-13  # violation of a row of norm 1 that counts as none, relative to the largest right-hand side
_VIOLATED = 1e-9  # the same for linear programs, whose solver is no more exact, relative to the size of the solution
_ROWS_PER_ROUND = 8  # most violated rows that a linear program is given at a time
_TIGHT = {"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10}
_FAR = 1e6  # relative to the largest right-hand side
_REACH = 1e4  # relative to the smallest size that a linear program can have: what it is solved within at first
_DEPENDENT = 1e-12  # norm of what is left of a row of norm 1, below which it depends on the active rows


def least_norm(A: Array, b: Array, dual_order: float, tolerance: Array | None = None) -> tuple[Array | None, Array]:
    """Smallest η with ``A η ≥ b`` in the norm whose dual is the vector norm of order ``dual_order``.

    Parameters
    ----------
    A : array of shape (m, p)
    b : array of shape (m,)
    dual_order : {1, 2, inf}
        2 for l2, 1 for l∞, inf for l1.
    tolerance : array of shape (m,), optional
        By how much each row may be violated; without it, 1e-13 of the largest ``|b|``, rows taken to norm 1.

    Returns
    -------
    eta : array of shape (p,) or None
        None where there is no feasible vector (or where the solver failed).
    multipliers : array of shape (m,)
        λ ≥ 0 with ``λᵀb / ‖Aᵀλ‖_*`` equal to the norm of ``eta`` but for rounding; for l2, where there is no feasible
        vector, λ with ``Aᵀλ = 0 < λᵀb`` but for rounding.

    References
    ----------
    Goldfarb & Idnani (1983), *A numerically stable dual method for solving strictly convex quadratic programs*
    [goldfarb1983numerically], Mathematical Programming 27, for the identity Hessian.

    Examples
    --------
    >>> least_norm(np.array([[3.0, 4.0]]), np.array([10.0]), 2)[0].round(12)
    array([1.2, 1.6])
    >>> least_norm(np.array([[3.0, 4.0]]), np.array([7.0]), 1)[0].round(12)
    array([1., 1.])
    """
    sizes = np.linalg.norm(A, dual_order, axis=1)
    empty = sizes == 0
    multipliers = np.zeros(len(b))
    if (b[empty] > 0).any():
        multipliers[np.flatnonzero(empty & (b > 0))[0]] = 1.0
        return None, multipliers
    rows = np.flatnonzero(~empty)
    N, h = np.ascontiguousarray(A[rows] / sizes[rows, None]), b[rows] / sizes[rows]
    if tolerance is None:
        allowed = np.full(len(h), _FEASIBLE * np.abs(h).max(initial=0.0))
    else:
        allowed = tolerance[rows] / sizes[rows]
    if not (h > allowed).any():
        return np.zeros(A.shape[1]), multipliers
    if dual_order == 2:
        eta, used, found = solve_rows(N, h, allowed, 2, np.inf)
        multipliers[rows[used]] = found / sizes[rows[used]]
        return eta, multipliers
    eta, found = _linear_program(N, h, dual_order)
    multipliers[rows] = found / sizes[rows]
    return eta, multipliers


def _linear_program(N: Array, h: Array, dual_order: float) -> tuple[Array | None, Array]:
    """l∞: bound every |η_t| by one variable. l1: positive and negative parts."""
    m, p = N.shape
    if dual_order == 1:
        cost = np.append(np.zeros(p), 1.0)
        ones = np.ones((p, 1))
        rows = np.block([[-N, np.zeros((m, 1))], [np.eye(p), -ones], [-np.eye(p), -ones]])
        bounds = [(None, None)] * p + [(0, None)]
    else:
        cost, rows, bounds = np.ones(2 * p), np.hstack([-N, N]), [(0, None)] * (2 * p)
    # The solver's tolerances are absolute, so that the unit is the size that the tightest row asks for. What lies far
    # below zero does not bind a solution of about that size; if the solution turns out to be larger, so is the unit.
    unit, largest = float(h.max()), float(np.abs(h).max())
    while True:
        whole = largest <= _REACH * unit
        limits = np.concatenate([-np.maximum(h / unit, -_REACH), np.zeros(len(rows) - m)])
        result = linprog(cost, rows, limits, bounds=bounds, options=_TIGHT)
        if whole or (result.status == 0 and result.fun < 0.5 * _REACH):
            break
        unit = min(unit * _REACH, largest)
    if result.status != 0:
        return None, _infeasibility(N, h / largest, dual_order) if result.status == 2 else np.zeros(m)
    x = result.x * unit
    eta = x[:p] if dual_order == 1 else x[:p] - x[p:]
    return eta, np.maximum(-result.ineqlin.marginals[:m], 0.0)


def _infeasibility(N: Array, h: Array, dual_order: float) -> Array:
    """Multipliers λ of sum at most 1 with the largest ``λᵀh − 10⁶ ‖Nᵀλ‖_*``: positive where nothing is feasible."""
    m, p = N.shape
    if dual_order == 1:
        rows = np.block([[N.T, -np.eye(p)], [-N.T, -np.eye(p)]])
        cost = np.concatenate([-h, np.full(p, _FAR)])
    else:
        rows = np.block([[N.T, -np.ones((p, 1))], [-N.T, -np.ones((p, 1))]])
        cost = np.append(-h, _FAR)
    rows = np.vstack([rows, np.append(np.ones(m), np.zeros(rows.shape[1] - m))])
    result = linprog(cost, rows, np.append(np.zeros(2 * p), 1.0), bounds=(0, None))
    return np.asarray(result.x[:m]) if result.status == 0 else np.zeros(m)


def least_norm_in_rounds(
    N: Array, h: Array, dual_order: float, limit: float, tolerance: Array | None = None
) -> tuple[Array | None, Indices, Array]:
    """:func:`least_norm` for rows of dual norm 1 of which few bind: rows are added as they are violated.

    ``tolerance``, of shape (m,), is that of the whole problem, whichever rows a round takes.

    Returns
    -------
    eta : array of shape (p,) or None
        None where there is no solution, or none of norm below ``limit``.
    rows, multipliers : arrays
        Multipliers of some rows, which prove what ``eta`` says.
    """
    if tolerance is None:
        tolerance = np.full(len(h), _FEASIBLE * np.abs(h).max(initial=0.0))
    rows = np.argsort(-h, kind="stable")[: 2 * _ROWS_PER_ROUND]
    if not (h > tolerance).any():
        return np.zeros(N.shape[1]), rows, np.zeros(len(rows))
    while True:
        eta, multipliers = least_norm(N[rows], h[rows], dual_order, tolerance[rows])
        size = np.inf if eta is None else float(np.linalg.norm(eta, np.inf if dual_order == 1 else 1))
        if eta is None or size >= limit:
            return None, rows, multipliers
        violation = h - N @ eta - tolerance
        violation[rows] = 0.0
        worst = np.argsort(-violation, kind="stable")[:_ROWS_PER_ROUND]
        worst = worst[violation[worst] > _VIOLATED * size]
        if not len(worst):
            return eta, rows, multipliers
        rows = np.concatenate([rows, worst])


def solve_rows(
    N: Array, h: Array, tolerance: Array, dual_order: float, limit: float
) -> tuple[Array | None, Indices, Array]:
    """Smallest η below ``limit`` with ``N η ≥ h``, if there is one, the rows that prove it and their multipliers."""
    if dual_order != 2:
        return least_norm_in_rounds(N, h, dual_order, limit, tolerance)
    p = N.shape[1]
    eta, active, u = np.empty(p), np.empty(p + 1, dtype=np.int64), np.empty(p + 1)
    work = np.empty((2 * (p + 1) + 3, p + 1))
    status, q = least_distance(N, h, tolerance, len(h), limit, eta, active, u, work)
    return eta if status == OPTIMAL else None, active[:q], u[:q]


@nb.njit(cache=True, nogil=True)
def least_distance(N, h, tolerance, m, limit, eta, active, u, work):
    """Dual active-set method for ``min ‖η‖₂ s.t. N η ≥ h`` with the first ``m`` rows of N, each of norm 1.

    A row counts as met where it is violated by no more than its ``tolerance`` and the rounding of η. Every iterate is
    the solution of a relaxation, so that the search ends as soon as ‖η‖ reaches ``limit``. Fills ``eta``, ``active``
    and ``u`` (multipliers of the active rows) and gives the status and the number of active rows.
    """
    p = N.shape[1]
    Q = work[: p + 1]  # row i is the i-th orthonormal vector of the span of the active rows
    R = work[p + 1 : 2 * (p + 1)]  # active row i is Σ_t R[i, t] Q[t], lower triangular
    z, w, r = work[2 * p + 2], work[2 * p + 3], work[2 * p + 4]
    for t in range(p):
        eta[t] = 0.0
    q = 0
    rounding = 0.0  # of the product of η and a row
    for _ in range(40 * (p + 10)):
        worst = _most_violated(N, h, tolerance, m, eta, rounding)
        if worst < 0:
            return OPTIMAL, q
        row = N[worst]
        new = 0.0
        while True:
            _orthogonalise(row, Q, q, z, w, p)
            left = 0.0
            for t in range(p):
                left += z[t] * z[t]
            # r: the new row's projection in terms of the active rows, Rᵀ r = w.
            for i in range(q - 1, -1, -1):
                total = w[i]
                for k in range(i + 1, q):
                    total -= R[k, i] * r[k]
                r[i] = total / R[i, i]
            partial, blocking = np.inf, -1
            for i in range(q):
                if r[i] > 1e-14 and u[i] / r[i] < partial:
                    partial, blocking = u[i] / r[i], i
            full = np.inf
            if q < p and left > _DEPENDENT * _DEPENDENT:
                gap = h[worst]
                for t in range(p):
                    gap -= row[t] * eta[t]
                full = max(gap, 0.0) / left
            if full == np.inf and partial == np.inf:
                # A combination of rows that vanishes has a positive right-hand side: its multipliers say so.
                for i in range(q):
                    u[i] = max(-r[i], 0.0)
                if q < p + 1:
                    active[q] = worst
                    u[q] = 1.0
                    q += 1
                return INFEASIBLE, q
            step = min(partial, full)
            for i in range(q):
                u[i] -= step * r[i]
            new += step
            if full < np.inf:
                for t in range(p):
                    eta[t] += step * z[t]
            if full <= partial:
                norm = np.sqrt(left)
                for t in range(p):
                    Q[q, t] = z[t] / norm
                for i in range(q):
                    R[q, i] = w[i]
                R[q, q] = norm
                active[q] = worst
                u[q] = new
                q += 1
                break
            # Drop the row whose multiplier has become zero; what follows it is orthogonalised anew.
            for i in range(blocking, q - 1):
                active[i] = active[i + 1]
                u[i] = u[i + 1]
            q -= 1
            for i in range(blocking, q):
                _orthogonalise(N[active[i]], Q, i, z, w, p)
                norm = 0.0
                for t in range(p):
                    norm += z[t] * z[t]
                norm = np.sqrt(norm)
                for t in range(p):
                    Q[i, t] = z[t] / norm
                for k in range(i):
                    R[i, k] = w[k]
                R[i, i] = norm
        # η = Σ u n holds exactly for the solution of a relaxation: keep rounding from adding up.
        size, weights = 0.0, 0.0
        for t in range(p):
            eta[t] = 0.0
        for i in range(q):
            u[i] = max(u[i], 0.0)
            weights += u[i]
            for t in range(p):
                eta[t] += u[i] * N[active[i], t]
        for t in range(p):
            size += eta[t] * eta[t]
        rounding = (p + q + 4) * INFLATED_UNIT * weights
        if size >= limit * limit:
            return OVER_LIMIT, q
    return STALLED, q


@nb.njit(cache=True, nogil=True, fastmath={"contract", "reassoc"})
def _most_violated(N, h, tolerance, m, eta, rounding):
    worst, largest = -1, rounding
    for j in range(m):
        value = 0.0
        for t in range(eta.shape[0]):
            value += N[j, t] * eta[t]
        if h[j] - value - tolerance[j] > largest:
            worst, largest = j, h[j] - value - tolerance[j]
    return worst


@nb.njit(cache=True, nogil=True)
def _orthogonalise(row, Q, q, z, w, p):
    """z = row − Q Qᵀ row and w = Qᵀ row, by two passes of Gram–Schmidt."""
    for t in range(p):
        z[t] = row[t]
    for i in range(q):
        w[i] = 0.0
    for _ in range(2):
        for i in range(q):
            product = 0.0
            for t in range(p):
                product += Q[i, t] * z[t]
            w[i] += product
            for t in range(p):
                z[t] -= product * Q[i, t]
