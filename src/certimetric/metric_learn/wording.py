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


def wrong_tuple_size(wanted: int, context: str, tuples: Any) -> str:
    return f"tuples of {wanted} instances are expected{context}, got {tuples.shape[1]} in an array of {tuples.shape}"


def wrong_type_of_inputs(given: Any) -> str:
    return f"type_of_inputs must be 'classic' or 'tuples', got {given}"


def wrong_preprocessor(given: Any) -> str:
    return f"preprocessor must be None, an array of points, or a callable, got {type(given).__name__}"


def collapsed_pairs(count: int, total: int) -> str:
    return f"{count} of {total} pairs are of two equal instances"


def wrong_n_components(n_features: int) -> str:
    return f"n_components must be from 1 to the number of features, {n_features}"


def wrong_init(allowed: tuple[str, ...]) -> str:
    return f"init must be one of {', '.join(map(repr, allowed))}, or an array of shape (n_components, n_features)"


def wrong_init_width(width: int, n_features: int) -> str:
    return f"init has {width} columns, but the instances have {n_features} features"


def wrong_init_height(height: int, width: int) -> str:
    return f"init has more rows than columns: {height} and {width}"


def init_against_n_components(n_components: int, height: int) -> str:
    return f"init has {height} rows, but n_components is {n_components}"


def wrong_matrix(name: str) -> str:
    return f"{name} must be 'identity', 'covariance', 'random', or an array of shape (n_features, n_features)"


def wrong_matrix_shape(shape: tuple[int, ...], name: str, n_features: int) -> str:
    return f"{name} has the shape {shape}, but the instances have {n_features} features"


def asymmetric_matrix(name: str) -> str:
    return f"{name} must be a symmetric matrix"


def singular_matrix(name: str) -> str:
    return f"{name} is singular, and must be positive definite here"


def singular_covariance(name: str) -> str:
    return f"the covariance of the instances is singular, so its inverse cannot be the {name}"


def wrong_threshold(threshold: Any) -> str:
    return f"threshold must be a real number, got {threshold!r}"


def wrong_strategy(strategy: Any) -> str:
    return f"strategy must be one of accuracy, f_beta, max_tpr, max_tnr, got {strategy!r}"


def wrong_min_rate(min_rate: Any) -> str:
    return f"min_rate must be a number from 0 to 1 for this strategy, got {min_rate!r}"


def wrong_beta(beta: Any) -> str:
    return f"beta must be a real number, got {beta!r}"


def few_chunks(n_chunks: int, chunk_size: int, possible: int) -> str:
    return f"{n_chunks} chunks of {chunk_size} instances of one class are asked for, but the labels allow {possible}"


def few_pairs(count: int, kind: str, wanted: int) -> str:
    return f"the labels gave {count} of the {wanted} {kind} pairs asked for"


def few_targets(label: Any, size: int, wanted: int, given: int) -> str:
    return f"class {label} has {size} instances: {given} target neighbours are taken, not k_genuine={wanted}"


def few_impostors(label: Any, others: int, wanted: int) -> str:
    return f"{others} instances are not of class {label}: all are its impostors, fewer than k_impostor={wanted}"


def renamed(old: str, new: str) -> str:
    return f"{old} has been renamed: use {new}"


def ignored(name: str, given: dict[str, Any], why: str) -> str:
    told = ", ".join(f"{key}={value!r}" for key, value in given.items())
    return f"{name} of certimetric ignores {told}: {why}"


def without_y(name: str) -> str:
    return f"{name} requires y to be passed, but the target y is None"


def wrong_width(name: str, given: int, fitted: int) -> str:
    return f"the tuples have {given} features, but {name} is expecting {fitted} features as input"


def wrong_basis(names: tuple[str, ...]) -> str:
    return f"basis must be {' or '.join(map(repr, names))}, or an array of shape (n_basis, n_features)"


def without_triplets(name: str) -> str:
    return f"{name} learns to tell classes apart, but y has only 1 class of which triplets could be made"


def wrong_embedding(names: tuple[str, ...], given: Any) -> str:
    return f"embedding_type must be one of {', '.join(names)}, got {given!r}"
