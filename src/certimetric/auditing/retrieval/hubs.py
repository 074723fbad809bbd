"""Hubs: items that are among the first results of too many queries, and not of their class."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.stats import binom

from certimetric.base.arrays import Indices

FIRST = 10  # results that hubs are counted among
_TOLD = 5  # hubs that are named
_OFTEN = (1, 2, 3, 5, 10, 20, 30, 50, 100, 200, 300, 500, 1000)  # by so many queries items are found


def hubness(first: Indices, labels: Indices, gallery_labels: Indices) -> dict[str, Any]:
    """How unevenly the items of a gallery are found.

    Parameters
    ----------
    first : int array of shape (m, k)
        Rows of the first k results of each query.
    labels, gallery_labels : int arrays of shapes (m,) and (n,)

    Returns
    -------
    told : dict
        ``k``; ``skewness`` of how often an item is among the first k, and ``by_chance``, what it were if every item was
        found as often as any other (that of a binomial count); ``never``, the share of items that are never found;
        ``found``, of numbers of queries the share of items that so many find, and ``found_by_chance``; and
        ``hubs``, the items that most queries of *other* classes find, each with its ``row``, ``label``, the ``queries``
        that find it and the ``wrong`` among these, of other classes.

    References
    ----------
    Radovanović et al., *Hubs in space* [radovanovic2010hubs], JMLR 11 (2010), for the skewness of k-occurrence.

    Examples
    --------
    >>> told = hubness(np.array([[0], [0], [0], [1]]), np.array([0, 1, 1, 1]), np.array([0, 1]))
    >>> told["hubs"][0]
    {'row': 0, 'label': 0, 'queries': 3, 'wrong': 2}
    """
    m, k = first.shape
    n = len(gallery_labels)
    counts = np.bincount(first.ravel(), minlength=n)
    wrong = np.bincount(first[gallery_labels[first] != labels[:, None]], minlength=n)
    order = np.lexsort((np.arange(n), -counts, -wrong))[:_TOLD]
    chance = k / n
    spread = np.sqrt(m * chance * (1 - chance))
    shown = [often for often in _OFTEN if often <= max(counts.max(), _OFTEN[2])]
    return {
        "k": k,
        "skewness": _skewness(counts),
        "by_chance": float((1 - 2 * chance) / spread) if spread > 0 else 0.0,
        "never": float((counts == 0).mean()),
        "found": {str(often): float((counts >= often).mean()) for often in shown},
        "found_by_chance": [float(share) for share in binom.sf(np.array(shown) - 1, m, chance)],
        "hubs": [
            {"row": int(i), "label": int(gallery_labels[i]), "queries": int(counts[i]), "wrong": int(wrong[i])}
            for i in order
            if wrong[i]
        ],
    }


def _skewness(counts: Indices) -> float:
    about = counts - counts.mean()
    spread = float(np.sqrt((about**2).mean()))
    return float((about**3).mean()) / spread**3 if spread > 0 else 0.0
