"""Audits: metrics on data, and embedding models on images, with evidence and reliability checks."""

from typing import Any

from certimetric.auditing.api import audit
from certimetric.auditing.tables.checks import CHECKS
from certimetric.auditing.tables.request import DEFAULT_LEARNERS
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

_LAZY = {
    "audit_embeddings": "embeddings.run",
    "audit_retrieval": "retrieval.run",
    "RetrievalAudit": "retrieval.result",
    "load_audit": "retrieval.result",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
