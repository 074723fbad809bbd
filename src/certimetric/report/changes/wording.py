"""How figures of two audits and their changes are written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from certimetric.report.document import number
from certimetric.report.formatting import MISSING, fixed, plain

# Of figures, and of thresholds and checks: what is told of each outcome.
OUTCOMES = {
    "regression": "worse",
    "tolerated": "worse, but within the tolerance",
    "improved": "better",
    "no evidence": "no change beyond chance",
    "same": "the same",
    "not judged": "not judged",
    "not comparable": "not comparable",
    "mended": "mended",
    "still": "as before",
    "unknown": "only in one of the audits",
}


def figure_name(figure: Mapping[str, Any]) -> str:
    """A figure with the size at which it is taken."""
    return f"{figure['name']} at {figure['qualifier']}" if figure["qualifier"] else str(figure["name"])


def shown(figure: Mapping[str, Any], side: str) -> str:
    """A figure of one of the audits, with its unit."""
    value = number((figure[side] or {}).get("mean"))
    if value is None:
        return MISSING
    return f"{fixed(100 * value, 1)} %" if figure["unit"] == "%" else f"{plain(value)} {figure['unit']}".strip()


def change_text(figure: Mapping[str, Any]) -> str:
    """A change in points or in the unit of the figure, with its interval."""
    change = figure["change"] or {}
    middle = number(change.get("mean"))
    if middle is None:
        return MISSING
    ends = [number(change[key]) for key in ("low", "high")]
    percent = figure["unit"] == "%"

    def told(value: float) -> str:
        text = fixed(100 * value, 1) if percent else plain(value)
        return text if text.startswith("−") or value <= 0 else f"+{text}"

    between = "" if None in ends else f" [{', '.join(told(end) for end in ends if end is not None)}]"
    return f"{told(middle)}{between} {'points' if percent else figure['unit']}".rstrip()
