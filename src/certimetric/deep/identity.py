"""Which pictures are the same: by their ids, and by what they show."""

from __future__ import annotations

import hashlib

import numpy as np
import torch

from certimetric.deep.embeddings import ImageSet


def digests(images: ImageSet) -> list[str]:
    """A digest of each image, to tell equal ones."""
    parts = (batch.tensor().numpy() for batch in images.batches(32))
    return [hashlib.sha256(np.ascontiguousarray(image).tobytes()).hexdigest()[:32] for part in parts for image in part]


def with_own_ids(queries: ImageSet, gallery: ImageSet) -> ImageSet:
    """Queries whose ids are in the gallery only where they are the same pictures.

    Without ids of their own both sets count from 0, and query 0 would not be shown item 0 of the gallery.
    """

    if queries is gallery:
        return queries
    place = {id_: row for row, id_ in enumerate(gallery.ids.tolist())}
    rows = [row for row, id_ in enumerate(queries.ids.tolist()) if id_ in place]
    if not rows:
        return queries
    own, other = queries.select(torch.tensor(rows)), [place[queries.ids[row].item()] for row in rows]
    items = gallery.select(torch.tensor(other))
    alike = [mine == its for mine, its in zip(digests(own), digests(items))]
    if all(alike) and bool((own.labels == items.labels).all()):
        return queries
    if any(alike):
        row = rows[alike.index(False)] if not all(alike) else rows[int((own.labels != items.labels).nonzero()[0])]
        raise ValueError(
            f"equal ids must be the same picture, but query {row} and gallery item {place[queries.ids[row].item()]} "
            f"have the id {queries.ids[row].item()} and differ: give ImageSet the ids of its pictures"
        )
    return ImageSet(queries.images, queries.labels, torch.arange(len(queries)) + 1 + int(gallery.ids.max()))
