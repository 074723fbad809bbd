"""What an attack that looks inside can see of a predictor: the nearest-neighbour classifier in it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from joblib import effective_n_jobs
from numpy.typing import NDArray
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from certimetric.base.arrays import Array
from certimetric.certify.classifier import CertifiedKNeighborsClassifier
from certimetric.certify.radius import MIB
from certimetric.certify.units import in_original_units
from certimetric.geometry.features import names_of

_ALTERNATIVE = "HopSkipJump attacks any classifier by its predictions alone"


def known_features(predictor: Any) -> tuple[str, ...] | None:
    """Names of the features that a predictor takes: those it was fitted on, else those of the metric it was given."""
    return names_of(predictor) or names_of(getattr(predictor, "metric", None))


def unchecked_predict(predictor: Any) -> Callable[[Array], NDArray[Any]] | None:
    """``predict`` of a nearest-neighbour classifier without the checks of its input, which take longer than predicting
    a few points does; None for other predictors."""
    if type(predictor) is not CertifiedKNeighborsClassifier or predictor.abstain_below is not None:
        return None
    reference, k, classes = predictor.reference_, predictor.n_neighbors, predictor.classes_
    options = {"memory": predictor.memory_mb * MIB, "n_jobs": effective_n_jobs(predictor.n_jobs)}
    return lambda points: classes[reference.predict(reference.embed(points)[0], k, **options)]


def nearest_neighbor_classifier(predictor: Any) -> CertifiedKNeighborsClassifier:
    """The fitted nearest-neighbour classifier that a predictor is, in the units of the data that it takes.

    Parameters
    ----------
    predictor : CertifiedKNeighborsClassifier or Pipeline
        Fitted; a pipeline holds scalers and then the classifier, see :func:`certimetric.in_original_units`.

    Returns
    -------
    classifier : CertifiedKNeighborsClassifier
        Its own norm says nothing here: attacks measure in that of the threat model.

    Raises
    ------
    TypeError
        If it is another kind of predictor.
    ValueError
        If a step of the pipeline is no scaler that can be taken out.

    Examples
    --------
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import MinMaxScaler
    >>> pipeline = make_pipeline(MinMaxScaler(), CertifiedKNeighborsClassifier(1)).fit([[0.0], [100.0]], ["a", "b"])
    >>> nearest_neighbor_classifier(pipeline).X_
    array([[  0.],
           [100.]])
    """
    classifier = predictor[-1] if isinstance(predictor, Pipeline) else predictor
    if not isinstance(classifier, CertifiedKNeighborsClassifier):
        raise TypeError(
            f"predictor must be a CertifiedKNeighborsClassifier, alone or behind scalers in a pipeline, for an attack "
            f"that looks inside, got {type(classifier).__name__}; {_ALTERNATIVE}"
        )
    check_is_fitted(classifier, "classes_")
    if classifier is predictor:
        return classifier
    try:
        return in_original_units(predictor, classifier.norm if isinstance(classifier.norm, str) else "l2")
    except ValueError as error:
        raise ValueError(f"{error}; {_ALTERNATIVE}") from error
