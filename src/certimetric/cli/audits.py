"""``certimetric audit``: tables and metrics, or images and embedding models."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from certimetric.cli.inputs import numbers, writable
from certimetric.cli.options import Data, Encode, Neighbors, NormName, NormOption, Target

EPILOG = """Examples:

`certimetric audit iris`

`certimetric audit wine.csv --target grower --learner euclidean --learner lmnn+pl:tau=2 --jobs 4`

`certimetric audit digits --eps 0.5,1,2 --fail-under certified@1=0.6 --junit audit.xml`"""


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
