"""Which pictures are the same: by their ids, which are the user's word, and where there are none by what they show."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from certimetric.base.arrays import Indices
from certimetric.base.warnings import warn
from certimetric.deep.models.images import ImageSet, check_comparable

_HEAD = 32  # pictures that tell whether the numbers of two sets agree at all


def digests(images: ImageSet) -> list[str]:
    """A digest of each image, to tell equal ones."""
    parts = (batch.tensor().cpu().numpy() for batch in images.batches(32))
    return [hashlib.sha256(np.ascontiguousarray(image).tobytes()).hexdigest()[:32] for part in parts for image in part]


def with_own_ids(queries: ImageSet, gallery: ImageSet) -> ImageSet:
    """Queries whose ids are in the gallery only where they are the same pictures; a warning where that is a guess.

    See :func:`same_pictures`.
    """
    queries, n_guessed = same_pictures(queries, gallery)
    if n_guessed:
        warn(
            f"{n_guessed} of {len(queries)} queries are pictures of the gallery to the bit, and no ids say so: they "
            "are taken for the same and left out of their own results; give ImageSet ids, equal for the same picture"
        )
    return queries


def same_pictures(queries: ImageSet, gallery: ImageSet) -> tuple[ImageSet, int]:
    """Queries with ids that are in the gallery where they are the same pictures, and for how many that is a guess.

    Ids that were given to both sets are the user's word: pixels are not looked at. Ids that were counted mean nothing
    in another set, unless every id that both sets have is of the same picture in both, as after a selection; otherwise
    queries are looked for in the gallery by their pixels, to the bit. Where there are groups, these decide alone.

    A ValueError tells of groups, or of labels that are names, in one set only; of equal ids that were given with
    different labels or groups; of ids given to one of the sets that contradict the pixels; and of equal pixels with
    different labels.
    """
    exclusion_keys(queries, gallery)
    check_comparable(queries, gallery)
    if not queries.counted and not gallery.counted:
        _check_told(queries, gallery)
        return queries, 0
    if queries is gallery or queries.groups is not None:
        return queries, 0
    rows, found = _of_equal_ids(queries, gallery)
    counted = queries.counted and gallery.counted
    if len(rows) and not (counted and not _alike(queries, gallery, rows[:_HEAD], found[:_HEAD]).all()):
        alike = _alike(queries, gallery, rows, found)
        if alike.all():
            return queries, 0
        # Counted queries may have the numbers of a gallery by chance; given ones have them on purpose.
        if not counted and (alike.any() or gallery.counted):
            row, item = (int(part[~alike][0]) for part in (rows, found))
            raise ValueError(
                f"equal ids must be the same picture, but query {row} and gallery item {item} have the id "
                f"{int(queries.ids[row])} and differ: give ids to both sets, equal for the same picture"
            )
    return _by_pixels(queries, gallery)


def exclusion_keys(queries: ImageSet, gallery: ImageSet) -> tuple[Tensor, Tensor]:
    """Keys by which no query finds an item of its own; a ValueError if one set has groups and the other none."""
    if (queries.groups is None) != (gallery.groups is None):
        without = "the queries have none" if queries.groups is None else "the gallery has none"
        raise ValueError(f"groups must be given for queries and gallery or for neither, and {without}")
    return queries.keys, gallery.keys


def apart(keys: Indices, gallery_keys: Indices) -> Iterator[tuple[Indices, Indices, Indices]]:
    """Queries in parts that share a gallery but for one row each, for computations that can leave out no more.

    No query may see an item of its key. A part is rows of the queries (q,), rows of the gallery that they see (c,), and
    the one among those, by its position there, that each query must not see, −1 for none (q,).

    Examples
    --------
    >>> [[part.tolist() for part in parts] for parts in apart(np.array([5, 7, 8]), np.array([7, 7, 8]))]
    [[[0, 2], [0, 1, 2], [-1, 2]], [[1], [2], [-1]]]
    """
    order = np.argsort(gallery_keys, kind="stable")
    first, last = (np.searchsorted(gallery_keys[order], keys, side=side) for side in ("left", "right"))
    single = np.flatnonzero(last - first <= 1)
    if len(single):
        own = np.where(last > first, order[np.minimum(first, len(order) - 1)], -1)
        yield single, np.arange(len(gallery_keys)), own[single]
    several = np.flatnonzero(last - first > 1)
    for key in np.unique(keys[several]):
        rows = several[keys[several] == key]
        yield rows, np.flatnonzero(gallery_keys != key), np.full(len(rows), -1)


def _of_equal_ids(queries: ImageSet, gallery: ImageSet) -> tuple[Tensor, Tensor]:
    """Rows of the queries whose ids are in the gallery, and the rows there."""
    own, ids = queries.ids.cpu(), gallery.ids.cpu()
    if not len(ids):
        return ids, ids
    order = torch.argsort(ids, stable=True)
    found = order[torch.searchsorted(ids[order], own).clamp_max(len(order) - 1)]
    rows = (ids[found] == own).nonzero()[:, 0]
    return rows, found[rows]


def _alike(queries: ImageSet, gallery: ImageSet, rows: Tensor, found: Tensor) -> Tensor:
    """Whether pictures and labels are the same, bool (r,)."""
    same = queries.labels.cpu()[rows] == gallery.labels.cpu()[found]
    pairs = zip(digests(queries.select(rows)), digests(gallery.select(found)))
    return same & torch.tensor([mine == its for mine, its in pairs])


def _check_told(queries: ImageSet, gallery: ImageSet) -> None:
    """Equal ids that were given are of one label, and of one group: among queries and gallery together."""
    sets = (gallery,) if queries is gallery else (gallery, queries)
    ids, where = torch.unique(torch.cat([each.ids.cpu() for each in sets]), return_inverse=True)
    first = torch.full(ids.shape, len(where)).scatter_reduce(0, where, torch.arange(len(where)), "amin")[where]
    told = [("labels", [each.labels for each in sets])]
    if gallery.groups is not None:
        told.append(("groups", [each.keys for each in sets]))
    for name, parts in told:
        values = torch.cat([part.cpu() for part in parts])
        differ = (values != values[first]).nonzero()[:, 0]
        if len(differ):
            one, other = int(first[differ[0]]), int(differ[0])
            n = len(gallery)
            names = [f"gallery item {row}" if row < n else f"query {row - n}" for row in (other, one)]
            raise ValueError(
                f"equal ids must be the same picture, but {names[0]} and {names[1]} have the id "
                f"{int(ids[where[other]])} and the {name} {int(values[other])} and {int(values[one])}"
            )


def _by_pixels(queries: ImageSet, gallery: ImageSet) -> tuple[ImageSet, int]:
    """Queries with the ids of the gallery items that they equal to the bit, and ids of their own elsewhere."""
    places: dict[str, list[int]] = {}
    for item, digest in enumerate(digests(gallery)):
        places.setdefault(digest, []).append(item)
    ids = queries.ids.cpu().clone()
    if queries.counted:  # numbers that the gallery does not have
        ids += 1 + int(gallery.ids.max())
    labels, n_found = gallery.labels.tolist(), 0
    for row, (digest, label) in enumerate(zip(digests(queries), queries.labels.tolist())):
        if items := places.get(digest):
            item = next((item for item in items if labels[item] == label), None)
            if item is None:
                raise ValueError(
                    f"query {row} and gallery item {items[0]} are the same picture with the labels {label} and "
                    f"{labels[items[0]]}: mend the labels, or give ids to both sets if they are two pictures"
                )
            ids[row], n_found = gallery.ids[item], n_found + 1
    return queries.with_ids(ids.to(queries.ids.device)), n_found


def paired_ids(ids: ArrayLike | None, gallery_ids: ArrayLike | None, m: int, n: int) -> tuple[Tensor, Tensor]:
    """Ids of m queries and n items as they are given; where none are, every one has its own.

    Raises
    ------
    ValueError
        If one of the two is missing, or they are no whole numbers, one for each.
    """
    if (ids is None) != (gallery_ids is None):
        raise ValueError("ids and gallery_ids must be given together, or neither")
    own = np.arange(n, n + m) if ids is None else np.asarray(ids)
    theirs = np.arange(n) if gallery_ids is None else np.asarray(gallery_ids)
    if own.shape != (m,) or theirs.shape != (n,) or not {own.dtype.kind, theirs.dtype.kind} <= set("iu"):
        told = f"shapes {own.shape} of {own.dtype} and {theirs.shape} of {theirs.dtype}"
        raise ValueError(f"ids and gallery_ids must be a whole number for each query and item, got {told}")
    return torch.from_numpy(own.astype(np.int64)), torch.from_numpy(theirs.astype(np.int64))
