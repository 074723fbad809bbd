"""The one list of kinds of audits; importing it registers the checks of all of them."""

from typing import Any

from certimetric.auditing.checks import CHECKS as CHECKS  # offered from here: those of all kinds are in it now
from certimetric.auditing.embeddings.run import EmbeddingEvidence
from certimetric.auditing.model_verification.run import ModelVerificationEvidence
from certimetric.auditing.retrieval.run import RetrievalEvidence
from certimetric.auditing.run import Evidence
from certimetric.auditing.tables.run import TableEvidence
from certimetric.auditing.verification.run import VerificationEvidence

KINDS: tuple[type[Evidence], ...] = (
    TableEvidence,
    RetrievalEvidence,
    EmbeddingEvidence,
    VerificationEvidence,
    ModelVerificationEvidence,
)


def evidence_of(request: Any) -> Evidence:
    """What carries out a request."""
    return next(kind for kind in KINDS if kind.asked is type(request))(request)
