"""Reliability checks of embeddings without their pictures: all of those for models on images, applicable or not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from certimetric.auditing.checks import Outcome, check
from certimetric.auditing.embeddings.seen import NEAR, Known
from certimetric.auditing.learner_checks import learners
from certimetric.auditing.retrieval.checks import (
    beaten_by_pixels,
    certificate_against_attacks,
    collapse,
    equal_pictures,
    hubs,
    outcome_of_hubs,
    spread,
)
from certimetric.base.arrays import Array

_UNANSWERED, _LOST = 0.1, 0.02  # shares of queries without an answer, and of R@1 that an index loses, that are an issue
_UNKNOWN = Outcome("not applicable", "Pictures and model are not known: only the embeddings were given.")


@dataclass(frozen=True, eq=False)
class Observed:
    """What the checks look at, by model."""

    galleries: Mapping[str, Array]  # embeddings, (n, k)
    equal: Mapping[str, int]  # queries that equal an item of another key to within ``NEAR``
    n_queries: int
    known: Known  # of all queries, drawn or not
    learners: Sequence[Mapping[str, Any]]  # as the document has them
    class_names: Sequence[str]

    @property
    def models(self) -> list[tuple[str, Outcome]]:
        """Of each model that nothing but its embeddings is known."""
        return [(name, _UNKNOWN) for name in self.galleries]

    attackable = models


@collapse.on("embeddings", each=lambda observed: observed.galleries.items())
def collapsed(observed: Observed, gallery: Array) -> Outcome:
    """How far the embeddings spread."""
    return spread(gallery)


def _equal(observed: Observed) -> Iterator[tuple[str | None, Any]]:
    if n_guessed := observed.known.n_guessed:
        message = (
            f"{n_guessed} queries equal an item of the gallery, and no ids say so: they were taken for the "
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
    total, n = len(observed.known.able), int((~observed.known.able).sum())
    if not n:
        return Outcome("passed", "Every query has an item of its class in the gallery, under another id and group.")
    grave = "issue" if n > _UNANSWERED * total else "tip"
    return Outcome(grave, f"{n} of {total} queries have no other item of their class to find, and were left out.")


@hubs.on("embeddings", each=learners)
def hubs_clean_and_attacked(observed: Observed, learner: Mapping[str, Any]) -> Outcome:
    """Of embeddings the changes that break a query are known, and so what is found then."""
    return outcome_of_hubs(
        learner["hubness"], observed.n_queries, len(observed.galleries[learner["spec"]]), observed.class_names
    )


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
