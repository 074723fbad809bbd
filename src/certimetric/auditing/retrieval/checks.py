"""Reliability checks of audits of embedding models: whether attack, model and data allow the figures to be believed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, wraps
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from certimetric.auditing.checks import Check, Outcome, check
from certimetric.auditing.learner_checks import learners
from certimetric.auditing.retrieval.certificates import held_against, smoothed_against
from certimetric.auditing.retrieval.ranking import class_name
from certimetric.auditing.retrieval.request import RetrievalRequest, Subject
from certimetric.base.arrays import Array
from certimetric.base.chunks import chunk_slices
from certimetric.base.wording import PIXELS

if TYPE_CHECKING:
    from torch import Tensor

    from certimetric.deep import ImageSet, Index

# Size at which an attacker may turn any picture into any other: nothing can be left.
_HUGE = {"linf": 1.0, "l2": 1e3, "l1": 1e6, "l0": 1e6}
_LEFT, _DROP, _FEW = 0.05, 0.03, 100
# Queries of other classes that make an item a hub: so many, a share of all, and so many times what chance makes of it.
_HUB, _HUB_SHARE, _CHANCE = 10, 0.05, 5
_SAME, _NEAR, _ROWS = 1.01 / 255, 4, 32  # pictures that differ by one level of 8 bits; items looked at, queries at once


@dataclass(frozen=True, eq=False)
class Probed:
    """What checks of one model look at."""

    request: RetrievalRequest
    subject: Subject
    index: Index
    sample: ImageSet  # of the queries
    worst: Tensor  # R@1 of the sample in the audit, the worst over all attacks
    white: Tensor | None  # and over those that use gradients, if there were any
    training: bool


@dataclass(frozen=True, eq=False)
class Observed:
    """What the checks look at, by model."""

    request: RetrievalRequest
    learners: Sequence[Mapping[str, Any]]  # of the document
    indices: Mapping[str, Index]
    worst: Mapping[str, Array]  # R@1 of each query at the quoted ε, the worst over the attacks
    white: Mapping[str, Array | None]  # the same over those attacks that use gradients
    training: Mapping[str, bool]  # whether it was handed over in training mode
    certificates: Mapping[str, Mapping[str, Any] | None]  # as `certify_subject` gives them
    attacked: Mapping[str, Sequence[Sequence[Any]]]  # scores for every ε: of the worst case, then of each attack
    smallest: Mapping[str, Array]  # changes that were found for each query, where they were looked for

    @property
    def n_queries(self) -> int:
        """So many queries were ranked."""
        return len(self.request.queries)

    @cached_property
    def models(self) -> list[tuple[str, Any]]:
        """Each model with what its checks look at."""
        import torch

        request = self.request
        rows = torch.randperm(self.n_queries, generator=torch.Generator().manual_seed(request.seed))
        rows = rows[: request.n_checked].sort().values
        sample = request.queries.select(rows if len(rows) else torch.arange(min(8, self.n_queries)))
        told: list[tuple[str, Any]] = []
        for subject in request.with_model:
            name, white = subject.name, self.white[subject.name]
            seen = None if white is None else torch.as_tensor(white)[rows]
            hits = torch.as_tensor(self.worst[name])[rows]
            told.append((name, Probed(request, subject, self.indices[name], sample, hits, seen, self.training[name])))
        return told

    @property
    def attackable(self) -> list[tuple[str, Any]]:
        """The same, where queries were set aside to be attacked."""
        if self.request.n_checked:
            return self.models
        skipped = Outcome("skipped", "No queries were set aside for checks with attacks.")
        return [(name, skipped) for name, _ in self.models]


def on_models(
    code: str, title: str, *, severity: str = "issue", attacks: bool = False
) -> Callable[[Callable[[Probed], Outcome]], Check]:
    """Register a function as a check of each model; where pictures and model are not known it does not apply.

    One that ``attacks`` needs queries that were set aside for it.
    """

    def decorate(function: Callable[[Probed], Outcome]) -> Check:
        @wraps(function)
        def run(observed: Any, probed: Probed) -> Outcome:
            from certimetric.deep.models.calling import NoGradients

            try:
                return function(probed)
            except NoGradients:
                return Outcome("not applicable", "The model is a function without gradients.")

        each = attrgetter("attackable" if attacks else "models")
        return check(code, title, "retrieval", "embeddings", severity=severity, each=each)(run)

    return decorate


def _hits(probed: Probed, attack: Any) -> Tensor:
    return probed.index.score(probed.sample, attack)["recall_at_1"].bool().cpu()


def _share(value: Tensor) -> float:
    return float(value.double().mean())


def _span(sample: ImageSet) -> float:
    """From the smallest value of an input to the largest; without bounds, twice as far as the sample goes."""
    from certimetric.deep.models.bounds import widest

    if sample.kind.bounds is not None:
        return widest(sample.kind.bounds)
    inputs = sample.tensor()
    return 2.0 * float(inputs.max() - inputs.min()) or 1.0


@on_models("CR101", "A huge attack breaks everything", attacks=True)
def huge_attack(probed: Probed) -> Outcome:
    """An attacker who may change a picture into any other must break every query. What withstands that shows an attack
    that cannot follow the model, not a robust model."""
    from certimetric.deep import PGD

    span = _span(probed.sample)
    eps = _HUGE[probed.request.norm] * span
    left = _share(_hits(probed, PGD(probed.request.ball(eps), steps=50, seed=probed.request.seed)))
    told = f"{100 * left:.1f} % of {len(probed.sample)} queries are still right when the attacker may change anything"
    if left > _LEFT:
        return Outcome("issue", f"{told}: gradients are masked or the attack is too weak.")
    return Outcome("passed", f"{told}.")


@on_models("CR102", "More steps change little", attacks=True)
def more_steps(probed: Probed) -> Outcome:
    """Five times the steps, and two restarts, should not break many more queries: else the figures depend on how
    long the attack was given."""
    from certimetric.deep import PGD

    attack = PGD(probed.request.ball(probed.request.report_eps), steps=100, restarts=2, seed=probed.request.seed)
    before, after = _share(probed.worst.bool()), _share(probed.worst.bool() & _hits(probed, attack))
    told = f"R@1 falls from {before:.3f} to {after:.3f} on {len(probed.sample)} queries with 100 steps and 2 restarts"
    return Outcome("issue" if before - after > _DROP else "passed", f"{told}.")


@on_models("CR103", "Black box against white box", attacks=True)
def black_box(probed: Probed) -> Outcome:
    """An attack that knows only the embeddings must not break queries that attacks with gradients leave: that is the
    sign of masked gradients."""
    from certimetric.deep import NESAttack, SquareAttack

    if probed.white is None:
        return Outcome("not applicable", "No attack of this audit uses gradients.")
    ball, seed = probed.request.ball(probed.request.report_eps), probed.request.seed
    windows = len(probed.sample.images.shape) == 4
    attack = SquareAttack(ball, queries=500, seed=seed) if windows else NESAttack(ball, steps=10, seed=seed)
    left = probed.white.bool()
    more = left & ~_hits(probed, attack)
    told = (
        f"An attack without gradients breaks {int(more.sum())} of the {int(left.sum())} queries, of {len(left)}, "
        "that attacks by gradients left"
    )
    return Outcome("issue" if _share(more) > _DROP else "passed", f"{told}.")


@on_models("CR104", "Gradients")
def zero_gradients(probed: Probed) -> Outcome:
    """Where the gradient of the margin is zero, attacks by gradients are blind."""
    from certimetric.deep.retrieval.reliability import FEW_ZEROS, gradient_trouble

    images = probed.sample.tensor().to(probed.index.device)
    zero, infinite = gradient_trouble(probed.index.model, images, probed.index.goal(probed.sample))
    told = f"{int(zero.sum())} of {len(zero)} queries have a gradient of zero"
    if bool(infinite.any()):
        return Outcome("issue", f"{told}, and {int(infinite.sum())} one that is not finite.")
    return Outcome("issue" if _share(zero) > FEW_ZEROS else "passed", f"{told}.")


@on_models("CR105", "Same picture, same embedding")
def deterministic(probed: Probed) -> Outcome:
    """A model that draws at random, or whose embedding of a picture depends on the others of its batch, is attacked as
    it is not: its figures change from run to run."""
    import torch

    from certimetric.deep.retrieval.reliability import unsteadiness

    images = probed.sample.select(torch.arange(min(32, len(probed.sample)))).tensor()
    told = unsteadiness(probed.subject.model, images, probed.sample.kind)
    return Outcome(
        "passed" if told is None else "issue", told or "Embeddings are the same again, alone and in a batch."
    )


@on_models("CR106", "Evaluation mode", severity="tip")
def evaluation_mode(probed: Probed) -> Outcome:
    """Dropout and statistics of the batch belong to training."""
    if probed.training:
        return Outcome("tip", "The model came in training mode; it was audited in evaluation mode.")
    return Outcome("passed", "The model is in evaluation mode.")


@on_models("CR107", "Training pictures among the queries")
def leakage(probed: Probed) -> Outcome:
    """Pictures that a model was trained on are easier for it than those it will meet."""
    from certimetric.deep.retrieval.same_pictures import digests

    if probed.subject.trained_on is None:
        return Outcome("not applicable", "It is not known what the model was trained on.")
    n = sum(digest in probed.subject.trained_on for digest in digests(probed.request.queries))
    if n:
        told = f"{n} of {len(probed.request.queries)} queries are pictures that the model was trained on"
        return Outcome("issue" if n > 0.01 * len(probed.request.queries) else "tip", f"{told}.")
    return Outcome("passed", "No query is a picture that the model was trained on.")


@check("CR108", "Collapsed embeddings", "retrieval", each=attrgetter("models"))
def collapse(observed: Observed, probed: Probed) -> Outcome:
    """A model that maps everything to nearly one point withstands every attack and tells nothing apart."""
    return spread(np.asarray(probed.index.embeddings.double().cpu()))


def spread(embeddings: NDArray[Any]) -> Outcome:
    """How far embeddings lie about their mean, beside their length."""
    middle, n = embeddings.mean(axis=0, dtype=np.float64), len(embeddings)
    parts = [embeddings[rows] for rows in chunk_slices(n, 16.0 * embeddings.shape[1])]  # no copy of a large gallery
    about = sum(float(np.linalg.norm(part - middle, axis=1).sum()) for part in parts) / n
    size = sum(float(np.linalg.norm(part, axis=1).sum(dtype=np.float64)) for part in parts) / n
    if about <= 1e-3 * size:
        return Outcome(
            "issue",
            f"Embeddings of length {size:.3g} lie within {about:.3g} of their mean: they tell nothing apart.",
        )
    return Outcome("passed", f"Embeddings of length {size:.3g} spread by {about:.3g} about their mean.")


@check("CR109", "Equal pictures", "retrieval")
def equal_pictures(observed: Observed) -> Outcome:
    """Equal pictures under different ids make retrieval trivial."""
    return find_equal(observed.request, observed.indices[PIXELS])


def find_equal(request: RetrievalRequest, pixels: Index) -> Outcome:
    """Whether queries have their picture under another id in the gallery; ``pixels`` is the index of raw pixels."""
    import torch

    queries, n = request.queries, 0
    close = _SAME if queries.kind.pictures else 0.0
    for start in range(0, len(queries), _ROWS):
        some = queries.select(torch.arange(start, min(start + _ROWS, len(queries))))
        x = some.tensor().to(pixels.device)
        near = pixels.embeddings[pixels.nearest(x, some.keys, _NEAR)]
        n += int(((near - x.flatten(1)[:, None]).abs().amax(dim=2) <= close).any(dim=1).sum())
    guess = (
        f"{request.n_guessed} queries equal a picture of the gallery to the bit; no ids say so, and they were taken "
        "for the same and left out of their own results: give ids to both sets."
    )
    within = ", to within 1/255," if queries.kind.pictures else ""
    if n:
        other = "id" if queries.groups is None else "group"
        told = f"{n} of {len(queries)} queries have the same picture{within} under another {other} in the"
        return Outcome(
            "issue", f"{told} gallery: finding it is no achievement.{f' {guess}' if request.n_guessed else ''}"
        )
    if request.n_guessed:
        return Outcome("issue", guess)
    return Outcome("passed", f"No query has an equal picture{within} under another id in the gallery.")


@check("CR110", "Number of queries", "retrieval", "embeddings", severity="tip")
def few_queries(observed: Any) -> Outcome:
    """Figures of few queries say little."""
    n = observed.n_queries
    about = 100 * 0.98 / np.sqrt(n)
    if n < _FEW:
        return Outcome("tip", f"With {n} queries a figure of 50 % is known to ± {about:.0f} points only.")
    return Outcome("passed", f"{n} queries: a figure of 50 % is known to ± {about:.1f} points.")


def _beside_pixels(observed: Observed) -> Iterator[tuple[str, Any]]:
    pixels = dict(learners(observed))[PIXELS]
    return ((name, (learner, pixels)) for name, learner in learners(observed) if name != PIXELS)


@check("CR111", "Raw pixels", "retrieval", each=_beside_pixels)
def beaten_by_pixels(observed: Observed, both: Sequence[Mapping[str, Any]]) -> Outcome:
    """A model is worth something only where it beats the pixels themselves."""
    quoted = observed.request.eps.index(observed.request.report_eps)
    clean = [learner["clean"]["recall_at_1"]["mean"] for learner in both]
    attacked = [learner["attacked"][quoted]["worst"]["recall_at_1"]["mean"] for learner in both]
    worse = [
        f"{name} ({100 * other:.1f} % against {100 * own:.1f} %)"
        for name, (own, other) in (("clean", clean), ("under attack", attacked))
        if own < other
    ]
    if not worse:
        return Outcome("passed", "Raw pixels reach no higher R@1, clean or under attack.")
    return Outcome("issue", f"Raw pixels reach a higher R@1 than {both[0]['spec']}, {' and '.join(worse)}.")


def _certified(observed: Observed) -> Iterator[tuple[str | None, Any]]:
    if observed.request.certify is None:
        yield None, Outcome("not applicable", "No certificates were asked for.")
        return
    yield from ((name, (name, told)) for name, told in observed.certificates.items() if told is not None)


@check("CR112", "Certificates against attacks", "retrieval", severity="failure", each=_certified)
def certificate_against_attacks(observed: Observed, certificate: tuple[str, Mapping[str, Any]]) -> Outcome:
    """No attack may break a query within its certified radius: that would be an error of this library, not of a model.
    Certificates by smoothing are of the smoothed model: what attacks made of a sample of the queries is shown to it."""
    name, told = certificate
    if told["method"] == "smoothing":
        return smoothed_against(observed.request, told, observed.indices[name])
    return held_against(observed.request, told, observed.attacked[name], observed.smallest.get(name))


@check("CR121", "Hubs", "retrieval", each=lambda observed: [each for each in learners(observed) if each[0] != PIXELS])
def hubs(observed: Observed, learner: Mapping[str, Any]) -> Outcome:
    """An item that is among the first results of many queries of other classes is what an index shows too often; items
    that are never found might as well not be there."""
    request = observed.request
    return outcome_of_hubs(learner["hubness"], observed.n_queries, len(request.gallery), request.class_names)


def outcome_of_hubs(hubness: Mapping[str, Any], n_queries: int, n_gallery: int, class_names: Sequence[str]) -> Outcome:
    """What is to be said of hubs, clean and, where that is known, at the changes that break queries."""
    clean, attacked = hubness["clean"], hubness["attacked"]
    also = f", {attacked['skewness']:.1f} under attack" if attacked else ""
    told = (
        f"The skewness of how often items are among the first {clean['k']} is {clean['skewness']:.1f} "
        f"({clean['by_chance']:.1f} by chance){also}."
    )
    most = max(_HUB, _HUB_SHARE * n_queries, _CHANCE * n_queries * clean["k"] / n_gallery)
    parts = [("", clean), *([(" under attack", attacked)] if attacked else [])]
    found = [(when, hub) for when, part in parts for hub in part["hubs"][:1] if hub["wrong"] >= most]
    if not found:
        return Outcome("passed", told)
    named = "; ".join(
        f"row {hub['row']} ({class_name(class_names, hub['label'])}) is among those of {hub['wrong']} queries of other "
        f"classes{when}"
        for when, hub in found
    )
    return Outcome("issue" if not found[0][0] else "tip", f"{told} {named[:1].upper()}{named[1:]}.")
