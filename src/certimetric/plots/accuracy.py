"""Accuracy against the size of changes: what is certified, and what lies between certificate and attack."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from certimetric.base.arguments import require
from certimetric.base.arrays import Array
from certimetric.plots.drawing import (
    ATTACKED,
    CERTIFIED,
    EXACT,
    Display,
    checked_flags,
    checked_radii,
    draw_curve,
    mark_per_cent,
    size_label,
    sizes,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class CertifiedAccuracyDisplay(Display):
    """Certified accuracy: the share of queries that are right and proven to stay so under changes of size up to ε.

    Made by :meth:`from_estimator` or :meth:`from_predictions`.

    Parameters
    ----------
    eps : array of shape (e,)
        Sizes of changes, in the units of the radii.
    accuracy : array of shape (e,)
        Shares from 0 to 1.
    label : str, optional
        Of the line.
    norm : str or Norm, default="l2"
        In which the sizes are; it names the axis.

    Attributes
    ----------
    ax_, figure_ : matplotlib Axes and Figure
    line_ : matplotlib Line2D

    References
    ----------
    The certificate is that of :func:`certimetric.certified_radius`.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> from sklearn.datasets import load_iris
    >>> from certimetric import CertifiedKNeighborsClassifier
    >>> from certimetric.plots import CertifiedAccuracyDisplay
    >>> X, y = load_iris(return_X_y=True)
    >>> knn = CertifiedKNeighborsClassifier().fit(X[::2], y[::2])
    >>> ax = Figure().subplots()
    >>> display = CertifiedAccuracyDisplay.from_estimator(knn, X[1::2], y[1::2], eps=[0.0, 0.2], ax=ax)
    >>> display.accuracy.shape, display.line_.axes is ax
    ((2,), True)
    """

    def __init__(self, eps: Array, accuracy: Array, *, label: str | None = None, norm: Any = "l2"):
        self.eps, self.accuracy, self.label, self.norm = eps, accuracy, label, norm

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: ArrayLike,
        y: ArrayLike,
        *,
        eps: ArrayLike | None = None,
        label: str | None = None,
        ax: Axes | None = None,
        **drawn: Any,
    ) -> CertifiedAccuracyDisplay:
        """Draw the curve of a classifier.

        Parameters
        ----------
        estimator : fitted CertifiedKNeighborsClassifier
        X : array-like of shape (m, d)
        y : array-like of shape (m,)
        eps : array-like of shape (e,), optional
            None for 101 sizes up to the largest finite radius.
        label : str, optional
        ax : matplotlib Axes, optional
        **drawn
            Passed to ``ax.plot``.

        Raises
        ------
        ValueError
            If no label of ``y`` is one of the classifier's classes, or X does not fit it.
        """
        from certimetric.constraints.labels import compare_labels

        y = compare_labels(estimator.classes_, y)  # before the work
        labels, radii = estimator.predict_with_radius(X)
        correct = labels == y
        return cls.from_predictions(radii, correct, eps=eps, label=label, norm=estimator.norm, ax=ax, **drawn)

    @classmethod
    def from_predictions(
        cls,
        radii: ArrayLike,
        correct: ArrayLike,
        *,
        eps: ArrayLike | None = None,
        label: str | None = None,
        norm: Any = "l2",
        ax: Axes | None = None,
        **drawn: Any,
    ) -> CertifiedAccuracyDisplay:
        """Draw the curve of certified radii, shape (m,), of predictions of which ``correct`` are right.

        Raises
        ------
        ArgumentError
            On radii below 0, or unless there is a bool for each.
        """
        radii = checked_radii("radii", radii)
        correct = checked_flags(correct, len(radii))
        eps = sizes(eps, radii[correct])
        accuracy = (correct & (radii >= eps[:, None])).mean(axis=1)
        return cls(eps, accuracy, label=label, norm=norm).plot(ax, **drawn)

    def plot(self, ax: Axes | None = None, **drawn: Any) -> CertifiedAccuracyDisplay:
        """Draw on ``ax``, or on a new figure; further arguments go to ``ax.plot``."""
        ax = self.on(ax)
        self.line_ = draw_curve(ax, self.eps, self.accuracy, **({"label": self.label} | drawn))
        ax.set(xlabel=size_label(self.norm), ylabel="certified accuracy", ylim=(0.0, 1.02))
        mark_per_cent(ax.yaxis)
        if self.label is not None:
            ax.legend()
        return self


# The lines of a sandwich, by the shares that they show.
_SANDWICH: dict[str, dict[str, Any]] = {
    "attacked": {"color": ATTACKED, "linestyle": "--", "label": "attacked: found"},
    "certified": {"color": CERTIFIED, "label": "certified: proven"},
    "exact": {"color": EXACT, "linestyle": ":", "label": "exact"},
    "clean": {"color": "0.5", "linestyle": ":", "label": "clean"},
    "random": {"color": "0.5", "linestyle": "-.", "label": "random change"},
}


class SandwichDisplay(Display):
    """Accuracy under attack from above, certified accuracy from below: the truth lies between them.

    Made by :meth:`from_estimator` or :meth:`from_predictions`.

    Parameters
    ----------
    eps : array of shape (e,)
    certified, attacked : array of shape (e,)
        Shares of the queries that are proven to stay right, and that no attack within ε has made wrong. None for what
        is not known.
    exact : array of shape (e,), optional
        The true share.
    norm : str or Norm, default="l2"
    clean, random : array of shape (e,), optional
        Shares that are right as they are, and under random changes of the same size.

    Attributes
    ----------
    ax_, figure_ : matplotlib Axes and Figure
    lines_ : list of matplotlib Line2D
        Attacked, certified, exact, clean, random: those that are known.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> from certimetric.plots import SandwichDisplay
    >>> ax = Figure().subplots()
    >>> found = SandwichDisplay.from_predictions([0.0, 1.0, 2.0], [0.0, 1.5, 2.5], eps=[0.0, 1.2], ax=ax)
    >>> found.certified.round(2), found.attacked.round(2)
    (array([0.67, 0.33]), array([0.67, 0.67]))
    """

    def __init__(
        self,
        eps: ArrayLike,
        certified: ArrayLike | None,
        attacked: ArrayLike | None,
        exact: ArrayLike | None = None,
        *,
        norm: Any = "l2",
        clean: ArrayLike | None = None,
        random: ArrayLike | None = None,
    ):
        self.eps: Array = np.asarray(eps, dtype=float)
        known = (None if share is None else np.asarray(share, dtype=float) for share in (certified, attacked, exact))
        self.certified, self.attacked, self.exact = known
        self.clean, self.random, self.norm = clean, random, norm

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: ArrayLike,
        y: ArrayLike,
        *,
        attack: Any = None,
        exact: bool = False,
        eps: ArrayLike | None = None,
        ax: Axes | None = None,
    ) -> SandwichDisplay:
        """Certify and attack a classifier, and draw both.

        Parameters
        ----------
        estimator : fitted CertifiedKNeighborsClassifier
        X : array-like of shape (m, d)
        y : array-like of shape (m,)
        attack : Attack, optional
            None for :class:`certimetric.attacks.RegionAttack`.
        exact : bool, default=False
            Also the smallest perturbation of each query: exact for one neighbour, an upper bound for more.
        eps : array-like of shape (e,), optional
            None for 101 sizes up to the largest finite one found.
        ax : matplotlib Axes, optional

        Raises
        ------
        ValueError
            As the classifier and the attack raise it.
        """
        from certimetric.attacks.region import RegionAttack
        from certimetric.constraints.labels import compare_labels

        certified = estimator.correctness_radius(X, y)
        found = (RegionAttack() if attack is None else attack)(estimator, X, y, estimator.norm).distances
        right = estimator.predict(X) == compare_labels(estimator.classes_, y)
        least = np.where(right, estimator.minimal_perturbation(X).radii, 0.0) if exact else None
        return cls.from_predictions(certified, found, least, right=right, eps=eps, norm=estimator.norm, ax=ax)

    @classmethod
    def from_predictions(
        cls,
        certified: ArrayLike,
        attacked: ArrayLike,
        exact: ArrayLike | None = None,
        *,
        right: ArrayLike | None = None,
        eps: ArrayLike | None = None,
        norm: Any = "l2",
        ax: Axes | None = None,
    ) -> SandwichDisplay:
        """Draw the curves of sizes of changes, one for each query.

        Parameters
        ----------
        certified : array-like of shape (m,)
            Radius within which the query is proven to stay right: 0 where it is wrong.
        attacked : array-like of shape (m,)
            Size of the smallest change found that makes it wrong: 0 where it is wrong, infinity where none was found.
        exact : array-like of shape (m,), optional
            Size of the smallest change there is.
        right : bool array-like of shape (m,), optional
            Which queries are right; by default those whose attack is not at 0.
        eps : array-like of shape (e,), optional
        norm : str or Norm, default="l2"
        ax : matplotlib Axes, optional

        Raises
        ------
        ArgumentError
            If lengths differ, a size is negative, or an attack is nearer than the certificate.
        """
        certified = checked_radii("certified", certified)
        attacked = checked_radii("attacked", attacked, len(certified))
        kept = attacked > 0 if right is None else checked_flags(right, len(certified))
        broken = kept & (attacked < certified)
        require(not broken.any(), "attacked", "must not be nearer than what is certified", int(broken.sum()))
        least = None if exact is None else checked_radii("exact", exact, len(certified))
        eps = sizes(eps, certified, attacked)
        # A change of exactly the size found succeeds; one of exactly the certified size does not.
        below = (kept & (certified >= eps[:, None])).mean(axis=1)
        above = (kept & ((attacked > eps[:, None]) | (eps[:, None] == 0))).mean(axis=1)
        truth = None if least is None else (kept & ((least > eps[:, None]) | (eps[:, None] == 0))).mean(axis=1)
        return cls(eps, below, np.maximum(above, below), truth, norm=norm).plot(ax)

    def plot(self, ax: Axes | None = None) -> SandwichDisplay:
        """Draw on ``ax``, or on a new figure."""
        ax = self.on(ax)
        self.draw(ax)
        ax.set(xlabel=size_label(self.norm), ylabel="accuracy", ylim=(0.0, 1.02))
        mark_per_cent(ax.yaxis)
        ax.legend()
        return self

    def draw(
        self, ax: Axes, styles: Mapping[str, Mapping[str, Any]] = _SANDWICH, shade: str | None = "0.5"
    ) -> SandwichDisplay:
        """Draw the lines alone, each in the style of its name, and the shade between certificate and attack, if any."""
        if shade is not None and self.certified is not None and self.attacked is not None:
            ax.fill_between(self.eps, self.certified, self.attacked, color=shade, alpha=0.18, linewidth=0)
        known = [(name, share) for name in _SANDWICH if (share := getattr(self, name)) is not None]
        self.lines_ = [draw_curve(ax, self.eps, share, **styles[name]) for name, share in known]
        return self
