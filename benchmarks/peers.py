"""Time certimetric's learners against their peers, every method in an environment of its own.

    python benchmarks/peers.py                             # everything: builds the environments first
    python benchmarks/peers.py --problem wine,digits --timeout 120
    python benchmarks/peers.py --problem digits --only certimetric-lmnn,metric-learn-lmnn
    python benchmarks/peers.py --only certimetric-lmnn     # ours again, against the peers' stored figures
    python benchmarks/peers.py --tables                    # of the stored figures; runs nothing

Environments, problems, components and figures are kept under `.bench/` in the repository root. Figures of
methods that are not run this time come from the figures file, if they are there, so that a ratio does not
need the slow side to be timed again; every run carries its time of day and the machine's load when it began.

Every fit runs in a fresh process (`peer_worker.py`), after one small warm-up fit of about 60 rows for every
method alike. Runs are interleaved (a round of all methods, then the next round). The time of a method is its
*fastest* round, and in a round the mean of as many fits as take half a second: other work on the machine only
ever adds. It is CPU time, which other work touches least, and so is the limit of a fit. Everybody runs with the
threads that their package takes by itself and again with one, because two threads slow small matrices down; the
ratios hold ours as it comes against the better of the peer's two. The metrics are judged by `peer_quality.py`.
The goals of the project are printed beside what was reached, and where we are slower or worse the table says so;
a file of the same name as that of the figures, ending in `.md`, has a table for the documentation.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from peer_problems import PROBLEMS, load_problem
from peer_quality import Judge
from peer_tables import METHODS, TOO_LONG, markdown, print_tables
from rich.console import Console

try:
    import resource
except ImportError:  # Windows
    resource = None

ROOT = Path(__file__).resolve().parent.parent
BENCH = ROOT / ".bench"
_PATIENCE = 20  # wall seconds for a CPU second of the limit
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")

ENVIRONMENTS = {
    "certimetric": ["-e", str(ROOT)],
    "metric-learn": ["metric-learn==0.7.0", "scikit-learn==1.5.2"],
    # Its SDML needs an argument of the graphical lasso that scikit-learn has since dropped.
    "metric-learn-2022": ["metric-learn==0.7.0", "scikit-learn==1.2.2", "scipy==1.10.1", "numpy==1.26.4"],
    "mlpack": ["mlpack==4.8.0"],
    # Its last release, of 2020, asks for none of these; it fails with a newer SciPy.
    "pylmnn": ["pylmnn==1.6.4", "scikit-learn==1.2.2", "scipy==1.10.1", "numpy==1.26.4", "six"],
    "scikit-learn": ["scikit-learn>=1.6"],
    "pydml": ["--no-build-isolation", "pyDML==0.1.0", "six"],
}
BUILT_WITH = {"pydml": ["cython", "numpy", "scipy", "scikit-learn", "setuptools", "wheel"]}  # which it does not say


def environment(name: str, rebuild: bool) -> Path:
    """The Python of the environment `name`, built if it is missing or was asked for other packages."""
    folder = BENCH / "env" / name
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    wanted = list(ENVIRONMENTS[name])
    constraints = ROOT / "constraints.txt"
    if name == "certimetric" and constraints.exists():
        wanted += ["-c", str(constraints)]
    stamp = folder / "requirements.json"
    if not rebuild and stamp.exists() and json.loads(stamp.read_text()) == wanted:
        return python
    print(f"building the environment {name}: {' '.join(wanted)}", flush=True)
    install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    commands = [[sys.executable, "-m", "venv", "--clear", str(folder)], [*install, *wanted]]
    if name in BUILT_WITH:
        commands.insert(1, [*install, *BUILT_WITH[name]])
    for command in commands:
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"building the environment {name} failed:\n{done.stdout}{done.stderr}")
    stamp.write_text(json.dumps(wanted))
    return python


def measure(python: Path, method: str, problem: Path, components: Path, threads: str, timeout: float) -> dict:
    """One fit in a fresh process: the worker's report, or an `error`."""
    # The user's own PYTHON* variables and thread limits stay out: every method starts from its defaults.
    variables = {k: v for k, v in os.environ.items() if k not in THREAD_VARIABLES}
    if threads != "default":
        variables |= dict.fromkeys(THREAD_VARIABLES, threads)
    began = {"when": time.strftime("%Y-%m-%dT%H:%M:%S"), "load": round(os.getloadavg()[0], 2)}
    worker = str(Path(__file__).with_name("peer_worker.py"))
    command = [str(python), "-I", worker, method, str(problem), str(components)]

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(timeout), math.ceil(timeout) + 5))

    # The limit is one of CPU time, so that other work does not count; a process that only waits ends as well.
    patience = timeout if resource is None else _PATIENCE * timeout
    used_before = cpu_of_children()
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            env=variables,
            timeout=patience,
            preexec_fn=None if resource is None else limited,
        )
    except subprocess.TimeoutExpired:
        used = timeout if resource is None else int(cpu_of_children() - used_before)
        return began | {"error": f"{TOO_LONG}{used:g} s of CPU time"}
    if resource is not None and done.returncode == -signal.SIGXCPU:
        return began | {"error": f"{TOO_LONG}{timeout:g} s of CPU time"}
    for line in done.stdout.splitlines():
        if line.startswith("REPORT "):
            return began | json.loads(line.removeprefix("REPORT "))
    last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
    return began | {"error": last}


def cpu_of_children() -> float:
    """CPU seconds of all processes that were waited for."""
    return 0.0 if resource is None else sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])


def run(arguments: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Run what was asked for; the figures file with the new rows in it."""
    figures: dict[str, Any] = {"rows": {}}
    if arguments.out.exists():
        figures = json.loads(arguments.out.read_text())
    figures["machine"] = {"platform": platform.platform(), "cpu": cpu_name(), "cores": os.cpu_count()}
    pythons = {}
    for name in {METHODS[method].environment for method in arguments.only}:
        given = arguments.ours_python if name == "certimetric" else None
        pythons[name] = given or environment(name, arguments.rebuild)

    components = BENCH / "components"
    components.mkdir(parents=True, exist_ok=True)
    for name in arguments.problem:
        try:
            path, arrays = load_problem(name, BENCH / "problems")
        except FileNotFoundError as error:
            console.print(f"{name}: skipped, {error}", highlight=False)
            continue
        judge = Judge(arrays)
        fresh: dict[str, dict[str, Any]] = {}
        for repeat in range(arguments.repeats):
            for method in arguments.only:
                if name not in METHODS[method].runs_on:
                    continue
                for threads in arguments.threads:
                    key = f"{name}/{method}/{threads}"
                    if "error" in fresh.get(key, {}):
                        continue
                    file = components / (key.replace("/", "_") + ".npy")
                    python = pythons[METHODS[method].environment]
                    report = measure(python, method, path, file, threads, arguments.timeout)
                    shown = report.get("error") or (
                        f"{report['wall_s']:.2f} s wall, {report['cpu_s']:.2f} s CPU, {report['peak_mb']:.0f} MB"
                    )
                    console.print(f"[dim]{repeat + 1}/{arguments.repeats}[/] {key}: {shown}", highlight=False)
                    row = fresh.setdefault(key, {"runs": []})
                    if "error" in report:
                        row["error"] = report["error"]
                        if not figures["rows"].get(key, row)["runs"]:  # an older figure is better than a failure
                            figures["rows"][key] = row
                        save(figures, arguments.out)
                        continue
                    row["runs"].append(report)
                    if "quality" not in row:
                        row["quality"] = judged(judge, np.load(file), (METHODS[method].family,))
                    figures["rows"][key] = row
                    save(figures, arguments.out)
        euclidean = f"{name}/euclidean/default"
        if euclidean not in figures["rows"]:
            identity = np.eye(arrays["X_train"].shape[1])
            figures["rows"][euclidean] = {"runs": [], "quality": judge(identity, ())}
        save(figures, arguments.out)
    return figures


def judged(judge: Judge, L: np.ndarray, families: tuple[str, ...]) -> dict[str, Any]:
    """What the judge says, or why it cannot say it (NaN)."""
    try:
        return judge(L, families)
    except ValueError as error:
        return {"error": str(error)}


def save(figures: dict[str, Any], path: Path) -> None:
    """Write the figures file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(figures, indent=1))
    partial.replace(path)


def cpu_name() -> str:
    """What the machine calls its processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    known = ", ".join(METHODS)
    parser.add_argument(
        "--problem", default="all", metavar="NAMES", help=f"comma-separated, of: {', '.join(PROBLEMS)} (default: all)"
    )
    parser.add_argument("--only", metavar="METHODS", help=f"comma-separated, of: {known}")
    parser.add_argument("--repeats", type=int, default=3, metavar="N", help="rounds (default: 3)")
    parser.add_argument(
        "--threads",
        default="default,1",
        help="comma-separated BLAS/OpenMP thread settings (default: default,1)",
    )
    parser.add_argument("--tables", action="store_true", help="run nothing: print the tables of the figures file")
    parser.add_argument("--rebuild", action="store_true", help="build the environments anew")
    parser.add_argument("--ours-python", type=Path, metavar="PATH", help="a Python with certimetric installed")
    parser.add_argument("--timeout", type=float, default=1800.0, metavar="S", help="CPU seconds for one fit")
    parser.add_argument("--out", type=Path, default=BENCH / "peers.json", metavar="FILE.json")
    arguments = parser.parse_args()
    only = arguments.only.split(",") if arguments.only else [m for m in METHODS if METHODS[m].always]
    if unknown := sorted(set(only) - set(METHODS)):
        parser.error(f"--only: no method called {', '.join(unknown)}; there are {known}")
    if arguments.repeats < 1:
        parser.error(f"--repeats: {arguments.repeats} given, at least 1 expected")
    arguments.threads = arguments.threads.split(",")
    if wrong := [t for t in arguments.threads if t != "default" and not (t.isdigit() and int(t) > 0)]:
        parser.error(f"--threads: {wrong[0]!r} given, 'default' or a positive number expected")
    arguments.only = only
    arguments.problem = list(PROBLEMS) if arguments.problem == "all" else arguments.problem.split(",")
    if unknown := sorted(set(arguments.problem) - set(PROBLEMS)):
        parser.error(f"--problem: no problem called {', '.join(unknown)}; there are {', '.join(PROBLEMS)}")

    console = Console(width=max(Console().width, 160))
    figures = json.loads(arguments.out.read_text()) if arguments.tables else run(arguments, console)
    print_tables(figures, arguments.problem, console)
    arguments.out.with_suffix(".md").write_text(markdown(figures, arguments.problem))
    rows = (figures["rows"].get(f"{p}/{m}/{t}", {}) for p in arguments.problem for m in only for t in arguments.threads)
    return 1 if any("error" in row for row in rows) else 0


if __name__ == "__main__":
    raise SystemExit(main())
