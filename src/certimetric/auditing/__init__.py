"""Audits: metrics on data, and embedding models on images, with evidence and reliability checks."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from certimetric.auditing.api import audit, audit_embeddings, audit_retrieval
from certimetric.auditing.tables.request import DEFAULT_LEARNERS

if TYPE_CHECKING:
    from certimetric.auditing.retrieval.result import RetrievalAudit, load_audit
    from certimetric.auditing.tables.checks import CHECKS
    from certimetric.auditing.tables.result import AuditResult

__all__ = [
    "CHECKS",
    "DEFAULT_LEARNERS",
    "AuditResult",
    "RetrievalAudit",
    "audit",
    "audit_embeddings",
    "audit_retrieval",
    "load_audit",
]

# What brings figures and reports with it is imported on first use: commands know their options without it.
_LAZY = {
    "AuditResult": "certimetric.auditing.tables.result",
    "CHECKS": "certimetric.auditing.tables.checks",
    "RetrievalAudit": "certimetric.auditing.retrieval.result",
    "load_audit": "certimetric.auditing.retrieval.result",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)
