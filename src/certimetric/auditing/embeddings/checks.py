"""Reliability checks of embeddings without their pictures: all of those for models on images, applicable or not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

NEAR = 0.01  # of the median distance to the nearest item: nearer ones are taken for the same picture


def model_checks(key: str, gallery: NDArray[np.float64], n_equal: int, n_queries: int) -> Iterator[dict[str, Any]]:
    """What is said of one model: those checks that need no pictures; the others say that they do not apply.

    Parameters
    ----------
    key : str
        Name of the model.
    gallery : array of shape (n, k)
    n_equal, n_queries : int
        Queries that equal an item of another key to within ``NEAR``, and queries.
    """
    from certimetric.auditing.retrieval.checks import CHECKS, DATA_CHECKS, spread

    for each in CHECKS:
        severity, message = "not applicable", "Pictures and model are not known: only the embeddings were given."
        if each.code == "CR108":
            severity, message = spread(gallery)
        yield {"code": each.code, "title": each.title, "severity": severity, "learner": key, "message": message}
    severity, message = "passed", "No query has an equal item under another id in the gallery."
    if n_equal:
        severity = "issue"
        message = (
            f"{n_equal} of {n_queries} queries have an item under another id in the gallery that equals them, to "
            f"within {NEAR:g} of the median distance to the nearest: finding it is no achievement."
        )
    title = DATA_CHECKS["CR109"]
    yield {"code": "CR109", "title": title, "severity": severity, "learner": key, "message": message}


def data_checks(n_queries: int, n_guessed: int) -> Iterator[dict[str, Any]]:
    """What is said of the data as a whole, and the checks that have no meaning without pictures.

    Parameters
    ----------
    n_queries : int
    n_guessed : int
        Queries that were taken for items of the gallery because they equal them.
    """
    from certimetric.auditing.retrieval.certificates import CODE, TITLE
    from certimetric.auditing.retrieval.checks import DATA_CHECKS, few

    told: dict[str, tuple[str, str | None, str]] = {
        "CR110": few(n_queries),
        "CR111": ("not applicable", None, "Pictures are not known: only the embeddings were given."),
        CODE: ("not applicable", None, "The smallest change of each query was computed, no certificate beside it."),
    }
    if n_guessed:
        message = (
            f"{n_guessed} queries equal an item of the gallery, and no ids say so: they were taken for the same "
            "picture and left out of their own results. Give ids and query_ids to say which are."
        )
        told = {"CR109": ("issue", None, message), **told}
    for code, (severity, learner, message) in told.items():
        title = {**DATA_CHECKS, CODE: TITLE}[code]
        yield {"code": code, "title": title, "severity": severity, "learner": learner, "message": message}
