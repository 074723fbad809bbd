"""Radii in the units before a scaler: the scaler is folded into the metric, and nothing else changes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from certimetric.base.arrays import Array
from certimetric.base.rounding import UNIT_ROUNDOFF
from certimetric.certify.classifier import CertifiedKNeighborsClassifier
from certimetric.certify.reference import PointSet, entries, times_components, with_entries
from certimetric.certify.vicinity import Vicinity


def in_original_units(pipeline: Pipeline, norm: Any = None) -> CertifiedKNeighborsClassifier:
    """The fitted classifier at the end of a pipeline, as one that takes unscaled data.

    Inside ``make_pipeline(StandardScaler(), CertifiedKNeighborsClassifier())`` radii are measured in standardised
    units. The classifier that this function gives predicts the same labels, but takes the data as they were before
    scaling, and measures perturbations in their units.

    It scales as the pipeline does, to the last digit, and its radii count what that rounds: far from the origin, where
    a scaler loses digits, they are smaller. (A pipeline takes data of single precision in that precision; this
    classifier takes all in double precision.)

    Parameters
    ----------
    pipeline : Pipeline
        Fitted; scalers (StandardScaler, MinMaxScaler, MaxAbsScaler, RobustScaler), then a
        :class:`CertifiedKNeighborsClassifier`.
    norm : norm, default=None
        Another norm for the original units; None keeps the classifier's. A classifier with an ellipsoid norm needs
        one here, for its matrix is about scaled units.

    Returns
    -------
    classifier : CertifiedKNeighborsClassifier
        Fitted.

    Raises
    ------
    ValueError
        If a step is not one of the scalers, or one that clips.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import MinMaxScaler
    >>> X, y = np.array([[0.0], [100.0]]), ["a", "b"]
    >>> pipeline = make_pipeline(MinMaxScaler(), CertifiedKNeighborsClassifier(1)).fit(X, y)
    >>> pipeline[-1].predict_with_radius([[0.3]])[1].round(6)
    array([0.2])
    >>> in_original_units(pipeline).predict_with_radius([[30.0]])[1].round(6)
    array([20.])
    """
    classifier = pipeline[-1]
    if not isinstance(classifier, CertifiedKNeighborsClassifier):
        raise ValueError(f"the pipeline must end with a CertifiedKNeighborsClassifier, got {classifier!r}")
    check_is_fitted(classifier, "classes_")
    if norm is None:
        if not isinstance(classifier.norm, str):
            raise ValueError(
                "a norm other than 'l2', 'linf' or 'l1' needs its counterpart in original units: give norm="
            )
        norm = classifier.norm
    X = classifier.X_
    scalings = [_scaling(step) for _, step in pipeline.steps[:-1] if step is not None and step != "passthrough"]
    scale = np.ones(X.shape[1])
    for scaling in scalings[::-1]:
        X = scaling.inverse(X)
        scale = scale / scaling.factor
    return classifier.in_other_units(
        UnscaledSet(classifier.reference_, scalings),
        np.ascontiguousarray(X),
        metric=classifier.metric_.compose(scale),
        norm=norm,
        feature_names=getattr(pipeline[0], "feature_names_in_", None),
    )


class UnscaledSet(PointSet):
    """The training set of a classifier behind scalers, for queries that were not scaled.

    Training instances keep the coordinates that they have in the classifier, and a query is scaled as the pipeline
    scales it: predictions are the same to the last digit.

    Parameters
    ----------
    reference : PointSet
        Of scaled instances.
    scalings : list of Scaling
        From unscaled to scaled data.
    """

    def __init__(self, reference: PointSet, scalings: list[Scaling]):
        factor = np.ones(reference.metric.n_features)
        for scaling in scalings:
            factor = factor * scaling.factor
        metric = with_entries(reference.metric, entries(reference.metric) * factor)
        super().__init__(metric, reference.points, reference.point_errors, reference.y, reference.exponent)
        self.scaled, self.scalings = reference, scalings

    def vicinity(self, points: Array, k: int) -> Vicinity | None:
        """Cells, which are those of the scaled instances."""
        self._vicinity = self.scaled.vicinity(points, k)
        return self._vicinity

    def embed(self, X: Array) -> tuple[Array, Array]:
        """Coordinates of unscaled instances, shape (m, r), and a bound on the rounding error of each row."""
        Z, off = X, UNIT_ROUNDOFF * np.abs(X)  # x + δ is rounded before it is scaled
        for scaling in self.scalings:
            Z, off = scaling.transform(Z, off)
        points, errors = self.scaled.embed(Z)
        _, of_scaling = times_components(self.scaled.metric, off, np.zeros(off.shape[1]), 1.0 + 1e-9, 0.0)
        return points, errors + of_scaling

    def gamma(self) -> float:
        # Each scaling rounds twice, and so does its factor in the metric.
        return super().gamma() + 4 * len(self.scalings) * UNIT_ROUNDOFF


@dataclass(frozen=True, eq=False)
class Scaling:
    """The arithmetic of a fitted scaler: ``(x − shift) / divisor``, or ``x · multiplier + offset`` for MinMaxScaler.

    Parameters
    ----------
    shift, divisor : array of shape (d,) or float
    multiplier, offset : array of shape (d,), optional
        In place of the two.
    """

    shift: Array | float = 0.0
    divisor: Array | float = 1.0
    multiplier: Array | None = None
    offset: Array | float = 0.0

    @property
    def factor(self) -> Array:
        """What a difference is multiplied by."""
        return np.asarray(1.0 / self.divisor if self.multiplier is None else self.multiplier)

    def transform(self, X: Array, off: Array) -> tuple[Array, Array]:
        """Scaled instances, and a bound on their errors from that of X: a rounding of each of the two results."""
        between = X - self.shift if self.multiplier is None else X * self.multiplier
        Z = between / self.divisor if self.multiplier is None else between + self.offset
        # A rounding of the difference is one of the quotient.
        rounded = 2.0 * np.abs(Z) if self.multiplier is None else np.abs(between) + np.abs(Z)
        return Z, off * self.factor + UNIT_ROUNDOFF * rounded

    def inverse(self, Z: Array) -> Array:
        """Instances before scaling."""
        if self.multiplier is None:
            return Z * self.divisor + self.shift
        return (Z - self.offset) / self.multiplier


def _scaling(step: Any) -> Scaling:
    """The scaling of a scaler of scikit-learn."""
    name = type(step).__name__
    if getattr(step, "clip", False):
        raise ValueError(
            f"{name} clips, so that its input cannot be told from its output: radii have no original units"
        )
    if name in ("StandardScaler", "RobustScaler", "MaxAbsScaler"):
        divisor = getattr(step, "scale_", None)
        shift = getattr(step, "mean_", None) if name == "StandardScaler" else getattr(step, "center_", None)
        if name == "StandardScaler" and not step.with_mean:
            shift = None
        return Scaling(0.0 if shift is None else shift, 1.0 if divisor is None else divisor)
    if name == "MinMaxScaler":
        return Scaling(multiplier=step.scale_, offset=step.min_)
    raise ValueError(
        f"radii can be given in original units behind StandardScaler, MinMaxScaler, MaxAbsScaler and RobustScaler, "
        f"got the step {name}: fold it into the metric with MahalanobisMetric.from_components yourself"
    )
