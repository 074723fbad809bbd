"""Audits: metrics on data, and embedding models on images, with evidence and reliability checks.

What brings figures and reports with it is imported on first use: commands know their options without it.
"""

from typing import TYPE_CHECKING

from certimetric.base.lazy_index import lazy_index

if TYPE_CHECKING:
    from certimetric.auditing.api import audit as audit
    from certimetric.auditing.api import audit_embeddings as audit_embeddings
    from certimetric.auditing.api import audit_model_verification as audit_model_verification
    from certimetric.auditing.api import audit_retrieval as audit_retrieval
    from certimetric.auditing.api import audit_verification as audit_verification
    from certimetric.auditing.comparison import AuditComparison as AuditComparison
    from certimetric.auditing.comparison import compare_audits as compare_audits
    from certimetric.auditing.drift.check import DriftCheck as DriftCheck
    from certimetric.auditing.drift.check import Outlier as Outlier
    from certimetric.auditing.drift.check import check_drift as check_drift
    from certimetric.auditing.drift.columns import Finding as Finding
    from certimetric.auditing.kinds import CHECKS as CHECKS
    from certimetric.auditing.kinds import KINDS as KINDS
    from certimetric.auditing.result import AuditResult as AuditResult
    from certimetric.auditing.tables.subjects import DEFAULT_LEARNERS as DEFAULT_LEARNERS

__all__, __getattr__, __dir__ = lazy_index(
    __name__,
    {
        "api": "audit audit_embeddings audit_model_verification audit_retrieval audit_verification",
        "comparison": "AuditComparison compare_audits",
        "drift.check": "DriftCheck Outlier check_drift",
        "drift.columns": "Finding",
        "kinds": "CHECKS KINDS",
        "result": "AuditResult",
        "tables.subjects": "DEFAULT_LEARNERS",
    },
    moved={
        "RetrievalAudit": "certimetric.auditing:AuditResult",
        "load_audit": "certimetric.auditing:AuditResult.load",
    },
)
