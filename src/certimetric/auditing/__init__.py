"""Audits: metrics on data, and embedding models on images, with evidence and reliability checks."""

from typing import Any

from certimetric.auditing.api import audit
from certimetric.auditing.result import AuditResult
from certimetric.auditing.tables.request import DEFAULT_LEARNERS

__all__ = [
    "CHECKS",
    "DEFAULT_LEARNERS",
    "KINDS",
    "AuditResult",
    "audit",
    "audit_embeddings",
    "audit_retrieval",
]

_LAZY = {
    "CHECKS": "checks",
    "KINDS": "kinds",
    "audit_embeddings": "embeddings.run",
    "audit_retrieval": "retrieval.run",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    if name == "CHECKS":  # those of every kind, and not only of the kinds that were used so far
        import_module("certimetric.auditing.kinds")
    return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
