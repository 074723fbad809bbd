"""One timed fit of one method, in the environment of that method.

`peers.py` starts this file in a fresh interpreter for every measurement: nothing is shared between two fits,
and a peak of memory belongs to one method alone. It needs numpy and the measured package, nothing else, so
that no environment carries what its package would not have brought.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib
import importlib.metadata
import json
import os
import resource
import sys
import time
import types
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np

# X, y, pairs (m, 2) of rows, pair_labels ±1, bounds, chunklets (−1 for none); numbers or triplets where there are any
Data = dict[str, np.ndarray]
Fit = Callable[[Data], np.ndarray]
WARM_UP_ROWS = 60
SHORTEST_S, MOST_FITS = 0.5, 200
SDML_BALANCE = 0.1  # so that its matrix is positive definite on all problems, which metric-learn needs
PACKAGES = ("certimetric", "metric-learn", "mlpack", "pylmnn", "pydml", "scikit-learn", "numpy", "scipy", "numba")


def certimetric_method(name: str, **settings: object) -> Fit:
    import certimetric

    learner = getattr(certimetric, name)
    return lambda data: learner(**settings).fit(data["X"], data["y"]).components_


def certimetric_of_tuples(name: str, **settings: object) -> Fit:
    """Of pairs, of quadruplets for LSML or of triplets for OASIS, as indices of rows."""
    import certimetric

    made = getattr(certimetric, name)

    def fit(data: Data) -> np.ndarray:
        bounds = {"bounds": data["bounds"]} if name == "ITML" else {}
        learner = made(preprocessor=data["X"], **bounds, **settings)
        if name == "OASIS":
            return learner.fit(data["triplets"]).components_
        if name == "LSML":
            return learner.fit(quadruplets_of(data["pairs"], data["pair_labels"])).components_
        return learner.fit(data["pairs"], data["pair_labels"]).components_

    return fit


def metric_learn_of_tuples(name: str, **settings: object) -> Fit:
    import metric_learn

    made = getattr(metric_learn, name)

    def fit(data: Data) -> np.ndarray:
        if name == "LSML":
            return made(**settings).fit(data["X"][quadruplets_of(data["pairs"], data["pair_labels"])]).components_
        return made(**settings).fit(data["X"][data["pairs"]], data["pair_labels"]).components_

    return fit


def mlkr(package: str, **settings: object) -> Fit:
    learner = importlib.import_module(package).MLKR
    return lambda data: learner(**settings).fit(data["X"], data["numbers"]).components_


def quadruplets_of(pairs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """One similar pair beside one dissimilar pair, in their order, shape (m, 4)."""
    similar, dissimilar = pairs[labels == 1], pairs[labels == -1]
    m = min(len(similar), len(dissimilar))
    return np.concatenate([similar[:m], dissimilar[:m]], axis=1)


def metric_learn_method(name: str, **settings: object) -> Fit:
    import metric_learn

    learner = getattr(metric_learn, name)
    return lambda data: learner(**settings).fit(data["X"], data["y"]).components_


def metric_learn_itml() -> Fit:
    from metric_learn import ITML

    def fit(data: Data) -> np.ndarray:
        bounds = data["bounds"].copy()  # it may write into them
        return ITML().fit(data["X"][data["pairs"]], data["pair_labels"], bounds=bounds).components_

    return fit


def rca(package: str) -> Fit:
    learner = importlib.import_module(package).RCA
    return lambda data: learner().fit(data["X"], data["chunklets"]).components_


def on_varying(fit: Fit) -> Fit:
    """The fit without constant columns, which then count for nothing."""

    def varying_fit(data: Data) -> np.ndarray:
        varying = np.ptp(data["X"], axis=0) > 0
        some = fit(data | {"X": data["X"][:, varying]})
        components = np.zeros((len(some), len(varying)))
        components[:, varying] = some
        return components

    return varying_fit


def numpy_oasis() -> Fit:
    """No package has it: the steps of its paper, line by line, at ours' aggressiveness."""

    def fit(data: Data) -> np.ndarray:
        X = data["X"]
        W = np.eye(X.shape[1])
        for a, b, c in data["triplets"]:
            v = X[b] - X[c]
            loss = 1.0 - X[a] @ W @ v
            if loss > 0:
                W += min(0.1, loss / (X[a] @ X[a] * (v @ v))) * np.outer(X[a], v)
        values, vectors = np.linalg.eigh((W + W.T) / 2)
        return np.sqrt(np.maximum(values, 0.0))[:, None] * vectors.T

    return fit


def sklearn_lda() -> Fit:
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    def fit(data: Data) -> np.ndarray:
        lda = LinearDiscriminantAnalysis().fit(data["X"], data["y"])
        return lda.scalings_[:, : len(lda.classes_) - 1].T

    return fit


def pydml_method(name: str, **settings: object) -> Fit:
    vars(np).update(float=float, int=int)  # names that NumPy had in its day
    import dml

    learner = getattr(dml, name)

    def fit(data: Data) -> np.ndarray:
        made = learner(**settings)
        made.fit(data["X"], data["y"])
        return np.asarray(made.transformer())

    return fit


def metric_learn_sdml() -> Fit:
    # Its loss is the sum over pairs, ours their mean.
    return lambda data: metric_learn_of_tuples("SDML", balance_param=SDML_BALANCE / len(data["pairs"]))(data)


def mlpack_method(name: str, **settings: object) -> Fit:
    import mlpack

    def fit(data: Data) -> np.ndarray:
        # Without the copy the binding may write into X.
        settings_too = {"labels": data["y"].astype(np.int64), "seed": 1, "copy_all_inputs": True} | settings
        result = getattr(mlpack, name)(input_=data["X"], **settings_too)
        # The binding hands matrices over transposed: transformed_data = X @ output, so output is Lᵀ.
        return np.ascontiguousarray(result["output"].T)

    return fit


def pylmnn_lmnn() -> Fit:
    # Its search for hyper-parameters, which is not used here, imports a package that no longer installs.
    for name in ("GPyOpt", "GPyOpt.methods"):
        sys.modules[name] = types.ModuleType(name)
    sys.modules["GPyOpt.methods"].BayesianOptimization = None
    from pylmnn import LargeMarginNearestNeighbor

    return lambda data: LargeMarginNearestNeighbor(n_neighbors=3, random_state=0).fit(data["X"], data["y"]).components_


def sklearn_nca() -> Fit:
    from sklearn.neighbors import NeighborhoodComponentsAnalysis

    return lambda data: NeighborhoodComponentsAnalysis(random_state=0).fit(data["X"], data["y"]).components_


METHODS: dict[str, Callable[[], Fit]] = {
    "certimetric-lmnn": lambda: certimetric_method("LMNN", n_neighbors=3),
    "certimetric-scml": lambda: certimetric_method("SCML"),
    "certimetric-itml": lambda: certimetric_of_tuples("ITML"),
    "certimetric-nca": lambda: certimetric_method("NCA"),
    "certimetric-gmml": lambda: certimetric_method("GMML"),
    "certimetric-mlkr": lambda: mlkr("certimetric"),
    "metric-learn-mlkr": lambda: mlkr("metric_learn", init="identity"),
    "certimetric-mmc": lambda: certimetric_of_tuples("MMC"),
    "certimetric-mmc-published": lambda: certimetric_of_tuples("MMC", evenness=0, reg=0),
    "certimetric-lsml": lambda: certimetric_of_tuples("LSML"),
    "certimetric-sdml": lambda: certimetric_of_tuples("SDML", balance=SDML_BALANCE),
    "metric-learn-mmc": lambda: metric_learn_of_tuples("MMC"),
    "metric-learn-lsml": lambda: metric_learn_of_tuples("LSML"),
    "metric-learn-sdml": metric_learn_sdml,
    "metric-learn-2022-sdml": metric_learn_sdml,
    "metric-learn-lmnn": lambda: metric_learn_method("LMNN", n_neighbors=3, random_state=0),
    "metric-learn-scml": lambda: metric_learn_method("SCML_Supervised", k_genuine=3, k_impostor=10, random_state=0),
    "metric-learn-itml": metric_learn_itml,
    "metric-learn-nca": lambda: metric_learn_method("NCA", random_state=0),
    "certimetric-rca": lambda: rca("certimetric"),
    "metric-learn-rca": lambda: rca("metric_learn"),
    "metric-learn-rca-varying": lambda: on_varying(rca("metric_learn")),
    "certimetric-lfda": lambda: certimetric_method("LFDA"),
    "metric-learn-lfda": lambda: metric_learn_method("LFDA"),
    "metric-learn-lfda-varying": lambda: on_varying(metric_learn_method("LFDA")),
    "certimetric-oasis": lambda: certimetric_of_tuples("OASIS"),
    "numpy-oasis": numpy_oasis,
    "sklearn-lda": sklearn_lda,
    "pydml-lmnn": lambda: pydml_method("LMNN", k=3),
    "pydml-nca": lambda: pydml_method("NCA"),
    "pydml-mmc": lambda: pydml_method("LSI"),
    "mlpack-lmnn-lbfgs": lambda: mlpack_method("lmnn", k=3, optimizer="lbfgs"),
    # mlpack counts only the k nearest impostors: at its default weight of the hinge, 0.5, the pull can win
    # outright and L-BFGS then ends at L = 0 (it does on the synthetic problem). This weight keeps it away.
    "mlpack-lmnn-lbfgs-0.9": lambda: mlpack_method("lmnn", k=3, optimizer="lbfgs", regularization=0.9),
    "mlpack-lmnn-amsgrad": lambda: mlpack_method("lmnn", k=3, optimizer="amsgrad"),
    # Its own bound of 500,000 steps is none; this is scikit-learn's.
    "mlpack-nca-lbfgs": lambda: mlpack_method("nca", optimizer="lbfgs", max_iterations=50),
    "pylmnn-lmnn": pylmnn_lmnn,
    "sklearn-nca": sklearn_nca,
}


def balanced_rows(y: np.ndarray, n_rows: int) -> np.ndarray:
    """Indices of the first instances of every class, equally many of each."""
    classes = np.unique(y)
    per_class = n_rows // len(classes)
    return np.sort(np.concatenate([np.flatnonzero(y == c)[:per_class] for c in classes]))


def few_of(data: Data) -> Data:
    """About 60 rows, and pairs of them."""
    X, y = data["X"], data["y"]
    rows = balanced_rows(y, max(WARM_UP_ROWS, 4 * len(np.unique(y))))
    X, y = X[rows], y[rows]
    pairs = np.random.default_rng(0).integers(len(y), size=(60, 2))
    pairs = pairs[((X[pairs[:, 0]] - X[pairs[:, 1]]) ** 2).sum(axis=1) > 0]
    labels = np.where(y[pairs[:, 0]] == y[pairs[:, 1]], 1, -1)
    order = np.argsort(-labels, kind="stable")
    few = {"X": X, "y": y, "pairs": pairs[order], "pair_labels": labels[order], "bounds": data["bounds"]}
    few["chunklets"] = np.arange(len(y)) // 2
    if "numbers" in data:
        few["numbers"] = data["numbers"][rows]
    if "triplets" in data:
        few["triplets"] = np.random.default_rng(0).integers(len(y), size=(60, 3))
    return few


def resident_mb() -> float:
    """Resident memory at this moment, in MB (of 1e6 bytes)."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:  # no /proc (macOS): the peak so far is the nearest thing
        return peak_mb()
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def peak_mb() -> float:
    """Peak resident memory of this process so far, in MB."""
    try:
        # Not ru_maxrss where it can be helped: across fork and exec Linux hands a child its parent's peak.
        status = Path("/proc/self/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) * 1024 / 1e6
    except OSError:
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def forget_peak() -> None:
    """Start the peak anew, so that imports and warm-up do not count (Linux; elsewhere they do)."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def cpu_seconds() -> float:
    """CPU seconds of all threads of this process and of its finished children."""
    return time.process_time() + sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])


def main() -> None:
    parser = argparse.ArgumentParser(description="One timed fit of one method, in its own environment.")
    parser.add_argument("method", choices=sorted(METHODS))
    parser.add_argument("problem", type=Path, help=".npz of peer_quality.load_problem")
    parser.add_argument("components", type=Path, help="where to save the learned components (.npy)")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")

    with np.load(arguments.problem) as problem:
        data = {name.removesuffix("_train"): problem[name] for name in problem if not name.endswith("_test")}
    fit = METHODS[arguments.method]()

    # Everybody gets one small fit first: lazy imports, thread pools and compiled code are then in place.
    few = few_of(data)
    start = time.perf_counter()
    fit(few)
    warm_up_s = time.perf_counter() - start

    gc.collect()
    forget_peak()
    before_mb = resident_mb()
    cpu, wall = cpu_seconds(), time.perf_counter()
    components = fit(data)
    peak, n_fits = peak_mb(), 1
    # The clock of a process may tick in hundredths of a second: short fits are measured together.
    while cpu_seconds() - cpu < SHORTEST_S and n_fits < MOST_FITS:
        fit(data)
        n_fits += 1
    wall_s, cpu_s = (time.perf_counter() - wall) / n_fits, (cpu_seconds() - cpu) / n_fits

    np.save(arguments.components, np.asarray(components, dtype=np.float64))
    distributions = importlib.metadata.distributions()
    installed = {d.metadata["Name"].lower().replace("_", "-"): d.version for d in distributions}
    report = {
        "wall_s": wall_s,
        "cpu_s": cpu_s,
        "warm_up_s": warm_up_s,
        "peak_mb": peak,
        "before_mb": before_mb,
        "growth_mb": peak - before_mb,
        "python": sys.version.split()[0],
        "versions": {name: installed[name] for name in PACKAGES if name in installed},
    }
    print("REPORT " + json.dumps(report))


if __name__ == "__main__":
    main()
