"""Reliability checks of audits of embedding models: whether attack, model and data allow the figures to be believed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from certimetric.auditing.retrieval.request import RetrievalRequest, Subject
from certimetric.deep import PGD, ImageSet, Index, SquareAttack
from certimetric.deep.models.calling import NoGradients
from certimetric.deep.retrieval.reliability import FEW_ZEROS, gradient_trouble, unsteadiness
from certimetric.deep.retrieval.same_pictures import digests
from certimetric.report.document import PIXELS

Verdict = tuple[str, str | None, str]  # severity, model, message
# Size at which an attacker may turn any picture into any other: nothing can be left.
_HUGE = {"linf": 1.0, "l2": 1e3}
_LEFT, _DROP, _FEW = 0.05, 0.03, 100
_SAME, _NEAR, _ROWS = 1.01 / 255, 4, 32  # pictures that differ by one level of 8 bits; items looked at, queries at once


@dataclass(frozen=True, eq=False)
class Probed:
    """What the checks look at: a model, its index, a sample of the queries, and the worst case of the audit on it, over
    all attacks and over those that use gradients, if there were any."""

    request: RetrievalRequest
    subject: Subject
    index: Index
    sample: ImageSet
    worst: Tensor
    white: Tensor | None
    training: bool


@dataclass(frozen=True)
class Check:
    """A check: its code and title, what it means (``doc``), and the function that carries it out on one model."""

    code: str
    title: str
    doc: str
    run: Callable[[Probed], Verdict]
    attacks: bool


CHECKS: list[Check] = []
# Those that are about the data, or about what the others found.
DATA_CHECKS = {"CR109": "Equal pictures", "CR110": "Number of queries", "CR111": "Raw pixels"}


def check(code: str, title: str, *, attacks: bool = False) -> Callable[[Callable[[Probed], Verdict]], Check]:
    """Register a function as a check; its docstring is the documentation."""

    def register(function: Callable[[Probed], Verdict]) -> Check:
        made = Check(code, title, " ".join((function.__doc__ or "").split()), function, attacks)
        CHECKS.append(made)
        return made

    return register


def run_checks(
    request: RetrievalRequest,
    indices: Mapping[str, Index],
    worst: Mapping[str, np.ndarray],
    white: Mapping[str, np.ndarray | None],
    training: Mapping[str, bool],
) -> list[dict[str, Any]]:
    """Carry out every check on every model, and those that are about the data.

    Parameters
    ----------
    request : RetrievalRequest
    indices : dict of str to Index
        By model.
    worst : dict of str to array
        R@1 of each query at the quoted ε, the worst over the attacks.
    white : dict of str to array or None
        The same over those attacks that use gradients.
    training : dict of str to bool
        Whether each model was handed over in training mode.
    """
    told = []
    rows = torch.randperm(len(request.queries), generator=torch.Generator().manual_seed(request.seed))
    rows = rows[: request.n_checked].sort().values
    for subject in request.with_model:
        sample = request.queries.select(rows if len(rows) else torch.arange(min(8, len(request.queries))))
        hits, told_white = torch.as_tensor(worst[subject.name])[rows], white[subject.name]
        seen = None if told_white is None else torch.as_tensor(told_white)[rows]
        probed = Probed(request, subject, indices[subject.name], sample, hits, seen, training[subject.name])
        for each in CHECKS:
            if each.attacks and not len(rows):
                verdict: Verdict = ("skipped", subject.name, "No queries were set aside for checks with attacks.")
            else:
                try:
                    verdict = each.run(probed)
                except NoGradients:
                    verdict = ("not applicable", subject.name, "The model is a function without gradients.")
            told.append(_entry(each.code, each.title, verdict))
    told += [
        _entry("CR109", DATA_CHECKS["CR109"], equal_pictures(request, indices[PIXELS])),
        _entry("CR110", DATA_CHECKS["CR110"], few(len(request.queries))),
    ]
    return sorted(told, key=lambda entry: entry["code"])


def _entry(code: str, title: str, verdict: Verdict) -> dict[str, Any]:
    severity, learner, message = verdict
    return {"code": code, "title": title, "severity": severity, "learner": learner, "message": message}


def _hits(probed: Probed, attack: Any) -> Tensor:
    return probed.index.score(probed.sample, attack)["recall_at_1"].bool().cpu()


def _share(value: Tensor) -> float:
    return float(value.double().mean())


@check("CR101", "A huge attack breaks everything", attacks=True)
def huge_attack(probed: Probed) -> Verdict:
    """An attacker who may change a picture into any other must break every query. What withstands that shows an attack
    that cannot follow the model, not a robust model."""
    eps = _HUGE[probed.request.norm]
    left = _share(_hits(probed, PGD(probed.request.ball(eps), steps=50, seed=probed.request.seed)))
    told = f"{100 * left:.1f} % of {len(probed.sample)} queries are still right when the attacker may change anything"
    if left > _LEFT:
        return "issue", probed.subject.name, f"{told}: gradients are masked or the attack is too weak."
    return "passed", probed.subject.name, f"{told}."


@check("CR102", "More steps change little", attacks=True)
def more_steps(probed: Probed) -> Verdict:
    """Five times the steps, and two restarts, should not break many more queries: else the figures depend on how
    long the attack was given."""
    attack = PGD(probed.request.ball(probed.request.report_eps), steps=100, restarts=2, seed=probed.request.seed)
    before, after = _share(probed.worst.bool()), _share(probed.worst.bool() & _hits(probed, attack))
    told = f"R@1 falls from {before:.3f} to {after:.3f} on {len(probed.sample)} queries with 100 steps and 2 restarts"
    return ("issue" if before - after > _DROP else "passed"), probed.subject.name, f"{told}."


@check("CR103", "Black box against white box", attacks=True)
def black_box(probed: Probed) -> Verdict:
    """An attack that knows only the embeddings must not break queries that attacks with gradients leave: that is the
    sign of masked gradients."""
    if probed.white is None:
        return "not applicable", probed.subject.name, "No attack of this audit uses gradients."
    attack = SquareAttack(probed.request.ball(probed.request.report_eps), queries=500, seed=probed.request.seed)
    left = probed.white.bool()
    more = left & ~_hits(probed, attack)
    told = (
        f"Random search without gradients breaks {int(more.sum())} of the {int(left.sum())} queries, of {len(left)}, "
        "that attacks by gradients left"
    )
    return ("issue" if _share(more) > _DROP else "passed"), probed.subject.name, f"{told}."


@check("CR104", "Gradients")
def zero_gradients(probed: Probed) -> Verdict:
    """Where the gradient of the margin is zero, attacks by gradients are blind."""
    images = probed.sample.tensor().to(probed.index.device)
    zero, infinite = gradient_trouble(probed.index.model, images, probed.index.objective(probed.sample))
    told = f"{int(zero.sum())} of {len(zero)} queries have a gradient of zero"
    if bool(infinite.any()):
        return "issue", probed.subject.name, f"{told}, and {int(infinite.sum())} one that is not finite."
    return ("issue" if _share(zero) > FEW_ZEROS else "passed"), probed.subject.name, f"{told}."


@check("CR105", "Same picture, same embedding")
def deterministic(probed: Probed) -> Verdict:
    """A model that draws at random, or whose embedding of a picture depends on the others of its batch, is attacked as
    it is not: its figures change from run to run."""
    images = probed.sample.select(torch.arange(min(32, len(probed.sample)))).tensor()
    told = unsteadiness(probed.subject.model, images)
    return (
        "passed" if told is None else "issue",
        probed.subject.name,
        told or "Embeddings are the same again, alone and in a batch.",
    )


@check("CR106", "Evaluation mode")
def evaluation_mode(probed: Probed) -> Verdict:
    """Dropout and statistics of the batch belong to training."""
    if probed.training:
        return "tip", probed.subject.name, "The model came in training mode; it was audited in evaluation mode."
    return "passed", probed.subject.name, "The model is in evaluation mode."


@check("CR107", "Training pictures among the queries")
def leakage(probed: Probed) -> Verdict:
    """Pictures that a model was trained on are easier for it than those it will meet."""
    if probed.subject.trained_on is None:
        return "not applicable", probed.subject.name, "It is not known what the model was trained on."
    n = sum(digest in probed.subject.trained_on for digest in digests(probed.request.queries))
    if n:
        told = f"{n} of {len(probed.request.queries)} queries are pictures that the model was trained on"
        return ("issue" if n > 0.01 * len(probed.request.queries) else "tip"), probed.subject.name, f"{told}."
    return "passed", probed.subject.name, "No query is a picture that the model was trained on."


@check("CR108", "Collapsed embeddings")
def collapse(probed: Probed) -> Verdict:
    """A model that maps everything to nearly one point withstands every attack and tells nothing apart."""
    severity, message = spread(np.asarray(probed.index.embeddings.double().cpu()))
    return severity, probed.subject.name, message


def spread(embeddings: NDArray[np.float64]) -> tuple[str, str]:
    """Severity and message: how far embeddings lie about their mean, beside their length."""
    about = float(np.linalg.norm(embeddings - embeddings.mean(axis=0), axis=1).mean())
    size = float(np.linalg.norm(embeddings, axis=1).mean())
    if about <= 1e-3 * size:
        return (
            "issue",
            f"Embeddings of length {size:.3g} lie within {about:.3g} of their mean: they tell nothing apart.",
        )
    return "passed", f"Embeddings of length {size:.3g} spread by {about:.3g} about their mean."


def equal_pictures(request: RetrievalRequest, pixels: Index) -> Verdict:
    """Equal pictures under different ids make retrieval trivial; ``pixels`` is the index of raw pixels."""
    queries, n = request.queries, 0
    for start in range(0, len(queries), _ROWS):
        some = queries.select(torch.arange(start, min(start + _ROWS, len(queries))))
        x = some.tensor().to(pixels.device)
        near = pixels.embeddings[pixels.nearest(x, some.keys, _NEAR)]
        n += int(((near - x.flatten(1)[:, None]).abs().amax(dim=2) <= _SAME).any(dim=1).sum())
    guess = (
        f"{request.n_guessed} queries equal a picture of the gallery to the bit; no ids say so, and they were taken "
        "for the same and left out of their own results: give ids to both sets."
    )
    if n:
        other = "id" if queries.groups is None else "group"
        told = f"{n} of {len(queries)} queries have the same picture, to within 1/255, under another {other} in the"
        return "issue", None, f"{told} gallery: finding it is no achievement.{f' {guess}' if request.n_guessed else ''}"
    if request.n_guessed:
        return "issue", None, guess
    return "passed", None, "No query has an equal picture, to within 1/255, under another id in the gallery."


def few(n: int) -> Verdict:
    """Figures of few queries say little."""
    if n < _FEW:
        return (
            "tip",
            None,
            f"With {n} queries a figure of 50 % is known to ± {100 * 0.98 / np.sqrt(n):.0f} points only.",
        )
    return "passed", None, f"{n} queries: a figure of 50 % is known to ± {100 * 0.98 / np.sqrt(n):.1f} points."


def beaten_by_pixels(learners: Sequence[Mapping[str, Any]], quoted: int) -> Iterator[dict[str, Any]]:
    """A model is worth something only where it beats the pixels themselves."""
    pixels = next(learner for learner in learners if learner["spec"] == PIXELS)
    for learner in learners:
        if learner is pixels:
            continue
        shares = [
            (name, value["recall_at_1"]["mean"], other["recall_at_1"]["mean"])
            for name, value, other in (
                ("clean", learner["clean"], pixels["clean"]),
                ("under attack", learner["attacked"][quoted]["worst"], pixels["attacked"][quoted]["worst"]),
            )
        ]
        worse = [
            f"{name} ({100 * other:.1f} % against {100 * own:.1f} %)" for name, own, other in shares if own < other
        ]
        told = "Raw pixels reach no higher R@1, clean or under attack."
        message = f"Raw pixels reach a higher R@1 than {learner['spec']}, {' and '.join(worse)}." if worse else told
        yield _entry("CR111", DATA_CHECKS["CR111"], ("issue" if worse else "passed", learner["spec"], message))
