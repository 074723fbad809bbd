"""Learners under audit: from specifications or estimators, each with the name that tables, thresholds, files have."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np

DEFAULT_LEARNERS = ("euclidean", "lmnn", "lmnn+pl", "scml+pl", "gmml", "aml", "arml")


@dataclass(frozen=True, eq=False)
class Subject:
    """A learner under audit."""

    spec: str  # its name in tables, thresholds and files
    label: str  # its name for people
    estimator: Any  # unfitted; cloned before every fit

    @property
    def parameters(self) -> dict[str, Any]:
        """Parameters as JSON values; anything else as its repr."""
        return {key: _plain(value) for key, value in self.estimator.get_params(deep=False).items()}

    @property
    def max_iter(self) -> int | None:
        """Bound on the iterations, for learners that have one."""
        value = self.estimator.get_params(deep=False).get("max_iter")
        return int(value) if isinstance(value, Integral) else None

    @property
    def file_stem(self) -> str:
        """The spec as part of a file name; a hash keeps apart what a file name cannot tell apart."""
        stem = re.sub(r"[^A-Za-z0-9._+=,-]", "_", self.spec)[:80]
        return stem if stem == self.spec else f"{stem}-{hashlib.sha256(self.spec.encode()).hexdigest()[:8]}"


def subjects_of(learners: Any, make: Callable[[str], Any], seed: int) -> tuple[Subject, ...]:
    """The learners of a request, all different; ``make`` makes one of a specification."""
    if isinstance(learners, str) or hasattr(learners, "fit"):
        learners = (learners,)
    named = learners.items() if isinstance(learners, Mapping) else ((None, learner) for learner in learners)
    subjects = [subject_of(name, learner, make, seed) for name, learner in named]
    if not subjects:
        raise ValueError("learners must hold at least one learner, got none")
    specs = [subject.spec for subject in subjects]
    if twice := sorted({spec for spec in specs if specs.count(spec) > 1}):
        raise ValueError(f"learners must all be different, got {twice[0]!r} more than once")
    return tuple(subjects)


def subject_of(name: str | None, learner: Any, make: Callable[[str], Any], seed: int) -> Subject:
    """A specification or an estimator as a subject, under a name of its own if one is given."""
    from sklearn.base import clone

    from certimetric.learners import Euclidean
    from certimetric.learners.specs import describe

    if isinstance(learner, Subject):
        return learner
    if isinstance(learner, str):
        spec = learner.strip()
        estimator, label = make(spec), describe(spec)
    elif hasattr(learner, "fit") and hasattr(learner, "get_params") and not isinstance(learner, type):
        spec = "euclidean" if type(learner) is Euclidean else " ".join(repr(learner).split())
        estimator, label = clone(learner), "Euclidean" if type(learner) is Euclidean else spec
        # Without a seed of its own a learner would give another result at every run.
        if estimator.get_params(deep=False).get("random_state", 0) is None:
            estimator.set_params(random_state=seed)
    else:
        raise TypeError(f"learners must hold specifications or unfitted learners, got {learner!r}")
    return Subject(spec, label, estimator) if name is None else Subject(str(name), str(name), estimator)


def _plain(value: Any) -> Any:
    if isinstance(value, (bool, int, str, type(None))):
        return value
    if isinstance(value, (Integral, np.bool_)):
        return int(value)
    if isinstance(value, Real):
        return float(value) if math.isfinite(value) else str(float(value))
    if isinstance(value, np.ndarray):
        return f"array of shape {value.shape}"
    return " ".join(repr(value).split())
