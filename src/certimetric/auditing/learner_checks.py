"""What checks of audits of learners share, whatever is measured: what they look at, and checks that are the same."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from certimetric.auditing.checks import Fine, Outcome, passed
from certimetric.base.wording import counted


class Observed(Protocol):
    """What they need of the evidence."""

    @property
    def learners(self) -> Sequence[dict[str, Any]]:
        """Of the document."""

    @property
    def findings(self) -> Sequence[dict[str, Any] | None]:
        """What attacks found on each; None where no split could be fitted."""


def learners(observed: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each learner, as the document has it."""
    return ((learner["spec"], learner) for learner in observed.learners)


def attacked(observed: Observed) -> Iterator[tuple[str, Any]]:
    """What attacks found on each learner, or why there is nothing."""
    for (spec, _), found in zip(learners(observed), observed.findings):
        if found is None or "failed" in found:
            reason = "no split could be fitted" if found is None else f"the attack did not finish: {found['failed']}"
            yield spec, Outcome("skipped", f"Not checked: {reason}.")
        else:
            yield spec, found


def beside_euclidean(observed: Observed) -> Iterator[tuple[str | None, Any]]:
    """Each learned metric: its name, its summary and that of the Euclidean distance."""
    able = {spec: learner["summary"] for spec, learner in learners(observed) if learner["summary"]}
    baseline = able.pop("euclidean", None)
    if baseline is None or not able:
        yield None, Outcome("not applicable", "It needs the Euclidean distance and a learned metric side by side.")
        return
    yield from ((spec, (spec, summary, baseline)) for spec, summary in able.items())


ALL_FITTED = passed("Every learner was fitted on every split.", of_all=True)


def fits_finished(observed: Observed, learner: dict[str, Any]) -> Outcome | Fine:
    """A learner that failed on some splits is compared on the others only."""
    failed = [split for split in learner["splits"] if "failed" in split]
    if not failed:
        return Fine()
    told = f"{len(failed)} of {counted(len(learner['splits']), 'split')} failed: {failed[0]['failed']}"
    return Outcome("issue", told)
