"""One table of what certimetric's learners take beside their peers, written into docs/benchmarks.md.

    python benchmarks/headline.py             # runs what is missing (about ten minutes of CPU), then writes the page
    python benchmarks/headline.py --again     # runs everything again

The figures are those of `peers.py`, which says how they are measured: CPU seconds of the fastest of two rounds, one
thread for everybody, each fit in a fresh process after a warm-up.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from peer_tables import METHODS, OURS, TOO_LONG, best, number

ROOT = Path(__file__).resolve().parent.parent
FIGURES, PAGE = ROOT / ".bench" / "peers.json", ROOT / "docs" / "benchmarks.md"
BEGIN, END = "<!-- headline: begin -->", "<!-- headline: end -->"
THREADS, LIMIT = "1", 60
ROWS = (
    ("digits", "metric-learn-lmnn"),
    ("digits", "pylmnn-lmnn"),
    ("digits", "mlpack-lmnn-lbfgs"),
    ("digits", "metric-learn-scml"),
    ("digits", "metric-learn-itml"),
    ("digits", "metric-learn-mmc"),
    ("digits", "metric-learn-lsml"),
    ("digits", "metric-learn-lfda-varying"),
    ("digits", "sklearn-nca"),
    ("wine", "metric-learn-lmnn"),
    ("wine", "metric-learn-mmc"),
    ("wine", "metric-learn-lsml"),
    ("wine", "metric-learn-lfda"),
    ("wine", "sklearn-nca"),
)


def command(problem: str, peer: str) -> list[str]:
    """What measures a row."""
    methods = f"{peer},{OURS}{METHODS[peer].family}"
    return ["benchmarks/peers.py", "--problem", problem, "--only", methods, "--repeats", "2", "--threads", THREADS,
            "--timeout", str(LIMIT)]  # fmt: skip


def row(figures: dict[str, Any], problem: str, peer: str) -> str | None:
    """A line of the table; None where a side is missing."""
    theirs, ours = (
        figures["rows"].get(f"{problem}/{method}/{THREADS}") for method in (peer, OURS + METHODS[peer].family)
    )
    if theirs is None or ours is None or not ours["runs"]:
        return None
    seconds, error = best(ours, "cpu_s"), f"{100 * ours['quality']['test_error']:.1f}"
    assert seconds is not None
    if theirs["runs"]:
        taken = best(theirs, "cpu_s")
        assert taken is not None
        quality = theirs["quality"]
        their_error = "–" if "error" in quality else f"{100 * quality['test_error']:.1f}"
        cells = [number(taken, 3), f"{taken / seconds:.1f} ×"]
    else:
        limit = theirs["error"].removeprefix(TOO_LONG).split()[0]
        late = theirs["error"].startswith(TOO_LONG)
        their_error = "–"
        cells = [f"more than {limit}", f"more than {float(limit) / seconds:.0f} ×"] if late else ["fails", "–"]
    run = " ".join(["python", *command(problem, peer)[:5]])
    when = max(run["when"] for side in (theirs, ours) for run in side["runs"])[:10]
    told = [problem, peer, number(seconds, 3), *cells, f"{error} / {their_error}", when, f"`{run}`"]
    return f"| {' | '.join(told)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--again", action="store_true", help="run what is there already, too")
    again = parser.parse_args().again
    for problem, peer in ROWS:
        known = json.loads(FIGURES.read_text()) if FIGURES.exists() else {"rows": {}}
        if again or row(known, problem, peer) is None:
            done = subprocess.run([sys.executable, *command(problem, peer)], cwd=ROOT)
            if done.returncode not in (0, 1):  # 1: a method failed, which the table tells
                raise SystemExit(done.returncode)
    figures = json.loads(FIGURES.read_text())
    machine = figures["machine"]
    lines = [
        f"{machine['cpu']}, {machine['cores']} cores, one thread for everybody; CPU seconds of a fit.",
        "",
        "| data | peer | certimetric, s | peer, s | ratio | 3-NN error, %: ours / theirs | measured | command |",
        "|---|---|---|---|---|---|---|---|",
        *(line for problem, peer in ROWS if (line := row(figures, problem, peer))),
    ]
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    PAGE.write_text("\n".join([before + BEGIN, "", *lines, "", END + after]), encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
