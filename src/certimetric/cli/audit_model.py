"""``certimetric audit-model``: embedding models on images; models by folder or factory, images by name or folder."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from certimetric.auditing.retrieval.request import RetrievalRequest
from certimetric.cli.audits import AuditCommand
from certimetric.cli.inputs import named, needs_deep, see_own_modules
from certimetric.cli.options import DataRoot

if TYPE_CHECKING:
    from certimetric.auditing.retrieval.request import Subject
    from certimetric.datasets.images.side import Images

_LARGEST = 2**28  # numbers of a training set that are read to look for its pictures among the queries

Models = Annotated[
    list[str],
    typer.Option(
        "--model",
        "-m",
        metavar="[NAME=]MODEL",
        help="Folder of a run of `certimetric train`, timm:NAME?checkpoint=FILE, hf:FOLDER, torchvision:NAME, "
        "FILE.pt2, FILE.onnx, or package.module:factory. Repeat it for more.",
    ),
]
ImagesOption = Annotated[
    str,
    typer.Option(
        "--images",
        "--samples",
        metavar="IMAGES",
        help="An image set by name, a folder with a folder for each class, or an .npz file: of pictures, or of other "
        "inputs with their labels and bounds.",
    ),
]
Size = Annotated[int | None, typer.Option("--size", metavar="N", help="Height and width of the pictures.")]
SkipCorrupt = Annotated[
    bool, typer.Option("--skip-corrupt", help="Leave out pictures that cannot be decoded, and count them.")
]
Groups = Annotated[
    str | None,
    typer.Option(
        "--groups",
        metavar="REGEX",
        help="What it finds in the path of a picture is its group, such as _c\\d for a camera: no query finds its own "
        "group.",
    ),
]


def read(
    model: Models,
    images: ImagesOption,
    data_root: DataRoot = None,
    size: Size = None,
    skip_corrupt: SkipCorrupt = False,
    groups: Groups = None,
) -> tuple[Mapping[str, Any], str]:
    """Compare embedding models on images, and write one HTML report: retrieval, attacks, certificates.

    Finished parts are kept in the output folder: a run that was stopped goes on from there.
    """
    needs_deep()
    see_own_modules()
    models = named(model)
    if files := [told for told in models.values() if told.endswith(".npz")]:
        command = shlex.join(["certimetric", "audit-embeddings", *files])
        raise ValueError(f"--model {files[0]!r} holds embeddings, which have a command of their own: {command}")
    import torch

    from certimetric.datasets.data_root import array_file
    from certimetric.datasets.images.sets import load_images
    from certimetric.datasets.samples import holds_samples, read_samples
    from certimetric.deep import ImageSet, Samples

    def told_of(data: Any, inputs: Any) -> tuple[Any, ...]:
        known = data.groups if groups is None else groups_by_path(inputs, groups, "--groups")
        return inputs, torch.from_numpy(data.labels), data.ids, known

    data: Any
    make: Any
    given: tuple[Any, ...]
    load: Callable[[str], Images] | None = None
    if holds_samples(file := array_file(images, data_root)):
        if wrong := [flag for flag, said in (("--size", size), ("--skip-corrupt", skip_corrupt)) if said]:
            raise ValueError(f"{wrong[0]} is for pictures, and {images!r} holds other inputs")
        data, name, source = read_samples(str(file)), file.stem, str(file)
        make, given = Samples, (*told_of(data, data.inputs), data.bounds)
    else:
        load = partial(load_images, images, root=data_root, size=size, skip_corrupt=skip_corrupt)
        data = load("test")
        for remark in data.remarks:
            typer.echo(f"certimetric: {remark}", err=True)
        source = f"{images}, test side" if data_root is None else f"{images} in {data_root}, test side"
        source = "; ".join([source, *data.remarks])
        # A folder of pictures goes by its own name.
        name = data.name if data.name != "folder" else Path(data_root or images).resolve().name or data.name
        make, given = ImageSet, told_of(data, data.images)
    subjects = {each.name: each for each in _subjects(models, (images, size), load)}
    told = {"models": subjects, "queries": make(*given), "name": name, "source": source}
    return {**told, "class_names": data.class_names}, name


def groups_by_path(images: Any, pattern: str, option: str) -> list[str]:
    """What a regular expression finds in the path of each picture: its groups, or else all of the match."""
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise ValueError(f"{option} must be a regular expression, got {pattern!r}: {error}") from None
    if not hasattr(images, "paths"):
        raise ValueError(f"{option} is for pictures in files, whose paths it looks at")
    found = []
    for path in images.paths:
        match = expression.search(Path(path).as_posix())
        if match is None:
            raise ValueError(f"{option} {pattern!r} finds nothing in the path {str(path)!r}")
        found.append("\n".join(part or "" for part in match.groups() or [match[0]]))
    return found


def _subjects(
    named: dict[str, str], asked: tuple[str, int | None], load: Callable[[str], Images] | None
) -> Iterator[Subject]:
    """Models with what is known of their training; ``load`` gives a side of the images that are asked for, if any."""
    from certimetric.auditing.retrieval.request import Subject

    digests = cache(lambda: load and _training_digests(load))  # of several runs the same
    for name, told in named.items():
        model, run = model_of(told, "--model")
        data = {} if run is None else run["config"]["data"]
        # Only a run on this very set tells what it was trained on, as the queries here see it.
        yield Subject(name, model, told, run, digests() if (data.get("name"), data.get("size")) == asked else None)


def model_of(told: str, option: str) -> tuple[Any, dict[str, Any] | None]:
    """A model by the folder of its run, with what ``run.json`` says, or by its source."""
    from certimetric.deep import load_model
    from certimetric.deep.models.sources import UNTRAINED, is_source
    from certimetric.training import load_run

    if Path(told).is_dir():
        return load_run(told)
    if is_source(told):
        model = load_model(told)
        if told.startswith(UNTRAINED) and "checkpoint=" not in told:
            typer.echo(f"certimetric: {option} {told!r} has random weights: checkpoint=FILE gives it others", err=True)
        return model, None
    known = "timm:NAME, hf:FOLDER, torchvision:NAME, FILE.pt2, FILE.onnx or package.module:factory"
    raise FileNotFoundError(f"{option} {told!r} is neither the folder of a run nor {known}")


def _training_digests(load: Callable[[str], Images]) -> frozenset[str] | None:
    import torch

    from certimetric.deep import ImageSet
    from certimetric.deep.retrieval.same_pictures import digests

    try:
        data = load("train")
        if math.prod(data.images.shape) > _LARGEST:
            return None
        return frozenset(digests(ImageSet(data.images, torch.from_numpy(data.labels))))
    except (OSError, ValueError):  # the training side need not be here to audit the other one
        return None


COMMAND = AuditCommand(
    "audit-model",
    RetrievalRequest,
    read,
    """Examples:

`certimetric audit-model --model runs/natural --model runs/robust --images digits`

`certimetric audit-model --model mine=package.module:factory --images photos/ --eps 2/255,8/255`

`certimetric audit-model -m runs/lipschitz --images omniglot --data-root DIR --norm l2 --eps 0.25,0.5,1 --certify auto`

Embeddings without a model have a command of their own: `certimetric audit-embeddings`.""",
)
