"""Reliability checks of embeddings without their pictures: all of those for models on images, applicable or not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from certimetric.auditing.checks import Outcome, check
from certimetric.auditing.retrieval.checks import (
    beaten_by_pixels,
    certificate_against_attacks,
    collapse,
    equal_pictures,
    spread,
)

NEAR = 0.01  # of the median distance to the nearest item: nearer ones are taken for the same picture
# Queries of other classes that make an item a hub: so many, a share of all, and so many times what chance makes of it.
_HUB, _HUB_SHARE, _CHANCE = 10, 0.05, 5
_UNANSWERED, _LOST = 0.1, 0.02  # shares of queries without an answer, and of R@1 that an index loses, that are an issue
_UNKNOWN = Outcome("not applicable", "Pictures and model are not known: only the embeddings were given.")


@dataclass(frozen=True, eq=False)
class Observed:
    """What the checks look at, by model."""

    galleries: Mapping[str, NDArray[np.float64]]  # embeddings, (n, k)
    equal: Mapping[str, int]  # queries that equal an item of another key to within ``NEAR``
    n_queries: int
    n_guessed: int  # queries that were taken for items of the gallery because they equal them
    n_able: int  # queries that have an item of their class to find, drawn or not
    n_without_positive: int  # queries that have no item of their class to find
    learners: Sequence[Mapping[str, Any]]  # as the document has them
    class_names: Sequence[str]

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


@check("CR120", "Queries without an answer", "embeddings")
def unanswered(observed: Observed) -> Outcome:
    """Queries of which the gallery holds no item of their class, under another id and group, have nothing to find: they
    are left out of every figure."""
    n = observed.n_without_positive
    if not n:
        return Outcome("passed", "Every query has an item of its class in the gallery, under another id and group.")
    total = n + observed.n_able
    grave = "issue" if n > _UNANSWERED * total else "tip"
    return Outcome(grave, f"{n} of {total} queries have no other item of their class to find, and were left out.")


@check("CR121", "Hubs", "embeddings", each=lambda observed: [(each["spec"], each) for each in observed.learners])
def hubs(observed: Observed, learner: Mapping[str, Any]) -> Outcome:
    """An item that is among the first results of many queries of other classes is what an index shows too often; items
    that are never found might as well not be there."""
    clean, attacked = learner["hubness"]["clean"], learner["hubness"]["attacked"]
    told = (
        f"The skewness of how often items are among the first {clean['k']} is {clean['skewness']:.1f} "
        f"({clean['by_chance']:.1f} by chance), {attacked['skewness']:.1f} under attack."
    )
    n = observed.n_queries
    most = max(_HUB, _HUB_SHARE * n, _CHANCE * n * clean["k"] / len(observed.galleries[learner["spec"]]))
    found = [(when, hub) for when, part in (("", clean), (" under attack", attacked)) for hub in part["hubs"][:1]]
    found = [(when, hub) for when, hub in found if hub["wrong"] >= most]
    if not found:
        return Outcome("passed", told)
    named = "; ".join(
        f"row {hub['row']} ({observed.class_names[hub['label']]}) is among those of {hub['wrong']} queries of other "
        f"classes{when}"
        for when, hub in found
    )
    return Outcome("issue" if not found[0][0] else "tip", f"{told} {named[:1].upper()}{named[1:]}.")


def _with_index(observed: Observed) -> Iterator[tuple[str | None, Any]]:
    for each in observed.learners:
        if each["deployed"] is None:
            yield None, Outcome("not applicable", "No index was given: the figures are those of exact search.")
            return
        yield each["spec"], each


@check("CR122", "Index as deployed", "embeddings", each=_with_index)
def deployed(observed: Observed, learner: Mapping[str, Any]) -> Outcome:
    """An approximate index misses what exact search finds. The evidence rests on exact search; of the index only what
    it answers is told."""
    told, exact = learner["deployed"], learner["clean"]["recall_at_1"]["mean"]
    sentence = (
        f"The index finds a right item first for {100 * told['clean']['mean']:.1f} % of the queries, exact search for "
        f"{100 * exact:.1f} %; both find the same item for {100 * told['agreement']:.1f} %. At the changes that break "
        f"exact search it is {100 * told['attacked']['mean']:.1f} %."
    )
    return Outcome("issue" if told["clean"]["mean"] < exact - _LOST else "passed", sentence)
