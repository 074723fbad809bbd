"""Audits: metrics on data, and embedding models on images, with evidence and reliability checks."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from certimetric.auditing.api import audit, audit_embeddings, audit_retrieval
from certimetric.auditing.tables.request import DEFAULT_LEARNERS

if TYPE_CHECKING:
    from certimetric.auditing.checks import CHECKS
    from certimetric.auditing.kinds import KINDS
    from certimetric.auditing.result import AuditResult

__all__ = [
    "CHECKS",
    "DEFAULT_LEARNERS",
    "KINDS",
    "AuditResult",
    "audit",
    "audit_embeddings",
    "audit_retrieval",
]

# What brings figures and reports with it is imported on first use: commands know their options without it.
_LAZY = {"AuditResult": "result", "CHECKS": "checks", "KINDS": "kinds"}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name == "CHECKS":  # those of every kind, and not only of the kinds that were used so far
        import_module("certimetric.auditing.kinds")
    return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
