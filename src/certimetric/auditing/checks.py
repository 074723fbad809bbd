"""Reliability checks: what could make the figures of an audit wrong, each with a code, never silently passed.

One registry holds the checks of all kinds of audits. A check names the scopes that it belongs to, and every audit tells
all checks of its scope.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from certimetric.base.wording import counted

STATUSES = ("issue", "tip", "passed", "not applicable", "skipped")
# The gravest that a check can find. A failure is an issue for which the audit fails: a proof of ours is broken.
SEVERITIES = ("failure", "issue", "tip")


class Outcome(NamedTuple):
    """What a check says, of the audit as a whole or of one learner."""

    status: str
    message: str


class Fine(NamedTuple):
    """Nothing was found on one learner: told of all those learners together, of what was looked at on each."""

    looked: Any = None


# Of the evidence: names of learners, each with what is to be looked at, or an `Outcome` that says why there is nothing.
Each = Callable[[Any], Iterable[tuple["str | None", Any]]]
# Of the evidence and what was looked at on the learners that are fine: an `Outcome`, or None where it says too much.
Together = Callable[[Any, list[Any]], "Outcome | None"]


@dataclass(frozen=True)
class Check:
    """A check."""

    code: str
    title: str
    severity: str  # the gravest that it can find
    doc: str  # what it means
    scopes: tuple[str, ...]  # the kinds of audits that it belongs to
    # Of the evidence, or of the evidence and one of its subjects: an `Outcome`, several of them, or `Fine`.
    run: Callable[..., Any]
    each: Each | None = None  # its subjects; None for a check of the audit as a whole
    together: Together | None = None  # by default that nothing was found on so many learners

    def on(self, scope: str, *, each: Each | None = None) -> Callable[[Callable[..., Any]], Check]:
        """The same check on the evidence of another kind of audit: a decorator of what carries it out there."""
        return lambda function: register(replace(self, scopes=(scope,), run=function, each=each, together=None))

    def carry_out(self, evidence: Any) -> Iterator[dict[str, Any]]:
        """What the check says, as entries of the document."""
        told = 0
        for learner, (status, message) in self._outcomes(evidence):
            if status not in STATUSES or (status == "issue" and self.severity == "tip"):
                raise ValueError(f"check {self.code} of severity {self.severity!r} says {status!r}")
            told += 1
            yield self._entry(status, learner, message)
        if not told:
            yield self._entry("not applicable", None, "There was nothing to look at.")

    def _outcomes(self, evidence: Any) -> Iterator[tuple[str | None, Outcome]]:
        fine = []
        for learner, subject in [(None, None)] if self.each is None else self.each(evidence):
            if isinstance(subject, Outcome):
                yield learner, subject
                continue
            said = self.run(evidence) if self.each is None else self.run(evidence, subject)
            for found in (said,) if isinstance(said, (Outcome, Fine)) else said:
                if isinstance(found, Fine):
                    fine.append(found.looked)
                else:
                    yield learner, found
        if fine and (outcome := (self.together or _NOTHING_FOUND)(evidence, fine)) is not None:
            yield None, outcome

    def _entry(self, status: str, learner: str | None, message: str) -> dict[str, Any]:
        return {"code": self.code, "title": self.title, "severity": status, "learner": learner, "message": message}


CHECKS: list[Check] = []


def register(made: Check) -> Check:
    """Put a check into the registry.

    Raises
    ------
    ValueError
        If its code is taken in one of its scopes, or it has no documentation.
    """
    if made.severity not in SEVERITIES or not made.doc:
        raise ValueError(f"check {made.code} needs a docstring and a severity of {', '.join(SEVERITIES)}")
    for scope in made.scopes:
        if any(other.code == made.code for other in checks_of(scope)):
            raise ValueError(f"there is a check {made.code} of the scope {scope!r} already")
    CHECKS.append(made)
    CHECKS.sort(key=lambda each: each.code)
    return made


def check(
    code: str,
    title: str,
    *scopes: str,
    severity: str = "issue",
    each: Each | None = None,
    together: Together | None = None,
) -> Callable[[Callable[..., Any]], Check]:
    """Register a function as a check; its docstring is the documentation. For the parameters see `Check`.

    Examples
    --------
    >>> @check("XX001", "Enough rows", "demo", severity="tip")
    ... def enough_rows(evidence):
    ...     '''Few rows say little.'''
    ...     return Outcome("passed" if evidence >= 10 else "tip", f"{evidence} rows.")
    >>> [(entry["severity"], entry["message"]) for entry in run_checks("demo", 3)]
    [('tip', '3 rows.')]
    >>> CHECKS.remove(enough_rows)
    """

    def decorate(function: Callable[..., Any]) -> Check:
        doc = " ".join((function.__doc__ or "").split())
        return register(Check(code, title, severity, doc, scopes, function, each, together))

    return decorate


def checks_of(scope: str) -> list[Check]:
    """The checks of a kind of audit, in the order of their codes."""
    return [each for each in CHECKS if scope in each.scopes]


def run_checks(scope: str, evidence: Any) -> list[dict[str, Any]]:
    """Carry out every check of a kind of audit, in the order of their codes.

    Returns
    -------
    checks : list of dict
        ``code``, ``title``, ``severity`` (what it says: "issue", "tip", "passed", "not applicable" or "skipped"),
        ``learner`` (None for all) and ``message``.
    """
    return [entry for each in checks_of(scope) for entry in each.carry_out(evidence)]


def fatal_codes() -> set[str]:
    """Codes of the checks whose issues fail an audit."""
    return {each.code for each in CHECKS if each.severity == "failure"}


def passed(text: str, noun: str = "", *, nothing: str = "", of_all: bool = False) -> Together:
    """What is said of the learners on which nothing was found.

    Parameters
    ----------
    text : str
        With ``{learners}``, how many they are; ``{found}``, what was looked at; ``{total}``, the sum of it.
    noun : str
        What that is a number of.
    nothing : str
        Said where that sum is 0: the check is not applicable then.
    of_all : bool, default=False
        Say nothing where something was found on another learner.
    """

    def together(evidence: Any, fine: list[Any]) -> Outcome | None:
        if of_all and len(fine) < len(evidence.learners):
            return None
        if nothing and not sum(fine):
            return Outcome("not applicable", nothing)
        found = ", ".join(map(str, fine))
        total = counted(sum(fine), noun) if noun else found
        return Outcome("passed", text.format(learners=counted(len(fine), "learner"), total=total, found=found))

    return together


_NOTHING_FOUND = passed("Nothing was found on {learners}.")
