"""The methods of the comparison and its goals, and the tables of what was reached."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from peer_problems import LABELLED, PROBLEMS
from peer_quality import FAMILIES
from rich.console import Console
from rich.table import Table

OURS = "certimetric-"
TOO_LONG = "no result within "


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
    runs_on: tuple[str, ...] = LABELLED

    def goals(self, problem: str) -> tuple[float, float]:
        return (self.faster, self.leaner) if problem in self.goals_on else (1.0, 1.0)


METHODS = {
    "certimetric-lmnn": Method("certimetric", "lmnn"),
    "metric-learn-lmnn": Method("metric-learn", "lmnn", faster=10),
    "mlpack-lmnn-lbfgs": Method("mlpack", "lmnn", faster=8),
    "mlpack-lmnn-lbfgs-0.9": Method("mlpack", "lmnn", faster=8),
    "mlpack-lmnn-amsgrad": Method("mlpack", "lmnn", always=False),
    "pylmnn-lmnn": Method("pylmnn", "lmnn"),
    "pydml-lmnn": Method("pydml", "lmnn"),
    "certimetric-scml": Method("certimetric", "scml"),
    "metric-learn-scml": Method("metric-learn", "scml", faster=10),
    "certimetric-itml": Method("certimetric", "itml"),
    "metric-learn-itml": Method("metric-learn", "itml", faster=10),
    "certimetric-nca": Method("certimetric", "nca"),
    "sklearn-nca": Method("scikit-learn", "nca", faster=3, leaner=10, goals_on=("synthetic",)),
    "metric-learn-nca": Method("metric-learn", "nca"),
    "mlpack-nca-lbfgs": Method("mlpack", "nca"),
    "pydml-nca": Method("pydml", "nca"),
    "certimetric-mlkr": Method("certimetric", "mlkr", runs_on=("numbers",)),
    "metric-learn-mlkr": Method("metric-learn", "mlkr", faster=20, runs_on=("numbers",)),
    # Ours keeps every direction by default; "published" is the problem that the peer solves.
    "certimetric-mmc": Method("certimetric", "mmc"),
    "certimetric-mmc-published": Method("certimetric", "mmc"),
    "metric-learn-mmc": Method("metric-learn", "mmc", faster=20, same_problem=False),
    "pydml-mmc": Method("pydml", "mmc", same_problem=False),
    "certimetric-lsml": Method("certimetric", "lsml"),
    "metric-learn-lsml": Method("metric-learn", "lsml", faster=10),
    "certimetric-sdml": Method("certimetric", "sdml"),
    "metric-learn-sdml": Method("metric-learn", "sdml"),
    "metric-learn-2022-sdml": Method("metric-learn-2022", "sdml"),
    # The peer gives NaN where a column is constant: "varying" is the peer without such columns.
    "certimetric-rca": Method("certimetric", "rca"),
    "metric-learn-rca": Method("metric-learn", "rca"),
    "metric-learn-rca-varying": Method("metric-learn", "rca", runs_on=("digits",)),
    "certimetric-lfda": Method("certimetric", "lfda"),
    "metric-learn-lfda": Method("metric-learn", "lfda", faster=2),
    "metric-learn-lfda-varying": Method("metric-learn", "lfda", faster=2, runs_on=("digits",)),
    "sklearn-lda": Method("scikit-learn", "lfda", same_problem=False),
    # No package has these two.
    "certimetric-oasis": Method("certimetric", "oasis", runs_on=("triplets",)),
    "numpy-oasis": Method("scikit-learn", "oasis", runs_on=("triplets",)),
    "certimetric-gmml": Method("certimetric", "gmml"),
}


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
    for heading in ("peer", "CPU x", "wall x", "growth x", "peak x", "objective (theirs)", "error % (theirs)"):
        table.add_column(heading, no_wrap=True)
    for method, about in METHODS.items():
        ours, theirs = ours_of(rows, about.family), [r for (name, _), r in rows.items() if name == method and r["runs"]]
        if method.startswith(OURS) or not ours or not ours["runs"] or not theirs:
            continue

        def reached(figure: str, theirs=theirs, ours=ours) -> float:
            floor = 1.0 if figure.endswith("_mb") else 1e-3  # nobody's growth is measured to less than a megabyte
            return max(min(best(row, figure) or 0.0 for row in theirs), floor) / max(best(ours, figure) or 0.0, floor)

        faster, leaner = about.goals(problem)
        memory = [verdict(reached("growth_mb"), leaner), verdict(reached("peak_mb"), 1.0)]
        speed = [verdict(reached("cpu_s"), faster), f"{reached('wall_s'):.1f}"]
        table.add_row(method, *speed, *memory, *compared_quality(about, ours["quality"], theirs[0]["quality"]))
    if table.row_count:
        console.print(table)


def ours_of(rows: dict[tuple[str, str], dict[str, Any]], family: str) -> dict[str, Any] | None:
    """Our row of a family: with the threads that it takes by itself, if it was run so."""
    found = {threads: row for (name, threads), row in rows.items() if name == OURS + family}
    return found.get("default") or next(iter(found.values()), None)


def markdown(figures: dict[str, Any], problems: list[str]) -> str:
    """The table of the documentation: a line for every peer, theirs first and ours second."""
    lines = ["| problem | peer | its CPU s | ours | ratio | growth, MB | peak, MB | objective | 3-NN error, % |"]
    lines.append("|---|---|---|---|---|---|---|---|---|")
    for problem in problems:
        rows = {tuple(k.split("/")[1:]): r for k, r in figures["rows"].items() if k.startswith(problem + "/")}
        for method, about in METHODS.items():
            ours, theirs = ours_of(rows, about.family), [r for (name, _), r in rows.items() if name == method]
            if method.startswith(OURS) or not theirs or not ours or not ours["runs"]:
                continue
            done = [row for row in theirs if row["runs"]]
            own = ours["quality"]
            seconds, error = best(ours, "cpu_s"), 100 * own["test_error"]
            if not done:
                why = theirs[0]["error"]
                cells = [f"fails: {why.split(':')[0]}", seconds_text(seconds), "–", "–", "–", "–", f"– / {error:.1f}"]
                if (limit := why.removeprefix(TOO_LONG)) != why:
                    limit_s = float(limit.split()[0])
                    cells[0], cells[2] = f"more than {limit_s:g}", f"more than {limit_s / seconds:.0f} ×"
                lines.append(f"| {problem} | {method} | " + " | ".join(cells) + " |")
                continue
            quickest = min(best(row, "cpu_s") for row in done)
            memory = [
                f"{max(min(best(row, m) for row in done), 1):.0f} / {max(best(ours, m), 1):.0f}"
                for m in ("growth_mb", "peak_mb")
            ]
            quality = done[0]["quality"]
            judged = ["unusable: not finite", f"– / {error:.1f}"]
            if "error" not in quality:
                judged = [
                    f"{quality[about.family]:,.4g} / {own[about.family]:,.4g}",
                    f"{100 * quality['test_error']:.1f} / {error:.1f}",
                ]
            cells = [seconds_text(quickest), seconds_text(seconds), f"{quickest / seconds:.1f} ×", *memory, *judged]
            lines.append(f"| {problem} | {method} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def seconds_text(seconds: float) -> str:
    return f"{seconds:.2g}" if seconds < 10 else f"{seconds:.0f}"


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
