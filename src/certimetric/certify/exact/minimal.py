"""Minimal perturbation of nearest-neighbour predictions: exact for 1-NN, exact or bracketed for k-NN."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from certimetric.base.arrays import Indices
from certimetric.certify.exact.nearby import over_what_is_near
from certimetric.certify.exact.nearest_flip import nearest_flips
from certimetric.certify.exact.order_k import nearest_flips_of_votes
from certimetric.certify.exact.witnesses import MinimalPerturbation, is_proven
from certimetric.certify.radius import MEMORY_MB, PredictedQueries, prepare_queries
from certimetric.certify.reference import power_of_two_times
from certimetric.geometry.features import feature_names, names_of
from certimetric.geometry.norms import Norm, resolve_norm
from certimetric.geometry.threat_models import BoundThreat, ThreatModel, resolve_threat

TIME_LIMIT = 1.0  # seconds a query, k > 1


def minimal_perturbation(
    metric: Any,
    X_train: ArrayLike,
    y_train: ArrayLike,
    X: ArrayLike | None = None,
    norm: Any = "l2",
    *,
    n_neighbors: int = 1,
    threat: ThreatModel | str | None = None,
    time_limit: float = TIME_LIMIT,
    node_limit: float = np.inf,
    memory_mb: int = MEMORY_MB,
    n_jobs: int | None = None,
) -> MinimalPerturbation:
    """Smallest change of each query that changes its k-NN prediction, and the changed query.

    For k = 1 it is exact but for rounding: opponent l becomes the nearest by the smallest δ with ::

        2 δᵀM(x_l − x_j) ≥ d²(x, x_l) − d²(x, x_j)    for all j of the predicted class,

    a quadratic program for l2 and ellipsoid norms and a linear one for l∞ and l1; the radius is the least over all l.
    Bounds discard all but one or two of them. For k > 1 sets of k neighbours are searched by branch and bound, with a
    time limit: where it runs out, ``radii`` are upper bounds, ``lower`` are lower ones, and ``proven`` is False. Of
    many training instances it looks at those that can be neighbours after such a change: which they are is proven.

    Parameters
    ----------
    metric : MahalanobisMetric or fitted learner
    X_train : array-like of shape (n, d)
    y_train : array-like of shape (n,)
        Labels.
    X : array-like of shape (m, d), optional
        Queries; without it, every training instance is a query that does not see itself (leave-one-out).
    norm : {"l2", "linf", "l1"}, array-like of shape (d, d) or Norm, default="l2"
        How a perturbation is measured; a matrix A stands for ``√(δᵀAδ)``, and ``norm.restrict(mutable)`` leaves some
        features unchanged.
    n_neighbors : int, default=1
        k.
    threat : ThreatModel or str, default=None
        What may change, in place of ``norm``: bounded, one-directional, whole and one-hot features are searched exactly
        by branch and bound, for k = 1 too. Of changes beyond its ``eps`` nothing is said.
    time_limit : float, default=1.0
        Seconds for each query where k > 1, or where a threat model limits features; of more than 5,000 training
        instances, of each of the few searches that it takes.
    node_limit : int, default=inf
        Nodes of the search likewise: unlike seconds, it gives the same answer on every machine.
    memory_mb : int, default=64
        MiB for blocks of distances.
    n_jobs : int, default=None
        Threads (k = 1); None for 1, −1 for all cores.

    Returns
    -------
    result : MinimalPerturbation
        Unpacks as ``radii, witnesses``; it also holds proven lower bounds, below which no change of any attack
        leads to another prediction (``docs/exact.md`` says what is promised).

    Raises
    ------
    ValueError
        If ``n_neighbors`` exceeds the number of training instances, the features do not match, the time limit is
        not positive, or a query is outside of what the threat model allows.

    References
    ----------
    The programs for k = 1 are those of Wang et al., *Provably robust metric learning*, arXiv 2006.07024
    [wang2020provably]; regions of k-NN as in Sitawarin et al. (GeoAdEx), arXiv 2011.09719 [sitawarin2020adversarial].

    Examples
    --------
    >>> from certimetric import MahalanobisMetric
    >>> metric = MahalanobisMetric.from_matrix([[1.0]])
    >>> radii, witnesses = minimal_perturbation(metric, [[0.0], [4.0]], ["a", "b"], [[1.0], [2.5]])
    >>> radii.round(9), witnesses.round(4)
    (array([1. , 0.5]), array([[2.], [2.]]))
    """
    if threat is not None and not (isinstance(norm, str) and norm == "l2"):
        raise ValueError("a change is measured by norm or by the norm of threat: give one of them, got both")
    norm = resolve_norm(norm)
    reference, X, options = prepare_queries(metric, X_train, y_train, X, n_neighbors, memory_mb, n_jobs)
    queries = PredictedQueries.of(reference, X, n_neighbors, **options)
    limits: dict[str, Any] = {"time_limit": time_limit, "node_limit": node_limit}
    if threat is None:
        return smallest_changes(queries, norm, **limits)
    names = names_of(metric) or feature_names(X_train)
    bound = resolve_threat(threat).bind(queries.X.shape[1], names)
    return smallest_changes(queries, bound.norm, threat=bound, **limits)


def smallest_changes(
    queries: PredictedQueries,
    norm: Norm,
    *,
    threat: BoundThreat | None = None,
    wanted: Indices | None = None,
    time_limit: float = TIME_LIMIT,
    node_limit: float = np.inf,
) -> MinimalPerturbation:
    """The same for queries that were predicted (see :func:`minimal_perturbation`).

    With ``wanted``, class codes or −1 for any, shape (m,), a change has to lead to these; then, and under a threat
    model of whole features, ties do not count as changes, and every witness is verified.
    """
    if not time_limit > 0:
        raise ValueError(f"time_limit must be a positive number of seconds, got {time_limit!r}")
    if not node_limit >= 0:
        raise ValueError(f"node_limit must not be negative, got {node_limit!r}")
    if threat is not None:
        threat.check_instances(queries.X)
        norm = norm.restrict(threat.mutable)
    norm, exponent = queries.reference.in_range(norm)
    if threat is not None and not threat.limited and threat.eps is None and wanted is None:
        threat = None  # the norm says what is left of it
    if threat is None and wanted is None and queries.k == 1:
        found = nearest_flips(queries, norm)
    else:
        eps = np.inf if threat is None or threat.eps is None else float(np.ldexp(threat.eps, -exponent))

        def find(some: PredictedQueries, of: Indices) -> MinimalPerturbation:
            aims = None if wanted is None else wanted[of]
            return nearest_flips_of_votes(some, norm, time_limit, node_limit, threat, aims, eps)

        found = over_what_is_near(queries, norm, find, wanted, eps)
    # A radius is the length of dual coordinates: that of the change itself is larger where a matrix was factored.
    with np.errstate(over="ignore"):  # no number is as large
        radii, tolerance = (np.ldexp(s, exponent) for s in (found.radii * norm.distortion, found.tolerance))
    lower = power_of_two_times(found.lower, exponent)
    proven = found.proven & is_proven(radii, lower)
    return replace(found, radii=radii, lower=lower, proven=proven, tolerance=tolerance)
