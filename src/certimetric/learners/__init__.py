"""Metric learners as scikit-learn estimators."""

from certimetric.learners.aml import AML
from certimetric.learners.arml import ARML
from certimetric.learners.baselines import Covariance, Euclidean
from certimetric.learners.gmlvq import GMLVQ
from certimetric.learners.gmml import GMML
from certimetric.learners.itml import ITML
from certimetric.learners.lfda import LFDA
from certimetric.learners.lmnn import LMNN
from certimetric.learners.lsml import LSML
from certimetric.learners.mlkr import MLKR
from certimetric.learners.mmc import MMC
from certimetric.learners.nca import NCA
from certimetric.learners.oasis import OASIS
from certimetric.learners.rca import RCA
from certimetric.learners.scml import SCML
from certimetric.learners.sdml import SDML
from certimetric.learners.specs import make_learner

__all__ = [
    "AML",
    "ARML",
    "GMLVQ",
    "GMML",
    "ITML",
    "LFDA",
    "LMNN",
    "LSML",
    "MLKR",
    "MMC",
    "NCA",
    "OASIS",
    "RCA",
    "SCML",
    "SDML",
    "Covariance",
    "Euclidean",
    "make_learner",
]
