"""Errors under metric-learn's names."""

from __future__ import annotations

from numpy.linalg import LinAlgError

from certimetric.constraints.preprocessors import PreprocessorError as PreprocessorError
from certimetric.metric_learn import wording


class NonPSDError(LinAlgError):
    """A matrix that should be positive semidefinite has a negative eigenvalue."""

    def __init__(self) -> None:
        super().__init__(wording.NOT_PSD)
