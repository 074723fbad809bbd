"""The names and signatures of metric-learn 0.7.0, over certimetric's learners: one changed import is the migration.

Examples
--------
>>> from sklearn.datasets import load_iris
>>> from certimetric import metric_learn
>>> X, y = load_iris(return_X_y=True)
>>> metric_learn.LMNN(n_neighbors=5).fit(X, y).transform(X).shape
(150, 4)
"""

from certimetric.metric_learn.constraints import Constraints
from certimetric.metric_learn.covariance import Covariance
from certimetric.metric_learn.itml import ITML, ITML_Supervised
from certimetric.metric_learn.lfda import LFDA
from certimetric.metric_learn.lmnn import LMNN
from certimetric.metric_learn.lsml import LSML, LSML_Supervised
from certimetric.metric_learn.mlkr import MLKR
from certimetric.metric_learn.mmc import MMC, MMC_Supervised
from certimetric.metric_learn.nca import NCA
from certimetric.metric_learn.rca import RCA, RCA_Supervised
from certimetric.metric_learn.scml import SCML, SCML_Supervised
from certimetric.metric_learn.sdml import SDML, SDML_Supervised

__version__ = "0.7.0"  # whose names and signatures these are

__all__ = [
    "ITML",
    "LFDA",
    "LMNN",
    "LSML",
    "MLKR",
    "MMC",
    "NCA",
    "RCA",
    "SCML",
    "SDML",
    "Constraints",
    "Covariance",
    "ITML_Supervised",
    "LSML_Supervised",
    "MMC_Supervised",
    "RCA_Supervised",
    "SCML_Supervised",
    "SDML_Supervised",
    "__version__",
]
