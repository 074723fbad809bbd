"""Thresholds on figures, as text: ``accuracy=0.9``, ``lmnn+pl.certified@0.5=0.6``."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from certimetric.base.wording import did_you_mean

_NUMBER = r"[0-9.]+(?:[eE][+-]?[0-9]+)?(?:/[0-9]+)?"
_SIZES = {"noise": "SIGMA", "tar": "FAR"}


@dataclass(frozen=True)
class Threshold:
    """A figure that must reach a value."""

    learner: str | None  # its spec; None for the recommended one
    figure: str
    at: float | None  # the size at which it is taken: a noise level or a radius
    value: float
    label: str | None = None  # the class of which it is taken: ``recall@CLASS``

    def expression(self, learner: str) -> str:
        """The condition in words, for the learner that it was applied to."""
        of = self.label if self.label is not None else "" if self.at is None else f"{self.at:g}"
        figure = f"{self.figure}@{of}" if of else self.figure
        return f"{learner}.{figure}>={self.value:g}"


def parse_threshold(
    text: str,
    specs: Sequence[str],
    noise: Sequence[float] = (),
    *,
    figures: Mapping[str, bool],
    at: Sequence[float] | None = None,
    classes: Sequence[str] | None = None,
) -> Threshold:
    """Read ``[LEARNER.]FIGURE=VALUE``.

    Parameters
    ----------
    text : str
    specs, noise : sequence
        Learners and noise levels of the audit.
    figures : mapping of str to bool
        Figures of the audit, and whether each is taken at a size: ``certified@0.5``.
    at, classes : sequence, optional
        Sizes that were measured, None where any can be told; and classes that are tested, None for an audit without
        ``recall@CLASS``.

    Raises
    ------
    ValueError
        If it is not understood, or asks for a learner, a size or a class that is not part of the audit.

    Examples
    --------
    >>> figures = {"accuracy": False, "certified": True}
    >>> parse_threshold("lmnn+pl:tau=2.5.certified@0.5=0.6", ["lmnn+pl:tau=2.5"], figures=figures)
    Threshold(learner='lmnn+pl:tau=2.5', figure='certified', at=0.5, value=0.6, label=None)
    >>> parse_threshold("recall@spam=0.9", ["euclidean"], figures=figures, classes=["ham", "spam"])
    Threshold(learner=None, figure='recall', at=None, value=0.9, label='spam')
    """
    # The learner is greedy: its options may hold dots, so the last dot before a figure is the one that separates.
    pattern = "|".join(f"{name}@(?P<{name}>{_NUMBER})" if sized else name for name, sized in figures.items())
    if classes is not None:
        pattern += r"|recall@(?P<label>.+?)"
    match = re.fullmatch(rf"(?:(?P<learner>.+)\.)?(?P<figure>{pattern})\s*>?=\s*(?P<value>[^=]+)", text.strip())
    if match is None:
        known = [f"{name}@{_SIZES.get(name, 'EPS')}" if sized else name for name, sized in figures.items()]
        known += [] if classes is None else ["recall@CLASS"]
        forms = "FIGURE=VALUE or LEARNER.FIGURE=VALUE" if specs else "FIGURE=VALUE"
        raise ValueError(
            f"fail_under must be {forms}, with the FIGURE {', '.join(known[:-1])} or {known[-1]}, got {text!r}"
        )
    learner, figure = match["learner"], match["figure"].partition("@")[0]
    if learner is not None and learner not in specs:
        hint = did_you_mean(learner, specs)
        raise ValueError(
            f"fail_under {text!r} names the learner {learner!r}{hint}, which is not among {', '.join(specs)}"
        )
    value = _number(match["value"], text)
    if figure != "median_radius" and value > 1:
        raise ValueError(f"fail_under {text!r} must ask for a share between 0 and 1, got {value:g}")
    if classes is not None and (label := match["label"]) is not None:
        if label not in classes:
            hint, told = did_you_mean(label, classes), ", ".join([*classes[:8], *(["…"] if len(classes) > 8 else [])])
            raise ValueError(
                f"fail_under {text!r} names the class {label!r}{hint}, which is not among those tested: {told}"
            )
        return Threshold(learner, figure, None, value, label)
    size = _number(match[figure], text) if figures[figure] else None
    measured, name = (noise, "noise level") if figure == "noise" else (at, "ε")
    if (
        size is not None
        and measured is not None
        and not any(math.isclose(size, level, rel_tol=1e-3) for level in measured)
    ):
        levels = ", ".join(f"{level:g}" for level in measured) or "none"
        raise ValueError(f"fail_under {text!r} needs the {name} {size:g}, but those of the audit are {levels}")
    return Threshold(learner, figure, size, value)


def _number(word: str, text: str) -> float:
    try:
        numerator, slash, denominator = word.partition("/")
        value = float(numerator) / float(denominator) if slash else float(numerator)
    except (ValueError, ZeroDivisionError):
        value = math.nan
    if not math.isfinite(value) or value < 0:
        raise ValueError(f"fail_under {text!r} must hold finite numbers of at least 0, got {word.strip()!r}")
    return value
