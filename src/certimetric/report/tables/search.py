"""What searches over learners tried on the training part of each split, and what they chose."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from certimetric.report.document import number
from certimetric.report.formatting import percent, plain
from certimetric.report.series import with_looks

_SCORES = {
    "error": "accuracy",
    "noise": "accuracy under noise",
    "certified": "certified accuracy",
    "balanced": "certified accuracy at half of the Euclidean median radius, of those that err no more than Euclidean",
}


def search_view(document: Mapping[str, Any]) -> dict[str, Any] | None:
    """For each search its criterion, ``choices`` by split and ``tried`` by candidate; None where nothing was searched.

    A choice is split, candidate, ε, error and score; a candidate has its name, how often it was chosen and came into
    the last stage, and in how many of these it was admitted, with its mean error and score there, in the
    cross-validation.
    """
    groups = []
    for look, learner in with_looks(document, "splits"):
        found = [(split["split"], split["search"]) for split in learner["splits"] if "search" in split]
        if not found:
            continue
        choices = []
        entries: dict[str, list[Mapping[str, Any]]] = {}
        chosen: list[str] = []
        for split, search in found:
            best = search["tried"][0]
            eps = plain(number(search["eps"]), 3)
            choices.append((split, search["chosen"], eps, *_figures([best])))
            chosen.append(search["chosen"])
            for each in search["tried"]:
                last = each["stage"] == best["stage"] and each["score"] is not None
                entries.setdefault(each["learner"], []).extend([each] if last else [])
        names = sorted(entries, key=lambda name: (-chosen.count(name), -len(entries[name])))
        tried = [
            (name, chosen.count(name), len(some), sum(bool(each["admitted"]) for each in some), *_figures(some))
            for name, some in ((name, entries[name]) for name in names)
        ]
        kind = str(found[0][1]["criterion"])
        groups.append(
            {
                "look": look,
                "criterion": kind,
                "score": _SCORES.get(kind.partition("@")[0], kind),
                "rows": found[0][1]["tried"][0]["rows"],
                "folds": found[0][1]["tried"][0]["folds"],
                "choices": choices,
                "tried": tried,
            }
        )
    return {"searches": groups} if groups else None


def _figures(entries: list[Mapping[str, Any]]) -> list[str]:
    """Mean error and score."""
    return [
        percent(sum(each[key] for each in entries) / len(entries)) if entries else percent(None)
        for key in ("error", "score")
    ]
