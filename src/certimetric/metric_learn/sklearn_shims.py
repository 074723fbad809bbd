"""The helpers of scikit-learn that code around metric-learn imports from here."""

from __future__ import annotations

from sklearn.metrics import get_scorer
from sklearn.utils._testing import _get_args, assert_allclose_dense_sparse, ignore_warnings, set_random_state

SKLEARN_AT_LEAST_0_22 = True

__all__ = [
    "SKLEARN_AT_LEAST_0_22",
    "_get_args",
    "assert_allclose_dense_sparse",
    "get_scorer",
    "ignore_warnings",
    "is_public_parameter",
    "set_random_state",
]


def is_public_parameter(name: str) -> bool:
    """Whether an attribute is a parameter: neither private nor learned."""
    return not name.startswith("_") and not name.endswith("_")
