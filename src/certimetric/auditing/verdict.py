"""The verdict of an audit of any kind: whether thresholds hold, the overall status, and one sentence about it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from certimetric.auditing.checks import fatal_codes
from certimetric.auditing.thresholds import Threshold
from certimetric.base.wording import counted

NO_STANDARD = "no threshold was declared, so nothing is passed"


def front_runner(
    accuracy: Mapping[int, Mapping[str, float]], robustness: Callable[[int], tuple[float, ...]]
) -> int | None:
    """Who is recommended: the most robust of those whose accuracy is not significantly below the best.

    It is not significantly below where the intervals overlap; ``accuracy`` holds by position ``mean``, ``low`` and
    ``high`` of what should be high. None where there is nobody.
    """
    if not accuracy:
        return None
    best = max(accuracy, key=lambda i: accuracy[i]["mean"])
    return max((i for i in accuracy if accuracy[i]["high"] >= accuracy[best]["low"]), key=robustness)


def judge_thresholds(
    asked: Sequence[Threshold],
    specs: Sequence[str],
    recommended: int | None,
    observe: Callable[[Threshold, int], float | str | None],
) -> list[dict[str, Any]]:
    """Every threshold with the figure observed; none is passed without a figure.

    One that names no learner of ``specs`` is about the recommended one. ``observe`` gives the figure of the learner at
    a position as JSON can hold it, None where there is none.
    """
    judged = []
    for threshold in asked:
        position = recommended if threshold.learner is None else specs.index(threshold.learner)
        value = None if position is None else observe(threshold, position)
        judged.append(
            {
                "expression": threshold.expression("recommended" if position is None else specs[position]),
                "observed": value,
                "passed": value is not None and float(value) >= threshold.value - 1e-12,
            }
        )
    return judged


def conclude(
    said: Sequence[str],
    checks: Sequence[Mapping[str, Any]],
    thresholds: Sequence[Mapping[str, Any]],
    recommended: str | None,
    *,
    with_titles: bool = False,
) -> dict[str, Any]:
    """Status, sentence, and which learner is recommended.

    FAIL if a threshold does not hold, if a check of the certificates found an issue, or if there is nothing to
    recommend; WARN if any other check found an issue; else PASS where thresholds were declared, and REPORT where none
    was: there is no standard to pass.

    What the kind of audit ``said`` of its figures are the first parts of the sentence; ``with_titles`` it names the
    checks that found an issue. Checks and thresholds are those of the document, ``recommended`` is a spec.
    """
    missed = [entry for entry in thresholds if not entry["passed"]]
    issues = [entry for entry in checks if entry["severity"] == "issue"]
    fatal = fatal_codes()
    broken = [entry for entry in issues if entry["code"] in fatal]
    failed = missed or broken or recommended is None
    status = "FAIL" if failed else "WARN" if issues else "PASS" if thresholds else "REPORT"
    parts = list(said)
    if recommended is not None:
        if broken:
            parts.append("a certificate was broken, which is an error of this library")
        if missed:
            parts.append(f"{counted(len(missed), 'threshold')} of {len(thresholds)} missed: {missed[0]['expression']}")
        elif thresholds:
            parts.append("the threshold holds" if len(thresholds) == 1 else f"all {len(thresholds)} thresholds hold")
        if others := [entry for entry in issues if entry not in broken]:
            titles = ", ".join(dict.fromkeys(str(entry["title"]).lower() for entry in others)) if with_titles else ""
            found = f"{counted(len(others), 'reliability check')} found an issue"
            parts.append(f"{found} ({titles})" if titles else found)
        if status == "REPORT":
            parts.append(NO_STANDARD)
    return {"status": status, "sentence": "; ".join(parts) + ".", "recommended": recommended}


def with_interval(estimate: Mapping[str, Any]) -> str:
    """A share in per cent, with its 95 % interval where there is one, as the sentence has it."""
    text = f"{100 * estimate['mean']:.1f} %"
    if estimate["low"] is None:
        return text
    return f"{text} (95 % interval {100 * estimate['low']:.1f} to {100 * estimate['high']:.1f})"
