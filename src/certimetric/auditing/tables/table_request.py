"""What audits of metrics on tables have in common: data, learners, norm, sizes and splits, checked before any work."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from certimetric.auditing.request import AuditRequest, whole
from certimetric.auditing.tables.subjects import DEFAULT_LEARNERS, Subject, subjects_of
from certimetric.base.arrays import Indices

if TYPE_CHECKING:
    from certimetric.datasets import Dataset, TableEncoder
    from certimetric.geometry import Norm


@dataclass(frozen=True, eq=False, repr=False)
class TableRequest(AuditRequest):
    """What audits of metrics on a table are asked, whatever they measure.

    Parameters
    ----------
    X : array-like or DataFrame of shape (n, d)
        Finite numbers, in any units. The names of a frame's columns are kept.
    y : array-like of shape (n,)
        Labels, of at least two classes.
    learners : sequence or mapping
        Specifications such as euclidean or lmnn+pl:tau=2.

        They are those of :func:`~certimetric.make_learner`. Unfitted learners are taken too, and a mapping of names to
        either. A learner without a ``random_state`` of its own gets ``seed``.
    norm : {"l2", "linf", "l1"}, array-like of shape (d, d) or Norm
        How a perturbation is measured, in standardised units.

        A matrix A stands for ``√(δᵀAδ)``.
    eps : sequence of float
        Radii of the certified curves, of which table and verdict quote the middle one. None for 41 that suit the
        results.

        Of an even number the upper of the two is quoted; of those that suit the results, the largest of 1, 2, 5 × 10^k
        that is not above the median of the learners' median radii.
    repeats : int
        Splits at random.
    n_jobs : int
        Processes; −1 for one per core.

        They change no figure.
    feature_names : sequence of str
        Names of the d features. None for those of the frame, or x0, x1, ….
    image_shape : (height, width)
        Where every instance is an image, row by row.
    source : str
        Where the data came from, for the report.
    imputed : bool array of shape (n, d)
        Cells of X that were missing: each gets the median of its feature in the training part of a split.
    encoder : TableEncoder
        How X was made of a table with text, dates and gaps. The metric files keep it, with the medians of their split,
        and take such tables.
    """

    options = {
        "learners": "--learner -l SPEC",
        "norm": "--norm",
        "eps": "--eps EPS,…",
        "repeats": "--repeats N",
        "n_jobs": "--jobs -j N",
    }

    X: Any
    y: Any
    _: KW_ONLY
    learners: str | Iterable[Any] | Mapping[str, Any] = DEFAULT_LEARNERS
    norm: Any = "l2"
    eps: Sequence[float] | None = None
    repeats: int = 5
    n_jobs: int = 1
    feature_names: Sequence[str] | None = None
    image_shape: tuple[int, int] | None = None
    source: str | None = None
    imputed: NDArray[np.bool_] | None = None
    encoder: TableEncoder | None = None
    # Derived: labels as positions in classes, learners by name, the norm's name.
    data: Dataset = field(init=False)
    codes: Indices = field(init=False)
    classes: tuple[str, ...] = field(init=False)
    subjects: tuple[Subject, ...] = field(init=False)
    norm_name: str = field(init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        data = self._dataset()
        classes, codes = _labels(data.y)
        norm = _norm(self.norm, data.n_features)
        subjects = self._audited()
        n_jobs = self.n_jobs
        if not isinstance(n_jobs, Integral) or isinstance(n_jobs, bool) or n_jobs == 0 or n_jobs < -1:
            raise ValueError(f"n_jobs must be a positive whole number, or -1 for all cores, got {n_jobs!r}")
        eps = None if self.eps is None else sizes("eps", self.eps)
        if eps == ():
            raise ValueError("eps must hold at least one size, or be None, got none")
        self._settle(
            X=data.X,
            y=data.y,
            learners=subjects,
            norm=norm,
            eps=eps,
            repeats=whole("repeats", self.repeats, 1),
            n_jobs=int(n_jobs),
            data=data,
            codes=codes,
            classes=classes,
            subjects=subjects,
            norm_name=_norm_name(norm),
        )

    def _audited(self) -> tuple[Subject, ...]:
        return subjects_of(self.learners, self._learner, self.seed)

    def _learner(self, spec: str) -> Any:
        from certimetric.certify.search import learner_of

        return learner_of(spec, random_state=self.seed, norm=self.norm)

    def _dataset(self) -> Dataset:
        """The table as it is audited."""
        from certimetric.base.arrays import check_size
        from certimetric.datasets import Dataset
        from certimetric.datasets.tables.frames import as_pandas, is_frame

        X, y, feature_names, image_shape = self.X, self.y, self.feature_names, self.image_shape
        if frame := is_frame(X):
            X = X if hasattr(X, "to_numpy") else as_pandas(X)
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
        source = self.source or ("data frame" if frame else "array")
        read = Dataset(str(self.name), source, values, labels, tuple(names), image_shape)
        if self.encoder is not None and self.encoder.feature_names != read.feature_names:
            raise ValueError(
                f"encoder must make the {read.n_features} features of X, got one of {len(self.encoder.feature_names)}"
            )
        return replace(read, imputed=self.imputed, encoder=self.encoder)


def _labels(y: NDArray[Any]) -> tuple[tuple[str, ...], Indices]:
    from sklearn.utils.multiclass import check_classification_targets

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


def _norm(norm: Any, n_features: int) -> Norm:
    from certimetric.geometry import resolve_norm

    resolved = resolve_norm(norm)
    matrix = getattr(resolved, "matrix", None)
    if matrix is not None and len(matrix) != n_features:
        raise ValueError(f"norm must be a matrix of {n_features} features, got one of {len(matrix)}")
    try:
        resolved.norm(np.zeros(n_features))
    except ValueError as error:
        raise ValueError(f"norm must fit the {n_features} features of X, got {resolved!r}: {error}") from None
    return resolved


def _norm_name(norm: Norm) -> str:
    """The name of a norm; of one in other units or for some features only, what it says of itself."""
    return repr(norm) if hasattr(norm, "base") else str(getattr(norm, "name", type(norm).__name__))


def checked_share(name: str, value: Any) -> float:
    """A share between 0 and 1; a ValueError if it is none."""
    if not isinstance(value, Real) or not 0.0 < float(value) < 1.0:
        raise ValueError(f"{name} must be a share between 0 and 1, got {value!r}")
    return float(value)


def sizes(name: str, values: Iterable[float]) -> tuple[float, ...]:
    """Sizes of changes, each once and rising; a ValueError if one is none."""
    given: list[Any] = [values] if isinstance(values, Real) else list(values)
    for value in given:
        if not isinstance(value, Real) or not math.isfinite(value) or value < 0:
            raise ValueError(f"{name} must hold finite numbers of at least 0, got {value!r}")
    return tuple(sorted({float(value) for value in given}))
