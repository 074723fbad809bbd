"""``certimetric audit``: tables and metrics, or images and embedding models."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from certimetric.cli.inputs import numbers, writable
from certimetric.cli.options import Neighbors, NormName

EPILOG = """Examples:

`certimetric audit iris`

`certimetric audit wine.csv --target grower --learner euclidean --learner lmnn+pl:tau=2 --jobs 4`

`certimetric audit digits --eps 0.5,1,2 --fail-under certified@1=0.6 --junit audit.xml`

`certimetric audit --model runs/natural --model runs/robust --images digits`

`certimetric audit --model mine=package.module:factory --images photos/ --eps 2/255,8/255`

`certimetric audit --model runs/lipschitz --images omniglot --data-root DIR --norm l2 --eps 0.25,0.5,1 --certify`

`certimetric audit --model embeddings.npz`"""

_TABLES, _IMAGES = "Tables and metrics", "Images and embedding models"
# Options that belong to one kind of audit only; given with the other they would do nothing.
_OF_TABLES = ("data", "target", "learner", "neighbors", "noise", "repeats", "test_size", "jobs", "encode")
_OF_IMAGES = (
    "images",
    "data_root",
    "size",
    "skip_corrupt",
    "attack",
    "queries",
    "check_queries",
    "ers",
    "certify",
    "certify_by",
    "groups",
)


def audit(
    context: typer.Context,
    data: Annotated[
        str | None,
        typer.Argument(
            metavar="[DATA]",
            help="A bundled data set, a CSV, Parquet or LIBSVM file, openml:NAME, or one of $CERTIMETRIC_DATA.",
        ),
    ] = None,
    target: Annotated[
        str | None, typer.Option("--target", metavar="COL", help="Column with the labels.", rich_help_panel=_TABLES)
    ] = None,
    learner: Annotated[
        list[str] | None,
        typer.Option(
            "--learner",
            "-l",
            metavar="SPEC",
            help="Such as euclidean, lmnn+pl:tau=2. Repeat it for more.",
            rich_help_panel=_TABLES,
        ),
    ] = None,
    neighbors: Neighbors = 3,
    noise: Annotated[
        list[str] | None,
        typer.Option(
            "--noise",
            metavar="SIGMA,…",
            help="Standard deviations of noise, standardised. [default: 0.25,0.5,1]",
            rich_help_panel=_TABLES,
        ),
    ] = None,
    repeats: Annotated[int, typer.Option("--repeats", help="Splits at random.", rich_help_panel=_TABLES)] = 5,
    test_size: Annotated[
        float, typer.Option("--test-size", help="Share of every class that is held out.", rich_help_panel=_TABLES)
    ] = 0.3,
    jobs: Annotated[
        int, typer.Option("--jobs", "-j", help="Processes; -1 for one per core.", rich_help_panel=_TABLES)
    ] = 2,
    encode: Annotated[
        bool,
        typer.Option("--encode", help="Turn text columns into 0/1 columns and fill gaps.", rich_help_panel=_TABLES),
    ] = False,
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            "-m",
            metavar="[NAME=]MODEL",
            help="Folder of a run of `certimetric train`, package.module:factory, or an .npz file of embeddings. "
            "Repeat it for more.",
            rich_help_panel=_IMAGES,
        ),
    ] = None,
    images: Annotated[
        str | None,
        typer.Option(
            "--images",
            metavar="IMAGES",
            help="An image set by name, a folder with a folder for each class, or an .npz file.",
            rich_help_panel=_IMAGES,
        ),
    ] = None,
    data_root: Annotated[
        Path | None,
        typer.Option(
            "--data-root",
            metavar="DIR",
            help="Folder of the image set, or of data sets. [default: $CERTIMETRIC_DATA]",
            rich_help_panel=_IMAGES,
        ),
    ] = None,
    size: Annotated[
        int | None, typer.Option("--size", help="Height and width of the pictures.", rich_help_panel=_IMAGES)
    ] = None,
    skip_corrupt: Annotated[
        bool,
        typer.Option(
            "--skip-corrupt", help="Leave out pictures that cannot be decoded, and count them.", rich_help_panel=_IMAGES
        ),
    ] = False,
    groups: Annotated[
        str | None,
        typer.Option(
            "--groups",
            metavar="REGEX",
            help="What it finds in the path of a picture is its group, such as _c\\d for a camera: no query finds its "
            "own group.",
            rich_help_panel=_IMAGES,
        ),
    ] = None,
    attack: Annotated[
        list[str] | None,
        typer.Option(
            "--attack",
            metavar="NAME",
            help="pgd, apgd, square, fgsm, carlini-wagner or nes; repeat it for more, the worst counts. "
            "[default: pgd and apgd]",
            rich_help_panel=_IMAGES,
        ),
    ] = None,
    queries: Annotated[
        int, typer.Option("--queries", help="So many queries, drawn at random.", rich_help_panel=_IMAGES)
    ] = 500,
    check_queries: Annotated[
        int, typer.Option("--check-queries", help="So many of them for reliability checks.", rich_help_panel=_IMAGES)
    ] = 100,
    ers: Annotated[
        bool,
        typer.Option(
            "--ers", help="Measure the empirical robustness score: nine more attacks.", rich_help_panel=_IMAGES
        ),
    ] = False,
    certify: Annotated[
        bool, typer.Option("--certify", help="Certify retrieval, beside the attacks.", rich_help_panel=_IMAGES)
    ] = False,
    certify_by: Annotated[
        str | None,
        typer.Option(
            "--certify-by",
            metavar="METHOD",
            help="How to certify: lipschitz, smoothing (l2), interval (linf). [default: what proves most]",
            rich_help_panel=_IMAGES,
        ),
    ] = None,
    norm: Annotated[
        NormName | None,
        typer.Option("--norm", help="How a perturbation is measured. [default: l2, for images linf]"),
    ] = None,
    eps: Annotated[
        list[str] | None,
        typer.Option(
            "--eps",
            metavar="EPS,…",
            help="Sizes of the perturbation, such as 0.5 or 8/255; of embeddings in .npz files, in median distances "
            "to the nearest.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Same seed, same figures.")] = 0,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="DIR",
            help="Folder of report, results, metrics; one with the report of another audit is refused. [default: "
            "certimetric-audit/NAME, or NAME-2 and so on where another audit is there]",
        ),
    ] = None,
    fail_under: Annotated[
        list[str] | None,
        typer.Option(
            "--fail-under",
            metavar="[SPEC.]FIGURE=VALUE",
            help="Exit with 1 if a figure is lower: accuracy, balanced_accuracy, recall@CLASS, noise@SIGMA, "
            "certified@EPS or median_radius; for images recall, map, attacked@EPS, attacked_map@EPS or, with "
            "--certify, certified@EPS.",
        ),
    ] = None,
    junit: Annotated[Path | None, typer.Option("--junit", metavar="FILE", help="Write JUnit XML for CI.")] = None,
    title: Annotated[str | None, typer.Option("--title", help="Heading of the report.")] = None,
) -> None:
    """Compare metrics on a table, or embedding models on images, and write one HTML report: error, attacks,
    certificates.

    Finished parts are kept in the output folder: a run that was stopped goes on from there.
    """
    about_images = model is not None or images is not None
    _refuse(context, _OF_TABLES if about_images else _OF_IMAGES, about_images)
    radii = None if eps is None else numbers("--eps", eps)
    shared: dict[str, Any] = {
        "eps": radii,
        "seed": seed,
        "fail_under": fail_under or (),
        "out": out,
        "command": shlex.join(["certimetric", *context.obj]),
        "title": title,
        "progress": sys.stderr.isatty(),
    }
    if junit is not None:
        writable("--junit", junit)
    if about_images:
        from certimetric.cli.retrieval import audit_images

        chosen = None if norm is None else norm.value
        shared["certify"] = certify_by or ("auto" if certify else None)
        _finish(
            lambda: audit_images(
                model or [],
                images,
                data_root,
                size,
                chosen,
                attack,
                queries,
                check_queries,
                skip_corrupt=skip_corrupt,
                groups=groups,
                ers=ers,
                **shared,
            ),
            junit,
        )
        return
    if data is None:
        raise ValueError("audit needs DATA, such as iris or a CSV file; or --model and --images")
    from certimetric.cli.tables import audit_table

    levels = None if noise is None else numbers("--noise", noise)
    chosen = (norm or NormName.l2).value
    _finish(
        lambda: audit_table(
            data, target, encode, learner, neighbors, chosen, levels, repeats, test_size, jobs, **shared
        ),
        junit,
    )


def _refuse(context: typer.Context, names: tuple[str, ...], about_images: bool) -> None:
    """Refuse options that belong to the other kind of audit."""
    # By its name: typer brings a click of its own, whose values are not those of the package.
    sources = {name: context.get_parameter_source(name) for name in names}
    given = [name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"]
    if given:
        told = "DATA" if given[0] == "data" else f"--{given[0].replace('_', '-')}"
        kind, other = (
            ("embedding models", "tables") if about_images else ("tables", "images, with --model and --images")
        )
        raise ValueError(f"{told} is for audits of {other}, and this is one of {kind}")


def _finish(run: Callable[[], tuple[Any, Path]], junit: Path | None) -> None:
    """Carry out an audit, show what it found, and leave with its exit code."""
    from certimetric.auditing.result import REPORT_FILE, RESULTS_FILE
    from certimetric.base.files import write_atomically
    from certimetric.report import junit_xml

    try:
        result, folder = run()
    except KeyboardInterrupt:
        typer.echo("certimetric: interrupted; run the same command to go on from what is finished", err=True)
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

    document = result.document
    header, rows = result.table()
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
