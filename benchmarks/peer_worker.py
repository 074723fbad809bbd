"""One timed fit of one method, in the environment of that method.

`peers.py` starts this file in a fresh interpreter for every measurement: nothing is shared between two fits,
and a peak of memory belongs to one method alone. It needs numpy and the measured package, nothing else, so
that no environment carries what its package would not have brought.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib.metadata
import json
import os
import resource
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np

Fit = Callable[[np.ndarray, np.ndarray], np.ndarray]
WARM_UP_ROWS = 60
PACKAGES = ("certimetric", "metric-learn", "mlpack", "scikit-learn", "numpy", "scipy", "numba")


def certimetric_lmnn() -> Fit:
    from certimetric import LMNN

    return lambda X, y: LMNN(n_neighbors=3).fit(X, y).components_


def certimetric_scml() -> Fit:
    from certimetric import SCML

    return lambda X, y: SCML().fit(X, y).components_


def metric_learn_lmnn() -> Fit:
    from metric_learn import LMNN

    return lambda X, y: LMNN(n_neighbors=3, random_state=0).fit(X, y).components_


def metric_learn_scml() -> Fit:
    from metric_learn import SCML_Supervised

    return lambda X, y: SCML_Supervised(k_genuine=3, k_impostor=10, random_state=0).fit(X, y).components_


def mlpack_lmnn(**settings: object) -> Fit:
    import mlpack

    def fit(X: np.ndarray, y: np.ndarray) -> np.ndarray:
        # Without the copy the binding may write into X.
        result = mlpack.lmnn(input_=X, labels=y.astype(np.int64), k=3, seed=1, copy_all_inputs=True, **settings)
        # The binding hands matrices over transposed: transformed_data = X @ output, so output is Lᵀ.
        return np.ascontiguousarray(result["output"].T)

    return fit


def sklearn_nca() -> Fit:
    from sklearn.neighbors import NeighborhoodComponentsAnalysis

    return lambda X, y: NeighborhoodComponentsAnalysis(random_state=0).fit(X, y).components_


METHODS: dict[str, Callable[[], Fit]] = {
    "certimetric-lmnn": certimetric_lmnn,
    "certimetric-scml": certimetric_scml,
    "metric-learn-lmnn": metric_learn_lmnn,
    "metric-learn-scml": metric_learn_scml,
    "mlpack-lmnn-lbfgs": lambda: mlpack_lmnn(optimizer="lbfgs"),
    # mlpack counts only the k nearest impostors: at its default weight of the hinge, 0.5, the pull can win
    # outright and L-BFGS then ends at L = 0 (it does on the synthetic problem). This weight keeps it away.
    "mlpack-lmnn-lbfgs-0.9": lambda: mlpack_lmnn(optimizer="lbfgs", regularization=0.9),
    "mlpack-lmnn-amsgrad": lambda: mlpack_lmnn(optimizer="amsgrad"),
    "sklearn-nca": sklearn_nca,
}


def balanced_rows(y: np.ndarray, n_rows: int) -> np.ndarray:
    """Indices of the first instances of every class, equally many of each."""
    classes = np.unique(y)
    per_class = n_rows // len(classes)
    return np.sort(np.concatenate([np.flatnonzero(y == c)[:per_class] for c in classes]))


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
    parser.add_argument("problem", type=Path, help=".npz with X_train, y_train")
    parser.add_argument("components", type=Path, help="where to save the learned components (.npy)")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")

    with np.load(arguments.problem) as problem:
        X, y = problem["X_train"], problem["y_train"]
    fit = METHODS[arguments.method]()

    # Everybody gets one small fit first: lazy imports, thread pools and compiled code are then in place.
    few = balanced_rows(y, WARM_UP_ROWS)
    start = time.perf_counter()
    fit(X[few], y[few])
    warm_up_s = time.perf_counter() - start

    gc.collect()
    forget_peak()
    before_mb = resident_mb()
    cpu, wall = cpu_seconds(), time.perf_counter()
    components = fit(X, y)
    wall_s, cpu_s = time.perf_counter() - wall, cpu_seconds() - cpu
    peak = peak_mb()

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
