"""Audits: compare metrics on data by error, noise, attack and certificate, with evidence and reliability checks."""

from certimetric.auditing.api import audit
from certimetric.auditing.checks import CHECKS
from certimetric.auditing.config import DEFAULT_LEARNERS
from certimetric.auditing.result import AuditResult

__all__ = ["CHECKS", "DEFAULT_LEARNERS", "AuditResult", "audit"]
