"""Where a classifier of two features predicts what, and the balls in which it is certified."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from certimetric.base.arguments import require
from certimetric.base.arrays import Array
from certimetric.geometry.norms import resolve_norm
from certimetric.plots.drawing import Display

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_BOUNDARY = 181  # points of the outline of a ball


class DecisionRegionDisplay(Display):
    """Decision regions of a classifier of two features, and around some queries the balls that are certified.

    Inside of a ball, which has the shape that the classifier's norm gives it, no other label is predicted.

    Parameters
    ----------
    xx, yy : array of shape (g, g)
        The grid.
    codes : array of shape (g, g)
        Place of the predicted label in ``classes``.
    classes : array of shape (c,)
    points : array of shape (m, 2)
        Queries with balls.
    point_codes : array of shape (m,)
    balls : array of shape (m, p, 2)
        Outlines of the balls; none for queries whose radius is 0 or infinite, which are NaN.

    Attributes
    ----------
    ax_, figure_ : matplotlib Axes and Figure

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> from certimetric import CertifiedKNeighborsClassifier
    >>> from certimetric.plots import DecisionRegionDisplay
    >>> knn = CertifiedKNeighborsClassifier(n_neighbors=1).fit([[0.0, 0.0], [4.0, 0.0]], ["a", "b"])
    >>> ax = Figure().subplots()
    >>> display = DecisionRegionDisplay.from_estimator(knn, [[1.0, 0.0]], grid_resolution=20, ax=ax)
    >>> bool(display.balls[0, :, 0].max() <= 2.0)
    True
    """

    def __init__(
        self, xx: Array, yy: Array, codes: Array, classes: Array, points: Array, point_codes: Array, balls: Array
    ):
        self.xx, self.yy, self.codes, self.classes = xx, yy, codes, classes
        self.points, self.point_codes, self.balls = points, point_codes, balls

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: ArrayLike,
        *,
        grid_resolution: int = 150,
        margin: float = 0.15,
        training: bool = True,
        ax: Axes | None = None,
    ) -> DecisionRegionDisplay:
        """Predict on a grid, and certify queries.

        Parameters
        ----------
        estimator : fitted CertifiedKNeighborsClassifier of two features
        X : array-like of shape (m, 2)
            Queries to be drawn with their balls.
        grid_resolution : int, default=150
            Points along each side.
        margin : float, default=0.15
            How far the grid goes beyond training instances and queries, as a share of their range.
        training : bool, default=True
            Draw the training instances as well.
        ax : matplotlib Axes, optional

        Raises
        ------
        ArgumentError
            Unless there are two features, a resolution of at least 2 and a margin of at least 0.
        """
        X = np.asarray(X, dtype=float)
        require(X.ndim == 2 and X.shape[1] == 2, "X", "must have shape (m, 2): regions are drawn in a plane", X.shape)
        require(grid_resolution >= 2, "grid_resolution", "must be at least 2", grid_resolution)
        require(margin >= 0, "margin", "must be at least 0", margin)
        given = np.asarray(estimator.X_)
        everything = np.concatenate([given, X])
        low, high = everything.min(axis=0), everything.max(axis=0)
        room = margin * np.where(high > low, high - low, 1.0)
        sides = [np.linspace(low[j] - room[j], high[j] + room[j], grid_resolution) for j in range(2)]
        xx, yy = np.meshgrid(*sides)
        codes = np.searchsorted(estimator.classes_, estimator.predict(np.column_stack([xx.ravel(), yy.ravel()])))
        labels, radii = estimator.predict_with_radius(X)
        point_codes = np.searchsorted(estimator.classes_, labels)
        balls = X[:, None] + _outlines(radii, estimator.norm)
        display = cls(xx, yy, codes.reshape(xx.shape), estimator.classes_, X, point_codes, balls)
        display.training_ = (given, np.searchsorted(estimator.classes_, estimator.y_)) if training else None
        return display.plot(ax)

    training_: tuple[Array, Array] | None = None

    def plot(self, ax: Axes | None = None) -> DecisionRegionDisplay:
        """Draw on ``ax``, or on a new figure; both axes have one scale, so that balls look as they are."""
        from matplotlib import colormaps

        ax = self.on(ax)
        colours = colormaps["tab10"](np.arange(max(len(self.classes), 2)) % 10)
        levels = np.arange(len(colours) + 1) - 0.5
        ax.contourf(self.xx, self.yy, self.codes, levels=levels, colors=colours, alpha=0.18)
        for code, label in enumerate(self.classes):
            rows = self.point_codes == code
            if self.training_ is not None:
                given = self.training_[0][self.training_[1] == code]
                ax.scatter(
                    given[:, 0], given[:, 1], color=colours[code], s=9, alpha=0.7, linewidth=0, label=f"class {label}"
                )
            own = self.points[rows]
            ax.scatter(own[:, 0], own[:, 1], color=colours[code], s=32, marker="D", edgecolor="k", linewidth=0.8)
            for ball in self.balls[rows]:
                ax.plot(*ball.T, color="k", linewidth=0.9)
        ax.set(aspect="equal", xlim=(self.xx.min(), self.xx.max()), ylim=(self.yy.min(), self.yy.max()))
        if self.training_ is not None:
            ax.legend(fontsize="small")
        return self


def _outlines(radii: ArrayLike, norm: Any) -> Array:
    """Outlines of balls about 0 in the plane, shape (m, p, 2)."""
    angle = np.linspace(0.0, 2.0 * np.pi, _BOUNDARY)
    directions = np.column_stack([np.cos(angle), np.sin(angle)])
    outline = directions / resolve_norm(norm).norm(directions)[:, None]
    radii = np.asarray(radii, dtype=float)
    drawn = np.where((radii > 0) & np.isfinite(radii), radii, np.nan)
    return drawn[:, None, None] * outline
