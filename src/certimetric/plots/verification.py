"""Operating points of verification: ROC, and DET on the scale of normal deviates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from certimetric.base.arguments import chosen
from certimetric.plots.drawing import Display, draw_curve

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from certimetric.certify.rates import VerificationCurve

_MARKS = (1e-6, 1e-5, 1e-4, 1e-3, 0.01, 0.05, 0.2, 0.5, 0.8, 0.95, 0.99)


class VerificationDisplay(Display):
    """False accepts against false rejects (DET), or against true accepts (ROC), at every threshold.

    Parameters
    ----------
    curve : VerificationCurve
    threshold : float, optional
        An operating point to mark: the threshold in use.
    label : str, optional
        Of the line.

    Attributes
    ----------
    ax_, figure_ : matplotlib Axes and Figure
    line_ : matplotlib Line2D

    References
    ----------
    Martin et al., *The DET curve in assessment of detection task performance* [martin1997det], 1997.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> from certimetric.plots import VerificationDisplay
    >>> found = VerificationDisplay.from_predictions(
    ...     [0.1, 0.4, 0.2, 0.9], [True, True, False, False], kind="roc", ax=Figure().subplots()
    ... )
    >>> found.curve.auc
    0.75
    """

    def __init__(self, curve: VerificationCurve, *, threshold: float | None = None, label: str | None = None):
        self.curve, self.threshold, self.label = curve, threshold, label

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        pairs: Any,
        y: ArrayLike,
        *,
        kind: str = "det",
        label: str | None = None,
        ax: Axes | None = None,
    ) -> VerificationDisplay:
        """Draw the curve of a :class:`certimetric.PairVerifier`, with its threshold marked if it has one.

        Parameters
        ----------
        estimator : fitted PairVerifier
        pairs : array-like of shape (m, 2, d), or two of shape (m, d)
        y : array-like of shape (m,)
            +1 for pairs of one subject, −1 for others.
        kind : {"det", "roc"}, default="det"
        label : str, optional
        ax : matplotlib Axes, optional

        Raises
        ------
        ValueError
            As :func:`certimetric.certify.verification_curve`.
        """
        threshold = getattr(estimator, "threshold_", None)
        return cls(estimator.curve(pairs, y), threshold=threshold, label=label).plot(ax, kind=kind)

    @classmethod
    def from_predictions(
        cls,
        distances: ArrayLike,
        genuine: ArrayLike,
        *,
        threshold: float | None = None,
        kind: str = "det",
        label: str | None = None,
        ax: Axes | None = None,
    ) -> VerificationDisplay:
        """Draw the curve of distances, shape (m,), of pairs of which ``genuine`` are of one subject.

        Raises
        ------
        ArgumentError, ValueError
            As :func:`certimetric.certify.verification_curve`.
        """
        from certimetric.certify.rates import verification_curve

        return cls(verification_curve(distances, genuine), threshold=threshold, label=label).plot(ax, kind=kind)

    def plot(self, ax: Axes | None = None, *, kind: str = "det", **drawn: Any) -> VerificationDisplay:
        """Draw on ``ax``, or on a new figure; further arguments go to ``ax.plot``.

        On the scale of DET a rate of 0 or 1 lies at infinity: the curve begins and ends with the smallest rates that
        the numbers of pairs can show.
        """
        chosen("kind", kind, ("det", "roc"))
        ax = self.on(ax)
        curve = self.curve.thinned(2000)

        def up(tar: Any) -> Any:
            return tar if kind == "roc" else 1.0 - np.asarray(tar)

        style = {"label": self.label} | drawn
        if kind == "det":
            least = 0.5 / self.curve.n_impostor, 0.5 / self.curve.n_genuine
            scale_det(ax, least)
            self.line_ = draw_det(ax, curve.far, up(curve.tar), least, **style)
        else:
            self.line_ = draw_curve(ax, curve.far, curve.tar, **style)
        if self.threshold is not None:
            far, tar = self.curve.at(self.threshold)
            ax.plot([far], [up(tar)], "o", color=self.line_.get_color(), markeredgecolor="k")
        ax.set(xlabel="false accept rate", ylabel="true accept rate" if kind == "roc" else "false reject rate")
        if self.label is not None:
            ax.legend()
        return self


def draw_det(ax: Axes, far: ArrayLike, frr: ArrayLike, least: tuple[float, float], **style: Any) -> Any:
    """Draw a line of rates on axes of normal deviates, where 0 and 1 lie at infinity: at the ``least`` of each axis."""
    return draw_curve(ax, *(np.clip(rates, end, 1.0 - end) for rates, end in zip((far, frr), least)), **style)


def scale_det(ax: Axes, least: tuple[float, float], most: float = 0.6) -> None:
    """Scale both axes by the quantile function of the normal distribution, in which DET curves are nearly straight.

    They run from the ``least`` rate of each to the ``most``.
    """
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
    from scipy.special import ndtr, ndtri

    def inverse(values: Any) -> Any:
        return ndtri(np.clip(values, 1e-12, 1.0 - 1e-12))

    for axis, scale, limit, end in (
        (ax.xaxis, ax.set_xscale, ax.set_xlim, least[0]),
        (ax.yaxis, ax.set_yscale, ax.set_ylim, least[1]),
    ):
        scale("function", functions=(inverse, ndtr))
        axis.set_major_locator(FixedLocator([mark for mark in _MARKS if mark >= end]))
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))
        limit(end, most)
