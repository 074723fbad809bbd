"""How each learner is drawn: colour, dashes and marker, so that no one has to tell lines apart by colour alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from certimetric.base.wording import PIXELS
from certimetric.report.document import BASELINE

N_COLOURS = 10  # --series-1 … --series-10 in style.css; further learners repeat a colour with other dashes
_DASHES: tuple[tuple[float, ...], ...] = ((), (7, 2), (2.5, 1.6), (7, 1.8, 1.6, 1.8))
# matplotlib's marker, and the same shape as a path about the origin for the legends.
_MARKERS = (
    ("o", "M-3.4 0a3.4 3.4 0 1 0 6.8 0a3.4 3.4 0 1 0-6.8 0z"),
    ("s", "M-3-3H3V3H-3z"),
    ("^", "M0-3.8L3.7 3H-3.7z"),
    ("D", "M0-4.2L4.2 0 0 4.2-4.2 0z"),
    ("v", "M0 3.8L3.7-3H-3.7z"),
    ("P", "M-1.4-4H1.4V-1.4H4V1.4H1.4V4H-1.4V1.4H-4V-1.4H-1.4z"),
    ("<", "M-3.8 0L3-3.7V3.7z"),
    ("X", "M-3.6-1.8L-1.8-3.6 0-1.8 1.8-3.6 3.6-1.8 1.8 0 3.6 1.8 1.8 3.6 0 1.8-1.8 3.6-3.6 1.8-1.8 0z"),
    (">", "M3.8 0L-3-3.7V3.7z"),
    ("h", "M0-4L3.5-2V2L0 4-3.5 2V-2z"),
)


@dataclass(frozen=True)
class Series:
    """The look of one learner; ``number`` counts learners from 1 and names its group in every figure."""

    number: int
    label: str
    colour: str
    dashes: tuple[float, ...]
    marker: str
    marker_path: str
    baseline: bool

    @property
    def css(self) -> str:
        """The colour as the page knows it."""
        return f"var(--{self.colour})"

    @property
    def dash_array(self) -> str:
        """The dashes as the legend's ``stroke-dasharray`` (the figures' line is 1.8 wide)."""
        return " ".join(f"{1.8 * length:.1f}" for length in self.dashes) or "none"


def assign(learners: Sequence[Mapping[str, Any]]) -> list[Series]:
    """A look for each learner, in the document's order; the baseline (Euclidean, raw pixels) is grey and dashed.

    Examples
    --------
    >>> looks = assign([{"spec": "euclidean", "label": "Euclidean"}, {"spec": "lmnn", "label": "LMNN"}])
    >>> [(look.colour, look.dashes) for look in looks]
    [('series-baseline', (4, 2.2)), ('series-1', ())]
    """
    looks = []
    position = 0
    for i, learner in enumerate(learners):
        if learner["spec"] in (BASELINE, PIXELS):
            marker, path = ".", "M-2 0a2 2 0 1 0 4 0a2 2 0 1 0-4 0z"
            looks.append(Series(i + 1, learner["label"], "series-baseline", (4, 2.2), marker, path, True))
            continue
        round_, colour = divmod(position, N_COLOURS)
        # Dashes change with the colour and shift on the next round, so that equal colours never share them.
        dashes = _DASHES[(colour + round_) % len(_DASHES)]
        marker, path = _MARKERS[(colour + 3 * round_) % len(_MARKERS)]
        looks.append(Series(i + 1, learner["label"], f"series-{colour + 1}", dashes, marker, path, False))
        position += 1
    return looks


def with_looks(document: Mapping[str, Any], part: str | None = None) -> list[tuple[Series, Mapping[str, Any]]]:
    """The learners of a document, or those that have a part, each with the look that it keeps in every figure."""
    learners = document["learners"]
    found = zip(assign(learners), learners)
    return [(look, learner) for look, learner in found if part is None or learner.get(part)]
