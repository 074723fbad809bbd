"""The commands, each a few lines over the rooms; libraries are imported when a command needs them."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from certimetric.base.version import __version__
from certimetric.cli import audits, bench, training
from certimetric.cli.inputs import writable
from certimetric.cli.options import Data, Encode, Neighbors, NormName, NormOption, Target, UnitsOption

app = typer.Typer(
    name="certimetric",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    help="Learn distances that can be trusted: accurate, hard to fool, and certified.",
    epilog="Start with `certimetric audit iris`, then with a CSV file of your own.",
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"certimetric {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


app.command(epilog=audits.EPILOG)(audits.audit)
app.command(epilog=training.EPILOG)(training.train)
app.command(epilog=bench.EPILOG)(bench.bench)


@app.command(epilog="Example: `certimetric fit wine.csv --learner lmnn+pl -o wine.safetensors`")
def fit(
    data: Data,
    learner: Annotated[str, typer.Option("--learner", "-l", metavar="SPEC", help="Such as lmnn+pl:tau=2.")],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="FILE", help="Metric file to write.")] = Path(
        "metric.safetensors"
    ),
    target: Target = None,
    neighbors: Neighbors = 3,
    seed: Annotated[int, typer.Option("--seed", help="For learners that draw at random.")] = 0,
    encode: Encode = False,
) -> None:
    """Learn a metric on standardised data and save it, for data in their original units."""
    from certimetric import datasets
    from certimetric.cli.metrics import convergence_told, fit_metric

    writable("--out", out)
    loaded = datasets.load(data, target=target, encode=encode)
    with convergence_told():
        metric, told = fit_metric(loaded, learner, neighbors, seed)
    metric.save(out)
    if loaded.told_gaps:
        typer.echo(f"{data}: {loaded.told_gaps}")
    for line in told:
        typer.echo(line)
    typer.echo(f"Metric: {out}")
    options = ([] if target is None else ["--target", target]) + ["-k", str(neighbors), "-o", "radii.csv"]
    typer.echo(f"Next:   {shlex.join(['certimetric', 'certify', str(out), data, data, *options])}")
    typer.echo(f"        (each row without itself; a file of new rows goes in the place of the second {data})")


@app.command(epilog="Example: `certimetric certify wine.safetensors wine.csv new.csv -o radii.csv`")
def certify(
    metric: Annotated[Path, typer.Argument(metavar="METRIC", help="File from `certimetric fit` or `audit`.")],
    train: Annotated[str, typer.Argument(metavar="TRAIN", help="Training data with labels.")],
    queries: Annotated[str, typer.Argument(metavar="QUERIES", help="Instances to certify, with or without labels.")],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="FILE", help="CSV file to write.")] = Path("radii.csv"),
    target: Target = None,
    neighbors: Neighbors = 3,
    norm: NormOption = NormName.l2,
    units: UnitsOption = None,
    exact: Annotated[
        bool, typer.Option("--exact", help="Find the exact smallest change of each query as well.")
    ] = False,
    time_limit: Annotated[
        float, typer.Option("--time-limit", metavar="SECONDS", help="For --exact, each query, with -k above 1.")
    ] = 1.0,
) -> None:
    """Predict queries by their nearest training instances, with the size of change that each prediction withstands.

    With --exact also the smallest change that alters it: the certificate is a lower bound of that.
    """
    from certimetric.base.files import write_atomically
    from certimetric.cli.metrics import certify_queries, read_queries

    if not time_limit > 0:
        raise ValueError(f"--time-limit must be a positive number of seconds, got {time_limit:g}")
    writable("--out", out)
    read = read_queries(metric, train, queries, target, neighbors, norm.value, units and units.value)
    told = certify_queries(read, time_limit if exact else None)
    write_atomically(out, told.csv)
    for line in told.lines:
        typer.echo(line)
    typer.echo(f"Radii: {out}")


@app.command(
    epilog="""Examples:

`certimetric attack wine.safetensors wine.csv new.csv`

`certimetric attack loans.safetensors loans.csv new.csv --threat l2:eps=1,immutable=age+sex,integer=children`

`certimetric attack digits.safetensors digits digits --threat linf:bounds=0..16 --units original`"""
)
def attack(
    metric: Annotated[Path, typer.Argument(metavar="METRIC", help="File from `certimetric fit` or `audit`.")],
    train: Annotated[str, typer.Argument(metavar="TRAIN", help="Training data with labels.")],
    queries: Annotated[str, typer.Argument(metavar="QUERIES", help="Instances to attack, with or without labels.")],
    threat: Annotated[
        str,
        typer.Option(
            "--threat",
            metavar="NORM[:OPTION=…,…]",
            help="l2, linf or l1, with eps=SIZE (without it: the smallest change), bounds=LOW..HIGH, immutable=A+B, "
            "integer=A+B, one_hot=A+B/C+D. Features are meant in original units, eps in those of --units.",
        ),
    ] = "l2",
    kind: Annotated[
        list[str] | None,
        typer.Option(
            "--attack",
            metavar="NAME",
            help="region, smoothed-vote, hop-skip-jump; repeat it for more, the best counts. "
            "[default: region and smoothed-vote]",
        ),
    ] = None,
    out: Annotated[Path, typer.Option("-o", "--out", metavar="FILE", help="CSV file to write.")] = Path("attack.csv"),
    target: Target = None,
    neighbors: Neighbors = 3,
    units: UnitsOption = None,
) -> None:
    """Look for the smallest change of each query that alters its prediction, within what an attacker may change."""
    from certimetric.attacks import ATTACKS, ThreatModel
    from certimetric.base.files import write_atomically
    from certimetric.cli.attacks import attack_queries
    from certimetric.cli.metrics import read_queries

    kinds = kind or ["region", "smoothed-vote"]
    if unknown := [name for name in kinds if name not in ATTACKS]:
        raise ValueError(f"--attack must be one of {', '.join(ATTACKS)}, got {unknown[0]!r}")
    model = ThreatModel.from_string(threat)
    writable("--out", out)
    read = read_queries(metric, train, queries, target, neighbors, model.norm, units and units.value)
    told = attack_queries(read, model, kinds)
    write_atomically(out, told.csv)
    for line in told.lines:
        typer.echo(line)
    typer.echo(f"Changed queries: {out}")


@app.command()
def report(
    results: Annotated[Path, typer.Argument(metavar="RESULTS", help="results.json of an audit, or its folder.")],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="FILE", help="HTML file to write.")] = Path("report.html"),
    title: Annotated[str | None, typer.Option("--title", help="Heading of the report.")] = None,
) -> None:
    """Render the report of an audit again."""
    from certimetric.auditing import load_audit
    from certimetric.base.files import write_atomically

    result = load_audit(results)
    writable("--out", out)
    write_atomically(out, result.to_html(title=title))
    typer.echo(f"Report: {out}")


@app.command()
def datasets() -> None:
    """List the bundled data sets."""
    from certimetric.datasets import available

    for info in available():
        size = f"{info.rows} × {info.features}, {info.classes} classes"
        typer.echo(f"{info.name:<14} {size:<24} {info.description}")
