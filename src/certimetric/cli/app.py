"""The commands, each a few lines over the rooms; libraries are imported when a command needs them."""

from __future__ import annotations

import shlex
import sys
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

import certimetric
from certimetric.cli.inputs import numbers, writable

app = typer.Typer(
    name="certimetric",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    help="Learn distances that can be trusted: accurate, hard to fool, and certified.",
    epilog="Start with `certimetric audit iris`, then with a CSV file of your own.",
)


class NormName(str, Enum):
    """Norms that have a name."""

    l2 = "l2"
    linf = "linf"
    l1 = "l1"


class Units(str, Enum):
    """Units of certified radii and of attacks."""

    standardised = "standardised"
    original = "original"


Data = Annotated[
    str, typer.Argument(metavar="DATA", help="A bundled data set, a CSV, Parquet or LIBSVM file, or openml:NAME.")
]
Target = Annotated[str | None, typer.Option("--target", metavar="COL", help="Column with the labels.")]
Neighbors = Annotated[int, typer.Option("--neighbors", "-k", help="Neighbours that vote.")]
NormOption = Annotated[NormName, typer.Option("--norm", help="How a perturbation is measured.")]
UnitsOption = Annotated[
    Units | None,
    typer.Option("--units", help="Of sizes of changes. [default: standardised if the metric file knows the scale]"),
]
Encode = Annotated[bool, typer.Option("--encode", help="Turn text columns into 0/1 columns and fill gaps.")]


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"certimetric {certimetric.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


@app.command(
    epilog="""Examples:

`certimetric audit iris`

`certimetric audit wine.csv --target grower --learner euclidean --learner lmnn+pl:tau=2 --jobs 4`

`certimetric audit digits --eps 0.5,1,2 --fail-under certified@1=0.6 --junit audit.xml`"""
)
def audit(
    context: typer.Context,
    data: Data,
    target: Target = None,
    learner: Annotated[
        list[str] | None,
        typer.Option("--learner", "-l", metavar="SPEC", help="Such as euclidean, lmnn+pl:tau=2. Repeat it for more."),
    ] = None,
    neighbors: Neighbors = 3,
    norm: NormOption = NormName.l2,
    noise: Annotated[
        list[str] | None,
        typer.Option(
            "--noise", metavar="SIGMA,…", help="Standard deviations of noise, standardised. [default: 0.25,0.5,1]"
        ),
    ] = None,
    eps: Annotated[
        list[str] | None,
        typer.Option("--eps", metavar="EPS,…", help="Radii for certified accuracy. [default: chosen from the results]"),
    ] = None,
    repeats: Annotated[int, typer.Option("--repeats", help="Splits at random.")] = 5,
    test_size: Annotated[float, typer.Option("--test-size", help="Share of every class that is held out.")] = 0.3,
    seed: Annotated[int, typer.Option("--seed", help="Same seed, same figures.")] = 0,
    jobs: Annotated[int, typer.Option("--jobs", "-j", help="Processes; -1 for one per core.")] = 2,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="DIR", help="Folder of report, results, metrics. [default: certimetric-audit/NAME]"
        ),
    ] = None,
    fail_under: Annotated[
        list[str] | None,
        typer.Option(
            "--fail-under",
            metavar="[SPEC.]FIGURE=VALUE",
            help="Exit with 1 if a figure is lower: accuracy, noise@SIGMA, certified@EPS or median_radius.",
        ),
    ] = None,
    encode: Encode = False,
    junit: Annotated[Path | None, typer.Option("--junit", metavar="FILE", help="Write JUnit XML for CI.")] = None,
    title: Annotated[str | None, typer.Option("--title", help="Heading of the report.")] = None,
) -> None:
    """Compare metrics on data and write one HTML report: error, noise, certificates, attacks.

    Finished parts are kept in the output folder: a run that was stopped goes on from there.
    """
    from certimetric import datasets
    from certimetric.auditing.config import DEFAULT_LEARNERS, DEFAULT_NOISE, make_request
    from certimetric.auditing.result import REPORT_FILE, RESULTS_FILE
    from certimetric.auditing.run import run_audit
    from certimetric.auditing.runner import prepare_folder
    from certimetric.geometry.files import write_atomically
    from certimetric.report import junit_xml

    levels = DEFAULT_NOISE if noise is None else numbers("--noise", noise)
    radii = None if eps is None else numbers("--eps", eps)
    loaded = datasets.load(data, target=target, encode=encode)
    request = make_request(
        loaded.X,
        loaded.y,
        learners=learner or DEFAULT_LEARNERS,
        n_neighbors=neighbors,
        norm=norm.value,
        noise=levels,
        eps=radii,
        repeats=repeats,
        test_size=test_size,
        seed=seed,
        n_jobs=jobs,
        feature_names=loaded.feature_names,
        image_shape=loaded.image_shape,
        name=loaded.name,
        source=loaded.source,
        fail_under=fail_under or (),
    )
    folder = out or Path("certimetric-audit") / loaded.name
    prepare_folder(folder)
    if junit is not None:
        writable("--junit", junit)
    command = shlex.join(["certimetric", *context.obj])
    try:
        result = run_audit(request, out=folder, command=command, title=title, progress=sys.stderr.isatty())
    except KeyboardInterrupt:
        typer.echo(
            f"certimetric: interrupted; what is finished is in {folder}, run the same command to go on", err=True
        )
        raise typer.Exit(130) from None
    if junit is not None:
        write_atomically(junit, junit_xml(result.document))
    _show(result)
    typer.echo(f"Report:  {folder / REPORT_FILE}")
    typer.echo(f"Results: {folder / RESULTS_FILE}")
    if not result.passed:
        raise typer.Exit(1)


def _show(result: Any) -> None:
    """Table, issues and verdict of an audit."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from certimetric.report import summary_table

    document = result.document
    header, rows = summary_table(document)
    table = Table(title=escape(f"Audit of {document['data']['name']}"), title_justify="left")
    for i, column in enumerate(header):
        table.add_column(escape(column), justify="right" if i else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(escape, row))
    console = Console(width=None if sys.stdout.isatty() else 160, highlight=False)
    console.print(table)
    for check in document["checks"]:
        if check["severity"] == "issue":
            about = f" [{check['learner']}]" if check["learner"] else ""
            console.print(escape(f"{check['code']} {check['title']}{about}: {check['message']}"), soft_wrap=True)
    for entry in document["thresholds"]:
        observed = "nothing" if entry["observed"] is None else f"{float(entry['observed']):.4g}"
        holds = "holds" if entry["passed"] else "does not hold"
        console.print(escape(f"Threshold {entry['expression']} {holds}: observed {observed}"), soft_wrap=True)
    verdict = document["verdict"]
    console.print(escape(f"{verdict['status']}: {verdict['sentence']}"), soft_wrap=True)
    cells = document["reproduction"]["cells"]
    told = f"{cells['computed']} cells computed, {cells['reused']} reused"
    console.print(told + (f", {cells['failed']} failed" if cells["failed"] else ""), soft_wrap=True)


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
    from certimetric.cli.metrics import fit_metric

    writable("--out", out)
    metric, error = fit_metric(datasets.load(data, target=target, encode=encode), learner, neighbors, seed)
    metric.save(out)
    typer.echo(f"{learner}: {100 * error:.1f} % of the training instances are wrong by their {neighbors} neighbours")
    typer.echo(f"Metric: {out}")
    typer.echo(f"Next:   certimetric certify {shlex.quote(str(out))} {shlex.quote(data)} QUERIES.csv -o radii.csv")


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
    from certimetric.cli.metrics import certify_queries, read_queries
    from certimetric.geometry.files import write_atomically

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
    from certimetric.attacks import ThreatModel
    from certimetric.cli.attacks import ATTACKS, attack_queries
    from certimetric.cli.metrics import read_queries
    from certimetric.geometry.files import write_atomically

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
    from certimetric.auditing import AuditResult
    from certimetric.geometry.files import write_atomically

    result = AuditResult.load(results)
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
