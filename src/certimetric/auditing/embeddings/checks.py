"""Reliability checks of embeddings without their pictures: all of those for models on images, applicable or not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from certimetric.auditing.checks import Outcome
from certimetric.auditing.retrieval.checks import (
    beaten_by_pixels,
    certificate_against_attacks,
    collapse,
    equal_pictures,
    spread,
)

NEAR = 0.01  # of the median distance to the nearest item: nearer ones are taken for the same picture
_UNKNOWN = Outcome("not applicable", "Pictures and model are not known: only the embeddings were given.")


@dataclass(frozen=True, eq=False)
class Observed:
    """What the checks look at, by model."""

    galleries: Mapping[str, NDArray[np.float64]]  # embeddings, (n, k)
    equal: Mapping[str, int]  # queries that equal an item of another key to within ``NEAR``
    n_queries: int
    n_guessed: int  # queries that were taken for items of the gallery because they equal them

    @property
    def models(self) -> list[tuple[str, Outcome]]:
        """Of each model that nothing but its embeddings is known."""
        return [(name, _UNKNOWN) for name in self.galleries]

    attackable = models


@collapse.on("embeddings", each=lambda observed: observed.galleries.items())
def collapsed(observed: Observed, gallery: NDArray[np.float64]) -> Outcome:
    """How far the embeddings spread."""
    return spread(gallery)


def _equal(observed: Observed) -> Iterator[tuple[str | None, Any]]:
    if observed.n_guessed:
        message = (
            f"{observed.n_guessed} queries equal an item of the gallery, and no ids say so: they were taken for the "
            "same picture and left out of their own results. Give ids and query_ids to say which are."
        )
        yield None, Outcome("issue", message)
    yield from observed.equal.items()


@equal_pictures.on("embeddings", each=_equal)
def equal_items(observed: Observed, n_equal: int) -> Outcome:
    """Whether queries have an equal item under another id."""
    if not n_equal:
        return Outcome("passed", "No query has an equal item under another id in the gallery.")
    return Outcome(
        "issue",
        f"{n_equal} of {observed.n_queries} queries have an item under another id in the gallery that equals them, to "
        f"within {NEAR:g} of the median distance to the nearest: finding it is no achievement.",
    )


@beaten_by_pixels.on("embeddings")
def without_pixels(observed: Observed) -> Outcome:
    """Without pictures there are no pixels to compare with."""
    return Outcome("not applicable", "Pictures are not known: only the embeddings were given.")


@certificate_against_attacks.on("embeddings")
def without_certificates(observed: Observed) -> Outcome:
    """The figures are exact."""
    return Outcome("not applicable", "The smallest change of each query was computed, no certificate beside it.")
