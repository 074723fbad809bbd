"""What a learned metric looks at: its spectrum, and the features that weigh most."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from certimetric.base.arguments import require
from certimetric.base.arrays import Array
from certimetric.plots.drawing import CERTIFIED, Display

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class MetricDisplay(Display):
    """Anatomy of a metric: the eigenvalues of M, or the share of its trace that each feature has.

    A flat spectrum weighs all directions alike, as the Euclidean distance does; a steep one leans on few, and small
    changes along those decide. The weight of feature j is ``M_jj / trace(M)``: it is about data in the units that the
    metric was learned in.

    Parameters
    ----------
    spectrum : array of shape (d,)
        Eigenvalues of M in decreasing order.
    weights : array of shape (d,), optional
        Shares of the features, which add up to 1; without them there is only the spectrum to draw.
    names : tuple of str, optional
        Of the features.

    Attributes
    ----------
    ax_, figure_ : matplotlib Axes and Figure

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> from certimetric import MahalanobisMetric
    >>> from certimetric.plots import MetricDisplay
    >>> metric = MahalanobisMetric.from_matrix([[3.0, 0.0], [0.0, 1.0]], feature_names=["age", "income"])
    >>> display = MetricDisplay.from_estimator(metric, kind="features", ax=Figure().subplots())
    >>> display.weights, display.names
    (array([0.75, 0.25]), ('age', 'income'))
    """

    def __init__(self, spectrum: ArrayLike, weights: ArrayLike = (), names: tuple[str, ...] = ()):
        self.spectrum: Array = np.asarray(spectrum, dtype=float)
        self.weights: Array = np.asarray(weights, dtype=float)
        self.names = names

    @classmethod
    def from_estimator(
        cls, metric: Any, *, kind: str = "spectrum", label: str | None = None, ax: Axes | None = None
    ) -> MetricDisplay:
        """Draw a metric, or that of a fitted learner.

        Parameters
        ----------
        metric : MahalanobisMetric, fitted learner or fitted linear transformer
        kind : {"spectrum", "features"}, default="spectrum"
        label : str, optional
            Of the line.
        ax : matplotlib Axes, optional

        Raises
        ------
        TypeError, ValueError
            For what is no metric, and for one that is 0.
        """
        from certimetric.geometry.mahalanobis import as_metric

        value = as_metric(metric)
        weights = (value.components**2).sum(axis=0)
        require(bool(weights.sum() > 0), "metric", "must not be 0", metric)
        names = value.feature_names or tuple(f"x{j}" for j in range(value.n_features))
        return cls(value.spectrum(), weights / weights.sum(), names).plot(ax, kind=kind, label=label)

    def plot(
        self, ax: Axes | None = None, *, kind: str = "spectrum", n_features: int = 12, label: str | None = None
    ) -> MetricDisplay:
        """Draw the spectrum relative to the largest eigenvalue, or the ``n_features`` heaviest features."""
        require(kind in ("spectrum", "features"), "kind", 'must be "spectrum" or "features"', kind)
        require(n_features >= 1, "n_features", "must be at least 1", n_features)
        ax = self.on(ax)
        if kind == "features":
            heaviest = np.argsort(-self.weights, kind="stable")[:n_features][::-1]
            ax.barh([self.names[j] for j in heaviest], self.weights[heaviest], color=CERTIFIED, label=label)
            ax.set(xlabel="share of the trace of M", xlim=(0.0, None))
        else:
            self.draw_spectrum(ax, marker="o", markersize=3, label=label)
            ax.set(xlabel="eigenvalue of M, by rank", ylabel="relative to the largest")
        if label is not None:
            ax.legend()
        return self

    def draw_spectrum(self, ax: Axes, **style: Any) -> None:
        """Draw the line of the spectrum alone, on a logarithmic axis; what is 0 but for rounding is left out."""
        relative = self.spectrum / self.spectrum[0]
        ax.set_yscale("log")
        ax.plot(np.arange(1, len(relative) + 1), np.where(relative > 1e-12, relative, np.nan), **style)
