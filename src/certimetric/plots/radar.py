"""The ten components of the empirical robustness score around a circle."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from certimetric.base.arguments import require
from certimetric.plots.drawing import Display

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_RINGS = (25, 50, 75, 100)


class RobustnessScoreDisplay(Display):
    """Radar of a model's empirical robustness score: each spoke a component, scaled; the rim, 100, is out of reach.

    Parameters
    ----------
    names : tuple of str
    values : array of shape (n_components,)
        From 0 to 100, more is more robust.
    label : str, optional
        In the legend.

    Attributes
    ----------
    ax_, figure_ : matplotlib Axes and Figure
    line_ : matplotlib Line2D

    References
    ----------
    .. [1] M. Zhou, L. Wang, Z. Niu, Q. Zhang, N. Zheng, G. Hua. "Adversarial attack and defense in deep ranking".
       arXiv:2106.03614 [zhou2021adversarial].

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> from certimetric.plots import RobustnessScoreDisplay
    >>> ax = Figure().subplots()
    >>> first = RobustnessScoreDisplay.from_predictions(["CA+", "QA+", "ES:R"], [10, 20, 5], label="natural", ax=ax)
    >>> second = RobustnessScoreDisplay.from_predictions(["CA+", "QA+", "ES:R"], [40, 60, 30], label="robust", ax=ax)
    >>> [text.get_text() for text in ax.get_legend().get_texts()]
    ['natural', 'robust']
    """

    def __init__(self, names: tuple[str, ...], values: ArrayLike, *, label: str | None = None):
        self.names, self.values, self.label = names, values, label

    @classmethod
    def from_result(cls, result: Any, *, label: str | None = None, ax: Axes | None = None) -> RobustnessScoreDisplay:
        """Draw what :func:`~certimetric.deep.empirical_robustness_score` gave."""
        rows = result.components
        return cls.from_predictions([row["name"] for row in rows], [row["scaled"] for row in rows], label=label, ax=ax)

    @classmethod
    def from_predictions(
        cls, names: Sequence[str], values: ArrayLike, *, label: str | None = None, ax: Axes | None = None
    ) -> RobustnessScoreDisplay:
        """Draw scaled components, one for each of three names or more; on axes that have a radar, over it.

        Raises
        ------
        ArgumentError
            Unless there is a value from 0 to 100 for each name.
        """
        values = np.asarray(values, dtype=float)
        require(len(names) >= 3, "names", "must be three or more", list(names))
        fits = values.shape == (len(names),) and bool(((values >= 0) & (values <= 100)).all())
        require(fits, "values", f"must be {len(names)} numbers from 0 to 100", values.tolist())
        return cls(tuple(names), values, label=label).plot(ax)

    def plot(self, ax: Axes | None = None, **drawn: Any) -> RobustnessScoreDisplay:
        """Draw on ``ax``, or on a new figure; ``drawn`` goes to the line."""
        ax = self.on(ax)
        if not ax.texts:
            draw_spokes(ax, self.names, grid="0.85", muted="0.45")
        self.draw(ax, **{"label": self.label, **drawn})
        if self.label is not None:
            ax.legend(loc="upper right", fontsize=8)
        return self

    def draw(self, ax: Axes, *, fill: bool = True, **style: Any) -> None:
        """Draw the shape alone, without spokes and legend."""
        around = _closed(self.values)
        (self.line_,) = ax.plot(*around, **style)
        if fill:
            ax.fill(*around, color=self.line_.get_color(), alpha=0.1, linewidth=0, gid=self.line_.get_gid())


def draw_spokes(axes: Axes, names: Sequence[str], *, grid: str, muted: str) -> None:
    """Rings and named spokes, in the colours of lines and of their numbers."""
    axes.set_axis_off()
    axes.set_aspect("equal")
    for ring in _RINGS:
        axes.plot(*_closed([ring] * len(names)), color=grid, linewidth=0.8, zorder=0.5)
        axes.annotate(str(ring), (1.5, ring), color=muted, fontsize=9, va="top", ha="left")
    for name, x, y in zip(names, *_closed([100.0] * len(names))):
        axes.plot([0, x], [0, y], color=grid, linewidth=0.8, zorder=0.5)
        side = "center" if abs(x) < 10 else "left" if x > 0 else "right"
        axes.annotate(name.replace("-", "−"), (1.09 * x, 1.09 * y), ha=side, va="center")
    axes.set_xlim(-140, 140)
    axes.set_ylim(-118, 118)


def _closed(values: ArrayLike) -> tuple[list[float], list[float]]:
    """Values around the circle, the first at the top, as the points of a closed line."""
    values = np.asarray(values, dtype=float)
    angles = math.pi / 2 - 2 * math.pi * np.arange(len(values) + 1) / len(values)
    around = np.append(values, values[0])
    return (around * np.cos(angles)).tolist(), (around * np.sin(angles)).tolist()
