"""What learners from labels cost as rows and features grow: ours, and every peer that survives.

Every fit is a process of its own, of one thread by default, on the same synthetic classes: ten of three clusters each,
in ten directions (or as many as there are) of a rotated space whose other directions are noise. Told are CPU seconds,
which hardly depend on what else the machine does, seconds of the clock, the peak of memory beside what the process
held before the fit (Linux, VmHWM), and the anchors that our learners took. A fit beyond the limit of CPU seconds or of
memory is told as such, and the same method is not tried with more rows. With ``--quality`` the error of 3-NN and
the mean certified radius of 2,000 fresh instances are told too.

Peers are run by the environments that `benchmarks/peers.py` has built under `.bench/env/`; those that are not there are
left out.

    python benchmarks/scale.py                                   # 10⁴ … 10⁶ rows of 10 … 300 features: hours
    python benchmarks/scale.py --rows 100000 --features 10 30 100 300 --only LMNN SCML
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np

BENCH = Path(__file__).resolve().parent.parent / ".bench"
PEERS = {"metric-learn LMNN": "metric-learn", "scikit-learn NCA": "scikit-learn", "pylmnn LMNN": "pylmnn"}
OURS = ("LMNN", "LMNN-PL", "SCML", "NCA", "GMML", "LMNN all rows")
WARM_UP_ROWS = 300
QUERIES = 2_000


def draw(n, d, seed=1):
    """Rows and classes of the one distribution; other seeds are other samples of it."""
    fixed, rng = np.random.default_rng(0), np.random.default_rng(seed)
    informative = min(10, d)
    centers = 1.6 * fixed.standard_normal((10, 3, informative))
    mix = np.linalg.qr(fixed.standard_normal((d, d)))[0] * np.exp(fixed.uniform(-1, 1, d))
    y = rng.integers(0, 10, n)
    X = rng.standard_normal((n, d))
    X[:, :informative] += centers[y, rng.integers(0, 3, n)]
    X = X @ mix
    X /= np.sqrt(
        np.square(mix).sum(axis=0) + np.square(mix[:informative].T @ centers.reshape(-1, informative).T).mean(1)
    )
    return X, y


def fit(way, X, y, jobs):
    """Components, and how many anchors they were learned of (None where that is no question)."""
    if way in PEERS:
        if way == "metric-learn LMNN":
            from metric_learn import LMNN

            return LMNN(random_state=0).fit(X, y).components_, None
        if way == "scikit-learn NCA":
            from sklearn.neighbors import NeighborhoodComponentsAnalysis

            return NeighborhoodComponentsAnalysis(random_state=0).fit(X, y).components_, None
        from pylmnn import LargeMarginNearestNeighbor

        return LargeMarginNearestNeighbor(n_neighbors=3, random_state=0).fit(X, y).components_, None
    import certimetric

    settings = {} if way == "GMML" else {"random_state": 0, "n_jobs": jobs}
    if way == "LMNN all rows":
        settings["n_anchors"] = None
    if way == "LMNN-PL":
        settings["perturbation"] = certimetric.PerturbationLoss()
    learner = getattr(certimetric, way.split()[0].split("-")[0])(**settings).fit(X, y)
    return learner.components_, getattr(learner, "n_anchors_", None)


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def work(arguments):
    """One fit, as a process of its own: its figures as JSON on the last line."""
    warnings.simplefilter("ignore")
    X, y = draw(arguments.rows[0], arguments.features[0])
    fit(arguments.way, X[:WARM_UP_ROWS].copy(), y[:WARM_UP_ROWS], arguments.jobs)
    before, wall, cpu = peak(), time.perf_counter(), time.process_time()
    limit = int(cpu + arguments.limit) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 5))
    components, n_anchors = fit(arguments.way, X, y, arguments.jobs)
    figures = {
        "cpu": time.process_time() - cpu,
        "wall": time.perf_counter() - wall,
        "memory": peak() - before,
        "data": X.nbytes / 2**20,
        "anchors": n_anchors,
    }
    if arguments.components:
        np.save(arguments.components, components)
    print(json.dumps(figures))


def measure(way, n, d, arguments, components):
    """The figures of one fit in a fresh process, or one word of why there are none."""
    python = BENCH / "env" / PEERS[way] / "bin" / "python" if way in PEERS else Path(sys.executable)
    command = [str(python), __file__, "--way", way, "--rows", str(n), "--features", str(d)]
    command += ["--limit", str(arguments.limit), "--jobs", str(arguments.jobs), "--components", str(components)]
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(arguments.jobs))

    def bound():
        resource.setrlimit(resource.RLIMIT_AS, (arguments.memory * 2**30,) * 2)

    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **threads}, preexec_fn=bound)
    if done.returncode == 0:
        return json.loads(done.stdout.splitlines()[-1])
    if done.returncode < 0:
        return f"> {arguments.limit} CPU s"
    return f"> {arguments.memory} GiB" if "Memory" in done.stderr else done.stderr.strip().splitlines()[-1]


def quality(n, d, components):
    """Error of 3-NN and mean certified radius of fresh instances, by the learned metric."""
    from certimetric import CertifiedKNeighborsClassifier, MahalanobisMetric

    X, y = draw(n, d)
    queries, labels = draw(QUERIES, d, seed=2)
    metric = MahalanobisMetric.from_components(np.load(components))
    predicted, radii = CertifiedKNeighborsClassifier(3, metric=metric).fit(X, y).predict_with_radius(queries)
    return f" {(predicted != labels).mean():.4f} | {radii.mean():.4f} |"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--features", type=int, nargs="+", default=[10, 30, 100, 300])
    parser.add_argument("--only", nargs="*", help=", ".join([*OURS, *PEERS]))
    parser.add_argument("--limit", type=int, default=120, help="CPU seconds of a fit")
    parser.add_argument("--memory", type=int, default=16, help="GiB of addresses of a process")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--quality", action="store_true")
    parser.add_argument("--way", help=argparse.SUPPRESS)
    parser.add_argument("--components", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.way:
        work(arguments)
        return
    ways = arguments.only or [*OURS, *(way for way in PEERS if (BENCH / "env" / PEERS[way]).exists())]
    more, line = (" error | radius |", "---|---|") if arguments.quality else ("", "")
    print(f"| learner | features | rows | CPU s | s | MiB beside the data | anchors |{more}")
    print(f"|---|---|---|---|---|---|---|{line}")
    components = BENCH / "scale.npy"
    components.parent.mkdir(exist_ok=True)
    for way in ways:
        for d in arguments.features:
            for n in sorted(arguments.rows):
                told = measure(way, n, d, arguments, components)
                cells = f"| {way} | {d} | {n:,} |"
                if isinstance(told, str):
                    print(f"{cells} {told} | | | |", flush=True)
                    break
                anchors = "" if told["anchors"] is None else f"{told['anchors']:,}"
                cells += f" {told['cpu']:.1f} | {told['wall']:.1f} | {told['memory']:.0f} | {anchors} |"
                print(cells + (quality(n, d, components) if arguments.quality else ""), flush=True)


if __name__ == "__main__":
    main()
