"""Time certimetric's learners against their peers, every method in an environment of its own.

    python benchmarks/peers.py                             # everything: builds the environments first
    python benchmarks/peers.py --problem digits --only certimetric-lmnn,metric-learn-lmnn
    python benchmarks/peers.py --only certimetric-lmnn     # ours again, against the peers' stored figures

Environments, problems, components and figures are kept under `.bench/` in the repository root. Figures of
methods that are not run this time come from the figures file, if they are there, so that a ratio does not
need the slow side to be timed again; every run carries its time of day and the machine's load when it began.

Every fit runs in a fresh process (`peer_worker.py`), after one small warm-up fit of about 60 rows for every
method alike. Runs are interleaved (a round of all methods, then the next round). The time of a method is its
*fastest* round: other work on the machine only ever adds. Everybody runs with the threads that their package
takes by itself and again with one, because two threads slow small matrices down; the closing ratios hold ours
as it comes against the better of the peer's two. The metrics are judged by `peer_quality.py`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from peer_quality import PROBLEMS, Judge, load_problem
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
BENCH = ROOT / ".bench"
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")

ENVIRONMENTS = {
    "certimetric": ["-e", str(ROOT)],
    "metric-learn": ["metric-learn==0.7.0", "scikit-learn==1.5.2"],
    "mlpack": ["mlpack==4.8.0"],
    "scikit-learn": ["scikit-learn>=1.6"],
}


@dataclass(frozen=True)
class Method:
    """A method of `peer_worker.py`: where it lives, and which of ours it is compared with."""

    environment: str
    ours: str | None
    always: bool = True  # False: only when asked for with --only


METHODS = {
    "certimetric-lmnn": Method("certimetric", None),
    "metric-learn-lmnn": Method("metric-learn", "certimetric-lmnn"),
    "mlpack-lmnn-lbfgs": Method("mlpack", "certimetric-lmnn"),
    "mlpack-lmnn-lbfgs-0.9": Method("mlpack", "certimetric-lmnn"),
    "mlpack-lmnn-amsgrad": Method("mlpack", "certimetric-lmnn", always=False),
    "certimetric-scml": Method("certimetric", None),
    "metric-learn-scml": Method("metric-learn", "certimetric-scml"),
    "sklearn-nca": Method("scikit-learn", None, always=False),
}


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
    for command in (
        [sys.executable, "-m", "venv", "--clear", str(folder)],
        [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *wanted],
    ):
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
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=variables, timeout=timeout)
    except subprocess.TimeoutExpired:
        return began | {"error": f"no result within {timeout:g} s"}
    for line in done.stdout.splitlines():
        if line.startswith("REPORT "):
            return began | json.loads(line.removeprefix("REPORT "))
    last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
    return began | {"error": last}


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
        path, arrays = load_problem(name, BENCH / "problems")
        judge = Judge(arrays)
        fresh: dict[str, dict[str, Any]] = {}
        for repeat in range(arguments.repeats):
            for method in arguments.only:
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
                        continue
                    row["runs"].append(report)
                    if "quality" not in row:
                        row["quality"] = judge(np.load(file))
        figures["rows"].update(fresh)
        euclidean = f"{name}/euclidean/default"
        if euclidean not in figures["rows"]:
            figures["rows"][euclidean] = {"runs": [], "quality": judge(np.eye(arrays["X_train"].shape[1]))}
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(figures, indent=1))
    return figures


def cpu_name() -> str:
    """What the machine calls its processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "")


def best(row: dict[str, Any] | None, figure: str) -> float | None:
    """The smallest of a figure over the rounds of a row."""
    return min((r[figure] for r in row["runs"]), default=None) if row else None


def ratio(theirs: float | None, ours: float | None) -> str:
    return "–" if theirs is None or not ours else f"{theirs / ours:.1f}"


def number(value: float | None, digits: int = 2) -> str:
    return "–" if value is None else f"{value:,.{digits}f}"


def print_tables(figures: dict[str, Any], problems: list[str], console: Console) -> None:
    """Two tables a problem: cost, with the ratios to ours, and quality."""
    machine = figures["machine"]
    for name in problems:
        rows = {tuple(key.split("/")[1:]): row for key, row in figures["rows"].items() if key.startswith(name + "/")}
        order = sorted(rows, key=lambda k: (list(METHODS).index(k[0]) if k[0] in METHODS else -1, k[1]))
        cost = Table(title=f"{name}: cost of one fit (fastest round; x = theirs / ours)", title_justify="left")
        quality = Table(title=f"{name}: the learned metric", title_justify="left")
        for heading in ("method", "threads"):
            cost.add_column(heading, no_wrap=True)
            quality.add_column(heading, no_wrap=True)
        for heading in ("wall s", "CPU s", "peak MB", "growth MB", "wall x", "CPU x", "peak x", "growth x"):
            cost.add_column(heading, justify="right", no_wrap=True)
        for heading in ("3-NN error %", "LMNN", "LMNN, best scale", "SCML", "SCML, best scale"):
            quality.add_column(heading, justify="right")
        for method, threads in order:
            row = rows[method, threads]
            if "error" in row and not row["runs"]:
                cost.add_row(method, threads, f"failed: {row['error']}"[:60])
                continue
            q = row["quality"]
            quality.add_row(
                method,
                threads,
                number(100 * q["test_error"]),
                *(number(q[objective], 0) for objective in ("lmnn", "lmnn_best")),
                *(number(q[objective], 4) for objective in ("scml", "scml_best")),
            )
            if not row["runs"]:
                continue
            ours_name = METHODS[method].ours
            ours = rows.get((ours_name, "default")) if ours_name else None
            measures = ("wall_s", "cpu_s", "peak_mb", "growth_mb")
            cost.add_row(
                method,
                threads,
                *(number(best(row, m), 2 if m.endswith("_s") else 0) for m in measures),
                *(ratio(best(row, m), best(ours, m)) for m in measures),
            )
        console.print(f"\n[bold]{name}[/]: {PROBLEMS[name]}", highlight=False)
        console.print(cost)
        console.print(quality)
        for line in summary(name, rows):
            console.print(line, highlight=False)
    console.print(
        f"\n{machine['cpu']}, {machine['cores']} cores. Every fit follows a warm-up fit of about 60 rows in"
        " the same process. growth: peak of the fit above the memory held just before it. LMNN: ½ pull +"
        " ½ hinge over every other-class instance, at the method's own scale and at the best one. SCML: mean"
        " hinge over 3 x 10 triplets an instance + 1e-5 tr(M), likewise.",
        highlight=False,
    )


def summary(problem: str, rows: dict[tuple[str, str], dict[str, Any]]) -> list[str]:
    """One line a peer: ours at its defaults against the better of the peer's thread settings."""
    lines = []
    for method in METHODS:
        ours = rows.get((METHODS[method].ours or "", "default"))
        theirs = [row for (name, _), row in rows.items() if name == method and row["runs"]]
        if not ours or not ours["runs"] or not theirs:
            continue
        figures = {
            m: ratio(min(best(row, m) or 0.0 for row in theirs), best(ours, m))
            for m in ("wall_s", "cpu_s", "peak_mb", "growth_mb")
        }
        objective = "scml" if METHODS[method].ours == "certimetric-scml" else "lmnn"
        reached = [f"{row['quality'][objective + '_best']:,.4g}" for row in (ours, theirs[0])]
        lines.append(
            f"{problem}, {METHODS[method].ours} against {method}: {figures['wall_s']} x in wall seconds,"
            f" {figures['cpu_s']} x in CPU seconds; memory {figures['peak_mb']} x less (growth"
            f" {figures['growth_mb']} x); {objective.upper()} objective at the best scale {reached[0]}"
            f" against {reached[1]}."
        )
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    known = ", ".join(METHODS)
    parser.add_argument("--problem", default="all", choices=[*PROBLEMS, "all"])
    parser.add_argument("--only", metavar="METHODS", help=f"comma-separated, of: {known}")
    parser.add_argument("--repeats", type=int, default=3, metavar="N", help="rounds (default: 3)")
    parser.add_argument(
        "--threads",
        default="default,1",
        help="comma-separated BLAS/OpenMP thread settings (default: default,1)",
    )
    parser.add_argument("--rebuild", action="store_true", help="build the environments anew")
    parser.add_argument("--ours-python", type=Path, metavar="PATH", help="a Python with certimetric installed")
    parser.add_argument("--timeout", type=float, default=1800.0, metavar="S", help="seconds for one fit")
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
    arguments.problem = list(PROBLEMS) if arguments.problem == "all" else [arguments.problem]

    console = Console(width=max(Console().width, 110))
    figures = run(arguments, console)
    print_tables(figures, arguments.problem, console)
    rows = (figures["rows"][f"{p}/{m}/{t}"] for p in arguments.problem for m in only for t in arguments.threads)
    return 1 if any("error" in row for row in rows) else 0


if __name__ == "__main__":
    raise SystemExit(main())
