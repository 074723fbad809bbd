"""Risk against coverage: what is wrong among the predictions that are kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from numpy.typing import ArrayLike

from certimetric.certify.selective import RiskCoverageCurve, risk_coverage_curve
from certimetric.constraints.labels import compare_labels
from certimetric.plots.drawing import Display, draw_curve, mark_per_cent

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class RiskCoverageDisplay(Display):
    """The share of wrong predictions among those that are kept, when the least trusted are left out.

    Parameters
    ----------
    curve : RiskCoverageCurve
    label : str, optional
        Of the line.

    Attributes
    ----------
    ax_, figure_ : matplotlib Axes and Figure
    line_ : matplotlib Line2D

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> from certimetric.plots import RiskCoverageDisplay
    >>> ax = Figure().subplots()
    >>> display = RiskCoverageDisplay.from_predictions([False, True, False], [0.9, 0.1, 0.5], label="radius", ax=ax)
    >>> display.curve.risk.round(3), ax.get_legend().get_texts()[0].get_text()
    (array([0.   , 0.   , 0.333]), 'radius, AURC 0.111')
    """

    def __init__(self, curve: RiskCoverageCurve, *, label: str | None = None):
        self.curve, self.label = curve, label

    @classmethod
    def from_estimator(
        cls, estimator: Any, X: ArrayLike, y: ArrayLike, *, label: str | None = None, ax: Axes | None = None
    ) -> RiskCoverageDisplay:
        """Draw the curve of the certified radii of a classifier's predictions of X, shape (m, d), labels y, shape (m,).

        Raises
        ------
        ValueError
            If no label of ``y`` is one of the classifier's classes, or X does not fit it.
        """
        y = compare_labels(estimator.classes_, y)  # before the work
        labels, radii = estimator.predict_with_radius(X)
        return cls.from_predictions(labels != y, radii, label=label, ax=ax)

    @classmethod
    def from_predictions(
        cls, errors: ArrayLike, score: ArrayLike, *, label: str | None = None, ax: Axes | None = None
    ) -> RiskCoverageDisplay:
        """Draw the curve of a score, shape (m,), of predictions that are wrong where ``errors`` is true.

        Raises
        ------
        ArgumentError
            As :func:`certimetric.certify.risk_coverage_curve`.
        """
        return cls(risk_coverage_curve(errors, score), label=label).plot(ax)

    def plot(self, ax: Axes | None = None, **drawn: Any) -> RiskCoverageDisplay:
        """Draw on ``ax``, or on a new figure; further arguments go to ``ax.plot``."""
        ax = self.on(ax)
        name = f"AURC {self.curve.aurc:.3g}" if self.label is None else f"{self.label}, AURC {self.curve.aurc:.3g}"
        self.line_ = draw_curve(ax, self.curve.coverage, self.curve.risk, **({"label": name} | drawn))
        ax.set(xlabel="share of predictions that is kept", ylabel="wrong among them", xlim=(0.0, 1.0))
        ax.set_ylim(bottom=0.0)
        mark_per_cent(ax.xaxis)
        mark_per_cent(ax.yaxis)
        ax.legend()
        return self
