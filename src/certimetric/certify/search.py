"""The metric that a search chooses: learner and hyper-parameters, by a stated criterion, on the training rows alone."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import ClassifierMixin, _fit_context, clone
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import HasMethods, Interval, validate_parameter_constraints
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from certimetric.base.arrays import MODEST, Array, check_size
from certimetric.certify.classifier import CertifiedKNeighborsClassifier
from certimetric.certify.criteria import Criterion, Fold
from certimetric.certify.halving import Stage, is_reference, results_of, stages_of
from certimetric.geometry.mahalanobis import MahalanobisMetric
from certimetric.geometry.norms import resolve_norm
from certimetric.learners.base import MahalanobisLearner
from certimetric.learners.candidates import AUTO, REFERENCE
from certimetric.learners.specs import (
    AUTO_NAME,
    LEARNERS,
    PERTURBATION_SUFFIX,
    REGRESSORS,
    make_learner,
    options_of,
    unknown_learner,
)


class MetricSearchCV(ClassifierMixin, MahalanobisLearner):
    """Choose a learner and its hyper-parameters by cross-validation, and learn the metric that was chosen.

    Successive halving: all candidates are judged on two folds of few rows, the better half of them on all folds of
    twice the rows, the better half of these on ``max_rows``. Candidates are compared on the same rows, which none of
    them was fitted on; the Euclidean distance, which the others are held against, always stays. Whatever is chosen was
    chosen on the rows of ``fit`` alone: rows that are kept from it are an honest test of all of it.

    Parameters
    ----------
    learners : "auto", str, learner, or sequence of these, default="auto"
        Candidates: specifications as :func:`~certimetric.make_learner` reads them, or unfitted learners. "auto" stands
        for the list ``certimetric.learners.candidates.AUTO``. Earlier ones win ties.
    criterion : str, default="balanced"
        What is to be best in the cross-validation: "error"; "noise@SIGMA", the accuracy under Gaussian noise of that
        standard deviation; "certified@EPS", the certified accuracy at EPS; or "balanced": the certified accuracy at
        half of the median certified radius of the Euclidean distance, among the candidates that do not err more than
        the Euclidean distance does (on the rows where one of both is wrong and the other right, by no more than half a
        standard deviation of what chance makes of the difference).
    n_neighbors : int, default=3
        k of the classifier that candidates are judged by, and that predicts.
    norm : {"l2", "linf", "l1"}, array-like of shape (d, d) or Norm, default="l2"
        Of certified radii.
    cv : int or splitter, default=5
        Folds, stratified and shuffled; fewer where no class has as many instances.
    max_rows : int, default=2000
        Rows of the last stage, drawn class by class; the first two have a quarter and half of them. The metric that
        was chosen is learned on all rows.
    refit : bool, default=True
        Whether it is learned at all.
    random_state : int, RandomState or None, default=None
        For folds, draws, noise, and learners without one of their own.
    n_jobs : int, default=None
        Processes that fit candidates, as in joblib; they change no result.
    verbose : bool, default=False
        Tell each stage.

    Attributes
    ----------
    best_params_ : dict
        ``{"learner": specification}`` (or the representation of a learner that was given).
    best_estimator_ : CertifiedKNeighborsClassifier
        On all rows, with the learner that was chosen, fitted, as ``best_estimator_.learner_``.
    best_score_ : float
        Cross-validated share that the criterion counts (accuracy, under noise, or certified accuracy).
    best_index_ : int
        Its place in ``cv_results_``.
    cv_results_ : dict of lists
        One entry for each candidate and stage, as in scikit-learn: ``iter`` (the stage), ``n_resources`` (rows),
        ``n_folds``, ``params``, ``mean_test_score``, ``std_test_score`` (over folds), ``mean_test_error``,
        ``not_worse`` (whether "balanced" admits it), ``mean_fit_time`` (seconds to fit and judge on a fold) and
        ``rank_test_score`` in its stage. A candidate that failed has NaN.
    eps_ : float or None
        The ε at which the last stage certified.
    components_ : array of shape (k, d)
    metric_ : MahalanobisMetric
    classes_ : array of shape (n_classes,)

    See Also
    --------
    certimetric.audit : ``learners=["auto", ...]`` searches on the training part of every split.

    References
    ----------
    Jamieson and Talwalkar (2016), *Non-stochastic best arm identification and hyperparameter optimization*, AISTATS,
    arXiv 1502.07943 [jamieson2016nonstochastic]. McNemar (1947), *Note on the sampling error of the difference between
    correlated proportions or percentages* [mcnemar1947note], Psychometrika 12.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from sklearn.preprocessing import StandardScaler
    >>> from certimetric import MetricSearchCV
    >>> X, y = load_wine(return_X_y=True)
    >>> X = StandardScaler().fit_transform(X)
    >>> search = MetricSearchCV(["euclidean", "gmml", "gmml:t=0.3"], criterion="error", cv=3, random_state=0)
    >>> sorted(search.fit(X[::2], y[::2]).best_params_)
    ['learner']
    >>> labels, radii = search.predict_with_radius(X[1::2])
    >>> bool((labels == y[1::2]).mean() > 0.9)
    True
    """

    _parameter_constraints = {
        "learners": "no_validation",
        "criterion": [str],
        "n_neighbors": [Interval(Integral, 1, None, closed="left")],
        "norm": "no_validation",
        "cv": [Interval(Integral, 2, None, closed="left"), HasMethods(["split"])],
        "max_rows": [Interval(Integral, 8, None, closed="left")],
        "refit": ["boolean"],
        "random_state": ["random_state"],
        "n_jobs": [Integral, None],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        learners: Any = AUTO_NAME,
        *,
        criterion: str = "balanced",
        n_neighbors: int = 3,
        norm: Any = "l2",
        cv: Any = 5,
        max_rows: int = 2000,
        refit: bool = True,
        random_state: Any = None,
        n_jobs: int | None = None,
        verbose: bool = False,
    ):
        self.learners = learners
        self.criterion = criterion
        self.n_neighbors = n_neighbors
        self.norm = norm
        self.cv = cv
        self.max_rows = max_rows
        self.refit = refit
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.verbose = verbose

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: ArrayLike, y: ArrayLike) -> MetricSearchCV:
        """Search, and learn on all rows what was chosen.

        Parameters
        ----------
        X : array-like of shape (n, d)
            In the units that distances, noise and radii are meant in: standardise first.
        y : array-like of shape (n,)
            Class labels.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            On a criterion or candidate that is not understood, on data that no candidate could be fitted on, and as
            the learner that was chosen.
        """
        criterion = Criterion.parse(self.criterion)
        norm = resolve_norm(self.norm)
        given = X
        X, y = validate_data(self, X, y, dtype=np.float64, ensure_min_samples=2, order="C")
        check_classification_targets(y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        codes = codes.astype(np.int64)
        if len(self.classes_) < 2:
            raise ValueError(f"y must have at least two classes, got only 1 class ({self.classes_.tolist()[0]!r})")
        check_size(X, limit=MODEST)
        seed = self.random_state
        if not isinstance(seed, Integral):
            seed = check_random_state(seed).randint(2**31 - 1)
        candidates = _candidates(self.learners, int(seed))
        if criterion.kind == "balanced" and not any(is_reference(learner) for learner in candidates.values()):
            candidates = {REFERENCE: make_learner(REFERENCE), **candidates}
        stages = stages_of(codes, self.cv, self.max_rows, int(seed))
        if len(candidates) <= 2:
            stages = stages[-1:]
        found: list[Stage] = []
        for number, (rows, splits) in enumerate(stages):
            folds = [Fold(X[rows][a], codes[rows][a], X[rows][b], codes[rows][b]) for a, b in splits]
            stage = Stage.of(candidates, folds, criterion, self.n_neighbors, norm, int(seed), self.n_jobs)
            found.append(stage)
            if self.verbose:
                print(f"MetricSearchCV: stage {number}, {len(rows)} rows, {len(folds)} folds: {stage.told()}")
            kept = stage.best[: -(-len(candidates) // 2)]
            candidates = {
                name: learner
                for i, (name, learner) in enumerate(candidates.items())
                if np.isfinite(stage.scores[i]) and (i in kept or is_reference(learner))
            }
            if not candidates:
                raise ValueError("no candidate could be fitted in the cross-validation")
        last = found[-1]
        self.cv_results_ = results_of(found, [len(rows) for rows, _ in stages])
        self.best_index_ = len(self.cv_results_["iter"]) - len(last.names) + last.best[0]
        self.best_params_ = dict(self.cv_results_["params"][self.best_index_])
        self.best_score_ = last.scores[last.best[0]]
        self.eps_ = last.eps
        if self.refit:
            learner = candidates[last.names[last.best[0]]]
            classifier = CertifiedKNeighborsClassifier(self.n_neighbors, metric=learner, norm=self.norm)
            self.best_estimator_ = classifier.fit(given, y)
        return self

    @property
    def components_(self) -> Array:  # type: ignore[override]
        """Components of the metric that was chosen, shape (k, d)."""
        return self.metric_.components

    @property
    def metric_(self) -> MahalanobisMetric:
        """The metric that was chosen, learned on all rows."""
        check_is_fitted(self, "best_estimator_")
        return self.best_estimator_.metric_

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Labels of the queries by ``best_estimator_``, (m, d) to (m,)."""
        check_is_fitted(self, "best_estimator_")
        return self.best_estimator_.predict(X)

    def predict_proba(self, X: ArrayLike) -> Array:
        """Share of the votes of each class, shape (m, n_classes)."""
        check_is_fitted(self, "best_estimator_")
        return self.best_estimator_.predict_proba(X)

    def predict_with_radius(self, X: ArrayLike) -> tuple[NDArray[Any], Array]:
        """Labels and certified radii, as :meth:`CertifiedKNeighborsClassifier.predict_with_radius` gives them."""
        check_is_fitted(self, "best_estimator_")
        return self.best_estimator_.predict_with_radius(X)

    def search_told(self) -> dict[str, Any]:
        """What was tried and what was chosen, as JSON values: ``chosen``, ``criterion``, ``eps`` and ``tried``.

        Each entry of ``tried`` has the ``learner``, the last ``stage`` that it was judged in with its ``rows`` and
        ``folds``, the cross-validated ``error`` and ``score`` there (None where it failed), and whether it is
        ``admitted`` by the criterion; the one that was chosen is the first, those of later stages precede.
        """
        check_is_fitted(self, "best_params_")
        results, last = self.cv_results_, {}
        for i, params in enumerate(results["params"]):
            last[params["learner"]] = i

        def number(value: float) -> float | None:
            return None if np.isnan(value) else float(value)

        ordered = sorted(last.values(), key=lambda i: (-results["iter"][i], results["rank_test_score"][i]))
        return {
            "chosen": self.best_params_["learner"],
            "criterion": self.criterion,
            "eps": self.eps_,
            "tried": [
                {
                    "learner": results["params"][i]["learner"],
                    "stage": results["iter"][i],
                    "rows": results["n_resources"][i],
                    "folds": results["n_folds"][i],
                    "error": number(results["mean_test_error"][i]),
                    "score": number(results["mean_test_score"][i]),
                    "admitted": results["not_worse"][i],
                }
                for i in ordered
            ],
        }


def _candidates(given: Any, seed: int) -> dict[str, Any]:
    """Unfitted learners by their names."""
    if isinstance(given, str):
        given = AUTO if given == AUTO_NAME else (given,)
    elif hasattr(given, "fit"):
        given = (given,)
    found: dict[str, Any] = {}
    for each in given:
        if isinstance(each, str):
            name, learner = each, make_learner(each, random_state=seed)
        elif hasattr(each, "fit") and hasattr(each, "get_params") and not isinstance(each, type):
            name, learner = " ".join(repr(each).split()), clone(each)
            if learner.get_params(deep=False).get("random_state", 0) is None:
                learner.set_params(random_state=seed)
        else:
            raise TypeError(f"learners must hold specifications or unfitted learners, got {each!r}")
        if name in found:
            raise ValueError(f"learners must all be different, got {name!r} more than once")
        found[name] = learner
    if not found:
        raise ValueError("learners must hold at least one learner, got none")
    return found


def learner_of(spec: str, *, random_state: int | None = None, n_neighbors: int = 3, norm: Any = "l2") -> Any:
    """The learner of a specification, ``auto[:criterion=…,cv=…,max_rows=…]`` among them.

    Parameters
    ----------
    spec : str
        As for :func:`~certimetric.make_learner`, or "auto" for :class:`MetricSearchCV`.
    random_state : int, optional
    n_neighbors : int
        k of the predictor: what a search judges by.
    norm : str or Norm
        Likewise.

    Examples
    --------
    >>> learner_of("auto:criterion=error", random_state=0)
    MetricSearchCV(criterion='error', random_state=0)
    """
    head, _, options = spec.partition(":")
    if head.strip().lower() != AUTO_NAME:
        if head.strip().lower().removesuffix(PERTURBATION_SUFFIX) not in {*LEARNERS, *REGRESSORS}:
            raise unknown_learner(head, [*LEARNERS, AUTO_NAME])
        return make_learner(spec, random_state=random_state)
    given = options_of(options, ("criterion", "cv", "max_rows"), head)
    search = MetricSearchCV(n_neighbors=n_neighbors, norm=norm, random_state=random_state, **given)
    try:
        for name, least in (("cv", 2), ("max_rows", 8)):
            if name in given and (not isinstance(given[name], int) or given[name] < least):
                raise ValueError(f"{name} must be a whole number of at least {least}, got {given[name]!r}")
        constraints = type(search)._parameter_constraints
        validate_parameter_constraints(constraints, search.get_params(deep=False), type(search).__name__)
        Criterion.parse(search.criterion)
    except ValueError as error:
        raise ValueError(f"learner {spec!r}: {error}") from None
    return search
