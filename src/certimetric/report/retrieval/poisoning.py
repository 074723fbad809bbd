"""What items that are added to a gallery make of R@1, and what a vote of its parts withstands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from certimetric.report.document import number
from certimetric.report.plots import Figure, shares_figure
from certimetric.report.series import with_looks
from certimetric.report.threats import Effect, Threat

VOTE = "poisoning_vote"  # column and outcomes of the vote


def poisoned(learner: Mapping[str, Any]) -> Mapping[str, Any]:
    """What was found of a model; empty where no items were added."""
    return next((each for each in learner.get("threats") or [] if each["threat"] == "poisoning"), {})


def votes(document: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """What the vote of each model withstands; nothing where there is none."""
    found = [poisoned(learner).get("vote") for learner in document["learners"]]
    return [vote or {} for vote in found] if any(found) else []


def vote_threat(document: Mapping[str, Any], what: str, who: str) -> list[Threat]:
    """The same threat to a search in which parts of the gallery vote; none where no items were added."""
    found = votes(document)
    if not found:
        return []
    n_parts = next(vote["n_parts"] for vote in found if vote)
    effects = [Effect(vote.get("clean"), None, vote.get("certified")) for vote in found]
    return [Threat(f"{what}, where a vote of {n_parts} parts of the gallery answers", who, "R@1", effects, [])]


def poisoning_figures(document: Mapping[str, Any]) -> list[Figure]:
    """R@1 against the number of items that are added: what attackers leave, and what is certified of a vote."""
    told = [(look, found) for look, learner in with_looks(document) if (found := poisoned(learner))]
    if not told:
        return []
    unknown = f"{told[0][1]['n_queries']} queries that the attacker does not know"
    voting = [(look, found["vote"]) for look, found in told if found["vote"]]
    parts = [
        (
            "poisoning",
            "R@1 against the number of added items",
            "Items of any embedding are placed where they come first for as many queries as possible: what is left of "
            f"R@1, of {unknown}. Better places may exist: the truth lies on the line or below it.",
            told,
        ),
        (
            "poisoning-vote",
            "R@1 certified against added items",
            "The gallery falls into parts by a digest of each item, each part votes for the class of its first result, "
            "and so many added items sway at most so many votes, whatever they are. The line is what is right and "
            f"stays so, of the same {unknown}; what it lacks at 0 is the price.",
            voting,
        ),
    ]
    return [
        shares_figure(
            [(look, [(number(share), None, None) for share in found["curve"]]) for look, found in lines],
            name,
            title,
            reading,
            [float(n) for n in range(len(lines[0][1]["curve"]))],
            "number of added items",
            "R@1",
            "items",
        )
        for name, title, reading, lines in parts
        if lines
    ]
