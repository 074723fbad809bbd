"""Reliability checks of audits of tables: certificates against attacks, and whether learners can be compared."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from certimetric.auditing.checks import Fine, Outcome, check, passed
from certimetric.auditing.learner_checks import ALL_FITTED, attacked, beside_euclidean, fits_finished, learners
from certimetric.auditing.tables.request import Request
from certimetric.auditing.tables.summary import finished
from certimetric.base.arrays import Array
from certimetric.base.wording import counted, listing

ILL_CONDITIONED = 1e10
FEW_REPEATS = 3


@dataclass(frozen=True, eq=False)
class Observed:
    """What the checks look at."""

    request: Request
    learners: Sequence[dict[str, Any]]  # of the document
    findings: Sequence[dict[str, Any] | None]  # attack evidence for each (see certimetric.auditing.tables.evidence)
    warnings: Sequence[Sequence[str]]  # what the fits of each warned of
    quoted: int  # position of the quoted ε on the curve
    radii: Sequence[
        Sequence[Array]
    ] = ()  # correctness radii for each and finished split: thresholds may be about any ε


def fitted(part: str) -> Callable[[Observed], Iterator[tuple[str, Any]]]:
    """A part of each learner in the document, or that it was never fitted."""

    def each(observed: Observed) -> Iterator[tuple[str, Any]]:
        nothing = Outcome("skipped", "Not checked: no split could be fitted.")
        return ((spec, learner[part] or nothing) for spec, learner in learners(observed))

    return each


@check(
    "CM001",
    "Certificate against attack",
    "table",
    severity="failure",
    each=attacked,
    together=passed("None of {total} on {learners} got inside a radius.", "attack"),
)
def certificate_against_attack(observed: Observed, found: dict[str, Any]) -> Outcome | Fine:
    """No attack may change a prediction inside its certified radius, or nearer than the exact radius where that is
    proven. One that does shows an error of this library, not of the data or of the learner; please report it."""
    inside, n = found["attack"]["inside"], found["attack"]["attacked"]
    if not inside:
        return Fine(n)
    row, distance, radius = (float(inside[0][key]) for key in ("index", "distance", "radius"))
    return Outcome(
        "issue",
        f"{len({entry['index'] for entry in inside})} of {n} attacked instances changed inside their certified or "
        f"exact radius (row {row:.0f}: changed at {distance:.6g}, {inside[0]['bound']} {radius:.6g}); "
        f"this is an error of certimetric, please report it.",
    )


@check(
    "CM002",
    "Random perturbations of the certified size",
    "table",
    severity="failure",
    each=attacked,
    together=passed(
        "None of {total} for {learners} changed a prediction.",
        "random perturbation",
        nothing="No attacked instance has a certified radius above 0.",
    ),
)
def random_perturbations(observed: Observed, found: dict[str, Any]) -> Outcome | Fine:
    """Perturbations drawn at random, as large as the certificate allows, must not change a prediction. One that does
    shows an error of this library; please report it."""
    if not (flipped := found["random"]["flipped"]):
        return Fine(found["random"]["perturbations"])
    return Outcome(
        "issue",
        f"Random perturbations of the certified size changed {counted(len(flipped), 'prediction')} (row {flipped[0]}); "
        "this is an error of certimetric, please report it.",
    )


@check(
    "CM003",
    "The attack finds a change",
    "table",
    severity="tip",
    each=attacked,
    together=passed(
        "The attack changed all {total} with a finite radius, for {learners}.",
        "prediction",
        nothing="No attacked instance has a finite radius.",
    ),
)
def attack_finds_change(observed: Observed, found: dict[str, Any]) -> Outcome | Fine:
    """Where a prediction can be changed, the attack should find a change: else nothing bounds the robustness of that
    instance from above, and its certificate stands untested."""
    without, vulnerable = found["attack"]["without_flip"], found["attack"]["vulnerable"]
    if not without:
        return Fine(vulnerable)
    return Outcome(
        "tip",
        f"The attack found no change for {without} of {vulnerable} instances with a finite radius: nothing bounds "
        "their robustness from above.",
    )


def _fits(observed: Observed) -> Iterator[tuple[str, Any]]:
    for subject, learner, warnings in zip(observed.request.subjects, observed.learners, observed.warnings):
        yield subject.spec, (subject.max_iter, finished(learner["splits"]), warnings)


@check(
    "CM008",
    "Learners converged",
    "table",
    severity="tip",
    each=_fits,
    together=passed("Every fit ended before its bound.", nothing="No learner here iterates.", of_all=True),
)
def converged(observed: Observed, fits: tuple[Any, ...]) -> Iterator[Outcome | Fine]:
    """A learner that stopped at its bound on iterations, or that warned, may not have reached the metric that it looks
    for."""
    bound, done, warnings = fits
    iterations = [split["n_iter"] for split in done if split["n_iter"] is not None]
    stopped = 0 if bound is None else sum(n >= bound for n in iterations)
    if stopped:
        yield Outcome("tip", f"It stopped at max_iter={bound} in {stopped} of {counted(len(done), 'split')}.")
        warnings = [text for text in warnings if not text.startswith("ConvergenceWarning")]  # the same once more
    if warnings:
        yield Outcome("tip", f"It warned: {warnings[0]}")
    if not stopped and not warnings:
        yield Fine(bool(iterations))


@check(
    "CM009",
    "Condition of the metric",
    "table",
    severity="tip",
    each=fitted("metric"),
    together=passed("The metric of {learners} is regular and well conditioned."),
)
def condition(observed: Observed, metric: dict[str, Any]) -> Outcome | Fine:
    """A singular metric does not see changes in some directions, and one close to singular hardly does: small rounding
    errors of the data then matter."""
    d, rank, number = len(metric["spectrum"]), metric["rank"], metric["condition_number"]
    if number is None:
        told = f"The metric has rank {rank} of {d}: it is blind to {counted(d - rank, 'direction')}."
        return Outcome("tip", told)
    if number > ILL_CONDITIONED:
        return Outcome("tip", f"The condition number of the metric is {number:.1e}.")
    return Fine()


@check(
    "CM010",
    "Better than Euclidean",
    "table",
    severity="tip",
    each=beside_euclidean,
    together=passed("Better than the Euclidean distance in error or certified accuracy: {found}."),
)
def better_than_euclidean(observed: Observed, both: tuple[str, dict[str, Any], dict[str, Any]]) -> Outcome | Fine:
    """A learned metric that is better than the Euclidean distance neither in error nor in certified accuracy is not
    worth having."""
    spec, *summaries = both
    own, other = (summary["error"]["mean"] for summary in summaries)
    own_certified, certified = (summary["certified_accuracy"][observed.quoted]["mean"] for summary in summaries)
    if own < other or own_certified > certified:
        return Fine(spec)
    return Outcome(
        "tip",
        f"It is no better than the Euclidean distance: error {100 * own:.1f} % against {100 * other:.1f} %, certified "
        f"accuracy {100 * own_certified:.1f} % against {100 * certified:.1f} %.",
    )


@check("CM011", "Enough repeats for intervals", "table", severity="tip")
def enough_repeats(observed: Observed) -> Outcome:
    """Intervals over one or two splits are missing or too wide to tell learners apart. Of a sample of a large table
    one split is enough: the interval tells what the sample leaves open, and what another training part would change is
    less."""
    if observed.request.splitting.single:
        return Outcome("not applicable", "The only split is that which was asked for.")
    repeats, sizes = observed.request.repeats, observed.request.sizes
    if repeats == 1 and observed.request.is_sample:
        told = f"{sizes.test} of {observed.request.everything.test} test instances, in proportion to the classes"
        return Outcome("passed", f"The intervals are those of a sample of {told}.")
    if repeats < FEW_REPEATS:
        what = "There are no intervals" if repeats == 1 else "Intervals are very wide"
        return Outcome("tip", f"{what} with repeats={repeats}: take 5 or more.")
    return Outcome("passed", f"The intervals rest on {repeats} splits.")


every_fit_finished = check("CM012", "Every fit finished", "table", each=learners, together=ALL_FITTED)(fits_finished)


@check(
    "CM013",
    "Every class is found",
    "table",
    each=fitted("per_class"),
    together=passed("{learners} told some instances of every class right."),
)
def every_class_is_found(observed: Observed, rows: list[dict[str, Any]]) -> Outcome | Fine:
    """A class of which no test instance was ever told right is not learned at all, however small the error is over all
    classes: where it is rare, always answering another class has that error too."""
    missed = [row for row in rows if row["recall"] == 0]
    if not missed:
        return Fine()
    tested = sum(row["count"] for row in missed)
    return Outcome(
        "issue",
        f"{len(missed)} of {counted(len(rows), 'class')} never found ({listing(row['class'] for row in missed)}): "
        f"none of {counted(tested, 'test instance')} was told right in any split.",
    )
