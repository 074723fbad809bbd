"""Time certimetric's learners against their peers, every method in an environment of its own.

    python benchmarks/peers.py                             # everything: builds the environments first
    python benchmarks/peers.py --problem wine,digits --timeout 120
    python benchmarks/peers.py --problem digits --only certimetric-lmnn,metric-learn-lmnn
    python benchmarks/peers.py --only certimetric-lmnn     # ours again, against the peers' stored figures

Environments, problems, components and figures are kept under `.bench/` in the repository root. Figures of
methods that are not run this time come from the figures file, if they are there, so that a ratio does not
need the slow side to be timed again; every run carries its time of day and the machine's load when it began.

Every fit runs in a fresh process (`peer_worker.py`), after one small warm-up fit of about 60 rows for every
method alike. Runs are interleaved (a round of all methods, then the next round). The time of a method is its
*fastest* round: other work on the machine only ever adds. Everybody runs with the threads that their package
takes by itself and again with one, because two threads slow small matrices down; the ratios hold ours as it
comes against the better of the peer's two. The metrics are judged by `peer_quality.py`. The goals of the
project are printed beside what was reached, and where we are slower or worse the table says so.
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
from peer_quality import FAMILIES, PROBLEMS, Judge, load_problem
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
BENCH = ROOT / ".bench"
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")

ENVIRONMENTS = {
    "certimetric": ["-e", str(ROOT)],
    "metric-learn": ["metric-learn==0.7.0", "scikit-learn==1.5.2"],
    "mlpack": ["mlpack==4.8.0"],
    # Its last release, of 2020, asks for none of these; it fails with a newer SciPy.
    "pylmnn": ["pylmnn==1.6.4", "scikit-learn==1.2.2", "scipy==1.10.1", "numpy==1.26.4", "six"],
    "scikit-learn": ["scikit-learn>=1.6"],
}


@dataclass(frozen=True)
class Method:
    """A method of `peer_worker.py`: where it lives, the objective it is judged by, and what is asked of ours."""

    environment: str
    family: str
    faster: float = 1.0  # ours should be faster by this
    leaner: float = 1.0  # and need less memory by this
    goals_on: tuple[str, ...] = tuple(PROBLEMS)  # where the two hold; 1 elsewhere
    same_problem: bool = True  # False: it does not minimise that objective, which is then no goal
    always: bool = True  # False: only when asked for with --only
    of_numbers: bool = False  # True: it predicts a number, and runs on the problem that has one alone

    def goals(self, problem: str) -> tuple[float, float]:
        return (self.faster, self.leaner) if problem in self.goals_on else (1.0, 1.0)


OURS = "certimetric-"
METHODS = {
    "certimetric-lmnn": Method("certimetric", "lmnn"),
    "metric-learn-lmnn": Method("metric-learn", "lmnn", faster=10),
    "mlpack-lmnn-lbfgs": Method("mlpack", "lmnn", faster=8),
    "mlpack-lmnn-lbfgs-0.9": Method("mlpack", "lmnn", faster=8),
    "mlpack-lmnn-amsgrad": Method("mlpack", "lmnn", always=False),
    "pylmnn-lmnn": Method("pylmnn", "lmnn"),
    "certimetric-scml": Method("certimetric", "scml"),
    "metric-learn-scml": Method("metric-learn", "scml", faster=10),
    "certimetric-itml": Method("certimetric", "itml"),
    "metric-learn-itml": Method("metric-learn", "itml", faster=10),
    "certimetric-nca": Method("certimetric", "nca"),
    "sklearn-nca": Method("scikit-learn", "nca", faster=3, leaner=10, goals_on=("synthetic",)),
    "metric-learn-nca": Method("metric-learn", "nca"),
    "mlpack-nca-lbfgs": Method("mlpack", "nca"),
    "certimetric-mlkr": Method("certimetric", "mlkr", of_numbers=True),
    "metric-learn-mlkr": Method("metric-learn", "mlkr", faster=20, of_numbers=True),
    # Ours keeps every direction by default; "published" is the problem that the peer solves.
    "certimetric-mmc": Method("certimetric", "mmc"),
    "certimetric-mmc-published": Method("certimetric", "mmc"),
    "metric-learn-mmc": Method("metric-learn", "mmc", faster=20, same_problem=False),
    "certimetric-lsml": Method("certimetric", "lsml"),
    "metric-learn-lsml": Method("metric-learn", "lsml", faster=10),
    "certimetric-sdml": Method("certimetric", "sdml"),
    "metric-learn-sdml": Method("metric-learn", "sdml"),
    # No peer has GMML; these too are closed forms of scatters within and between classes.
    "certimetric-gmml": Method("certimetric", "gmml"),
    "metric-learn-rca": Method("metric-learn", "gmml", same_problem=False),
    "metric-learn-lfda": Method("metric-learn", "gmml", same_problem=False),
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
        try:
            path, arrays = load_problem(name, BENCH / "problems")
        except FileNotFoundError as error:
            console.print(f"{name}: skipped, {error}", highlight=False)
            continue
        judge = Judge(arrays)
        fresh: dict[str, dict[str, Any]] = {}
        for repeat in range(arguments.repeats):
            for method in arguments.only:
                if METHODS[method].of_numbers != ("numbers_train" in arrays):
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


def best(row: dict[str, Any] | None, figure: str) -> float | None:
    """The smallest of a figure over the rounds of a row."""
    return min((r[figure] for r in row["runs"]), default=None) if row else None


def number(value: float | None, digits: int = 2) -> str:
    return "–" if value is None else f"{value:,.{digits}f}"


def objective_text(value: float | None) -> str:
    return "–" if value is None else f"{value:,.5g}"


def verdict(reached: float, goal: float) -> str:
    """A ratio, the goal and whether it was met."""
    return f"{reached:.1f} of {goal:g} " + ("met" if reached >= goal else "[bold]NOT met[/]")


def print_tables(figures: dict[str, Any], problems: list[str], console: Console) -> None:
    """Two tables a problem: what every method costs and reaches, and ours against every peer with the goals."""
    machine = figures["machine"]
    for name in problems:
        rows = {tuple(key.split("/")[1:]): row for key, row in figures["rows"].items() if key.startswith(name + "/")}
        order = sorted(rows, key=lambda k: (list(METHODS).index(k[0]) if k[0] in METHODS else -1, k[1]))
        table = Table(title=f"{name}: cost of one fit (fastest round), and the metric", title_justify="left")
        for heading in ("method", "threads"):
            table.add_column(heading, no_wrap=True)
        for heading in ("wall s", "CPU s", "peak MB", "growth MB", "3-NN error %", "own objective"):
            table.add_column(heading, justify="right", no_wrap=True)
        failures = []
        for method, threads in order:
            row = rows[method, threads]
            if "error" in row and not row["runs"]:
                failures.append(f"{method} ({threads}) failed: {row['error']}")
                continue
            q = row["quality"]
            if "error" in q:
                quality = ["unusable", q["error"][:30]]
            else:
                family = METHODS[method].family if method in METHODS else ""
                quality = [number(100 * q["test_error"]), objective_text(q.get(family))]
            measures = ("wall_s", "cpu_s", "peak_mb", "growth_mb")
            table.add_row(
                method, threads, *(number(best(row, m), 2 if m.endswith("_s") else 0) for m in measures), *quality
            )
        console.print(f"\n[bold]{name}[/]: {PROBLEMS[name]}", highlight=False)
        console.print(table)
        for line in failures:
            console.print(line, highlight=False, markup=False)
        print_goals(name, rows, console)
    console.print(
        f"\n{machine['cpu']}, {machine['cores']} cores. Every fit follows a warm-up fit of about 60 rows in the same"
        " process. growth: peak of the fit above the memory held just before it, of at least 1 MB for a ratio.",
        highlight=False,
    )
    for family, text in FAMILIES.items():
        console.print(f"{family.upper()}: {text}.", highlight=False)


def print_goals(problem: str, rows: dict[tuple[str, str], dict[str, Any]], console: Console) -> None:
    """One row a peer: ours at its defaults against the better of the peer's thread settings."""
    table = Table(title=f"{problem}: theirs / ours, and the goals", title_justify="left")
    for heading in ("peer", "wall x", "CPU x", "growth x", "peak x", "objective (theirs)", "error % (theirs)"):
        table.add_column(heading, no_wrap=True)
    for method, about in METHODS.items():
        ours = rows.get((OURS + about.family, "default"))
        theirs = [row for (name, _), row in rows.items() if name == method and row["runs"]]
        if method.startswith(OURS) or not ours or not ours["runs"]:
            continue
        if not theirs:
            continue

        def reached(figure: str, theirs=theirs, ours=ours) -> float:
            floor = 1.0 if figure.endswith("_mb") else 1e-3  # nobody's growth is measured to less than a megabyte
            return max(min(best(row, figure) or 0.0 for row in theirs), floor) / max(best(ours, figure) or 0.0, floor)

        faster, leaner = about.goals(problem)
        memory = [verdict(reached("growth_mb"), leaner), verdict(reached("peak_mb"), 1.0)]
        speed = [verdict(reached("wall_s"), faster), f"{reached('cpu_s'):.1f}"]
        table.add_row(method, *speed, *memory, *compared_quality(about, ours["quality"], theirs[0]["quality"]))
    if table.row_count:
        console.print(table)


def compared_quality(about: Method, ours: dict[str, Any], theirs: dict[str, Any]) -> list[str]:
    """Goal and error, ours before theirs, and whether ours are no worse."""
    if "error" in theirs:
        return ["theirs unusable", "theirs unusable"]
    shown = []
    for figure, factor, tolerance in ((about.family, 1.0, 1e-3), ("test_error", 100.0, 0.0)):
        a, b = factor * ours[figure], factor * theirs[figure]
        text = f"{objective_text(a)} ({objective_text(b)})"
        if figure != about.family or about.same_problem:
            worse = not a <= b + tolerance * abs(b)
            text += ": [bold]WORSE[/]" if worse else ": no worse"
        shown.append(text)
    return shown


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
    arguments.problem = list(PROBLEMS) if arguments.problem == "all" else arguments.problem.split(",")
    if unknown := sorted(set(arguments.problem) - set(PROBLEMS)):
        parser.error(f"--problem: no problem called {', '.join(unknown)}; there are {', '.join(PROBLEMS)}")

    console = Console(width=max(Console().width, 160))
    figures = run(arguments, console)
    print_tables(figures, arguments.problem, console)
    rows = (figures["rows"].get(f"{p}/{m}/{t}", {}) for p in arguments.problem for m in only for t in arguments.threads)
    return 1 if any("error" in row for row in rows) else 0


if __name__ == "__main__":
    raise SystemExit(main())
