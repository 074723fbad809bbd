"""Thresholds on figures, as text: ``accuracy=0.9``, ``lmnn+pl.certified@0.5=0.6``."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

_NUMBER = r"[0-9.]+(?:[eE][+-]?[0-9]+)?"
# The learner is greedy: its options may hold dots, so the last dot before a figure is the one that separates.
_PATTERN = re.compile(
    rf"(?:(?P<learner>.+)\.)?(?P<figure>accuracy|median_radius|noise@(?P<noise>{_NUMBER})|certified@(?P<eps>{_NUMBER}))"
    rf"\s*>?=\s*(?P<value>[^=]+)"
)


@dataclass(frozen=True)
class Threshold:
    """A figure that must reach a value.

    Parameters
    ----------
    learner : str or None
        Spec; None for the recommended learner.
    figure : {"accuracy", "median_radius", "noise", "certified"}
    at : float or None
        The noise level, or the radius.
    value : float
    """

    learner: str | None
    figure: str
    at: float | None
    value: float

    def expression(self, learner: str) -> str:
        """The condition in words, for the learner that it was applied to."""
        figure = self.figure if self.at is None else f"{self.figure}@{self.at:g}"
        return f"{learner}.{figure}>={self.value:g}"


def parse_threshold(text: str, specs: Sequence[str], noise: Sequence[float]) -> Threshold:
    """Read ``[LEARNER.]FIGURE=VALUE``.

    Parameters
    ----------
    text : str
    specs : sequence of str
        Learners of the audit.
    noise : sequence of float
        Noise levels of the audit.

    Raises
    ------
    ValueError
        If it is not understood, or asks for a learner or a noise level that is not part of the audit.

    Examples
    --------
    >>> parse_threshold("lmnn+pl:tau=2.5.certified@0.5=0.6", ["lmnn+pl:tau=2.5"], [])
    Threshold(learner='lmnn+pl:tau=2.5', figure='certified', at=0.5, value=0.6)
    """
    match = _PATTERN.fullmatch(text.strip())
    if match is None:
        raise ValueError(
            f"fail_under must be FIGURE=VALUE or LEARNER.FIGURE=VALUE, with the FIGURE accuracy, noise@SIGMA, "
            f"certified@EPS or median_radius, got {text!r}"
        )
    learner, figure = match["learner"], match["figure"].partition("@")[0]
    if learner is not None and learner not in specs:
        close = difflib.get_close_matches(learner, list(specs), n=1)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        raise ValueError(
            f"fail_under {text!r} names the learner {learner!r}{hint}, which is not among {', '.join(specs)}"
        )
    value = _number(match["value"], text)
    if figure != "median_radius" and value > 1:
        raise ValueError(f"fail_under {text!r} must ask for a share between 0 and 1, got {value:g}")
    at = match["noise"] or match["eps"]
    size = None if at is None else _number(at, text)
    if figure == "noise" and not any(math.isclose(size or 0.0, level) for level in noise):
        levels = ", ".join(f"{level:g}" for level in noise) or "none"
        raise ValueError(f"fail_under {text!r} needs the noise level {size:g}, but those of the audit are {levels}")
    return Threshold(learner, figure, size, value)


def _number(word: str, text: str) -> float:
    try:
        value = float(word)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or value < 0:
        raise ValueError(f"fail_under {text!r} must hold finite numbers of at least 0, got {word.strip()!r}")
    return value
