"""What an audit is asked to do, checked before any work starts."""

from __future__ import annotations

import hashlib
import math
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.utils.multiclass import check_classification_targets

from certimetric.auditing.thresholds import Threshold, parse_threshold
from certimetric.base.arrays import check_size
from certimetric.datasets import Dataset
from certimetric.geometry import Norm, resolve_norm
from certimetric.learners import Euclidean, make_learner
from certimetric.learners.specs import describe
from certimetric.runs.splits import Split, held_out_counts, make_split

DEFAULT_LEARNERS = ("euclidean", "lmnn", "lmnn+pl", "scml+pl", "gmml", "aml", "arml")
DEFAULT_NOISE = (0.25, 0.5, 1.0)
# What thresholds may ask for, and whether it is taken at a size. Recall is taken of a class, which is a name.
FIGURES = {"accuracy": False, "balanced_accuracy": False, "median_radius": False, "noise": True, "certified": True}


@dataclass(frozen=True, eq=False)
class Subject:
    """A learner under audit.

    Parameters
    ----------
    spec : str
        Its name in tables, thresholds and files.
    label : str
        Its name for people.
    estimator : learner
        Unfitted; cloned before every fit.
    """

    spec: str
    label: str
    estimator: Any

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


@dataclass(frozen=True, eq=False)
class Request:
    """A validated audit; made by :func:`make_request`.

    Parameters
    ----------
    data : Dataset
    codes : int array of shape (n,)
        Labels as positions in ``classes``.
    classes : tuple of str
    subjects : tuple of Subject
    norm : Norm
    noise : tuple of float
        Standard deviations, in standardised units, rising.
    eps : tuple of float or None
        Radii of the curve, rising; None for those that suit the results.
    """

    data: Dataset
    codes: NDArray[np.int64]
    classes: tuple[str, ...]
    subjects: tuple[Subject, ...]
    n_neighbors: int
    norm: Norm
    norm_name: str
    noise: tuple[float, ...]
    eps: tuple[float, ...] | None
    repeats: int
    test_size: float
    seed: int
    n_jobs: int
    thresholds: tuple[Threshold, ...]

    def part(self, split: int) -> Split:
        """One split in standardised units, the same for every learner."""
        return make_split(self.data.X, self.codes, self.test_size, self.seed, split, self.data.imputed)


def make_request(
    X: Any,
    y: Any,
    *,
    learners: Any = DEFAULT_LEARNERS,
    n_neighbors: int = 3,
    norm: Any = "l2",
    noise: Iterable[float] = DEFAULT_NOISE,
    eps: Iterable[float] | None = None,
    repeats: int = 5,
    test_size: float = 0.3,
    seed: int = 0,
    n_jobs: int = 1,
    feature_names: Sequence[str] | None = None,
    image_shape: tuple[int, int] | None = None,
    name: str = "data",
    source: str | None = None,
    fail_under: str | Iterable[str] = (),
    imputed: NDArray[np.bool_] | None = None,
) -> Request:
    """Check everything that can be wrong with an audit, and say it in one sentence.

    See :func:`certimetric.audit` for the parameters; ``imputed`` says which cells of X were missing (see
    :class:`~certimetric.datasets.Dataset`): they get the median of the training part of each split.
    """
    data = replace(_dataset(X, y, feature_names, image_shape, name, source), imputed=imputed)
    classes, codes = _labels(data.y)
    seed = _whole("seed", seed, 0)
    subjects = _subjects(learners, seed)
    n_neighbors, repeats = _whole("n_neighbors", n_neighbors, 1), _whole("repeats", repeats, 1)
    if not isinstance(n_jobs, Integral) or isinstance(n_jobs, bool) or n_jobs == 0 or n_jobs < -1:
        raise ValueError(f"n_jobs must be a positive whole number, or -1 for all cores, got {n_jobs!r}")
    if not isinstance(test_size, Real) or not 0 < test_size < 1:
        raise ValueError(f"test_size must be a share between 0 and 1, got {test_size!r}")
    counts = np.bincount(codes, minlength=len(classes))
    held_out = held_out_counts(counts, float(test_size))
    tested = [name for name, count in zip(classes, held_out) if count]
    n_test = int(held_out.sum())
    if n_test == 0:
        raise ValueError(
            f"y must have a class of at least two instances, or nothing can be tested: its {len(counts)} labels are "
            f"all different, as in an identifier or the target of a regression"
        )
    if n_neighbors > len(codes) - n_test:
        raise ValueError(
            f"n_neighbors must be at most the number of training instances of a split, {len(codes) - n_test} of "
            f"{len(codes)}, got {n_neighbors}"
        )
    resolved = resolve_norm(norm)
    matrix = getattr(resolved, "matrix", None)
    if matrix is not None and len(matrix) != data.n_features:
        raise ValueError(f"norm must be a matrix of {data.n_features} features, got one of {len(matrix)}")
    try:
        resolved.norm(np.zeros(data.n_features))
    except ValueError as error:
        raise ValueError(f"norm must fit the {data.n_features} features of X, got {resolved!r}: {error}") from None
    levels = _sizes("noise", noise)
    expressions = (fail_under,) if isinstance(fail_under, str) else tuple(fail_under)
    radii = None if eps is None else _sizes("eps", eps)
    if radii == ():
        raise ValueError("eps must hold at least one size, or be None, got none")
    return Request(
        data=data,
        codes=codes,
        classes=classes,
        subjects=subjects,
        n_neighbors=n_neighbors,
        norm=resolved,
        norm_name=_norm_name(resolved),
        noise=levels,
        eps=radii,
        repeats=repeats,
        test_size=float(test_size),
        seed=seed,
        n_jobs=int(n_jobs),
        thresholds=tuple(
            parse_threshold(text, [s.spec for s in subjects], levels, figures=FIGURES, classes=tested)
            for text in expressions
        ),
    )


def _dataset(
    X: Any,
    y: Any,
    feature_names: Sequence[str] | None,
    image_shape: tuple[int, int] | None,
    name: str,
    source: str | None,
) -> Dataset:
    frame = hasattr(X, "columns") and hasattr(X, "to_numpy")
    if frame:
        feature_names = [str(column) for column in X.columns] if feature_names is None else feature_names
        X = X.to_numpy()
    if hasattr(X, "toarray"):
        raise TypeError(f"X must be a dense array or data frame, got a sparse {type(X).__name__}")
    try:
        values = np.array(X, dtype=float)
    except (ValueError, TypeError) as error:
        first = " ".join(str(error).split())
        raise ValueError(f"X must hold numbers only, encode text before the audit ({first})") from None
    if values.ndim != 2 or not values.size:
        raise ValueError(f"X must have shape (n_samples, n_features) with both at least 1, got {values.shape}")
    names = [f"x{i}" for i in range(values.shape[1])] if feature_names is None else [str(n) for n in feature_names]
    if len(names) != values.shape[1]:
        raise ValueError(f"feature_names must name the {values.shape[1]} columns of X, got {len(names)} names")
    if not np.isfinite(values).all():
        row, column = np.argwhere(~np.isfinite(values))[0]
        what = "NaN" if np.isnan(values[row, column]) else "infinity"
        raise ValueError(f"X must be finite, got {what} in feature {names[column]!r}, row {row}")
    check_size(values)
    labels = np.asarray(y)
    if labels.shape != (len(values),):
        raise ValueError(f"y must hold one label for each of the {len(values)} rows of X, got shape {labels.shape}")
    if labels.dtype.kind == "f" and not np.isfinite(labels).all():
        raise ValueError("y must hold labels only, got NaN or infinity among them")
    if image_shape is not None:
        image_shape = (int(image_shape[0]), int(image_shape[1]))
    return Dataset(str(name), source or ("data frame" if frame else "array"), values, labels, tuple(names), image_shape)


def _labels(y: NDArray[Any]) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    try:
        found, codes = np.unique(y, return_inverse=True)
    except TypeError:
        raise ValueError("y must hold labels of one kind, all text or all numbers, got a mixture") from None
    if len(found) < 2:
        raise ValueError(f"y must have at least two classes, got 1 class only ({str(found[0])!r})")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # many classes are told by the checks of the audit
        check_classification_targets(y)
    return tuple(str(label) for label in found.tolist()), codes.astype(np.int64)


def _subjects(learners: Any, seed: int) -> tuple[Subject, ...]:
    if isinstance(learners, str) or hasattr(learners, "fit"):
        learners = (learners,)
    named = learners.items() if isinstance(learners, Mapping) else ((None, learner) for learner in learners)
    subjects = [_subject(name, learner, seed) for name, learner in named]
    if not subjects:
        raise ValueError("learners must hold at least one learner, got none")
    specs = [subject.spec for subject in subjects]
    if twice := sorted({spec for spec in specs if specs.count(spec) > 1}):
        raise ValueError(f"learners must all be different, got {twice[0]!r} more than once")
    return tuple(subjects)


def _subject(name: str | None, learner: Any, seed: int) -> Subject:
    if isinstance(learner, str):
        spec = learner.strip()
        estimator, label = make_learner(spec, random_state=seed), describe(spec)
    elif hasattr(learner, "fit") and hasattr(learner, "get_params") and not isinstance(learner, type):
        spec = "euclidean" if type(learner) is Euclidean else " ".join(repr(learner).split())
        estimator, label = clone(learner), "Euclidean" if type(learner) is Euclidean else spec
        # Without a seed of its own a learner would give another result at every run.
        if estimator.get_params(deep=False).get("random_state", 0) is None:
            estimator.set_params(random_state=seed)
    else:
        raise TypeError(f"learners must hold specifications or unfitted learners, got {learner!r}")
    return Subject(spec, label, estimator) if name is None else Subject(str(name), str(name), estimator)


def _whole(name: str, value: Any, least: int) -> int:
    if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}")
    return int(value)


def _norm_name(norm: Norm) -> str:
    """The name of a norm; of one in other units or for some features only, what it says of itself."""
    return repr(norm) if hasattr(norm, "base") else str(getattr(norm, "name", type(norm).__name__))


def _sizes(name: str, values: Iterable[float]) -> tuple[float, ...]:
    given: list[Any] = [values] if isinstance(values, Real) else list(values)
    for value in given:
        if not isinstance(value, Real) or not math.isfinite(value) or value < 0:
            raise ValueError(f"{name} must hold finite numbers of at least 0, got {value!r}")
    return tuple(sorted({float(value) for value in given}))


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
