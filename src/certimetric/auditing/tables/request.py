"""What an audit of metrics on a table is asked to do, checked before any work starts."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from certimetric.auditing.request import seconds_of, whole
from certimetric.auditing.tables.sizes import ATTACKED, TEST_ROWS, Sizes
from certimetric.auditing.tables.subjects import Subject, subject_of
from certimetric.auditing.tables.table_request import TableRequest, checked_share, sizes
from certimetric.base.arrays import Indices

if TYPE_CHECKING:
    from certimetric.attacks import FeatureRules
    from certimetric.runs.splits import Split
    from certimetric.runs.splitting import Splitting

# What thresholds may ask for, and whether it is taken at a size. Recall is taken of a class, which is a name.
FIGURES = {"accuracy": False, "balanced_accuracy": False, "median_radius": False, "noise": True, "certified": True}


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
    dask : str
        Address of a Dask scheduler, such as tcp://127.0.0.1:8786, whose workers compute. None for this machine.

        They need certimetric, but neither the data nor the folder: results are kept here as they come. A cell whose
        worker dies is given to another one.
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

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> request = Request(*load_iris(return_X_y=True), learners=["euclidean", "gmml"], repeats=2)
    >>> request.n_neighbors, request.noise
    (3, (0.25, 0.5, 1.0))
    """

    options = {
        "tune": "--tune",
        "n_neighbors": "--neighbors -k K",
        "noise": "--noise SIGMA,…",
        "test_size": "--test-size SHARE",
        "test_rows": "--test-rows N",
        "budget": "--budget TIME",
        "dask": "--dask ADDRESS",
        "features": "--features FILE",
    }

    tune: bool = False
    n_neighbors: int = 3
    noise: Sequence[float] = (0.25, 0.5, 1.0)
    test_size: float = 0.3
    test_rows: int = TEST_ROWS
    budget: Any = None
    dask: str | None = None
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
        if self.dask is not None and (not isinstance(self.dask, str) or not self.dask):
            raise ValueError(f"dask must be the address of a scheduler, got {self.dask!r}")
        if self.dask is not None and self.n_jobs != 1:
            raise ValueError("dask is for a cluster and n_jobs for this machine: give one of them")
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
            subjects = (*subjects, subject_of(None, AUTO_NAME, self._learner, self.seed))
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

    def rows(self, split: int) -> tuple[Indices, Indices]:
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
        # What it says of unknown features, a category in part, or rows as they cannot be, is told before the work.
        threat = rules.threat(ThreatModel(), data.feature_names, data.columns)
        bound = threat.bind(data.n_features, data.feature_names)
        filled = np.zeros(data.X.shape, dtype=bool) if data.imputed is None else data.imputed
        bound.check_instances(np.where(filled, bound.repair(data.X, data.X), data.X))
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
