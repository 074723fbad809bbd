"""Reliability checks of audits of verification by models: those of tables that apply, on what is known here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from certimetric.auditing.checks import Fine, Outcome
from certimetric.auditing.learner_checks import learners
from certimetric.auditing.model_verification.request import ModelVerificationRequest
from certimetric.auditing.verification.checks import (
    CHANCE,
    accepts,
    certificate_above_attack,
    enough_impostors,
    fair_to_groups,
    groups_beside_all,
    not_collapsed,
    not_tuned_on_test,
    rate_holds,
    subjects_apart,
)
from certimetric.base.wording import counted
from certimetric.certify.rates import claimable_far

SCOPE = "model verification"


@dataclass(frozen=True, eq=False)
class Observed:
    """What the checks look at."""

    request: ModelVerificationRequest
    learners: list[dict[str, Any]]  # of the document


def _certified(observed: Observed) -> Iterator[tuple[str, Any]]:
    for spec, learner in learners(observed):
        told = learner["certificate"]
        nothing = Outcome("not applicable", f"Nothing is certified: {told.get('failed')}.")
        yield spec, nothing if "failed" in told else told


@certificate_above_attack.on(SCOPE, each=_certified)
def certificates_hold(observed: Observed, told: Mapping[str, Any]) -> Outcome | Fine:
    """Whether an attack turned a decision within its certified radius; of smoothed ones more than chance can."""
    if told.get("method") == "smoothing":
        return _smoothed(told["trial"])
    if not told["broken"]:
        return Fine()
    return Outcome(
        "issue",
        f"{told['broken']} of {told['pairs']} decisions were turned inside their certified radius; this is an error of "
        "certimetric, please report it.",
    )


def _smoothed(trial: Mapping[str, Any]) -> Outcome:
    """What became of majorities under noise that were certified, at the attacked probes: counted again there, since
    what attacks make of the model without noise says nothing about them."""
    if not trial["checked"]:
        return Outcome("skipped", f"No decision under noise is certified beyond ε = {trial['eps']:.4g}.")
    message = (
        f"Of {trial['checked']} decisions under noise that are certified beyond ε = {trial['eps']:.4g}, "
        f"{trial['turned']} are turned once the probes are attacked"
    )
    if trial["broken"]:
        return Outcome("issue", f"{message}: this is an error of certimetric, please report it.")
    return Outcome("passed", f"{message}; chance alone may account for {trial['allowed']}.")


@subjects_apart.on(SCOPE)
def apart(observed: Observed) -> Outcome:
    """Whether calibration and test have subjects of their own."""
    if observed.request.parts[2]:
        return Outcome("passed", "No subject is both calibrated on and tested.")
    return Outcome("tip", "Calibration and test share their subjects, for 4 with two pictures or more are needed.")


@not_tuned_on_test.on(SCOPE)
def new_pictures(observed: Observed) -> Outcome:
    """Whether test pictures are none that were calibrated on, nor any that a model is known to have learned from."""
    import torch

    from certimetric.deep.retrieval.same_pictures import digests

    request = observed.request
    calibration, tested = (digests(request.images.select(torch.from_numpy(rows))) for rows in request.parts[:2])
    known = {"the threshold was calibrated on": frozenset(calibration)}
    known |= {f"{each.name!r} was trained on": each.trained_on for each in request.subjects if each.trained_on}
    seen = {what: sum(digest in those for digest in tested) for what, those in known.items()}
    if any(seen.values()):
        told = ", ".join(f"{n} of them {what}" for what, n in seen.items() if n)
        return Outcome("issue", f"Of {counted(len(tested), 'test picture')} {told}, equal to the bit.")
    return Outcome("passed", f"{counted(len(tested), 'test picture')}, none of which {' or '.join(seen)}.")


@enough_impostors.on(SCOPE)
def enough(observed: Observed) -> Outcome:
    """Whether so many impostor pairs show the false accept rate."""
    fewest = int(min(pairs[1] for pairs in observed.learners[0]["pairs"].values()))
    least, far = claimable_far(fewest), observed.request.far
    if far < least:
        return Outcome("issue", f"A false accept rate of {far:g} cannot be told from {fewest} impostor pairs.")
    return Outcome("passed", f"{fewest} impostor pairs show false accept rates down to {least:.2g}.")


@rate_holds.on(SCOPE, each=learners)
def holds(observed: Observed, learner: Mapping[str, Any]) -> Outcome | Fine:
    """Whether the false accept rate of the test pairs is that of the calibration."""
    far, target = learner["summary"]["far"], observed.request.far
    if far["low"] is None or far["low"] <= target:
        return Fine()
    return Outcome("issue", f"It accepts {100 * far['mean']:.3g} % of the impostors, calibrated to {100 * target:g} %.")


@not_collapsed.on(SCOPE, each=learners)
def spread(observed: Observed, learner: Mapping[str, Any]) -> Outcome | Fine:
    """Whether distances tell anything."""
    filled = sum(a + b > 0 for a, b in zip(learner["histogram"]["genuine"], learner["histogram"]["impostor"]))
    if filled <= 1:
        return Outcome("issue", "It has collapsed: all distances are in one bin of the histogram.")
    auc = learner["summary"]["auc"]["mean"]
    return Outcome("issue", f"The area under its curve is {auc:.3f}; guessing has 0.5.") if auc < CHANCE else Fine()


@accepts.on(SCOPE, each=learners)
def accepts_some(observed: Observed, learner: Mapping[str, Any]) -> Outcome | Fine:
    """Whether anything is accepted."""
    if learner["summary"]["tar"]["mean"] == 0:
        return Outcome("issue", f"It accepts no genuine pair of {counted(int(learner['pairs']['test'][0]), 'pair')}.")
    return Fine()


@fair_to_groups.on(SCOPE, each=learners)
def fair(observed: Observed, learner: Mapping[str, Any]) -> Outcome | Fine:
    """Whether the threshold is right for every group."""
    return groups_beside_all(learner)
