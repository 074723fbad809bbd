"""The names and signatures of metric-learn 0.7.0, over certimetric's learners: one changed import is the migration.

Classes tell what is their own. Common parameters are ``n_components``, rows of L (None for as many as features);
``preprocessor``, points by row number or a function of indicators that gives points; ``random_state`` and ``verbose``.

Examples
--------
>>> from sklearn.datasets import load_iris
>>> from certimetric import metric_learn
>>> X, y = load_iris(return_X_y=True)
>>> metric_learn.LMNN(n_neighbors=5).fit(X, y).transform(X).shape
(150, 4)
"""

import sys

from certimetric.metric_learn.constraints import Constraints
from certimetric.metric_learn.of_labels import LFDA, LMNN, MLKR, NCA, RCA, Covariance, RCA_Supervised
from certimetric.metric_learn.of_pairs import ITML, MMC, SDML, ITML_Supervised, MMC_Supervised, SDML_Supervised
from certimetric.metric_learn.of_tuples import LSML, SCML, LSML_Supervised, SCML_Supervised

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

# metric-learn has a module for each method, where code finds its estimators too: ``metric_learn.itml.ITML``.
for _made in [made for made in vars().values() if isinstance(made, type) and made is not Constraints]:
    _name = _made.__name__.partition("_")[0].lower()
    vars()[_name] = sys.modules[f"{__name__}.{_name}"] = sys.modules[_made.__module__]
    _made.__module__ = f"{__name__}.{_name}"
