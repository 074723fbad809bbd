"""The most fragile test instances: what the nearest change found does to them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from certimetric.report.document import number, quoted_eps
from certimetric.report.formatting import plain
from certimetric.report.pictures import pictures
from certimetric.report.series import with_looks
from certimetric.report.tables.comparison import mean as mean_of


def fragile_view(document: Mapping[str, Any]) -> dict[str, Any]:
    """For each learner with fragile instances: their cards; the learner with the best certificate is shown open."""
    groups: list[dict[str, Any]] = [
        {"look": look, "cards": [_card(entry) for entry in learner["fragile"]], "rank": _certificate(document, learner)}
        for look, learner in with_looks(document, "fragile")
    ]
    best = max((group["rank"] for group in groups), default=0.0)
    opened = next((i for i, group in enumerate(groups) if group["rank"] == best), 0)
    for i, group in enumerate(groups):
        # A certificate above an attack is never folded away.
        group["open"] = i == opened or any(card["violated"] for card in group["cards"])
    return {"groups": groups}


def _certificate(document: Mapping[str, Any], learner: Mapping[str, Any]) -> float:
    index = quoted_eps(document)
    value = mean_of(learner, "median_radius") if index is None else mean_of(learner, "certified_accuracy", index)
    return -1.0 if value is None else value


def _card(entry: Mapping[str, Any]) -> dict[str, Any]:
    radius, found = number(entry["radius"]), number(entry.get("attack_distance"))
    image = entry.get("image")
    told = pictures(image) if image else None
    return {
        "split": entry["split"],
        "index": entry["index"],
        "id": entry.get("id"),
        "label": entry["label"],
        "predicted": entry["predicted"],
        "wrong": entry["predicted"] != entry["label"],
        "flipped": entry.get("adversarial_prediction"),
        "bracket": _bracket(radius, found, number(entry.get("exact_radius"))),
        # Radii are rounded down and attacks verified, so the tolerance only covers the last digits of the file.
        "violated": radius is not None and found is not None and radius > found * (1 + 1e-9),
        "pictures": told,
        "magnified": plain(told.magnified, 2) if told and math.isfinite(told.magnified) else "",
        "changes": _changes(entry.get("changes") or []),
        "size": plain(number(entry.get("change_size"))),
        "kinds_kept": entry.get("kinds_kept"),
        "before": entry.get("neighbours_before") or [],
        "after": entry.get("neighbours_after") or [],
    }


def _bracket(radius: float | None, found: float | None, exact: float | None) -> dict[str, Any]:
    """Certified from below, attacked from above: texts, and the two ends in per cent of the bar."""
    known = [v for v in (radius, found) if v is not None and math.isfinite(v)]
    end = 1.2 * max(known, default=0.0) or 1.0

    def at(value: float | None) -> float:
        return 100.0 if value is None else round(min(100.0, 100 * value / end), 1)

    digits = _digits(radius, found)
    return {
        "certified": plain(radius, digits),
        "found": None if found is None else plain(found, digits),
        "exact": None if exact is None else plain(exact, digits),
        "certified_at": at(radius),
        "found_at": at(found),
    }


def _changes(changes: list[Mapping[str, Any]]) -> list[dict[str, Any]]:
    moves = [number(change["standardised"]) or 0.0 for change in changes]
    largest = max(map(abs, moves), default=0.0) or 1.0
    told = []
    for change, move in zip(changes, moves):
        before, after = number(change["before"]), number(change["after"])
        digits = _digits(before, after)
        told.append(
            {
                "name": change["name"],
                "before": plain(before, digits),
                "after": plain(after, digits),
                "move": ("+" if move > 0 else "") + plain(move, 2),
                "bar": round(50 * abs(move) / largest, 1),
                "up": move >= 0,
            }
        )
    return told


def _digits(one: float | None, other: float | None) -> int:
    """Enough digits to tell two numbers apart: a small change of a large value must not read as none."""
    digits = 3
    while None not in (one, other) and one != other and digits < 6 and plain(one, digits) == plain(other, digits):
        digits += 1
    return digits
