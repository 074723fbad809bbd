"""Reliability checks of audits of verification: what could make rates, thresholds and certificates wrong."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from certimetric.auditing.checks import Fine, Outcome, check, passed
from certimetric.auditing.learner_checks import ALL_FITTED, attacked, beside_euclidean, fits_finished, learners
from certimetric.auditing.verification.request import VerificationRequest
from certimetric.auditing.verification.summary import Decided, Rates
from certimetric.base.wording import counted
from certimetric.certify.rates import claimable_far

CHANCE = 0.55  # area under the curve up to which distances tell hardly anything
FLAT = 1e-6  # spread of distances, relative to them, up to which all are equal
GROUP_FACTOR = 2.0  # between the rate of a group and that of all


@dataclass(frozen=True, eq=False)
class Observed:
    """What the checks look at."""

    request: VerificationRequest
    learners: Sequence[dict[str, Any]]  # of the document
    decided: Sequence[Sequence[Decided]]  # of each learner, one for each finished split
    findings: Sequence[dict[str, Any] | None]  # attack evidence for each
    rates: Rates


def fitted(observed: Observed) -> Iterator[tuple[str, Any]]:
    """The finished splits of each learner, with its part of the document."""
    nothing = Outcome("skipped", "Not checked: no split could be fitted.")
    for (spec, learner), decided in zip(learners(observed), observed.decided):
        yield spec, (learner, decided) if decided else nothing


@check(
    "CV201",
    "Certificate above an attack",
    "verification",
    severity="failure",
    each=attacked,
    together=passed("None of {total} on {learners} got inside a radius.", "attack"),
)
def certificate_above_attack(observed: Observed, found: dict[str, Any]) -> Outcome | Fine:
    """Neither dodging nor impersonation may turn a decision inside its certified radius. One that does shows an error
    of this library, not of the data or of the learner; please report it."""
    inside, n = found["attack"]["inside"], found["attack"]["attacked"]
    if not inside:
        return Fine(n)
    first = inside[0]
    return Outcome(
        "issue",
        f"{len(inside)} of {n} attacked pairs were decided otherwise inside their certified radius (rows "
        f"{first['pair'][0]} and {first['pair'][1]}: at {first['distance']:.6g}, radius {float(first['radius']):.6g}); "
        "this is an error of certimetric, please report it.",
    )


@check(
    "CV202",
    "Random changes of the certified size",
    "verification",
    severity="failure",
    each=attacked,
    together=passed(
        "None of {total} for {learners} turned a decision.",
        "random change",
        nothing="No attacked pair has a certified radius above 0.",
    ),
)
def random_changes(observed: Observed, found: dict[str, Any]) -> Outcome | Fine:
    """Changes of the probe drawn at random, as large as the certificate allows, must not turn a decision. One that does
    shows an error of this library; please report it."""
    if not (flipped := found["random"]["flipped"]):
        return Fine(found["random"]["perturbations"])
    return Outcome(
        "issue",
        f"Random changes of the certified size turned {counted(len(flipped), 'decision')} (rows {flipped[0][0]} and "
        f"{flipped[0][1]}); this is an error of certimetric, please report it.",
    )


@check("CV203", "Subjects of the parts are apart", "verification", severity="tip")
def subjects_apart(observed: Observed) -> Outcome:
    """A system in use meets subjects that it was neither learned from nor calibrated on. Where a part shares its
    subjects with another, the figures are about known subjects, and those of new ones are mostly worse."""
    part, request = observed.request.part(0), observed.request
    n_classes = [len(np.unique(request.codes[rows])) for rows in (part.train, part.calibration, part.test)]
    if part.apart:
        told = "{} subjects to learn from, {} to calibrate on and {} to test: none is in two parts."
        return Outcome("passed", told.format(*n_classes))
    if request.given is not None:
        seen, tested = (np.unique(request.codes[rows]) for rows in (np.append(part.train, part.calibration), part.test))
        shared = int(np.isin(tested, seen).sum())
        if shared:
            return Outcome(
                "tip",
                f"No row of the pairs that were given is learned from or calibrated on, but {shared} of their "
                f"{counted(len(tested), 'subject')} have other rows that are: what is told holds for known subjects.",
            )
        return Outcome(
            "tip", f"The subjects of the pairs are apart, but training and calibration share {n_classes[1]} subjects."
        )
    return Outcome(
        "tip",
        f"Training, calibration and test share their {counted(n_classes[2], 'subject')}, for 6 with two instances or "
        "more are needed to keep them apart: what is told holds for known subjects.",
    )


@check("CV204", "Threshold not tuned on test pairs", "verification")
def not_tuned_on_test(observed: Observed) -> Outcome:
    """Thresholds are calibrated on instances that no test pair has. Where rows of the test part equal rows that were
    learned from or calibrated on, feature by feature, the rates are better than they are for new instances."""
    part = observed.request.part(0)

    def rows_of(rows: Any) -> set[bytes]:
        return {row.tobytes() for row in part.original[rows] + 0.0}  # −0 is 0

    known = rows_of(part.train) | rows_of(part.calibration)
    seen = sum(row.tobytes() in known for row in part.original[part.test] + 0.0)
    if seen:
        return Outcome(
            "issue",
            f"{seen} of {counted(len(part.test), 'test instance')} equal a row that was learned from or calibrated on.",
        )
    return Outcome("passed", f"None of {counted(len(part.test), 'test instance')} was learned from or calibrated on.")


@check("CV205", "Enough impostor pairs", "verification")
def enough_impostors(observed: Observed) -> Outcome:
    """Where n independent pairs show no false accept, the rate is below 3/n with 95 % confidence (rule of three): a
    smaller one can be neither calibrated nor shown. Pairs that share instances are worth less than so many."""
    request = observed.request
    parts = [request.part(split) for split in range(request.repeats)]
    fewest = min(int((~genuine).sum()) for part in parts for genuine in (part.calibration_genuine, part.genuine))
    least = claimable_far(fewest)
    if request.far < least:
        return Outcome(
            "issue",
            f"A false accept rate of {request.far:g} cannot be told from {fewest} impostor pairs: they show no less "
            f"than {least:.2g} (rule of three).",
        )
    return Outcome("passed", f"{fewest} impostor pairs show false accept rates down to {least:.2g}.")


@check(
    "CV206",
    "The false accept rate holds on test pairs",
    "verification",
    each=fitted,
    together=passed("That of {learners} is not significantly above the one that was calibrated."),
)
def rate_holds(observed: Observed, found: tuple[dict[str, Any], Any]) -> Outcome | Fine:
    """A threshold that accepts more of the impostors of the test part than it was calibrated to is not safe for new
    subjects: those that it was calibrated on were easier."""
    far, target = found[0]["summary"]["far"], observed.request.far
    low = far["mean"] if far["low"] is None else far["low"]
    if low <= target * (1 + 1e-9):
        return Fine()
    return Outcome(
        "issue",
        f"It accepts {100 * far['mean']:.3g} % of the impostor pairs of the test part (95 % interval from "
        f"{100 * low:.3g} %), where it was calibrated to {100 * target:g} %.",
    )


@check(
    "CV207",
    "Distances tell pairs apart",
    "verification",
    each=fitted,
    together=passed("Distances of {learners} spread, and genuine pairs are nearer than impostors."),
)
def not_collapsed(observed: Observed, found: tuple[dict[str, Any], Sequence[Decided]]) -> Outcome | Fine:
    """Of a metric that maps everything to one point all distances are equal; of one that has learned nothing, genuine
    pairs are no nearer than impostors."""
    distances = found[1][0].cell["distances"]
    low, middle, high = np.quantile(distances, (0.25, 0.5, 0.75))
    if high - low <= FLAT * middle:
        return Outcome("issue", f"It has collapsed: half of the distances are {middle:.3g} to within {FLAT:g} of it.")
    auc = found[0]["summary"]["auc"]["mean"]
    if auc < CHANCE:
        return Outcome("issue", f"The area under its curve is {auc:.3f}, where guessing has 0.5.")
    return Fine()


@check(
    "CV208",
    "Some genuine pairs are accepted",
    "verification",
    each=fitted,
    together=passed("{learners} accepted some genuine pairs on every split."),
)
def accepts(observed: Observed, found: tuple[dict[str, Any], Sequence[Decided]]) -> Outcome | Fine:
    """A threshold that accepts nothing has no false accepts, and is of no use."""
    none = [each for each in found[1] if not each.accepted[each.genuine].any()]
    if not none:
        return Fine()
    return Outcome(
        "issue", f"It accepts no genuine pair on {len(none)} of {counted(len(found[1]), 'split')}: FAR is too small."
    )


@check(
    "CV209",
    "One threshold for all groups",
    "verification",
    each=fitted,
    together=passed("No group of {learners} has significantly more than twice the errors of all.", of_all=True),
)
def fair_to_groups(observed: Observed, found: tuple[dict[str, Any], Any]) -> Outcome | Fine:
    """A threshold that is right on average may let in many more impostors of one group, or turn away many more of its
    genuine probes: significantly more than twice as many as of all."""
    return groups_beside_all(found[0])


def groups_beside_all(learner: Mapping[str, Any]) -> Outcome | Fine:
    """What is said of the groups of a learner of the document."""
    if not learner["groups"]:
        return Outcome("not applicable", "No groups were named.")
    worse = []
    for row in learner["groups"]:
        for key, name, sign in (("far", "false accepts", 1.0), ("tar", "false rejects", -1.0)):
            whole, own = (part[key] for part in (learner["summary"], row))
            if own["low"] is None:
                continue
            error, of_all = (own["low"], whole["mean"]) if sign > 0 else (1.0 - own["high"], 1.0 - whole["mean"])
            if error > GROUP_FACTOR * of_all:
                at = own["mean"] if sign > 0 else 1.0 - own["mean"]
                worse.append(f"{name} of {row['group']!r} {100 * at:.3g} % against {100 * of_all:.3g} % of all")
    return Outcome("issue", f"More than twice the errors: {'; '.join(worse)}.") if worse else Fine()


@check(
    "CV210",
    "Better than Euclidean",
    "verification",
    severity="tip",
    each=beside_euclidean,
    together=passed("Better than the Euclidean distance in TAR or in area under the curve: {found}."),
)
def better_than_euclidean(observed: Observed, both: tuple[str, dict[str, Any], dict[str, Any]]) -> Outcome | Fine:
    """A learned metric that is better than the Euclidean distance neither at the threshold nor over all of them is not
    worth having."""
    spec, own, other = both
    if own["tar"]["mean"] > other["tar"]["mean"] or own["auc"]["mean"] > other["auc"]["mean"]:
        return Fine(spec)
    return Outcome(
        "tip",
        f"It is no better than the Euclidean distance: TAR {100 * own['tar']['mean']:.1f} % against "
        f"{100 * other['tar']['mean']:.1f} %, area {own['auc']['mean']:.3f} against {other['auc']['mean']:.3f}.",
    )


every_fit_finished = check("CV211", "Every fit finished", "verification", each=learners, together=ALL_FITTED)(
    fits_finished
)


@check("CV212", "Given pairs agree with the labels", "verification")
def agree_with_labels(observed: Observed) -> Outcome:
    """Metrics are learned and thresholds calibrated by the labels. Where a file of pairs calls two rows of one label
    impostors, or two of different labels genuine, the figures are of another question than was learned."""
    given, codes = observed.request.given, observed.request.codes
    if given is None or not given.told:
        return Outcome("not applicable", "The labels tell which pairs are genuine.")
    odd = np.flatnonzero(given.genuine != (codes[given.rows[:, 0]] == codes[given.rows[:, 1]]))
    if not len(odd):
        return Outcome("passed", f"All {len(given.rows)} pairs are of the kind that the labels tell.")
    first, second = given.rows[odd[0]]
    kind = "genuine" if given.genuine[odd[0]] else "impostor"
    return Outcome(
        "issue",
        f"{len(odd)} of {counted(len(given.rows), 'pair')} are of another kind than the labels tell (rows {first} and "
        f"{second} are called {kind}).",
    )
