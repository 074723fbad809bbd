"""``certimetric bench``: a published experiment with one command."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from certimetric.cli.options import JOBS, DataRoot, Jobs

EPILOG = """Examples:

`certimetric bench --list`

`certimetric bench quick`

`certimetric bench perturbation --data-root DATA --jobs 2 --timeout 600`

`certimetric bench perturbation --data-root DATA --resume --splits 10`

`certimetric bench perturbation --data-root DATA --dask tcp://scheduler:8786`"""


def bench(
    context: typer.Context,
    suite: Annotated[str | None, typer.Argument(metavar="[SUITE]", help="One of those that --list shows.")] = None,
    listed: Annotated[bool, typer.Option("--list", help="Say what each suite needs, and how long it takes.")] = False,
    data_root: DataRoot = None,
    jobs: Jobs = JOBS,
    dask: Annotated[
        str | None, typer.Option("--dask", metavar="ADDRESS", help="Dask scheduler whose workers run the cells.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="DIR", help="[default: certimetric-bench/SUITE]")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the results in the folder.")] = False,
    retry: Annotated[bool, typer.Option("--retry", help="With --resume: run failed cells again.")] = False,
    timeout: Annotated[
        float | None, typer.Option("--timeout", metavar="SECONDS", help="Stop a cell that takes longer.")
    ] = None,
    splits: Annotated[int | None, typer.Option("--splits", metavar="N", help="In place of the suite's number.")] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of splits, noise and learners.")] = 0,
    render: Annotated[
        bool, typer.Option("--render", help="Compute nothing: write tables and report of the folder again.")
    ] = False,
) -> None:
    """Run the experiment of a paper: tables, plots and one report.

    Finished cells are kept at once: a run that was stopped in whatever way goes on with --resume.
    """
    from certimetric.bench.benchmark import Asked, run_benchmark
    from certimetric.bench.benchmark import render as render_again
    from certimetric.bench.suites import NAMES, find_suite

    if listed:
        for name in NAMES:
            known = find_suite(name)
            typer.echo(f"{name:<14} about {known.minutes:g} min on two cores, {known.splits} splits")
            typer.echo(f"{'':<14} {known.about}")
            typer.echo(f"{'':<14} Needs {known.needs}.")
        return
    if suite is None:
        raise ValueError("name a suite: certimetric bench SUITE, or see certimetric bench --list")
    source = context.get_parameter_source("jobs")
    if dask is not None and source is not None and source.name == "COMMANDLINE":
        raise ValueError("--jobs is for this machine and --dask for a cluster: give one of them")
    folder = out or Path("certimetric-bench") / suite
    if render:
        find_suite(suite)
        render_again(folder)
        typer.echo(f"Report: {folder / 'report.html'}")
        return
    asked = Asked(suite, folder, data_root, jobs, dask, timeout, splits, seed, resume, retry)
    command = shlex.join(["certimetric", *(context.obj or sys.argv[1:])])
    try:
        outcome, missing = run_benchmark(
            asked, command=command, progress=True, say=lambda text: typer.echo(text, err=True)
        )
    except KeyboardInterrupt:
        typer.echo(f"certimetric: interrupted; finished cells are in {folder}, go on with --resume", err=True)
        raise typer.Exit(130) from None
    failed = [record for record in outcome.records if record.status != "done"]
    typer.echo(f"{outcome.computed} cells computed, {outcome.reused} reused, {len(failed)} failed")
    for record in failed[:5]:
        typer.echo(f"  {record.cell}: {record.error}")
    if len(failed) > 5:
        typer.echo(f"  and {len(failed) - 5} more: the report names them")
    if missing:
        typer.echo(f"Missing data sets: {', '.join(missing)}")
    typer.echo(f"Report: {folder / 'report.html'}")
