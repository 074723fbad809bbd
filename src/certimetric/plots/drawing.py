"""What displays and the figures of reports share: axes, curves with their intervals, marks, and sizes of changes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from certimetric.base.arguments import ArgumentError, require
from certimetric.base.arrays import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

N_SIZES = 101
CERTIFIED, ATTACKED, EXACT = "tab:blue", "tab:red", "0.25"


class Display:
    """A display that was drawn has ``ax_`` and ``figure_``."""

    ax_: Axes
    figure_: Figure

    def on(self, ax: Axes | None) -> Axes:
        """The axes to draw on: those given, or those of a new figure."""
        if ax is None:
            from matplotlib import pyplot

            ax = pyplot.subplots(layout="constrained")[1]
        figure = ax.get_figure(root=True)
        assert figure is not None
        self.ax_, self.figure_ = ax, figure
        return ax


def draw_curve(
    ax: Axes, x: ArrayLike, y: ArrayLike, low: ArrayLike | None = None, high: ArrayLike | None = None, **style: Any
) -> Any:
    """Draw a line, in a band where the ends of its interval are given; ``style`` is of matplotlib's lines."""
    (line,) = ax.plot(x, y, **style)
    if low is not None and high is not None:
        ax.fill_between(x, low, high, color=line.get_color(), alpha=0.13, linewidth=0, gid=line.get_gid())
    return line


def mark_per_cent(axis: Any) -> None:
    """Few round marks on an axis of shares, in per cent."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10]))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{round(100 * value, 6):g} %".replace("-", "−")))


def size_label(norm: Any) -> str:
    """What an axis of sizes of changes is called."""
    return f"size of the change ({norm})" if isinstance(norm, str) else "size of the change"


def sizes(eps: ArrayLike | None, *reached: Array) -> Array:
    """The sizes given, in order; by default evenly from 0 to a little beyond the largest finite one reached."""
    if eps is None:
        finite = np.concatenate([values[np.isfinite(values)] for values in reached])
        return np.linspace(0.0, 1.05 * finite.max(initial=0.0) or 1.0, N_SIZES)
    eps = np.sort(np.atleast_1d(np.asarray(eps, dtype=float)))
    require(bool(np.isfinite(eps).all() and (eps >= 0).all()), "eps", "must hold sizes of at least 0", eps.tolist())
    return eps


def checked_radii(name: str, radii: ArrayLike, length: int | None = None) -> Array:
    """Sizes of changes, one for each query: at least 0, infinity allowed."""
    radii = np.asarray(radii, dtype=float)
    require(radii.ndim == 1 and len(radii) > 0, name, "must have shape (m,), with m of at least 1", radii.shape)
    require(bool((radii >= 0).all()), name, "must hold sizes of at least 0", float(radii[~(radii >= 0)][:1].sum()))
    if length is not None and len(radii) != length:
        raise ArgumentError(name, f"must hold one size for each of the {length} queries", len(radii))
    return radii


def checked_flags(correct: ArrayLike, length: int) -> Any:
    """Which predictions are right, one bool for each query."""
    correct = np.asarray(correct)
    if correct.shape != (length,) or correct.dtype != bool:
        raise ArgumentError("correct", f"must be a bool for each of the {length} queries", correct.shape)
    return correct
