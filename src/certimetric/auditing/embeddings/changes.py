"""The smallest change of a query's embedding that puts another class first: exact, whatever the size of the gallery."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from certimetric.certify.exact.minimal import smallest_changes
from certimetric.certify.radius import PredictedQueries
from certimetric.certify.reference import ReferenceSet
from certimetric.geometry import MahalanobisMetric
from certimetric.geometry.norms import resolve_norm

if TYPE_CHECKING:
    from certimetric.auditing.embeddings.seen import Seen

_WHOLE = 20_000  # items of a gallery that is looked at as a whole
_NEAR, _MORE = 1024, 8  # items near each query that are looked at first, and how many times more each time after


def smallest(seen: Seen, hit: NDArray[np.bool_]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The size of the change, 0 where another class is first already, and the changed queries.

    Of a large gallery the items near each query are looked at. Let the nearest item be at distance d, and all that are
    not looked at be at D or farther. A query that is moved by r ≤ (D − d) / 2 has an item at d + r or nearer, and none
    of those within D − r ≥ d + r: what comes first is decided by the items that were looked at. A smallest change among
    them that is no larger is therefore that of the whole gallery; else more items are looked at.
    """
    rows = np.flatnonzero(hit)
    radii, changed = np.zeros(len(hit)), np.array(seen.points, dtype=np.float64)
    by_query = _near if len(seen.gallery) > _WHOLE else _whole
    for where, found_radii, found in by_query(seen, rows):
        radii[where], changed[where] = found_radii, found
    return radii, changed


def _changes(seen: Seen, items: Any, points: Any, exclude: Any = None, n_jobs: int = 1) -> Any:
    """Smallest changes among some of the gallery's items."""
    k = seen.gallery.shape[1]
    reference = ReferenceSet(MahalanobisMetric(np.eye(k)), seen.gallery[items], seen.gallery_labels[items])
    queries = PredictedQueries.of(reference, points.astype(np.float64), 1, exclude=exclude, n_jobs=n_jobs)
    norm = resolve_norm("l2")
    # The last coordinate of items that are compared by inner product is none of the query's.
    return smallest_changes(queries, norm.restrict(np.arange(k) < k - 1) if seen.metric == "dot" else norm)


def _whole(seen: Seen, rows: Any) -> Any:
    from certimetric.deep.retrieval.same_pictures import apart

    for part, kept, exclude in apart(seen.keys[rows], seen.gallery_keys):
        found = _changes(seen, kept, seen.points[rows[part]], exclude, os.cpu_count() or 1)
        yield rows[part], found.lower, found.witnesses


def _near(seen: Seen, rows: Any) -> Any:
    import torch

    from certimetric.deep.ranking.ranks import nearest

    k = _NEAR
    while len(rows):
        sides = seen.points[rows], seen.keys[rows], seen.gallery, seen.gallery_keys
        near = nearest(*map(torch.from_numpy, sides), k).numpy()
        left = []
        for row, items in zip(rows, near):
            all_of_them = k > near.shape[1]  # fewer than were asked for are the whole gallery
            several = len(np.unique(seen.gallery_labels[items])) > 1
            if not several and not all_of_them:
                left.append(row)
                continue
            if not several:
                yield row, np.inf, seen.points[row]
                continue
            ends = np.linalg.norm(seen.gallery[items[[0, -1]]].astype(float) - seen.points[row], axis=1)
            found = _changes(seen, items, seen.points[row][None])
            if all_of_them or found.radii[0] <= (ends[1] - ends[0]) / 2 * (1 - 1e-12):
                yield row, found.lower[0], found.witnesses[0]
            else:
                left.append(row)
        rows, k = np.array(left, dtype=np.int64), _MORE * k
