"""Every sentence that the names of metric-learn say to their users, in one place.

Code that moves over matches on the text of an error, and filters warnings by how they begin. So where metric-learn
0.7.0 has a sentence for a case, it is said here in metric-learn's words (Copyright (c) 2015 CJ Carey and Yuan Tang, MIT
licence: see NOTICE). The last sentences below, and those of the rest of the library, are certimetric's own.
"""

from __future__ import annotations

from typing import Any

NOT_PSD = "Matrix is not positive semidefinite (PSD)."
NOT_SYMMETRIC_METRIC = "The input metric should be symmetric."
NEGATIVE_TOLERANCE = "tol should be positive."
VECTOR = "Input vector should be 1-D."
PAIR_LABELS = "When training on pairs, the labels (y) should contain only values in [-1, 1]. Found an incorrect value."
NO_THRESHOLD = "A threshold for this estimator has not been set, call its set_threshold or calibrate_threshold method."
SINGULAR_COVARIANCE = (
    "The covariance matrix is not invertible: using the pseudo-inverse instead.To make the covariance matrix "
    "invertible you can remove any linearly dependent features and/or reduce the dimensionality of your input, for "
    "instance using `sklearn.decomposition.PCA` as a preprocessing step."
)
SINGULAR_INIT = "The initialization matrix is not invertible: using the pseudo-inverse instead."
WRONG_BOUNDS = "`bounds` should be an array-like of two elements."
SCORE_PAIRS = (
    "score_pairs will be deprecated in release 0.7.0. Use pair_score to compute similarity scores, or "
    "pair_distances to compute distances."
)
# Templates: ``str.format`` fills in what is in braces.
PREPROCESSOR_FAILED = "An error occurred when trying to use the preprocessor: {error!r}"
WRONG_TUPLE_SIZE = (
    "Tuples of {wanted} element(s) expected{context}. Got tuples of {size} element(s) instead "
    "(shape={shape}):\ninput={data}.\n"
)
WRONG_TYPE_OF_INPUTS = "Unknown value {given} for type_of_inputs. Valid values are 'classic' or 'tuples'."
WRONG_PREPROCESSOR = (
    "Invalid type for the preprocessor: {kind}. You should provide either None, an array-like object, or a callable."
)
COLLAPSED_PAIRS = (
    "{count} collapsed pairs found (where the left element is the same as the right element), out of {total} pairs "
    "in total."
)
WRONG_N_COMPONENTS = "Invalid n_components, must be in [1, {n_features}]"
WRONG_INIT_WIDTH = (
    "The input dimensionality ({width}) of the given linear transformation `init` must match the dimensionality of "
    "the given inputs `X` ({n_features})."
)
WRONG_INIT_HEIGHT = (
    "The output dimensionality ({height}) of the given linear transformation `init` cannot be greater than its "
    "input dimensionality ({width})."
)
INIT_AGAINST_N_COMPONENTS = (
    "The preferred dimensionality of the projected space `n_components` ({n_components}) does not match the output "
    "dimensionality of the given linear transformation `init` ({height})!"
)
WRONG_INIT = "`init` must be '{allowed}' or a numpy array of shape (n_components, n_features)."
WRONG_MATRIX = "`{name}` must be 'identity', 'covariance', 'random' or a numpy array of shape (n_features, n_features)."
WRONG_MATRIX_SHAPE = (
    "The input dimensionality {shape} of the given mahalanobis matrix `{name}` must match the dimensionality of "
    "the given inputs ({n_features})."
)
ASYMMETRIC_MATRIX = "`{name}` is not symmetric."
SINGULAR_MATRIX = (
    "You should provide a strictly positive definite matrix as `{name}`. This one is not definite. Try another "
    "{name}, or an algorithm that does not require the {name} to be strictly positive definite."
)
NO_PRECISION = (
    "Unable to get a true inverse of the covariance matrix since it is not definite. Try another `{name}`, or an "
    "algorithm that does not require the `{name}` to be strictly positive definite."
)
WRONG_THRESHOLD = "Parameter threshold must be a real number. Got {kind} instead."
WRONG_STRATEGY = 'Strategy can either be "accuracy", "f_beta" or "max_tpr" or "max_tnr". Got "{strategy}" instead.'
WRONG_MIN_RATE = "Parameter min_rate must be a number in[0, 1]. Got {min_rate} instead."
WRONG_BETA = "Parameter beta must be a real number. Got {kind} instead."
WRONG_BASIS = "`basis` must be one of the options '{allowed}' or an array of shape (n_basis, n_features)."
WRONG_BASIS_WIDTH = (
    "The dimensionality ({width}) of the provided bases must match the dimensionality of the data ({n_features})."
)
NOT_AN_INTEGER = "{name} should be an integer, instead it is of type {kind}"
WRONG_EMBEDDING = "Invalid embedding_type: {given!r}"
FEW_CHUNKS = (
    "Not enough possible chunks of {chunk_size} elements in each class to form expected {n_chunks} chunks - "
    "maximum number of chunks is {possible}"
)
FEW_PAIRS = "Only generated {count} {kind} constraints (requested {wanted})"
FEW_TARGETS = (
    "The class {label} has {size} elements, which is not sufficient to generate {wanted} genuine neighbors as "
    "specified by k_genuine. Will generate {given} genuine neighbors instead.\n"
)
FEW_IMPOSTORS = (
    "The class {label} has {others} elements of other classes, which is not sufficient to generate {wanted} "
    "impostor neighbors as specified by k_impostor. Will generate {others} impostor neighbors instead.\n"
)
RENAMED = '"{old}" parameter has been renamed to "{new}".'  # there it goes on about versions of metric-learn
EXPECTED = {
    "points": "2D array of formed points",
    "tuples": "3D array of formed tuples",
    "points or indicators": "1D array of indicators or 2D array of formed points",
    "tuples or indicators": "2D array of indicators or 3D array of formed tuples",
}


def wrong_dimensions(expected: str, context: str, where: str, data: Any, preprocessor_helps: bool) -> str:
    """Data of another number of dimensions; ``expected`` is a key of EXPECTED, ``where`` "", "with" or "after"."""
    told = {"": "", "with": " when using a preprocessor", "after": " after the preprocessor has been applied"}[where]
    hint = " and/or use a preprocessor" if preprocessor_helps else ""
    return (
        f"{EXPECTED[expected]} expected{context}{told}. Found {data.ndim}D array instead:\n"
        f"input={data}. Reshape your data{hint}.\n"
    )


# certimetric's own, for what metric-learn does not tell; the second and third are scikit-learn's sentences.
WITHOUT_TRIPLETS = "{name} learns to tell classes apart, but y has only 1 class of which triplets could be made"
WITHOUT_Y = "{name} requires y to be passed, but the target y is None"
WRONG_WIDTH = "the tuples have {given} features, but {name} is expecting {fitted} features as input"


def ignored(name: str, given: dict[str, Any], why: str) -> str:
    told = ", ".join(f"{key}={value!r}" for key, value in given.items())
    return f"{name} of certimetric ignores {told}: {why}"
