"""The audit as one function."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from certimetric.auditing.result import AuditResult
from certimetric.auditing.tables.request import DEFAULT_LEARNERS, DEFAULT_NOISE, make_request
from certimetric.auditing.tables.run import run_audit


def audit(
    X: Any,
    y: Any,
    *,
    learners: str | Iterable[Any] | Mapping[str, Any] = DEFAULT_LEARNERS,
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
    out: str | os.PathLike[str] | None = None,
    fail_under: str | Iterable[str] = (),
    progress: bool = False,
) -> AuditResult:
    """Compare metrics on a data set by error, error under noise, certificates and attacks.

    The data are split ``repeats`` times at random, class by class, and standardised on the training part. On each
    split every learner is fitted, its k-NN classifier predicts the test part, as it is and under Gaussian noise, and
    every prediction is certified. On the first split the certificates are then attacked, and the most fragile
    instances are told feature by feature.

    Parameters
    ----------
    X : array-like or DataFrame of shape (n, d)
        Finite numbers, in any units. The names of a frame's columns are kept.
    y : array-like of shape (n,)
        Labels, of at least two classes. A class with a single instance is kept for training and never tested.
    learners : sequence or mapping, default=("euclidean", "lmnn", "lmnn+pl", "scml+pl", "gmml", "aml")
        Specifications (see :func:`~certimetric.make_learner`) and unfitted learners; or a mapping of names to them. A
        learner without a ``random_state`` of its own gets ``seed``.
    n_neighbors : int, default=3
        k of the classifier.
    norm : {"l2", "linf", "l1"}, array-like of shape (d, d) or Norm, default="l2"
        How a perturbation is measured, in standardised units; a matrix A stands for ``√(δᵀAδ)``.
    noise : sequence of float, default=(0.25, 0.5, 1.0)
        Standard deviations of the noise in standardised units. Every learner gets the same noise.
    eps : sequence of float, default=None
        Radii of the certified-accuracy curve. Table and verdict quote the middle one (of an even number, the upper of
        the two). None for 41 radii that suit the results; the quoted one is then the largest of 1, 2, 5 × 10^k that is
        not above the median of the learners' median radii.
    repeats : int, default=5
        Splits.
    test_size : float, default=0.3
        Share of every class that is held out, at least one instance of it.
    seed : int, default=0
        Same seed, same machine, same figures, whatever ``n_jobs`` is.
    n_jobs : int, default=1
        Processes; −1 for one per core.
    feature_names : sequence of str, default=None
        Names of the d features.
    image_shape : (height, width), default=None
        Where every instance is an image, row by row.
    name : str, default="data"
        Name of the data in the report.
    out : path, default=None
        Folder for ``report.html``, ``results.json``, the fitted metrics, and what was computed so far: a run that was
        stopped goes on from there. A folder with the report of an audit of other data or with other options is refused
        (``fail_under`` is none of them: the same figures are judged anew). Where its ``results.json`` is removed, the
        report is written over, and what is finished and the same is used again: a change of ``eps`` then computes
        nothing anew. Without ``out`` nothing is written.
    fail_under : str or sequence of str, default=()
        Thresholds ``FIGURE=VALUE`` or ``LEARNER.FIGURE=VALUE`` with the FIGURE ``accuracy``, ``balanced_accuracy``
        (mean recall of the classes), ``recall@CLASS`` (share of its instances that is told right), ``noise@SIGMA``
        (accuracy under noise), ``certified@EPS`` or ``median_radius``. Without a learner it is about the recommended
        one. Without any threshold the status is never "PASS" but "REPORT".
    progress : bool, default=False
        Show a progress bar on stderr.

    Returns
    -------
    result : AuditResult
        Shows itself in a notebook; ``to_html()`` is the report, ``to_frame()`` the figures.

    Raises
    ------
    ValueError, TypeError
        If an argument is not as described, or ``out`` holds the report of another audit; nothing has been computed
        then.
    OSError
        If ``out`` cannot be written; nothing has been computed then.

    Notes
    -----
    The *recommended* learner has the highest certified accuracy at the quoted ε among those whose error is not
    significantly above the lowest, that is, whose 95 % interval over splits overlaps that of the lowest.

    A learner that raises on a split does not stop the others: the split is reported as failed, and tried again by the
    next run.

    What is kept in ``out`` is told apart by data, settings, parameters of the learner and version of certimetric, but
    not by the code of a learner of your own: take another folder after you changed it.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from certimetric import audit
    >>> X, y = load_iris(return_X_y=True)
    >>> result = audit(X, y, learners=["euclidean", "gmml"], repeats=2, fail_under="accuracy=0.8")
    >>> result.status
    'PASS'
    >>> result.to_frame().shape[0]
    4
    """
    request = make_request(
        X,
        y,
        learners=learners,
        n_neighbors=n_neighbors,
        norm=norm,
        noise=noise,
        eps=eps,
        repeats=repeats,
        test_size=test_size,
        seed=seed,
        n_jobs=n_jobs,
        feature_names=feature_names,
        image_shape=image_shape,
        name=name,
        fail_under=fail_under,
    )
    return run_audit(request, out=out, progress=progress)
