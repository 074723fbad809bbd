"""How the certified radii of a set of queries are distributed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from certimetric.base.arguments import require
from certimetric.base.arrays import Array
from certimetric.constraints.labels import compare_labels
from certimetric.plots.drawing import ATTACKED, CERTIFIED, Display, checked_flags, checked_radii, size_label

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class RadiusDisplay(Display):
    """Histogram of certified radii, right and wrong predictions apart.

    Wrong predictions have radii too: nothing within them makes the wrong label another one. Infinite radii, which no
    histogram shows, are counted in the legend.

    Parameters
    ----------
    radii : array of shape (m,)
    correct : bool array of shape (m,)
    norm : str or Norm, default="l2"

    Attributes
    ----------
    ax_, figure_ : matplotlib Axes and Figure

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> from certimetric.plots import RadiusDisplay
    >>> ax = Figure().subplots()
    >>> display = RadiusDisplay.from_predictions([0.1, 0.4, float("inf")], [True, False, True], ax=ax)
    >>> [text.get_text() for text in ax.get_legend().get_texts()]
    ['right (2, 1 of them infinite)', 'wrong (1)', 'median of all']
    """

    def __init__(self, radii: Array, correct: Array, *, norm: Any = "l2"):
        self.radii, self.correct, self.norm = radii, correct, norm

    @classmethod
    def from_estimator(
        cls, estimator: Any, X: ArrayLike, y: ArrayLike, *, bins: int = 30, ax: Axes | None = None
    ) -> RadiusDisplay:
        """Draw the radii of a classifier's predictions of X, shape (m, d), whose labels are y, shape (m,).

        Raises
        ------
        ValueError
            If no label of ``y`` is one of the classifier's classes, or X does not fit it.
        """
        labels, radii = estimator.predict_with_radius(X)
        correct = labels == compare_labels(estimator.classes_, y)
        return cls.from_predictions(radii, correct, norm=estimator.norm, bins=bins, ax=ax)

    @classmethod
    def from_predictions(
        cls, radii: ArrayLike, correct: ArrayLike, *, norm: Any = "l2", bins: int = 30, ax: Axes | None = None
    ) -> RadiusDisplay:
        """Draw certified radii, shape (m,), of predictions of which ``correct`` are right.

        Raises
        ------
        ArgumentError
            On radii below 0, or unless there is a bool for each.
        """
        radii = checked_radii("radii", radii)
        return cls(radii, checked_flags(correct, len(radii)), norm=norm).plot(ax, bins=bins)

    def plot(self, ax: Axes | None = None, *, bins: int = 30) -> RadiusDisplay:
        """Draw on ``ax``, or on a new figure, with this number of bins."""
        require(bins >= 1, "bins", "must be at least 1", bins)
        ax = self.on(ax)
        finite = np.isfinite(self.radii)
        edges = np.linspace(0.0, self.radii[finite].max(initial=0.0) or 1.0, bins + 1)
        kinds = ((self.correct, "right", CERTIFIED), (np.logical_not(self.correct), "wrong", ATTACKED))
        parts = [self.radii[finite & kind] for kind, *_ in kinds]
        names = [_named(name, kind.sum(), (kind & ~finite).sum()) for kind, name, _ in kinds]
        ax.hist(parts, bins=edges.tolist(), stacked=True, color=[colour for *_, colour in kinds], label=names)
        median = float(np.median(self.radii))
        if np.isfinite(median):
            ax.axvline(median, color="0.25", linestyle=":", label="median of all")
        ax.set(xlabel=size_label(self.norm).replace("size of the change", "certified radius"), ylabel="queries")
        ax.legend()
        return self


def _named(name: str, count: int, infinite: int) -> str:
    return f"{name} ({count}, {infinite} of them infinite)" if infinite else f"{name} ({count})"
