"""Each kind of audit as one function; its parameters are the fields of its request, described there once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from certimetric.auditing.embeddings.request import EmbeddingRequest
from certimetric.auditing.model_verification.request import ModelVerificationRequest
from certimetric.auditing.request import AuditRequest, parameters_of
from certimetric.auditing.retrieval.request import RetrievalRequest
from certimetric.auditing.tables.request import Request
from certimetric.auditing.verification.request import VerificationRequest

if TYPE_CHECKING:
    from certimetric.auditing.result import AuditResult


@parameters_of(Request)
def audit(request: Request) -> AuditResult:
    """Compare metrics on a data set by error, error under noise, certificates and attacks.

    The data are split ``repeats`` times at random, class by class or by groups, or once by time or as given, and
    standardised on the training part. On each split every learner is fitted, its k-NN classifier predicts the test
    part, as it is and under Gaussian noise, and every prediction is certified. On the first split the certificates are
    then attacked, and the most fragile instances are told feature by feature. At random a class with a single instance
    is kept for training and never tested.

    Returns
    -------
    result : AuditResult
        Shows itself in a notebook; ``to_html()`` is the report, ``to_frame()`` the figures.

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
    return _carried_out(request)


@parameters_of(RetrievalRequest)
def audit_retrieval(request: RetrievalRequest) -> AuditResult:
    """Compare embedding models by retrieval, clean and under attack, beside the pixels themselves.

    Each query is perturbed within a ball, the gallery stays clean. The attacks maximise the margin, which is positive
    exactly when the first result is wrong, and for each query the worst over the attacks counts.

    Returns
    -------
    result : AuditResult

    References
    ----------
    Panum et al., *Exploring adversarial robustness of deep metric learning*, arXiv 2102.07265 [panum2021exploring].

    Examples
    --------
    >>> import torch
    >>> from certimetric.auditing import audit_retrieval
    >>> from certimetric.deep import ImageSet, embedding_model
    >>> images = ImageSet(torch.rand(24, 1, 8, 8), torch.arange(24) % 3)
    >>> audit_retrieval({"random": embedding_model("small-cnn", 8)}, images, eps=[0.1], n_checked=0).passed
    True
    """
    return _carried_out(request)


@parameters_of(EmbeddingRequest)
def audit_embeddings(request: EmbeddingRequest) -> AuditResult:
    """Compare embeddings by retrieval, clean and under every change of a query's embedding up to ε (l2).

    The pictures are not known, so nothing can be said about changes of pictures. Within the embedding the answer is
    exact: the smallest change of each query that puts an item of another class first is computed.

    Sizes are fractions of the median distance from a query to its nearest item, of each model's own embeddings: the
    same for all models, and the same for embeddings that are multiplied by a number.

    Returns
    -------
    result : AuditResult

    Examples
    --------
    >>> from certimetric.datasets.embedding_files import Embeddings
    >>> given = Embeddings.from_arrays([[0.0], [1.0], [4.0], [5.0]], [0, 0, 1, 1])
    >>> audit_embeddings({"model": given}, eps=[0.5, 2.0]).to_frame()["recall_at_1"].tolist()  # each is 1 apart
    [1.0, 1.0, 1.0, 0.5, 0.5]
    """
    return _carried_out(request)


@parameters_of(VerificationRequest)
def audit_verification(request: VerificationRequest) -> AuditResult:
    """Compare metrics on a table by whom they accept as the same: rates, thresholds, attacks and certificates.

    The subjects (classes) are split ``repeats`` times at random: from some of them learners are fitted, on pairs of
    others thresholds are calibrated to a false accept rate, and pairs of yet others are tested. Every decision is
    certified; those of the first split are attacked, genuine pairs by dodging and impostors by impersonation.

    Returns
    -------
    result : AuditResult

    Notes
    -----
    Rates are means over splits, with 95 % intervals by resampling subjects. The *recommended* learner has the largest
    certified TAR less FAR at the quoted ε, among those whose TAR at the same false accept rate on test pairs is not
    significantly below the highest.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from certimetric.auditing import audit_verification
    >>> X, y = load_digits(return_X_y=True)
    >>> result = audit_verification(X[::4], y[::4], learners=["euclidean"], repeats=2, fail_under="auc=0.7")
    >>> result.status
    'PASS'
    """
    return _carried_out(request)


@parameters_of(ModelVerificationRequest)
def audit_model_verification(request: ModelVerificationRequest) -> AuditResult:
    """Compare embedding models by whom they accept as the same, clean and under attack, beside the pixels themselves.

    Thresholds are calibrated on pairs of half of the subjects, where there are four of two pictures or more; pairs of
    the others are tested. Probes of genuine pairs dodge, those of impostors impersonate.

    Returns
    -------
    result : AuditResult

    Examples
    --------
    >>> import torch
    >>> from certimetric.auditing import audit_model_verification
    >>> from certimetric.deep import ImageSet, embedding_model
    >>> images = ImageSet(torch.rand(24, 1, 8, 8), torch.arange(24) % 4)
    >>> audit_model_verification({"random": embedding_model("small-cnn", 8)}, images, far=0.2, eps=[0.1]).passed
    True
    """
    return _carried_out(request)


def _carried_out(request: AuditRequest) -> AuditResult:
    from certimetric.auditing.kinds import evidence_of
    from certimetric.auditing.run import run

    return run(evidence_of(request), **request.output)
