"""The skeleton of every audit, from request to document: evidence, checks, verdict, reproduction, saving."""

from __future__ import annotations

import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from certimetric.auditing.checks import checks_of, run_checks
from certimetric.auditing.result import AuditResult, refuse_other_report
from certimetric.auditing.thresholds import Threshold
from certimetric.auditing.verdict import conclude, judge_thresholds
from certimetric.base.warnings import warn
from certimetric.runs.environment import environment
from certimetric.runs.progress import say
from certimetric.runs.store import Store, claimed


@dataclass(frozen=True, eq=False)
class Gathered:
    """What the evidence of an audit is."""

    data: dict[str, Any]  # sections of the document
    protocol: dict[str, Any]
    learners: list[dict[str, Any]]  # with ``spec``, ``label`` and whatever the kind's view shows
    observed: Any  # what the checks of the kind look at
    cells: dict[str, int]  # how many were ``computed``, ``reused`` and ``failed``
    also: dict[str, Any] = field(default_factory=dict)  # further sections
    traces: dict[str, Any] = field(default_factory=dict)  # further entries on reproduction: digests and files
    machine: dict[str, Any] = field(default_factory=dict)  # what else the evidence ran on


class Evidence(ABC):
    """The evidence of one audit, made from its request: what a kind of audit plugs into the skeleton.

    A new kind is a folder with a subclass of this, whose checks name its scope, and a view in ``certimetric.report``
    for its schema. What was gathered is handed back to every later step; ``thresholds`` of the request are judged.
    """

    asked: ClassVar[type]  # the request that it is made from
    scope: ClassVar[str]  # of its checks
    schema: ClassVar[str]  # of its document
    with_titles: ClassVar[bool] = False  # whether the verdict names the checks that found an issue

    def __init__(self, request: Any) -> None:
        self.request = request

    @abstractmethod
    def options(self) -> dict[str, Any]:
        """What tells one audit from another: all that its figures depend on, but not what they are judged by."""

    @abstractmethod
    def command(self) -> str:
        """The call in Python that repeats the audit."""

    def remarks(self) -> list[str]:
        """What is to be said before the work."""
        return []

    def working(self, progress: bool) -> AbstractContextManager[Any]:
        """What surrounds the work and its checks, such as a progress bar; gives what :meth:`gather` counts with."""
        return nullcontext(progress)

    def stages(self, store: Store, say: Callable[[str], None]) -> Iterator[Evidence]:
        """This audit; of large data before it smaller ones, each of which ends with a report that the next replaces.

        What is planned is told to ``say``. The next stage is asked for when the one before has its report.
        """
        yield self

    @abstractmethod
    def gather(self, store: Store, counting: Any) -> Gathered:
        """Do the work that is not in the store; what is finished is kept there."""

    @abstractmethod
    def recommend(self, found: Gathered) -> int | None:
        """Position of the learner that is recommended; None if there is nothing to recommend."""

    @abstractmethod
    def say(self, found: Gathered, recommended: int | None) -> list[str]:
        """The first parts of the verdict's sentence: what the figures say."""

    def observe(self, found: Gathered, threshold: Threshold, position: int) -> float | str | None:
        """The figure of a learner that a threshold is about, as JSON can hold it; None where there is none."""
        return None


def run(
    evidence: Evidence,
    *,
    out: str | os.PathLike[str] | None = None,
    command: str | None = None,
    title: str | None = None,
    progress: bool = False,
) -> AuditResult:
    """Carry out an audit; what is asked of its report is told at :class:`~certimetric.auditing.request.AuditRequest`.

    Raises
    ------
    ValueError
        If the folder holds the report of an audit with other options.
    OSError
        If the folder cannot be written.
    """
    started, clock = datetime.now(timezone.utc), time.perf_counter()
    folder = None if out is None else Path(out)
    options = evidence.options()
    for remark in evidence.remarks():
        warn(remark)
    if folder is not None:
        refuse_other_report(folder, options)
    asked = {"command": command or evidence.command(), "options": options}
    with claimed(folder, "an audit") as store:
        for stage in evidence.stages(store, partial(say, progress)):
            document = _document(stage, store, progress)
            document["reproduction"] |= asked | {
                "started": started.isoformat(timespec="seconds"),
                "wall_seconds": time.perf_counter() - clock,
            }
            result = AuditResult(document)
            if folder is not None:
                result.save(folder, title=title)
    return result


def _document(evidence: Evidence, store: Store, progress: bool) -> dict[str, Any]:
    with evidence.working(progress) as counting:
        found = evidence.gather(store, counting)
        checks = run_checks(evidence.scope, found.observed)
    recommended = evidence.recommend(found)
    specs = [learner["spec"] for learner in found.learners]
    thresholds = judge_thresholds(
        evidence.request.thresholds, specs, recommended, lambda threshold, i: evidence.observe(found, threshold, i)
    )
    said, chosen = evidence.say(found, recommended), None if recommended is None else specs[recommended]
    around = environment()
    return {
        "schema": evidence.schema,
        "data": found.data,
        "protocol": found.protocol,
        **found.also,
        "learners": found.learners,
        "checks": checks,
        "about_checks": {each.code: {"gravest": each.severity, "text": each.doc} for each in checks_of(evidence.scope)},
        "thresholds": thresholds,
        "verdict": conclude(said, checks, thresholds, chosen, with_titles=evidence.with_titles),
        "reproduction": {
            # What asked for it is told here by its caller.
            **dict.fromkeys(("command", "options", "started", "wall_seconds")),
            **around,
            "machine": around["machine"] | found.machine,
            "cells": found.cells,
            **found.traces,
        },
    }
