"""What items that an attacker adds to a gallery make of R@1, and how many of them a vote of its parts withstands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from certimetric.base.results import estimate
from certimetric.report.changes.outcomes import pack

_PARTS, _EACH = 50, 10  # that vote; fewer where the gallery has fewer items than so many for each


def poison(
    queries: ArrayLike,
    gallery: ArrayLike,
    keys: Any,
    gallery_keys: Any,
    labels: Any,
    gallery_labels: Any,
    *,
    n_added: int,
    metric: str,
    seed: int,
) -> dict[str, NDArray[Any]]:
    """What is captured of queries that the attacker does not know, and what a vote withstands of the same queries.

    Returns
    -------
    found : dict
        ``new``, rows of these queries; ``captured_by``, how many of the items it takes, 0 where none does;
        ``withstands``, how many items the vote does, −1 where it is wrong; none by "dot", which has no vote.
    """
    from certimetric.deep import certify_additions, poison_gallery

    added = poison_gallery(queries, gallery, n_added, ids=keys, gallery_ids=gallery_keys, metric=metric, seed=seed)
    found: dict[str, NDArray[Any]] = {"new": added.new, "captured_by": added.captured_by}
    if metric != "dot":
        asked, own, n_parts = np.asarray(queries)[added.new], keys[added.new], n_voting(len(gallery_keys))
        told = {"n_parts": n_parts, "ids": own, "gallery_ids": gallery_keys, "metric": metric}
        vote = certify_additions(asked, gallery, gallery_labels, **told)
        right = (vote.predictions == labels[added.new]) & (vote.votes > 0)
        found["withstands"] = np.where(right, vote.certified, -1)
    return found


def n_voting(n_gallery: int) -> int:
    """The parts into which a gallery falls."""
    return max(1, min(_PARTS, n_gallery // _EACH))


def tell_poisoning(found: Mapping[str, Any], hit: NDArray[np.bool_], n_added: int, n_gallery: int) -> dict[str, Any]:
    """The same as the document has it.

    Parameters
    ----------
    found : dict
        Of :func:`poison`.
    hit : bool array of shape (m,)
        Whether the first result of a query is right as it is.
    n_added, n_gallery : int

    Returns
    -------
    told : dict
        ``clean`` and ``attacked``, R@1 of the queries that the attacker does not know; ``curve``, the same after 0, 1,
        … items; and ``vote``: ``n_parts``, ``clean``, ``certified`` and its ``curve``, or None.
    """
    sizes = np.arange(n_added + 1)[:, None]
    hit, by = hit[np.asarray(found["new"])], np.asarray(found["captured_by"])
    left = hit & ((by == 0) | (by > sizes))
    told: dict[str, Any] = {
        "clean": estimate(hit.astype(float)),
        "attacked": estimate(left[-1].astype(float)),
        "n_queries": len(hit),
        "curve": left.mean(axis=1).tolist(),
        "outcomes": pack(left[-1]),
        "vote": None,
    }
    if "withstands" in found:
        stays = np.asarray(found["withstands"]) >= sizes
        told["vote"] = {
            "n_parts": n_voting(n_gallery),
            "clean": estimate(stays[0].astype(float)),
            "certified": estimate(stays[-1].astype(float)),
            "curve": stays.mean(axis=1).tolist(),
            "outcomes": pack(stays[-1]),
        }
    return told
