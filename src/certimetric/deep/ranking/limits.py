"""Between which limits numbers fall, when they are known only to within an error: many at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numba as nb
import numpy as np
import torch
from torch import Tensor

_BLOCK = 512  # items whose places are searched for side by side


def place_surely(
    products: Tensor,
    share: Tensor,
    item_share: Tensor,
    limits: Tensor,
    labels: Tensor,
    ids: Tensor,
    item_labels: Tensor,
    item_ids: Tensor,
    passed: Tensor,
) -> Tensor:
    """Count the irrelevant items by how many relevant ones are nearer, as far as that is sure.

    An item is surely farther than those relevant ones whose limit its product passes by more than the shares of both
    points in the error, and surely nearer than those whose limit it misses by more.

    Parameters
    ----------
    products : tensor of shape (q, c)
    share, item_share : tensors of shape (q,) and (c,)
        How far a product may be from the truth is the sum of the two.
    limits : tensor of shape (q, p)
        Ascending, p a power of two, the last of each row infinite.
    labels, ids, item_labels, item_ids : int tensors of shapes (q,) and (c,)
        Irrelevant is an item of another label and another id.
    passed : int tensor of shape (q, p)
        Counts, which are added to.

    Returns
    -------
    unsure : bool tensor of shape (q, c)
        Irrelevant items that are not counted.
    """
    if _on_processor(products):
        unsure = torch.empty(products.shape, dtype=torch.bool)
        by_query = [t.contiguous().numpy() for t in (products, share, limits, labels, ids, passed, unsure)]
        by_item = [t.contiguous().numpy() for t in (item_share, item_labels, item_ids)]
        parts = slices(len(products), -(-len(products) // torch.get_num_threads()))
        with ThreadPoolExecutor(len(parts)) as pool:
            list(pool.map(lambda rows: _place_rows(*(array[rows] for array in by_query), *by_item), parts))
        return unsure
    irrelevant = (labels[:, None] != item_labels) & (ids[:, None] != item_ids)
    error = share[:, None] + item_share
    places = torch.searchsorted(limits, products - error)
    sure = (products + error < limits.gather(1, places)) & irrelevant
    passed.scatter_add_(1, places, sure.long())
    return irrelevant & ~sure


def _on_processor(tensor: Tensor) -> bool:
    return tensor.device.type == "cpu"


@nb.njit(cache=True, nogil=True)
def _place_rows(products, share, limits, labels, ids, passed, unsure, item_share, item_labels, item_ids):
    n = products.shape[1]
    places, low = np.empty(_BLOCK, dtype=np.uint64), np.empty(_BLOCK)
    zero, one = np.uint64(0), np.uint64(1)
    for i in range(products.shape[0]):
        for start in range(0, n, _BLOCK):
            m = min(_BLOCK, n - start)
            for j in range(m):
                low[j] = products[i, start + j] - (share[i] + item_share[start + j])
                places[j] = zero
            # Binary searches side by side, which a processor does in vectors.
            half = np.uint64(limits.shape[1] // 2)
            while half > zero:
                for j in range(m):
                    place = places[j]
                    places[j] = place + half if limits[i, place + half - one] < low[j] else place
                half >>= one
            for j in range(m):
                irrelevant = (item_labels[start + j] != labels[i]) & (item_ids[start + j] != ids[i])
                sure = products[i, start + j] + (share[i] + item_share[start + j]) < limits[i, places[j]]
                passed[i, places[j]] += irrelevant & sure
                unsure[i, start + j] = irrelevant & (not sure)


def slices(n: int, step: int) -> list[slice]:
    """From 0 to n in parts of at most ``step``, and of at least 1."""
    step = max(1, step)
    return [slice(start, min(start + step, n)) for start in range(0, n, step)]
