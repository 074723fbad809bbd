"""``certimetric train``: a configuration file becomes a run in a folder."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from certimetric.cli.inputs import needs_deep, see_own_modules
from certimetric.cli.options import DataRoot

EPILOG = """Examples:

`certimetric train configs/digits-robust.toml`

`certimetric train configs/omniglot-robust.toml --data-root DATA/omniglot --out runs/omniglot --resume`

Several processes: `torchrun --no-python --nproc-per-node 4 certimetric train CONFIG.toml`, with `devices = 4`."""


def train(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="TOML file; configs/ holds some to begin with.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="DIR", help="Folder of the run. [default: runs/NAME OF CONFIG]"),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in the folder.")] = False,
    data_root: DataRoot = None,
    epochs: Annotated[int | None, typer.Option("--epochs", help="In place of those of the configuration.")] = None,
) -> None:
    """Train an embedding model, naturally or robustly, and keep it in a folder that `certimetric audit-model` reads.

    After every epoch a checkpoint is complete: a run that was stopped goes on with --resume.
    """
    needs_deep()
    see_own_modules()
    from certimetric.runs.progress import progress_bar
    from certimetric.training import TrainingConfig
    from certimetric.training import train as run_training

    read = TrainingConfig.from_file(config)
    if epochs is not None:
        told = read.to_mapping()
        told["training"]["epochs"] = epochs
        read = TrainingConfig.from_mapping(told, "--epochs")
    folder = out or Path("runs") / config.stem
    # On a terminal the line of every epoch is enough; of several processes the first one tells.
    silent = sys.stderr.isatty() or os.environ.get("RANK", "0") != "0"
    try:
        with progress_bar(not silent, None, name="train"):
            run = run_training(read, folder, resume=resume, root=data_root, tell=typer.echo)
    except FileExistsError:
        raise FileExistsError(f"{str(folder)!r} holds a run already: add --resume, or choose another --out") from None
    except KeyboardInterrupt:
        typer.echo(f"certimetric: interrupted; finished epochs are in {folder}, go on with --resume", err=True)
        raise typer.Exit(130) from None
    if not run["finished"]:
        return
    typer.echo(f"{len(run['history'])} epochs in {run['seconds']:.0f} s")
    typer.echo(f"Run:  {folder}")
    told = ["certimetric", "audit-model", "--model", str(folder), "--images", read.data.name]
    for option, value in (("--data-root", data_root or read.data.root), ("--size", read.data.size)):
        told += [] if value is None else [option, str(value)]
    told += ["--skip-corrupt"] if read.data.skip_corrupt else []
    typer.echo(f"Next: {shlex.join(told)}")
