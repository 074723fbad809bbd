"""certimetric: metric learning with a distance you can trust — accurate, adversarially robust and certified.

Everything here is imported on first use, so that ``import certimetric`` is quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from certimetric.auditing import AuditResult, audit
    from certimetric.certify import (
        CertifiedKNeighborsClassifier,
        MinimalPerturbation,
        certified_radius,
        in_original_units,
        minimal_perturbation,
    )
    from certimetric.geometry import MahalanobisMetric
    from certimetric.learners import (
        AML,
        ARML,
        GMML,
        ITML,
        LFDA,
        LMNN,
        LSML,
        MMC,
        NCA,
        RCA,
        SCML,
        SDML,
        Covariance,
        Euclidean,
        make_learner,
    )
    from certimetric.objectives import MarginLoss, PerturbationLoss

from certimetric.base.version import __version__ as __version__

_HOME = {
    "AML": "learners",
    "ARML": "learners",
    "AuditResult": "auditing",
    "CertifiedKNeighborsClassifier": "certify",
    "Covariance": "learners",
    "Euclidean": "learners",
    "GMML": "learners",
    "ITML": "learners",
    "LFDA": "learners",
    "LMNN": "learners",
    "LSML": "learners",
    "MMC": "learners",
    "MahalanobisMetric": "geometry",
    "MarginLoss": "objectives",
    "MinimalPerturbation": "certify",
    "NCA": "learners",
    "PerturbationLoss": "objectives",
    "RCA": "learners",
    "SDML": "learners",
    "SCML": "learners",
    "audit": "auditing",
    "certified_radius": "certify",
    "in_original_units": "certify",
    "make_learner": "learners",
    "minimal_perturbation": "certify",
}
_ROOMS = (
    "attacks",
    "auditing",
    "certify",
    "constraints",
    "datasets",
    "deep",
    "geometry",
    "learners",
    "objectives",
    "report",
)

__all__ = [
    "AML",
    "ARML",
    "GMML",
    "ITML",
    "LFDA",
    "LMNN",
    "LSML",
    "MMC",
    "NCA",
    "RCA",
    "SCML",
    "SDML",
    "AuditResult",
    "CertifiedKNeighborsClassifier",
    "Covariance",
    "Euclidean",
    "MahalanobisMetric",
    "MarginLoss",
    "MinimalPerturbation",
    "PerturbationLoss",
    "audit",
    "certified_radius",
    "in_original_units",
    "make_learner",
    "minimal_perturbation",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"certimetric.{_HOME[name]}"), name)
    if name in _ROOMS:
        return import_module(f"certimetric.{name}")
    raise AttributeError(f"module 'certimetric' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_ROOMS})
