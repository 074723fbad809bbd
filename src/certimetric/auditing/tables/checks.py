"""Reliability checks: what could make the figures of an audit wrong, each with a code, never silently passed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from certimetric.auditing.tables.request import Request
from certimetric.auditing.tables.summary import finished
from certimetric.runs.splits import split_indices

Verdict = tuple[str, str | None, str]  # severity, learner, message

CERTIFICATE_CHECKS = ("CM001", "CM002")
ILL_CONDITIONED = 1e10
FEW_REPEATS = 3
REPEATED_SHARE = 0.01


@dataclass(frozen=True, eq=False)
class Evidence:
    """What the checks look at.

    Parameters
    ----------
    request : Request
    learners : list of dict
        Learners of the document.
    findings : list of dict or None
        Attack evidence for each learner (see :mod:`certimetric.auditing.tables.evidence`).
    warnings : list of list of str
        What each learner's fits warned of.
    quoted : int
        Position of the quoted ε on the curve.
    """

    request: Request
    learners: Sequence[dict[str, Any]]
    findings: Sequence[dict[str, Any] | None]
    warnings: Sequence[Sequence[str]]
    quoted: int


@dataclass(frozen=True)
class Check:
    """A check: its code and title, what it means (``doc``), and the function that carries it out."""

    code: str
    title: str
    doc: str
    run: Callable[[Evidence], Iterator[Verdict]]


CHECKS: list[Check] = []


def check(code: str, title: str) -> Callable[[Callable[[Evidence], Iterator[Verdict]]], Check]:
    """Register a function as a check; its docstring is the documentation."""

    def register(function: Callable[[Evidence], Iterator[Verdict]]) -> Check:
        made = Check(code, title, " ".join((function.__doc__ or "").split()), function)
        CHECKS.append(made)
        return made

    return register


def run_checks(evidence: Evidence) -> list[dict[str, Any]]:
    """Carry out every check, in the order of their codes."""
    return [
        {"code": check.code, "title": check.title, "severity": severity, "learner": learner, "message": message}
        for check in CHECKS
        for severity, learner, message in check.run(evidence)
    ]


def _attacked(evidence: Evidence) -> Iterator[tuple[str, dict[str, Any] | str]]:
    """For each learner its evidence, or why there is none."""
    for learner, found in zip(evidence.learners, evidence.findings):
        if found is None:
            yield learner["spec"], "no split could be fitted"
        elif "failed" in found:
            yield learner["spec"], f"the attack did not finish: {found['failed']}"
        else:
            yield learner["spec"], found


@check("CM001", "Certificate against attack")
def certificate_against_attack(evidence: Evidence) -> Iterator[Verdict]:
    """No attack may change a prediction inside its certified radius, or nearer than the exact radius where that is
    proven. One that does shows an error of this library, not of the data or of the learner; please report it."""
    attacked, learners = 0, 0
    for spec, found in _attacked(evidence):
        if isinstance(found, str):
            yield "skipped", spec, f"Not checked: {found}."
            continue
        inside = found["attack"]["inside"]
        if not inside:
            learners, attacked = learners + 1, attacked + found["attack"]["attacked"]
        else:
            row, distance, radius = (float(inside[0][key]) for key in ("index", "distance", "radius"))
            bound, changed = inside[0]["bound"], len({entry["index"] for entry in inside})
            yield (
                "issue",
                spec,
                f"{changed} of {found['attack']['attacked']} attacked instances changed inside their certified or "
                f"exact radius (row {row:.0f}: changed at {distance:.6g}, {bound} {radius:.6g}); "
                f"this is an error of certimetric, please report it.",
            )
    if learners:
        yield "passed", None, f"None of {attacked} attacks on {_n(learners, 'learner')} got inside a radius."


@check("CM002", "Random perturbations of the certified size")
def random_perturbations(evidence: Evidence) -> Iterator[Verdict]:
    """Perturbations drawn at random, as large as the certificate allows, must not change a prediction. One that does
    shows an error of this library; please report it."""
    perturbations, learners = 0, 0
    for spec, found in _attacked(evidence):
        if isinstance(found, str):
            yield "skipped", spec, f"Not checked: {found}."
            continue
        tried, flipped = found["random"]["perturbations"], found["random"]["flipped"]
        if not flipped:
            learners, perturbations = learners + 1, perturbations + tried
        else:
            yield (
                "issue",
                spec,
                f"Random perturbations of the certified size changed {_n(len(flipped), 'prediction')} (row "
                f"{flipped[0]}); this is an error of certimetric, please report it.",
            )
    if learners:
        if perturbations:
            told = f"None of {perturbations} random perturbations for {_n(learners, 'learner')} changed a prediction."
            yield "passed", None, told
        else:
            yield "not applicable", None, "No attacked instance has a certified radius above 0."


@check("CM003", "The attack finds a change")
def attack_finds_change(evidence: Evidence) -> Iterator[Verdict]:
    """Where a prediction can be changed, the attack should find a change: else nothing bounds the robustness of that
    instance from above, and its certificate stands untested."""
    vulnerable, learners = 0, 0
    for spec, found in _attacked(evidence):
        if isinstance(found, str):
            yield "skipped", spec, f"Not checked: {found}."
            continue
        without = found["attack"]["without_flip"]
        if not without:
            learners, vulnerable = learners + 1, vulnerable + found["attack"]["vulnerable"]
        else:
            yield (
                "tip",
                spec,
                f"The attack found no change for {without} of {found['attack']['vulnerable']} instances with a finite "
                f"radius: nothing bounds their robustness from above.",
            )
    if learners:
        if vulnerable:
            told = f"The attack changed all {_n(vulnerable, 'prediction')} with a finite radius"
            yield "passed", None, f"{told}, for {_n(learners, 'learner')}."
        else:
            yield "not applicable", None, "No attacked instance has a finite radius."


@check("CM004", "Duplicates across train and test")
def duplicates_across_parts(evidence: Evidence) -> Iterator[Verdict]:
    """A test instance whose twin is in the training part is recognised rather than predicted: errors look smaller than
    they are. It is an issue where more than 1 % of rows repeat an earlier one."""
    request = evidence.request
    twin = _twins(request.data.X)
    repeated = len(twin) - len(np.unique(twin))
    if not repeated:
        yield "passed", None, "No two rows are equal."
        return
    leaked, tested = 0, 0
    for split in range(request.repeats):
        train, test = split_indices(request.codes, request.test_size, request.seed, split)
        leaked, tested = leaked + int(np.isin(twin[test], twin[train]).sum()), tested + len(test)
    severity = "issue" if repeated > REPEATED_SHARE * len(twin) else "tip"
    yield (
        severity,
        None,
        f"{_n(repeated, 'row')} of {len(twin)} {'repeats' if repeated == 1 else 'repeat'} an earlier one, so that "
        f"{leaked} of {tested} test instances have an equal row in the training part: remove "
        f"duplicates before the audit.",
    )


@check("CM005", "Duplicates with conflicting labels")
def conflicting_duplicates(evidence: Evidence) -> Iterator[Verdict]:
    """Equal rows with different labels cannot all be right, and nothing is certified for them. It is an issue where
    more than 1 % of rows are concerned."""
    request = evidence.request
    twin = _twins(request.data.X)
    pairs = np.unique(np.stack([twin, request.codes]), axis=1)
    groups, labels = np.unique(pairs[0], return_counts=True)
    concerned = int(np.isin(twin, groups[labels > 1]).sum())
    if not concerned:
        yield "passed", None, "Equal rows, if any, have equal labels."
        return
    severity = "issue" if concerned > REPEATED_SHARE * len(twin) else "tip"
    yield (
        severity,
        None,
        f"{_n(concerned, 'row')} of {len(twin)} equal another row with another label: such instances "
        f"cannot be certified.",
    )


@check("CM006", "Constant features")
def constant_features(evidence: Evidence) -> Iterator[Verdict]:
    """A feature that does not vary cannot be standardised: it keeps its own unit, in which a perturbation of it is
    then measured."""
    request = evidence.request
    X, names = request.data.X, request.data.feature_names
    always = np.flatnonzero(np.ptp(X, axis=0) == 0)
    sometimes: set[int] = set()
    for split in range(request.repeats):
        train, _ = split_indices(request.codes, request.test_size, request.seed, split)
        sometimes.update(np.flatnonzero(np.ptp(X[train], axis=0) == 0).tolist())
    sometimes -= set(always.tolist())
    if len(always):
        yield "tip", None, f"{_n(len(always), 'feature')} of {len(names)} never vary, {names[always[0]]!r} among them."
    if sometimes:
        first = names[min(sometimes)]
        yield (
            "tip",
            None,
            f"{_n(len(sometimes), 'feature')} of {len(names)} do not vary in the training part of some split, "
            f"{first!r} among them, so that the test part has them in their original unit.",
        )
    if not len(always) and not sometimes:
        yield "passed", None, "Every feature varies in every training part."


@check("CM007", "Small classes")
def small_classes(evidence: Evidence) -> Iterator[Verdict]:
    """A class with fewer than k training instances can hardly win a vote of k neighbours; one with a single instance is
    not tested at all, which is an issue."""
    request = evidence.request
    counts = np.bincount(request.codes, minlength=len(request.classes))
    train, _ = split_indices(request.codes, request.test_size, request.seed, 0)
    kept = np.bincount(request.codes[train], minlength=len(request.classes))
    single = np.flatnonzero(counts == 1)
    small = np.flatnonzero((kept < request.n_neighbors) & (counts > 1))
    if len(single):
        name = request.classes[single[0]]
        yield (
            "issue",
            None,
            f"{_n(len(single), 'class')} of {len(counts)} have one instance ({name!r}), which is kept for training: "
            f"the figures say nothing about them.",
        )
    if len(small):
        name = request.classes[small[0]]
        yield (
            "tip",
            None,
            f"{_n(len(small), 'class')} of {len(counts)} have fewer than {request.n_neighbors} training instances "
            f"({name!r} has {kept[small[0]]}): they can hardly win a vote.",
        )
    if not len(single) and not len(small):
        yield "passed", None, f"Every class has at least {request.n_neighbors} training instances."


@check("CM008", "Learners converged")
def converged(evidence: Evidence) -> Iterator[Verdict]:
    """A learner that stopped at its bound on iterations, or that warned, may not have reached the metric that it looks
    for."""
    fine, iterative = True, 0
    for subject, learner, warnings in zip(evidence.request.subjects, evidence.learners, evidence.warnings):
        done = finished(learner["splits"])
        counted = [split["n_iter"] for split in done if split["n_iter"] is not None]
        bound = subject.max_iter
        iterative += bool(counted)
        stopped = 0 if bound is None else sum(n >= bound for n in counted)
        if stopped:
            fine = False
            yield "tip", subject.spec, f"It stopped at max_iter={bound} in {stopped} of {_n(len(done), 'split')}."
            warnings = [text for text in warnings if not text.startswith("ConvergenceWarning")]  # the same once more
        if warnings:
            fine = False
            yield "tip", subject.spec, f"It warned: {warnings[0]}"
    if fine:
        severity = "passed" if iterative else "not applicable"
        yield severity, None, "Every fit ended before its bound." if iterative else "No learner here iterates."


@check("CM009", "Condition of the metric")
def condition(evidence: Evidence) -> Iterator[Verdict]:
    """A singular metric does not see changes in some directions, and one close to singular hardly does: small rounding
    errors of the data then matter."""
    fine = known = False
    for learner in evidence.learners:
        metric = learner["metric"]
        if metric is None:
            yield "skipped", learner["spec"], "Not checked: no split could be fitted."
            continue
        known = True
        d, rank, number = len(metric["spectrum"]), metric["rank"], metric["condition_number"]
        if number is None:
            yield (
                "tip",
                learner["spec"],
                f"The metric has rank {rank} of {d}: it is blind to {_n(d - rank, 'direction')}.",
            )
        elif number > ILL_CONDITIONED:
            yield "tip", learner["spec"], f"The condition number of the metric is {number:.1e}."
        else:
            fine = True
    if known and fine:
        others = [m["metric"] for m in evidence.learners if m["metric"] is not None]
        regular = sum(m["condition_number"] is not None and m["condition_number"] <= ILL_CONDITIONED for m in others)
        yield "passed", None, f"The metric of {_n(regular, 'learner')} is regular and well conditioned."


@check("CM010", "Better than Euclidean")
def better_than_euclidean(evidence: Evidence) -> Iterator[Verdict]:
    """A learned metric that is better than the Euclidean distance neither in error nor in certified accuracy is not
    worth having."""
    baseline = next((lr for lr in evidence.learners if lr["spec"] == "euclidean" and lr["summary"]), None)
    learned = [lr for lr in evidence.learners if lr["spec"] != "euclidean" and lr["summary"]]
    if baseline is None or not learned:
        yield "not applicable", None, "It needs the Euclidean distance and a learned metric side by side."
        return
    worse = []
    for learner in learned:
        own, other = learner["summary"], baseline["summary"]
        own_certified, certified = (s["certified_accuracy"][evidence.quoted]["mean"] for s in (own, other))
        if own["error"]["mean"] >= other["error"]["mean"] and own_certified <= certified:
            worse.append(learner["spec"])
            yield (
                "tip",
                learner["spec"],
                f"It is no better than the Euclidean distance: error {100 * own['error']['mean']:.1f} % against "
                f"{100 * other['error']['mean']:.1f} %, certified accuracy {100 * own_certified:.1f} % against "
                f"{100 * certified:.1f} %.",
            )
    if better := [lr["spec"] for lr in learned if lr["spec"] not in worse]:
        yield "passed", None, f"Better than the Euclidean distance in error or certified accuracy: {', '.join(better)}."


@check("CM011", "Enough repeats for intervals")
def enough_repeats(evidence: Evidence) -> Iterator[Verdict]:
    """Intervals over one or two splits are missing or too wide to tell learners apart."""
    repeats = evidence.request.repeats
    if repeats < FEW_REPEATS:
        what = "There are no intervals" if repeats == 1 else "Intervals are very wide"
        yield "tip", None, f"{what} with repeats={repeats}: take 5 or more."
    else:
        yield "passed", None, f"The intervals rest on {repeats} splits."


@check("CM012", "Every fit finished")
def every_fit_finished(evidence: Evidence) -> Iterator[Verdict]:
    """A learner that failed on some splits is compared on the others only."""
    fine = True
    for learner in evidence.learners:
        failed = [split for split in learner["splits"] if "failed" in split]
        if failed:
            fine = False
            n = len(learner["splits"])
            yield "issue", learner["spec"], f"{len(failed)} of {_n(n, 'split')} failed: {failed[0]['failed']}"
    if fine:
        yield "passed", None, "Every learner was fitted on every split."


def _twins(X: NDArray[np.float64]) -> NDArray[np.int64]:
    """A number for every row, the same for equal rows; compared as bytes, which is quick for wide rows."""
    rows = np.ascontiguousarray(X + 0.0)  # −0 and 0 are equal numbers
    packed = rows.view(np.dtype((np.void, rows.itemsize * rows.shape[1]))).ravel()
    return np.unique(packed, return_inverse=True)[1].astype(np.int64)


def _n(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}{'es' if noun.endswith('s') else 's'}"
