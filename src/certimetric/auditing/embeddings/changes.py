"""The smallest change of a query's embedding that puts another class first: exact, whatever the size of the gallery."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from certimetric.base.arrays import Array
from certimetric.certify.exact.minimal import smallest_changes
from certimetric.certify.radius import PredictedQueries
from certimetric.certify.reference import ReferenceSet
from certimetric.geometry import MahalanobisMetric
from certimetric.geometry.norms import resolve_norm

if TYPE_CHECKING:
    from certimetric.auditing.embeddings.seen import Seen

_WHOLE = 20_000  # items of a gallery that is looked at as a whole
_OPPONENTS, _MORE = 256, 8  # of each query that are looked at first, and how many times more each time after
_FRIENDS = 4096  # of each query that are looked at first, and those that are found wanting after
_MEMORY = 2**24  # numbers that are held together


def smallest(seen: Seen, hit: NDArray[np.bool_]) -> tuple[Array, Array]:
    """The size of the change, 0 where another class is first already, and the changed queries.

    Of a large gallery some items of each query are looked at. Let j be its first result, of its class. Before item l of
    another class comes first, the query has to cross the plane between l and j, at ``e = (d²(l) − d²(j)) / 2‖l − j‖``;
    items of the class only make it farther. So with the items of other classes of the smallest e, whatever is left out
    of the class, the smallest change is at least the least among what is looked at, up to the next e; and no larger
    where, at the changed query, an item of another class is first in the whole gallery. Until then more items are
    looked at.
    """
    rows = np.flatnonzero(hit)
    radii, changed = np.zeros(len(hit)), np.array(seen.points, dtype=np.float64)
    by_query = _nearby if len(seen.gallery) > _WHOLE else _whole
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


def _nearby(seen: Seen, rows: Any) -> Any:
    n_opponents = _OPPONENTS
    order = np.argsort(seen.gallery_labels, kind="stable")
    ends = np.searchsorted(seen.gallery_labels[order], [seen.labels[rows], seen.labels[rows] + 1])
    friends = [_some_friends(seen, row, np.sort(order[first:last])) for row, first, last in zip(rows, *ends)]
    while len(rows):
        opponents, beyond = _opponents(seen, rows, n_opponents)
        asked, left = np.arange(len(rows)), []
        while len(asked):
            found = {i: _of_some(seen, rows[i], friends[i], opponents[i]) for i in asked}
            points = np.stack([found[i][2] for i in asked])
            first = _first(seen, points, rows[asked])
            again = []
            for i, item in zip(asked, first):
                size, lower, point = found[i]
                if size > beyond[i]:  # an item that was not looked at may come first before
                    left.append(i)
                elif np.isfinite(size) and seen.gallery_labels[item] == seen.labels[rows[i]] and item not in friends[i]:
                    friends[i] = np.sort(np.append(friends[i], item))
                    again.append(i)
                else:
                    yield rows[i], lower, point
            asked = np.array(again, dtype=np.int64)
        kept = np.sort(np.array(left, dtype=np.int64))
        rows, friends, n_opponents = rows[kept], [friends[i] for i in kept], _MORE * n_opponents


def _some_friends(seen: Seen, row: int, items: Any) -> Any:
    """Items of a query's class that it may find: all, or the nearest."""
    items = items[seen.gallery_keys[items] != seen.keys[row]]
    if len(items) <= _FRIENDS:
        return items
    distances = np.linalg.norm(seen.gallery[items] - seen.points[row], axis=1)
    return np.sort(items[np.argpartition(distances, _FRIENDS)[:_FRIENDS]])


def _of_some(seen: Seen, row: int, friends: Any, opponents: Any) -> Any:
    """Size of the smallest change among some items, its proven lower bound, and the changed query."""
    if not len(opponents):
        return np.inf, np.inf, seen.points[row].astype(np.float64)
    found = _changes(seen, np.concatenate([friends, opponents]), seen.points[row][None])
    return found.radii[0], found.lower[0], found.witnesses[0]


def _first(seen: Seen, points: Any, rows: Any) -> Any:
    """Row of the first result of changed queries."""
    import torch

    from certimetric.deep.ranking.ranks import nearest

    asked, own, items, keys = map(torch.from_numpy, (points, seen.keys[rows], seen.gallery, seen.gallery_keys))
    return nearest(asked, own, items, keys, 1)[:, 0].numpy()


def _opponents(seen: Seen, rows: Any, n: int) -> tuple[list[Any], Array]:
    """Items of other classes that come first the soonest, n or fewer, of each query; and the least that it has to move
    for any other.

    The bound is ``e``, see :func:`smallest`, with the rounding errors of the products in it taken off.
    """
    import torch

    from certimetric.deep.ranking.distances import expanded, slices

    gallery = torch.from_numpy(seen.gallery)
    labels, keys = torch.from_numpy(seen.gallery_labels), torch.from_numpy(seen.gallery_keys)
    parts = slices(len(gallery), _MEMORY // gallery.shape[1])
    centre = torch.stack([gallery[part].double().sum(dim=0) for part in parts]).sum(dim=0) / len(gallery)
    points, own = torch.from_numpy(seen.points[rows]).double(), torch.from_numpy(seen.keys[rows])[:, None]
    label, first = torch.from_numpy(seen.labels[rows])[:, None], gallery[torch.from_numpy(seen.first[rows, 0])].double()
    wide, squares, share = expanded(torch.cat([points, first]), centre)
    squares, share = squares[:, None], share[:, None]
    m, reach = len(rows), (points - first).pow(2).sum(dim=1, keepdim=True) * (1 + 1e-12)
    best = torch.full((m, n + 1), torch.inf, dtype=torch.double)
    found = torch.zeros((m, n + 1), dtype=torch.long)
    for part in slices(len(gallery), _MEMORY // (4 * max(wide.shape))):  # many at once: their least are searched for
        items, of_items, item_share = expanded(gallery[part], centre)
        products, error = torch.addmm(of_items, wide, items.T, alpha=-2), share + item_share
        needed = (products[:m] + squares[:m] - error[:m] - reach).clamp_min_(0.0)
        between = (products[m:] + squares[m:] + error[m:]).clamp_min_(0.0).sqrt_()
        soonest = torch.where(needed > 0, needed / (2 * between) * (1 - 1e-12), 0.0)
        soonest.masked_fill_((labels[part] == label) | (keys[part] == own), torch.inf)
        best, chosen = torch.cat([best, soonest], dim=1).topk(n + 1, dim=1, largest=False)
        columns = torch.arange(part.start, part.stop).expand(m, -1)
        found = torch.cat([found, columns], dim=1).gather(1, chosen)
    beyond = best.max(dim=1, keepdim=True).values
    kept = best.isfinite() & ((best < beyond) | beyond.isinf())
    return [np.sort(items[own].numpy()) for items, own in zip(found, kept)], beyond[:, 0].numpy()
