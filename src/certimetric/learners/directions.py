"""Bases of SCML: unit directions, of which a metric is a weighted sum of few."""

from __future__ import annotations

from functools import partial

import numpy as np
from sklearn.cluster import KMeans

from certimetric.base.arrays import Array, Indices
from certimetric.base.lazy_rows import LazyRows
from certimetric.constraints.neighbors import class_members, nearest_of_parts, neighbors_among
from certimetric.geometry.neighbors import nearest_neighbors
from certimetric.learners.starts import discriminant_directions

_NEIGHBORHOODS = (10, 20, 50)  # instances per class that a local discriminant sees


def basis_size(d: int) -> int:
    """How many directions a basis for d features has by default."""
    return int(np.clip(10 * d, 100, 1000))


def local_discriminants(
    X: Array | LazyRows, y: Indices, n_basis: int, rng: np.random.RandomState, *, n_jobs: int = 1
) -> Array:
    """Unit directions that separate the classes in neighbourhoods spread over the data.

    Parameters
    ----------
    X : array of shape (n, d) or LazyRows
        Rows in a Dask array are searched on its workers; those of the neighbourhoods are gathered.
    y : int array of shape (n,)
    n_basis : int
    rng : RandomState
    n_jobs : int
        Threads.

    Returns
    -------
    basis : array of shape (n_basis, d)
    """
    members = class_members(y)
    n_directions = min(len(members) - 1, X.shape[1])
    n_regions = max(1, -(-n_basis // (n_directions * len(_NEIGHBORHOODS))))
    if n_regions < len(X):
        # A few thousand instances place the regions as well as all of them.
        sample = X[np.arange(len(X)) if len(X) <= 3000 else rng.choice(len(X), 3000, replace=False)]
        seed = rng.randint(np.iinfo(np.int32).max)
        centers = KMeans(min(n_regions, len(np.unique(sample, axis=0))), n_init=1, max_iter=20, random_state=seed)
        anchors = centers.fit(sample).cluster_centers_
    else:
        anchors = X[np.arange(len(X))]
    directions = []
    for size in _NEIGHBORHOODS:
        # (regions, size) of every class, so that each neighbourhood sees all classes.
        near = [_nearest_of_class(X, y, own, anchors, min(size, len(own)), n_jobs) for own in members]
        used = np.unique(np.concatenate([indices.ravel() for indices in near]))
        few, near = X[used], [np.searchsorted(used, indices) for indices in near]
        for region in range(len(anchors)):
            rows = [indices[region] for indices in near]
            directions.append(_discriminants(few, rows, n_directions))
    basis = np.concatenate(directions)
    length = np.linalg.norm(basis, axis=1)
    basis = basis[length > 0] / length[length > 0, None]
    if len(basis) < n_basis:  # small data: the axes are always worth having
        basis = np.concatenate([basis, np.eye(X.shape[1])])
    keep = rng.permutation(len(basis))[:n_basis]
    return np.ascontiguousarray(basis[np.sort(keep)])


def _nearest_of_class(X: Array | LazyRows, y: Indices, members: Indices, points: Array, k: int, n_jobs: int) -> Indices:
    """The k members of a class that are nearest to points, (m, k)."""
    if not isinstance(X, LazyRows):
        return members[nearest_neighbors(points, X[members], k, n_jobs=n_jobs)[0]]
    of_class, nobody = np.full(len(points), y[members[0]]), np.full(len(points), -1)
    asked = partial(neighbors_among, points, of_class, nobody, k, 0)
    return np.asarray(X.reduce(asked, partial(nearest_of_parts, k), y)[0])


def _discriminants(X: Array, rows: list[Indices], n_directions: int) -> Array:
    """Leading directions of between-class against within-class scatter, shape (n_directions, d)."""
    means = np.stack([X[some].mean(axis=0) for some in rows])
    within = np.concatenate([X[some] - mean for some, mean in zip(rows, means)])
    between = means - means.mean(axis=0)
    d = X.shape[1]
    S = within.T @ within / len(within)
    # Few instances a neighbourhood: shrink towards a multiple of the identity.
    S = 0.9 * S + 0.1 * max(np.trace(S) / d, 1e-12) * np.eye(d)
    return discriminant_directions(S, between, n_directions)


def triplet_directions(X: Array, triplets: Indices, n_basis: int, rng: np.random.RandomState) -> Array:
    """Unit directions from instances to impostors, in the whitened space of the target pairs."""
    i, _, l = triplets[rng.permutation(len(triplets))[:n_basis]].T
    pull = X[triplets[:, 0]] - X[triplets[:, 1]]
    d = X.shape[1]
    S = pull.T @ pull / len(pull)
    S = 0.9 * S + 0.1 * max(np.trace(S) / d, 1e-12) * np.eye(d)
    basis = np.linalg.solve(S, (X[l] - X[i]).T).T
    basis = np.concatenate([basis, np.eye(d)])
    length = np.linalg.norm(basis, axis=1)
    return np.ascontiguousarray(basis[length > 0] / length[length > 0, None])
