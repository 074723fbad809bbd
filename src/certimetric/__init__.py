"""certimetric: metric learning with a distance you can trust — accurate, adversarially robust and certified.

Everything here is imported on first use, so that ``import certimetric`` is quick.
"""

from typing import TYPE_CHECKING

from certimetric.base.lazy_index import lazy_index
from certimetric.base.version import __version__ as __version__

if TYPE_CHECKING:  # the same names, for editors and type checkers
    from certimetric.auditing import AuditResult as AuditResult
    from certimetric.auditing import audit as audit
    from certimetric.auditing import check_drift as check_drift
    from certimetric.base.allocation import keep_freed_memory as keep_freed_memory
    from certimetric.certify import CertifiedKNeighborsClassifier as CertifiedKNeighborsClassifier
    from certimetric.certify import CertifiedKNeighborsRegressor as CertifiedKNeighborsRegressor
    from certimetric.certify import MetricSearchCV as MetricSearchCV
    from certimetric.certify import MinimalPerturbation as MinimalPerturbation
    from certimetric.certify import OpenSetKNeighborsClassifier as OpenSetKNeighborsClassifier
    from certimetric.certify import PairVerifier as PairVerifier
    from certimetric.certify import certified_radius as certified_radius
    from certimetric.certify import counterfactuals as counterfactuals
    from certimetric.certify import in_original_units as in_original_units
    from certimetric.certify import minimal_perturbation as minimal_perturbation
    from certimetric.geometry import MahalanobisMetric as MahalanobisMetric
    from certimetric.learners import AML as AML
    from certimetric.learners import ARML as ARML
    from certimetric.learners import GMLVQ as GMLVQ
    from certimetric.learners import GMML as GMML
    from certimetric.learners import ITML as ITML
    from certimetric.learners import LFDA as LFDA
    from certimetric.learners import LMNN as LMNN
    from certimetric.learners import LSML as LSML
    from certimetric.learners import MLKR as MLKR
    from certimetric.learners import MMC as MMC
    from certimetric.learners import NCA as NCA
    from certimetric.learners import OASIS as OASIS
    from certimetric.learners import RCA as RCA
    from certimetric.learners import SCML as SCML
    from certimetric.learners import SDML as SDML
    from certimetric.learners import Covariance as Covariance
    from certimetric.learners import Euclidean as Euclidean
    from certimetric.learners import make_learner as make_learner
    from certimetric.objectives import MarginLoss as MarginLoss
    from certimetric.objectives import PerturbationLoss as PerturbationLoss

__all__, __getattr__, __dir__ = lazy_index(
    __name__,
    {
        "attacks": "",
        "auditing": "AuditResult audit check_drift",
        "base.allocation": "keep_freed_memory",
        "certify": "CertifiedKNeighborsClassifier CertifiedKNeighborsRegressor MetricSearchCV MinimalPerturbation "
        "OpenSetKNeighborsClassifier PairVerifier certified_radius counterfactuals in_original_units "
        "minimal_perturbation",
        "constraints": "",
        "datasets": "",
        "deep": "",
        "export": "",
        "geometry": "MahalanobisMetric",
        "learners": "AML ARML GMLVQ GMML ITML LFDA LMNN LSML MLKR MMC NCA OASIS RCA SCML SDML Covariance Euclidean "
        "make_learner",
        "metric_learn": "",
        "objectives": "MarginLoss PerturbationLoss",
        "plots": "",
        "report": "",
    },
)
