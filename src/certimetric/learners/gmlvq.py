"""Generalised matrix learning vector quantisation: a metric learned together with a few prototypes of every class."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import replace
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import _fit_context
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions

from certimetric.base.arrays import Array, Indices
from certimetric.base.threads import limited_threads
from certimetric.constraints.neighbors import class_members, nearest_triplets
from certimetric.learners.base import CLASS_WEIGHT, IMPOSTORS_PER_INSTANCE, TARGETS_PER_INSTANCE, MahalanobisLearner
from certimetric.learners.coordinates import Coordinates, deviation_of, on_grid
from certimetric.learners.starts import INITS, starting_components
from certimetric.objectives.margin import KINDS, MarginLoss
from certimetric.objectives.prototypes import PrototypeMargins
from certimetric.objectives.triplet_margin import typical_margin

_SAMPLE = 5_000  # instances whose margins give the scale


class GMLVQ(MahalanobisLearner):
    """Generalised matrix learning vector quantisation, for large certified radii.

    A few prototypes of every class are learned together with the metric, and an instance belongs to the class of its
    nearest prototype. With prototypes w_j of the class of instance x and w_l of others, ::

        r = min_l max_j [d²(x, w_l) − d²(x, w_j)] / (2 ‖M (w_l − w_j)‖_*)

    is the certified radius of that prediction, and negative where it is wrong. The fit minimises the mean of
    ``φ(r / scale)`` over the metric and all prototypes (smooth in minimum and maximum), which does not depend on the
    scale of M. The prototypes are a training set of a few rows for any nearest-neighbour rule::

        CertifiedKNeighborsClassifier(1, metric=gmlvq).fit(gmlvq.prototypes_, gmlvq.prototype_labels_)

    Parameters
    ----------
    n_prototypes : int, default=3
        Prototypes of a class; fewer where it has fewer different instances.
    loss : {"hinge", "linear", "exponential"}, default="hinge"
        φ(r) is [1 − r]_+, −r or exp(−r).
    scale : float or "auto", default="auto"
        Unit of the radii in the loss, in units of the data: with "hinge", the radius beyond which an instance is safe.
        "auto" reads it off the data: the upper quartile of the margins that triplets of near instances have in the
        Euclidean metric.
    norm : {"l2", "linf", "l1"}, array-like of shape (d, d) or Norm, default="l2"
        How a perturbation is measured; a matrix A stands for ``√(δᵀAδ)``.
    class_weight : dict, "balanced" or None, default=None
        Weight of the instances of each class in the mean; "balanced" lets every class count alike, however many
        instances it has.
    n_components : int, default=None
        Rows of L; None for as many as features.
    init : {"auto", "identity", "pca", "lda", "random"} or array-like of shape (k, d), default="auto"
        Starting point of L; "auto" is the identity, or "pca" where ``n_components`` is smaller than d. "lda" takes
        Fisher's discriminants, which are fewer than the classes: as many rows where ``n_components`` is None.
        Prototypes start at the means of clusters of their class, by k-means in that metric.
    max_iter : int, default=200
        Bound on the quasi-Newton steps.
    tol : float, default=1e-3
        Stop when ten steps lower the objective by less than this fraction.
    random_state : int, RandomState or None, default=None
        Clusters, and a random starting point.
    verbose : bool, default=False
        Print the objective as it falls.

    Attributes
    ----------
    components_ : array of shape (k, d)
        L; where k is not given and there are more features than instances, as many rows as their differences span.
    metric_ : MahalanobisMetric
    prototypes_ : array of shape (p, d)
        In units of the data.
    prototype_labels_ : array of shape (p,)
        Classes of the prototypes.
    objective_ : float
        The loss reached.
    objective_path_ : list of float
        The loss at the start and after every ten steps: it never rises.
    n_iter_ : int
    converged_ : bool
        Whether more steps would have gained less than ``tol``; a :class:`~sklearn.exceptions.ConvergenceWarning` says
        if not, and if the fit did not move at all.
    scale_ : float
        Unit of the radii in the loss, in units of the data.
    classes_ : array

    References
    ----------
    Schneider, Biehl, Hammer (2009), *Adaptive relevance matrices in learning vector quantization*
    [schneider2009adaptive], Neural Computation 21. Saralajew, Holdijk, Villmann (2020), *Fast adversarial robustness
    certification of nearest prototype classifiers for arbitrary seminorms* [saralajew2020fast], NeurIPS 33: the
    certificate, and the loss on it.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from certimetric import CertifiedKNeighborsClassifier, GMLVQ
    >>> X, y = load_iris(return_X_y=True)
    >>> gmlvq = GMLVQ(2, random_state=0).fit(X[::2], y[::2])
    >>> knn = CertifiedKNeighborsClassifier(1, metric=gmlvq).fit(gmlvq.prototypes_, gmlvq.prototype_labels_)
    >>> gmlvq.prototypes_.shape, bool(knn.certified_accuracy(X[1::2], y[1::2], 0.1) > 0.9)
    ((6, 4), True)
    """

    _parameter_constraints = {
        "n_prototypes": [Interval(Integral, 1, None, closed="left")],
        "loss": [StrOptions(set(KINDS))],
        "scale": [Interval(Real, 0, None, closed="neither"), StrOptions({"auto"})],
        "norm": "no_validation",
        "class_weight": CLASS_WEIGHT,
        "n_components": [Interval(Integral, 1, None, closed="left"), None],
        "init": [StrOptions(INITS), "array-like"],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        n_prototypes: int = 3,
        *,
        loss: str = "hinge",
        scale: float | str = "auto",
        norm: Any = "l2",
        class_weight: Mapping[Any, float] | str | None = None,
        n_components: int | None = None,
        init: Any = "auto",
        max_iter: int = 200,
        tol: float = 1e-3,
        random_state: Any = None,
        verbose: bool = False,
    ):
        self.n_prototypes = n_prototypes
        self.loss = loss
        self.scale = scale
        self.norm = norm
        self.class_weight = class_weight
        self.n_components = n_components
        self.init = init
        self.max_iter = max_iter
        self.tol = tol
        self.random_state = random_state
        self.verbose = verbose

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> GMLVQ:
        """Learn metric and prototypes from labels.

        Parameters
        ----------
        X : array-like of shape (n, d)
            In the units in which perturbations are to be measured.
        y : array-like of shape (n,)
            Class labels.
        sample_weight : array-like of shape (n,), optional
            Of the instances in the mean, at least 0; the prototypes start from clusters of all alike.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            On NaN or infinity, a single class, a weight that is missing, or a norm of another number of features.
        """
        X, codes, weights = self._validate_labelled(X, y, sample_weight)
        norm = MarginLoss(self.loss, norm=self.norm).check()
        norm.dual_norm(np.zeros(X.shape[1]))  # one message for an ellipsoid of another number of features
        coordinates = Coordinates.for_descent(X, self.init, self.n_components, rescale=False)
        center, unit = X.mean(axis=0), deviation_of(coordinates.X)
        points = on_grid((coordinates.X - coordinates.X.mean(axis=0)) / unit)
        coordinates, norm = replace(coordinates, X=points, unit=unit), coordinates.norm(norm)
        rng = check_random_state(self.random_state)
        L = starting_components(self.init, coordinates, self.n_components, X.shape[1], rng, codes)
        with limited_threads(X.shape[1]):
            scale = self._typical_scale(points, codes, norm) if self.scale == "auto" else float(self.scale) / unit
            W, labels = _cluster_means(points, points @ L.T, codes, self.n_prototypes, rng)
            objective = PrototypeMargins(points, codes, labels, self.loss, scale, norm, weights)
            solution = self._descend(objective, objective.stacked(L, W))
        L, W = objective.split(solution.components)
        self._set_solution(replace(solution, components=L), coordinates)
        self.prototypes_ = center + unit * (W if coordinates.axes is None else W @ coordinates.axes)
        self.prototype_labels_ = self.classes_[labels]
        self.scale_ = scale * unit
        return self

    def _typical_scale(self, X: Array, y: Indices, norm: Any) -> float:
        rows = np.unique(np.linspace(0, len(X) - 1, min(_SAMPLE, len(X))).astype(np.int64))
        return typical_margin(X, nearest_triplets(X, y, TARGETS_PER_INSTANCE, IMPOSTORS_PER_INSTANCE, rows=rows), norm)


def _cluster_means(X: Array, Z: Array, y: Indices, n: int, rng: np.random.RandomState) -> tuple[Array, Indices]:
    """Means of at most n clusters of every class, found by k-means of the rows of Z, and their class codes."""
    means, labels = [], []
    for rows in class_members(y):
        k = min(n, len(np.unique(Z[rows], axis=0)))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # rows that differ by rounding make fewer clusters
            cluster = KMeans(k, n_init=1, random_state=rng).fit_predict(Z[rows]) if k > 1 else np.zeros(len(rows))
        found = np.unique(cluster)
        means += [X[rows[cluster == c]].mean(axis=0) for c in found]
        labels += [y[rows[0]]] * len(found)
    return np.stack(means), np.array(labels, dtype=np.int64)
