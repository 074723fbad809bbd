"""Audits: metrics on data, and embedding models on images, with evidence and reliability checks."""

from typing import Any

from certimetric.auditing.api import audit
from certimetric.auditing.checks import CHECKS
from certimetric.auditing.config import DEFAULT_LEARNERS
from certimetric.auditing.result import AuditResult

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

_LAZY = {
    "audit_embeddings": "embeddings",
    "audit_retrieval": "retrieval",
    "RetrievalAudit": "retrieval_result",
    "load_audit": "retrieval_result",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
