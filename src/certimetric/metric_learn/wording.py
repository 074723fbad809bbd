"""Every sentence that the names of metric-learn say to their users, in one place."""

from __future__ import annotations

from typing import Any

NOT_PSD = "the matrix has a negative eigenvalue: it must be positive semidefinite"
NOT_SYMMETRIC_METRIC = "metric must be a symmetric matrix"
NEGATIVE_TOLERANCE = "tol must be 0 or more"
VECTOR = "expected a vector of one dimension"
PAIR_LABELS = "labels of pairs must be +1 (similar) or -1 (dissimilar)"
NO_THRESHOLD = "no threshold is set for pairs: call set_threshold, or calibrate_threshold with labelled pairs"
SINGULAR_COVARIANCE = (
    "the covariance of the instances is singular, and its pseudo-inverse is taken: leave out features that depend on "
    "others, or reduce them by PCA before"
)
SINGULAR_INIT = "the initial matrix is singular, and its pseudo-inverse is taken"
SCORE_PAIRS = "score_pairs is deprecated: use pair_distance for distances, pair_score for similarities"
# Templates: ``str.format`` fills in what is in braces.
WRONG_TUPLE_SIZE = "tuples of {wanted} instances are expected{context}, got {size} in an array of {shape}"
WRONG_TYPE_OF_INPUTS = "type_of_inputs must be 'classic' or 'tuples', got {given}"
WRONG_PREPROCESSOR = "preprocessor must be None, an array of points, or a callable, got {kind}"
COLLAPSED_PAIRS = "{count} of {total} pairs are of two equal instances"
WRONG_N_COMPONENTS = "n_components must be from 1 to the number of features, {n_features}"
WRONG_INIT_WIDTH = "init has {width} columns, but the instances have {n_features} features"
WRONG_INIT_HEIGHT = "init has more rows than columns: {height} and {width}"
INIT_AGAINST_N_COMPONENTS = "init has {height} rows, but n_components is {n_components}"
WRONG_MATRIX = "{name} must be 'identity', 'covariance', 'random', or an array of shape (n_features, n_features)"
WRONG_MATRIX_SHAPE = "{name} has the shape {shape}, but the instances have {n_features} features"
ASYMMETRIC_MATRIX = "{name} must be a symmetric matrix"
SINGULAR_MATRIX = "{name} is singular, and must be positive definite here"
NO_PRECISION = "the covariance of the instances is singular, so its inverse cannot be the {name}"
WRONG_THRESHOLD = "threshold must be a real number, got {threshold!r}"
WRONG_STRATEGY = "strategy must be one of accuracy, f_beta, max_tpr, max_tnr, got {strategy!r}"
WRONG_MIN_RATE = "min_rate must be a number from 0 to 1 for this strategy, got {min_rate!r}"
WRONG_BETA = "beta must be a real number, got {beta!r}"
FEW_CHUNKS = "{n_chunks} chunks of {chunk_size} instances of one class are asked for, but the labels allow {possible}"
FEW_PAIRS = "the labels gave {count} of the {wanted} {kind} pairs asked for"
FEW_TARGETS = "class {label} has {size} instances: {given} target neighbours are taken, not k_genuine={wanted}"
FEW_IMPOSTORS = "{others} instances are not of class {label}: all are its impostors, fewer than k_impostor={wanted}"
RENAMED = "{old} has been renamed: use {new}"
WITHOUT_Y = "{name} requires y to be passed, but the target y is None"
WRONG_WIDTH = "the tuples have {given} features, but {name} is expecting {fitted} features as input"
WITHOUT_TRIPLETS = "{name} learns to tell classes apart, but y has only 1 class of which triplets could be made"
EXPECTED = {
    "points": "instances of shape (n, d)",
    "tuples": "tuples of shape (m, t, d)",
    "points or indicators": "instances of shape (n, d), or indicators of shape (n,)",
    "tuples or indicators": "tuples of shape (m, t, d), or of indicators of shape (m, t)",
}


def wrong_dimensions(expected: str, context: str, where: str, data: Any, preprocessor_helps: bool) -> str:
    """Data of another number of dimensions; ``expected`` is a key of EXPECTED, ``where`` "", "with" or "after"."""
    told = {"": "", "with": " for the preprocessor", "after": " from the preprocessor"}[where]
    hint = ", or give a preprocessor" if preprocessor_helps else ""
    return f"{EXPECTED[expected]} are expected{told}{context}, got {data.ndim} dimensions. Reshape your data{hint}"


def wrong_init(allowed: tuple[str, ...]) -> str:
    return f"init must be one of {', '.join(map(repr, allowed))}, or an array of shape (n_components, n_features)"


def ignored(name: str, given: dict[str, Any], why: str) -> str:
    told = ", ".join(f"{key}={value!r}" for key, value in given.items())
    return f"{name} of certimetric ignores {told}: {why}"


def wrong_basis(names: tuple[str, ...]) -> str:
    return f"basis must be {' or '.join(map(repr, names))}, or an array of shape (n_basis, n_features)"


def wrong_embedding(names: tuple[str, ...], given: Any) -> str:
    return f"embedding_type must be one of {', '.join(names)}, got {given!r}"
