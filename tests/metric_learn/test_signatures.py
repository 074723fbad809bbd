"""The names and signatures are those of metric-learn 0.7.0: code written for it runs with one changed import."""

import importlib
import inspect

import numpy as np
import pytest
from sklearn.datasets import load_iris

from certimetric import metric_learn

NEW, OLD = "preprocessor=None random_state=None", "'deprecated'"
SCML = f"n_basis=None gamma=0.005 max_iter=10000 output_iter=500 batch_size=10 verbose=False {NEW}"
MMC = "init='identity' diagonal=False diagonal_c=1.0 verbose=False"
# Parameters of the constructor, and those of fit, as metric-learn 0.7.0 has them.
SIGNATURES = {
    "Covariance": ("preprocessor=None", "X y=None"),
    "ITML": (
        f"gamma=1.0 max_iter=1000 tol=0.001 prior='identity' verbose=False {NEW} convergence_threshold={OLD}",
        "pairs y bounds=None calibration_params=None",
    ),
    "ITML_Supervised": (
        f"gamma=1.0 max_iter=1000 tol=0.001 n_constraints=None prior='identity' verbose=False {NEW} "
        f"num_constraints={OLD} convergence_threshold={OLD}",
        "X y bounds=None",
    ),
    "LMNN": (
        "init='auto' n_neighbors=3 min_iter=50 max_iter=1000 learn_rate=1e-07 regularization=0.5 convergence_tol=0.001 "
        f"verbose=False preprocessor=None n_components=None random_state=None k={OLD}",
        "X y",
    ),
    "LSML": (f"tol=0.001 max_iter=1000 prior='identity' verbose=False {NEW}", "quadruplets weights=None"),
    "LSML_Supervised": (
        f"tol=0.001 max_iter=1000 prior='identity' n_constraints=None weights=None verbose=False {NEW} "
        f"num_constraints={OLD}",
        "X y",
    ),
    "SDML": (
        f"balance_param=0.5 sparsity_param=0.01 prior='identity' verbose=False {NEW}",
        "pairs y calibration_params=None",
    ),
    "SDML_Supervised": (
        f"balance_param=0.5 sparsity_param=0.01 prior='identity' n_constraints=None verbose=False {NEW} "
        f"num_constraints={OLD}",
        "X y",
    ),
    "NCA": (f"init='auto' n_components=None max_iter=100 tol=None verbose=False {NEW}", "X y"),
    "LFDA": ("n_components=None k=None embedding_type='weighted' preprocessor=None", "X y"),
    "RCA": ("n_components=None preprocessor=None", "X chunks"),
    "RCA_Supervised": (f"n_components=None n_chunks=100 chunk_size=2 {NEW} num_chunks={OLD}", "X y"),
    "MLKR": (f"n_components=None init='auto' tol=None max_iter=1000 verbose=False {NEW}", "X y"),
    "MMC": (
        f"max_iter=100 max_proj=10000 tol=0.001 {MMC} {NEW} convergence_threshold={OLD}",
        "pairs y calibration_params=None",
    ),
    "MMC_Supervised": (
        f"max_iter=100 max_proj=10000 tol=1e-06 n_constraints=None {MMC} {NEW} num_constraints={OLD} "
        f"convergence_threshold={OLD}",
        "X y",
    ),
    "SCML": (f"beta=1e-05 basis='triplet_diffs' {SCML}", "triplets"),
    "SCML_Supervised": (f"k_genuine=3 k_impostor=10 beta=1e-05 basis='lda' {SCML}", "X y"),
}
METHODS = {
    "positive_negative_pairs": f"n_constraints same_length=False random_state=None num_constraints={OLD}",
    "generate_knntriplets": "X k_genuine k_impostor",
    "chunks": f"n_chunks=100 chunk_size=2 random_state=None num_chunks={OLD}",
}
MODULES = (
    "base_metric constraints covariance exceptions itml lfda lmnn lsml mlkr mmc nca rca scml sdml sklearn_shims _util"
)


def told(function):
    """Parameters of a function, but self, as they are written."""
    parameters = list(inspect.signature(function).parameters.values())
    assert not any(p.kind is p.KEYWORD_ONLY for p in parameters), "metric-learn takes all by position"
    written = (p.name if p.default is p.empty else f"{p.name}={p.default!r}" for p in parameters)
    return " ".join(name for name in written if name != "self")


def test_the_public_names_are_those_of_metric_learn():
    assert set(metric_learn.__all__) == {*SIGNATURES, "Constraints", "__version__"}
    assert metric_learn.__version__ == "0.7.0"
    for name in MODULES.split():
        importlib.import_module(f"certimetric.metric_learn.{name}")
    for name in "ITML LSML MMC SCML SDML".split():  # bases that code of its users derives from, or asks for
        module = importlib.import_module(f"certimetric.metric_learn.{name.lower()}")
        base = getattr(module, f"_Base{name}")
        assert issubclass(getattr(module, name), base)
        assert issubclass(getattr(module, f"{name}_Supervised"), base)


@pytest.mark.parametrize("name", SIGNATURES)
def test_signatures(name):
    made = getattr(metric_learn, name)
    assert (told(made.__init__), told(made.fit)) == SIGNATURES[name]
    assert told(made.pair_distance) == told(made.pair_score) == told(made.score_pairs) == "pairs"
    assert made.__module__ == f"certimetric.metric_learn.{name.split('_')[0].lower()}"
    if hasattr(made, "calibrate_threshold"):
        wanted = "pairs_valid y_valid strategy='accuracy' min_rate=None beta=1.0"
        assert told(made.calibrate_threshold) == wanted


@pytest.mark.parametrize("name", METHODS)
def test_signatures_of_constraints(name):
    assert told(getattr(metric_learn.Constraints, name)) == METHODS[name]


def test_code_written_for_metric_learn_runs():
    """A program with the calls that guides of metric-learn show, under one changed import."""
    from sklearn.model_selection import cross_val_score
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline

    from certimetric.metric_learn import ITML, LMNN, NCA, Constraints
    from certimetric.metric_learn.constraints import wrap_pairs

    X, y = load_iris(return_X_y=True)
    model = make_pipeline(LMNN(n_neighbors=5, init="pca"), KNeighborsClassifier(3))
    assert cross_val_score(model, X, y).mean() > 0.9
    pairs, kinds = wrap_pairs(X, Constraints(y).positive_negative_pairs(100, random_state=0))
    itml = ITML(random_state=0).fit(pairs, kinds, calibration_params={"strategy": "f_beta", "beta": 1.0})
    assert itml.score(pairs, kinds) > 0.9
    assert set(itml.predict(pairs)) == {-1, 1}
    assert itml.set_threshold(0.0).predict(pairs[:1]).tolist() == [-1]
    nearest = KNeighborsClassifier(3, metric=NCA().fit(X, y).get_metric())
    assert nearest.fit(X[::3], y[::3]).score(X, y) > 0.9
    distance = itml.get_metric()(X[0], X[60])
    difference = X[0] - X[60]
    np.testing.assert_allclose(distance**2, difference @ itml.get_mahalanobis_matrix() @ difference, rtol=1e-10)
    np.testing.assert_allclose(itml.get_metric()(X[0], X[60], squared=True), distance**2, rtol=1e-12)
