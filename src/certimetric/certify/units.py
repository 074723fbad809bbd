"""Radii in the units before a scaler: the scaler is folded into the metric, and nothing else changes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from certimetric.base.arrays import Array, Indices
from certimetric.base.rounding import UNIT_ROUNDOFF
from certimetric.certify.classifier import CertifiedKNeighborsClassifier
from certimetric.certify.reference import PointSet, entries, times_components, with_entries
from certimetric.certify.vicinity import Vicinity
from certimetric.geometry.mahalanobis import MahalanobisMetric


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
        :class:`CertifiedKNeighborsClassifier`. A ColumnTransformer may scale some columns in one way and others in
        another, and pass further ones through: 0/1 columns of categories, that were encoded before. It must take every
        column once. What encodes categories itself (OneHotEncoder) has no units to give.
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
        If a step is not one of the scalers, or one that clips; if a ColumnTransformer leaves out a column, takes one
        twice, or holds anything else than scalers.

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
    scalings = _scalings(step for _, step in pipeline.steps[:-1])
    scale = np.ones(X.shape[1])
    for scaling in scalings[::-1]:
        X = scaling.inverse(X)
        scale = scale / scaling.factor
        scale = scale if scaling.order is None else scale[np.argsort(scaling.order)]
    order = _order(scalings, X.shape[1])
    if any(isinstance(scaling, ColumnScaling) for scaling in scalings):
        order = np.arange(X.shape[1]) if order is None else order  # features have other names behind it
        scale = scale[order]  # of the classifier's own features
    return classifier.in_other_units(
        UnscaledSet(classifier.reference_, scalings),
        np.ascontiguousarray(X),
        metric=_reordered(classifier.metric_.compose(scale), order),
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

    def __init__(self, reference: PointSet, scalings: list[Scaling | ColumnScaling]):
        d = reference.metric.n_features
        factor = np.ones(d)
        for scaling in scalings:
            factor = (factor if scaling.order is None else factor[scaling.order]) * scaling.factor
        metric = with_entries(reference.metric, entries(reference.metric) * factor)
        metric = _reordered(metric, _order(scalings, d))
        super().__init__(metric, reference.points, reference.point_errors, reference.y, reference.exponent)
        self.scaled, self.scalings, self.by_distance = reference, scalings, reference.by_distance

    def among(self, rows: Indices) -> UnscaledSet:
        """Some of the points."""
        part = super().among(rows)
        assert isinstance(part, UnscaledSet)
        part.scaled = self.scaled.among(rows)
        return part

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
        return super().gamma() + 4 * sum(scaling.depth for scaling in self.scalings) * UNIT_ROUNDOFF


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

    order = None  # columns stay where they are
    depth = 1

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


@dataclass(frozen=True, eq=False)
class ColumnScaling:
    """The arithmetic of a fitted ColumnTransformer: each part scales some columns, and the results stand side by side.

    Parameters
    ----------
    places : list of int arrays
        Columns of each part.
    parts : list of lists of Scaling
        What is done to them, one after the other.
    """

    places: list[Indices]
    parts: list[list[Scaling]]

    @property
    def order(self) -> Indices:
        """The column that each result is made of."""
        return np.concatenate(self.places)

    @property
    def depth(self) -> int:
        """How many scalings stand one after the other, at most."""
        return max(map(len, self.parts))

    @property
    def factor(self) -> Array:
        """What a difference is multiplied by, one for each result."""
        factors = []
        for columns, part in zip(self.places, self.parts):
            factor = np.ones(len(columns))
            for scaling in part:
                factor = factor * scaling.factor
            factors.append(factor)
        return np.concatenate(factors)

    def transform(self, X: Array, off: Array) -> tuple[Array, Array]:
        """Scaled instances, and a bound on their errors from that of X."""
        found = []
        for columns, part in zip(self.places, self.parts):
            Z, errors = X[:, columns], off[:, columns]
            for scaling in part:
                Z, errors = scaling.transform(Z, errors)
            found.append((Z, errors))
        return np.hstack([Z for Z, _ in found]), np.hstack([errors for _, errors in found])

    def inverse(self, Z: Array) -> Array:
        """Instances before scaling, their columns where they were."""
        X, start = np.empty_like(Z), 0
        for columns, part in zip(self.places, self.parts):
            found = Z[:, start : start + len(columns)]
            for scaling in part[::-1]:
                found = scaling.inverse(found)
            X[:, columns] = found
            start += len(columns)
        return X


def _order(scalings: list[Scaling | ColumnScaling], d: int) -> Indices | None:
    """The column that each feature of a classifier is made of; None where columns stay where they are."""
    order = np.arange(d)
    for scaling in scalings:
        order = order if scaling.order is None else order[scaling.order]
    return None if (order == np.arange(d)).all() else order


def _reordered(metric: MahalanobisMetric, order: Indices | None) -> MahalanobisMetric:
    """The metric for columns of which each feature is made of one; coordinates stay as they are."""
    if order is None:
        return metric
    return MahalanobisMetric(metric.components[:, np.argsort(order)], None, metric.training)


def _scalings(steps: Iterable[Any]) -> list[Scaling | ColumnScaling]:
    given = [step for step in steps if step is not None and not isinstance(step, str)]  # "passthrough"
    return [_columns(step) if isinstance(step, ColumnTransformer) else _scaling(step) for step in given]


def _columns(step: ColumnTransformer) -> ColumnScaling:
    """The scaling of a fitted ColumnTransformer."""
    d = step.n_features_in_
    names = {name: place for place, name in enumerate(getattr(step, "feature_names_in_", ()))}
    places, parts = [], []
    for _, part, columns in step.transformers_:
        told = [columns] if isinstance(columns, str) else columns
        if not isinstance(told, (slice, int, np.integer)) and not len(told):
            continue
        if not isinstance(told, slice) and len(told) and all(isinstance(each, str) for each in told):
            told = [names[each] for each in told]
        elif isinstance(told, slice) and isinstance(told.start or told.stop, str):
            last = None if told.stop is None else names[told.stop] + 1  # by name the last one is meant, too
            told = slice(None if told.start is None else names[told.start], last)
        some = np.atleast_1d(np.arange(d)[told if isinstance(told, slice) else np.asarray(told)])
        if isinstance(part, str) and part == "drop":
            raise ValueError(
                f"the ColumnTransformer drops column {int(some[0])}, which radii know nothing of: leave it out of the "
                f"data before the pipeline"
            )
        places.append(some)
        parts.append([_scaling(each) for each in (part if isinstance(part, Pipeline) else [part]) if not _passes(each)])
    order = np.concatenate(places)
    if len(np.unique(order)) < d or len(order) > d:
        raise ValueError(f"the ColumnTransformer must take each of the {d} columns once, got {order.tolist()}")
    return ColumnScaling(places, parts)


def _passes(step: Any) -> bool:
    """Whether a step hands on what it gets."""
    name = type(step).__name__
    return step is None or isinstance(step, str) or (name == "FunctionTransformer" and step.func is None)


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
    if name in ("OneHotEncoder", "OrdinalEncoder", "TargetEncoder"):
        raise ValueError(
            f"{name} makes numbers of categories, which have no units: encode them before the pipeline, as "
            f"certimetric.datasets.TableEncoder does, and pass the 0/1 columns through"
        )
    raise ValueError(
        f"radii can be given in original units behind StandardScaler, MinMaxScaler, MaxAbsScaler and RobustScaler, "
        f"got the step {name}: fold it into the metric with MahalanobisMetric.from_components yourself"
    )
