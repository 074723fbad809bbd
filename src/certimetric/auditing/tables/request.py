"""What an audit of metrics on a table is asked to do, checked before any work starts."""

from __future__ import annotations

import hashlib
import math
import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import KW_ONLY, dataclass, field, replace
from functools import cached_property
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from certimetric.auditing.request import AuditRequest, seconds_of, whole
from certimetric.auditing.tables.sizes import ATTACKED, TEST_ROWS, Sizes

if TYPE_CHECKING:
    from certimetric.attacks import FeatureRules
    from certimetric.datasets import Dataset, TableEncoder
    from certimetric.geometry import Norm
    from certimetric.runs.splits import Split
    from certimetric.runs.splitting import Splitting

# What thresholds may ask for, and whether it is taken at a size. Recall is taken of a class, which is a name.
FIGURES = {"accuracy": False, "balanced_accuracy": False, "median_radius": False, "noise": True, "certified": True}
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
    codes: NDArray[np.int64] = field(init=False)
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
        return _subjects(self.learners, self._learner, self.seed)

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


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Request(TableRequest):
    """An audit of metrics on a table, checked; :func:`certimetric.audit` has the same parameters.

    Parameters
    ----------
    tune : bool
        Search too for the best learner and its hyper-parameters, on the training part of each split: the learner auto.

        It is a :class:`~certimetric.MetricSearchCV` with ``n_neighbors`` and ``norm`` of the audit, and may be named
        among the learners instead, with options: ``auto:criterion=error,cv=3,max_rows=1000``.
    n_neighbors : int
        Neighbours that vote.
    noise : sequence of float
        Standard deviations of the noise, in standardised units.

        Every learner gets the same noise.
    test_size : float
        Share of every class that is held out, at least one instance.
        With ``groups`` or ``times`` it is the share of all rows, as near as whole groups or times allow.
    groups : array-like of shape (n,)
        A group of each instance: no group is in the training and in the test part. None for splits of each class.
    times : array-like of shape (n,)
        A time of each instance, as number, date or ISO text: the latest are the test part of the only split.
    test : bool array-like of shape (n,)
        The rows that are the test part of the only split.
    ids : array-like of shape (n,)
        What the report calls each instance. None for row numbers.
    features : path or FeatureRules
        A TOML file that says by name what of a fragile instance may change: a table [NAME] with bounds, direction,
        cost, immutable or integer. None for what the data show.
    test_rows : int
        At most so many instances of the test part of a split are tested, of every class its share.

        They are a random sample, one for all learners. With one split the intervals tell what the sample leaves open.
    budget : str
        Time that the audit may take, such as 90s, 10m or 2h: as much of the table is looked at as that allows.

        A pilot is timed, the plan is told, a first report is there after about a minute, and larger ones replace it.
        How much was looked at is told in the report; on a faster machine it is more. Seconds are taken as a number
        too. Reading the data does not count.
    fail_under : str or sequence of str
        Thresholds ``FIGURE=VALUE`` or ``LEARNER.FIGURE=VALUE`` with the FIGURE ``accuracy``, ``balanced_accuracy``
        (mean recall of the classes), ``recall@CLASS`` (share of its instances that is told right), ``noise@SIGMA``
        (accuracy under noise), ``certified@EPS`` or ``median_radius``.

    Raises
    ------
    ValueError, TypeError
        On the first thing that is wrong, in one sentence.
    """

    options = {
        "tune": "--tune",
        "n_neighbors": "--neighbors -k K",
        "noise": "--noise SIGMA,…",
        "test_size": "--test-size SHARE",
        "test_rows": "--test-rows N",
        "budget": "--budget TIME",
        "features": "--features FILE",
    }

    tune: bool = False
    n_neighbors: int = 3
    noise: Sequence[float] = (0.25, 0.5, 1.0)
    test_size: float = 0.3
    test_rows: int = TEST_ROWS
    budget: Any = None
    groups: Any = None
    times: Any = None
    test: Any = None
    ids: Any = None
    features: Any = None
    # Derived: how rows are split, and how much of the table is looked at, of how much.
    splitting: Splitting = field(init=False)
    sizes: Sizes = field(init=False)
    everything: Sizes = field(init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        n_neighbors, test_size = whole("n_neighbors", self.n_neighbors, 1), checked_share("test_size", self.test_size)
        splitting = self._splitting(test_size)
        repeats = 1 if splitting.single else self.repeats
        tested = splitting.check(repeats, self.classes, n_neighbors)
        noise, test_rows = sizes("noise", self.noise), whole("test_rows", self.test_rows, 1)
        n_train, n_test = (len(rows) for rows in splitting.indices(0))
        everything = Sizes(n_train, n_test, min(ATTACKED, n_test), repeats)
        self._settle(
            noise=noise,
            n_neighbors=n_neighbors,
            test_size=test_size,
            test_rows=test_rows,
            budget=None if self.budget is None else seconds_of("budget", self.budget),
            everything=everything,
            sizes=replace(everything, test=min(test_rows, everything.test)),
            repeats=repeats,
            splitting=splitting,
            ids=self._ids(),
            features=self._rules(),
        )
        self._judge_by([subject.spec for subject in self.subjects], FIGURES, noise=noise, classes=tested)

    def _audited(self) -> tuple[Subject, ...]:
        from certimetric.certify import MetricSearchCV
        from certimetric.learners.specs import AUTO_NAME

        subjects = super()._audited()
        if self.tune and not any(isinstance(subject.estimator, MetricSearchCV) for subject in subjects):
            subjects = (*subjects, _subject(None, AUTO_NAME, self._learner, self.seed))
        return subjects

    def _learner(self, spec: str) -> Any:
        from certimetric.certify.search import learner_of

        n_neighbors = whole("n_neighbors", self.n_neighbors, 1)
        return learner_of(spec, random_state=self.seed, n_neighbors=n_neighbors, norm=self.norm)

    @cached_property
    def digest(self) -> str:
        """Hash of the data."""
        return self.data.sha256()

    def sized(self, sizes: Sizes) -> Request:
        """The same request for another part of the table."""
        other = copy(self)
        other._settle(sizes=sizes, repeats=sizes.repeats)
        return other

    @property
    def is_sample(self) -> bool:
        """Whether only some of the training or test rows of a split are looked at."""
        return (self.sizes.train, self.sizes.test) != (self.everything.train, self.everything.test)

    @property
    def _sample(self) -> dict[str, int | None]:
        sizes, everything = self.sizes, self.everything
        return {
            "train_rows": sizes.train if sizes.train < everything.train else None,
            "test_rows": sizes.test if sizes.test < everything.test else None,
        }

    def rows(self, split: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Rows of the data that are learned from, and that are tested, in one split."""
        return self.splitting.indices(split, **self._sample)

    def _splitting(self, test_size: float) -> Splitting:
        from certimetric.runs.splitting import Splitting, group_codes, time_values

        n = len(self.codes)
        said = [name for name in ("groups", "times", "test") if getattr(self, name) is not None]
        if len(said) > 1:
            raise ValueError(f"{said[0]} and {said[1]} both say how to split: give one of them")
        given = None if self.test is None else np.asarray(self.test)
        if given is not None and (given.dtype != bool or given.shape != (n,)):
            raise ValueError(
                f"test must say True or False of each of the {n} rows of X, got {given.dtype} of shape {given.shape}"
            )
        groups = None if self.groups is None else group_codes(self.groups, n)
        times = None if self.times is None else time_values(self.times, n)
        return Splitting(self.codes, test_size, self.seed, groups, times, given)

    def _ids(self) -> tuple[str, ...] | None:
        if self.ids is None:
            return None
        ids = [str(each) for each in np.asarray(self.ids, dtype=object)]
        if len(ids) != len(self.codes):
            raise ValueError(f"ids must hold one for each of the {len(self.codes)} rows of X, got {len(ids)}")
        return tuple(ids)

    def _rules(self) -> FeatureRules | None:
        from certimetric.attacks import FeatureRules, ThreatModel

        if self.features is None:
            return None
        rules = self.features if isinstance(self.features, FeatureRules) else FeatureRules.read(self.features)
        data = self.data
        # What it says of unknown features, or a category in part, is told before the work.
        rules.threat(ThreatModel(), data.feature_names, data.columns).bind(data.n_features, data.feature_names)
        return rules

    @property
    def split_by(self) -> str | None:
        """Name of the column that says how to split, where it has one."""
        name = getattr(self.groups if self.groups is not None else self.times, "name", None)
        return None if name is None else str(name)

    def part(self, split: int) -> Split:
        """One split in standardised units, the same for every learner."""
        from certimetric.runs.splits import make_split

        return make_split(self.data.X, *self.rows(split), self.data.imputed)


def _labels(y: NDArray[Any]) -> tuple[tuple[str, ...], NDArray[np.int64]]:
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


def _subjects(learners: Any, make: Callable[[str], Any], seed: int) -> tuple[Subject, ...]:
    if isinstance(learners, str) or hasattr(learners, "fit"):
        learners = (learners,)
    named = learners.items() if isinstance(learners, Mapping) else ((None, learner) for learner in learners)
    subjects = [_subject(name, learner, make, seed) for name, learner in named]
    if not subjects:
        raise ValueError("learners must hold at least one learner, got none")
    specs = [subject.spec for subject in subjects]
    if twice := sorted({spec for spec in specs if specs.count(spec) > 1}):
        raise ValueError(f"learners must all be different, got {twice[0]!r} more than once")
    return tuple(subjects)


def _subject(name: str | None, learner: Any, make: Callable[[str], Any], seed: int) -> Subject:
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
