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


@dataclass(frozen=True)
class Check:
    """A check.

    Parameters
    ----------
    code, title : str
    severity : {"failure", "issue", "tip"}
        The gravest that it can find.
    doc : str
        What it means.
    scopes : tuple of str
        The kinds of audits that it belongs to.
    run : callable
        Of the evidence, or of the evidence and one of its subjects: an `Outcome`, several of them, or `Fine`.
    each : callable, optional
        Of the evidence: names of learners, each with what ``run`` is to look at, or with an `Outcome` that says why
        there is nothing to look at. None for a check of the audit as a whole.
    together : callable, optional
        Of the evidence and what was looked at on the learners that are fine: one `Outcome` about them, or None where
        that would say too much; by default that nothing was found on so many.
    """

    code: str
    title: str
    severity: str
    doc: str
    scopes: tuple[str, ...]
    run: Callable[..., Any]
    each: Callable[[Any], Iterable[tuple[str | None, Any]]] | None = None
    together: Callable[[Any, list[Any]], Outcome | None] | None = None

    def on(
        self, scope: str, *, each: Callable[[Any], Iterable[tuple[str | None, Any]]] | None = None
    ) -> Callable[[Callable[..., Any]], Check]:
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
            for found in _several(self.run(evidence) if self.each is None else self.run(evidence, subject)):
                if isinstance(found, Fine):
                    fine.append(found.looked)
                else:
                    yield learner, found
        if fine:
            together = self.together or _nothing_found
            if (outcome := together(evidence, fine)) is not None:
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
    each: Callable[[Any], Iterable[tuple[str | None, Any]]] | None = None,
    together: Callable[[Any, list[Any]], Outcome | None] | None = None,
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


def _nothing_found(evidence: Any, fine: list[Any]) -> Outcome:
    return Outcome("passed", f"Nothing was found on {counted(len(fine), 'learner')}.")


def _several(found: Any) -> Iterable[Outcome | Fine]:
    return (found,) if isinstance(found, (Outcome, Fine)) else found
