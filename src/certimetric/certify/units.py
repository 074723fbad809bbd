"""Radii in the units before a scaler: the scaler is folded into the metric, and nothing else changes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from certimetric.certify.classifier import CertifiedKNeighborsClassifier
from certimetric.certify.reference import ReferenceSet

Array = NDArray[np.float64]


def in_original_units(pipeline: Pipeline, norm: Any = None) -> CertifiedKNeighborsClassifier:
    """The fitted classifier at the end of a pipeline, as one that takes unscaled data.

    Inside ``make_pipeline(StandardScaler(), CertifiedKNeighborsClassifier())`` radii are measured in standardised
    units. The classifier that this function gives predicts the same labels, but takes the data as they were before
    scaling, and measures perturbations in their units.

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
    X = classifier._training
    scale = np.ones(X.shape[1])
    for step in [step for _, step in pipeline.steps[:-1]][::-1]:
        if step is None or step == "passthrough":
            continue
        factor, offset = _affine(step, X.shape[1])
        X = X * factor + offset
        scale = scale * factor
    original = CertifiedKNeighborsClassifier(
        classifier.n_neighbors,
        metric=classifier.metric_.compose(scale),
        norm=norm,
        memory_mb=classifier.memory_mb,
        n_jobs=classifier.n_jobs,
    )
    original.n_features_in_ = X.shape[1]
    names = getattr(pipeline[0], "feature_names_in_", None)
    if names is not None:
        original.feature_names_in_ = names
    original.learner_ = classifier.learner_
    original.metric_ = original.metric
    original.classes_ = classifier.classes_
    original._training = np.ascontiguousarray(X)
    original._reference = ReferenceSet(original.metric_, original._training, classifier._reference.y)
    return original


def _affine(step: Any, d: int) -> tuple[Array, Array]:
    """Factor and offset with ``original = scaled · factor + offset``, for the scalers of scikit-learn."""
    name = type(step).__name__
    if getattr(step, "clip", False):
        raise ValueError(
            f"{name} clips, so that its input cannot be told from its output: radii have no original units"
        )
    if name in ("StandardScaler", "RobustScaler", "MaxAbsScaler"):
        factor = getattr(step, "scale_", None)
        offset = getattr(step, "mean_", None) if name == "StandardScaler" else getattr(step, "center_", None)
        if name == "StandardScaler" and not step.with_mean:
            offset = None
        return np.ones(d) if factor is None else factor, np.zeros(d) if offset is None else offset
    if name == "MinMaxScaler":
        return 1.0 / step.scale_, -step.min_ / step.scale_
    raise ValueError(
        f"radii can be given in original units behind StandardScaler, MinMaxScaler, MaxAbsScaler and RobustScaler, "
        f"got the step {name}: fold it into the metric with MahalanobisMetric.from_components yourself"
    )
