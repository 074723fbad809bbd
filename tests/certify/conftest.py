"""A second, slow way to the smallest step into a polyhedron, with solvers of scipy and a formulation of its own."""

from contextlib import contextmanager

import numpy as np
import pytest
from scipy.optimize import linprog, nnls


def smallest_step(A, b, norm):
    """Size of the smallest δ with ``A δ ≥ b`` in the l2, l∞ or l1 norm; infinity if there is none."""
    A, b = A[np.abs(A).max(axis=1) > 0], b[np.abs(A).max(axis=1) > 0]
    d = A.shape[1]
    if not (b > 0).any():
        return 0.0
    if norm == "l2":  # Lawson & Hanson (1974), chapter 23: least-distance programming
        target = np.append(np.zeros(d), 1.0)
        E = np.vstack([A.T, b])
        residual = E @ nnls(E, target, maxiter=100_000)[0] - target
        return np.inf if abs(residual[-1]) < 1e-9 else float(np.linalg.norm(residual[:-1] / residual[-1]))
    if norm == "linf":
        bounds = np.ones((len(A), 1)) * 0
        rows = np.vstack([np.hstack([-A, bounds]), np.hstack([np.eye(d), -np.ones((d, 1))])])
        rows = np.vstack([rows, np.hstack([-np.eye(d), -np.ones((d, 1))])])
        result = linprog(np.append(np.zeros(d), 1.0), rows, np.concatenate([-b, np.zeros(2 * d)]), bounds=(None, None))
    else:
        rows = np.vstack([np.hstack([-A, np.zeros((len(A), d))]), np.hstack([np.eye(d), -np.eye(d)])])
        rows = np.vstack([rows, np.hstack([-np.eye(d), -np.eye(d)])])
        cost = np.append(np.zeros(d), np.ones(d))
        result = linprog(cost, rows, np.concatenate([-b, np.zeros(2 * d)]), bounds=(None, None))
    return float(result.fun) if result.status == 0 else np.inf


@pytest.fixture(scope="session", name="smallest_step")
def smallest_step_fixture():
    return smallest_step


def binding_opponents(knn, norm, X):
    """Of every query the training instance whose constraint binds its radius, by the formula; −1 for none."""
    reference, k, found = knn.reference_, knn.n_neighbors, np.full(len(X), -1)
    points, _ = reference.embed(X)
    for i, predicted in enumerate(reference.predict(points, k)):
        squared = ((points[i] - reference.points) ** 2).sum(axis=1)
        own, others = np.flatnonzero(reference.y == predicted), np.flatnonzero(reference.y != predicted)
        if len(own) > k // 2 and len(others) >= (k + 1) // 2:
            gaps = np.maximum(squared[others][:, None] - squared[own], 0.0)
            v = (reference.points[others][:, None] - reference.points[own]) @ reference.metric.components
            with np.errstate(divide="ignore", invalid="ignore"):
                bounds = np.where(gaps > 0, gaps / (2 * norm.dual_norm(v)), 0.0)
            bounds = np.sort(bounds, axis=1)[:, -(k // 2 + 1)]
            found[i] = others[np.argsort(bounds, kind="stable")[(k + 1) // 2 - 1]]
    return found


@pytest.fixture(scope="session", name="binding_opponents")
def binding_opponents_fixture():
    return binding_opponents


@pytest.fixture
def smallest_blocks(monkeypatch):
    """A context in which ``memory_mb`` are bytes, so that every block of distances is a row."""

    @contextmanager
    def context():
        with monkeypatch.context() as patch:
            patch.setattr("certimetric.certify.radius.MIB", 1)
            yield

    return context
