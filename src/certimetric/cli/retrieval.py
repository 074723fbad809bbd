"""Audits of embedding models at the command line: models by folder, factory or file; images by name or folder."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from certimetric.base.interrupts import is_interrupt
from certimetric.cli.inputs import needs_deep, see_own_modules

if TYPE_CHECKING:
    from certimetric.auditing import AuditResult
    from certimetric.auditing.retrieval.request import Subject

_LARGEST = 2**28  # numbers of a training set that are read to look for its pictures among the queries


def audit_images(
    models: Sequence[str],
    images: str | None,
    root: Path | None,
    size: int | None,
    norm: str | None,
    attacks: Sequence[str] | None,
    n_queries: int,
    n_checked: int,
    *,
    skip_corrupt: bool,
    groups: str | None,
    ers: bool,
    out: Path | None,
    **shared: Any,
) -> tuple[AuditResult, Path]:
    """Load models and images, check everything, and carry out the audit; give its result and folder."""
    needs_deep()
    see_own_modules()
    named = _named(models)
    if all(told.endswith(".npz") for told in named.values()):
        given = {"--images": images, "--data-root": root, "--size": size, "--attack": attacks}
        given |= {"--skip-corrupt": skip_corrupt or None, "--groups": groups, "--ers": ers or None}
        given |= {"--certify": shared.pop("certify")}
        if other := [option for option, value in given.items() if value is not None]:
            raise ValueError(f"{other[0]} is for models on images: of embeddings in .npz files nothing else is known")
        if norm not in (None, "l2"):
            raise ValueError(f"--norm must be l2 for embeddings in .npz files, got {norm}")
        return _audit_embeddings(named, n_queries, out, shared)
    if mixed := [told for told in named.values() if told.endswith(".npz")]:
        raise ValueError(f"--model {mixed[0]!r} holds embeddings, which cannot be compared with models on images")
    if images is None:
        raise ValueError("--model needs --images: an image set by name, a folder or an .npz file")
    import torch

    from certimetric.auditing.result import own_folder
    from certimetric.auditing.retrieval.certificates import futile_certificates
    from certimetric.auditing.retrieval.request import DEFAULT_ATTACKS, make_request
    from certimetric.auditing.retrieval.run import retrieval_options, run_retrieval_audit
    from certimetric.datasets.images.sets import load_images
    from certimetric.deep import ImageSet
    from certimetric.runs.store import kept_by_an_earlier_version

    data = load_images(images, "test", root, size, skip_corrupt)
    for remark in data.remarks:
        typer.echo(f"certimetric: {remark}", err=True)
    source = "; ".join([f"{images}, test side" if root is None else f"{images} in {root}, test side", *data.remarks])
    # A folder of pictures goes by its own name.
    name = data.name if data.name != "folder" else Path(images if root is None else root).resolve().name or data.name
    known: Any = data.groups if groups is None else _groups(data.images, groups)
    ids: Any = data.ids
    queries = ImageSet(data.images, torch.from_numpy(data.labels), ids, known)
    asked = {key: shared.pop(key) for key in ("eps", "seed", "fail_under", "certify")}
    request = make_request(
        {},
        queries,
        subjects=tuple(_subjects(named, images, root, size, skip_corrupt)),
        norm=norm or "linf",
        attacks=attacks or DEFAULT_ATTACKS,
        n_queries=n_queries,
        n_checked=n_checked,
        name=name,
        source=source,
        class_names=data.class_names,
        ers=ers,
        **asked,
    )
    for remark in futile_certificates(request):
        typer.echo(f"certimetric: {remark}", err=True)
    folder = out or own_folder(Path("certimetric-audit") / name, retrieval_options(request))
    if remark := kept_by_an_earlier_version(folder):
        typer.echo(f"certimetric: {remark}", err=True)
    return run_retrieval_audit(request, out=folder, **shared), folder


def _audit_embeddings(
    named: dict[str, str], n_queries: int, out: Path | None, shared: dict[str, Any]
) -> tuple[AuditResult, Path]:
    from certimetric.auditing.embeddings.request import make_request
    from certimetric.auditing.embeddings.run import audit_embeddings, embedding_options
    from certimetric.auditing.result import own_folder
    from certimetric.datasets.embedding_files import load_embeddings

    given = {name: load_embeddings(path) for name, path in named.items()}
    name = " and ".join(named)
    if (folder := out) is None:
        asked = {"eps": shared["eps"], "seed": shared["seed"], "n_queries": n_queries, "report_eps": None}
        default = Path("certimetric-audit") / Path(next(iter(named.values()))).stem
        folder = own_folder(default, embedding_options(make_request(given, **asked)))
    return audit_embeddings(given, n_queries=n_queries, name=name, out=folder, **shared), folder


def _groups(images: Any, pattern: str) -> list[str]:
    """What a regular expression finds in the path of each picture: its groups, or else all of the match."""
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise ValueError(f"--groups must be a regular expression, got {pattern!r}: {error}") from None
    if not hasattr(images, "paths"):
        raise ValueError("--groups is for pictures in files, whose paths it looks at")
    found = []
    for path in images.paths:
        match = expression.search(Path(path).as_posix())
        if match is None:
            raise ValueError(f"--groups {pattern!r} finds nothing in the path {str(path)!r}")
        found.append("\n".join(part or "" for part in match.groups() or [match[0]]))
    return found


def _named(models: Sequence[str]) -> dict[str, str]:
    """Models by name: given as NAME=MODEL, or named after their folder, factory or file."""
    if not models:
        raise ValueError("--images needs --model: the folder of a run, package.module:factory or an .npz file")
    named: dict[str, str] = {}
    for text in models:
        name, equals, told = text.partition("=")
        if not equals or Path(text).exists():
            name, told = Path(text).stem if text.endswith(".npz") else Path(text.rpartition(":")[2]).name, text
        if not name or not told:
            raise ValueError(f"--model must be MODEL or NAME=MODEL, got {text!r}")
        if name in named:
            raise ValueError(f"two models are called {name!r}: give them names with --model NAME=MODEL")
        named[name] = told
    return named


def _subjects(
    named: dict[str, str], images: str, root: Path | None, size: int | None, skip_corrupt: bool
) -> Iterator[Subject]:
    from certimetric.auditing.retrieval.request import Subject
    from certimetric.training import load_run

    digests: dict[tuple[str, int | None], frozenset[str] | None] = {}
    for name, told in named.items():
        if Path(told).is_dir():
            model, run = load_run(told)
            key = run["config"]["data"]["name"], run["config"]["data"].get("size")
            # Only a run on this very set tells what it was trained on, as the queries here see it.
            if key == (images, size) and key not in digests:
                digests[key] = _training_digests(images, root, size, skip_corrupt)
            yield Subject(name, model, told, run, digests.get(key))
        elif ":" in told:
            yield Subject(name, _made(told), told)
        else:
            raise FileNotFoundError(f"--model {told!r} is neither the folder of a run nor package.module:factory")


def _training_digests(images: str, root: Path | None, size: int | None, skip_corrupt: bool) -> frozenset[str] | None:
    import torch

    from certimetric.datasets.images.sets import load_images
    from certimetric.deep import ImageSet
    from certimetric.deep.retrieval.same_pictures import digests

    try:
        data = load_images(images, "train", root, size, skip_corrupt)
        if math.prod(data.images.shape) > _LARGEST:
            return None
        return frozenset(digests(ImageSet(data.images, torch.from_numpy(data.labels))))
    except (OSError, ValueError):  # the training side need not be here to audit the other one
        return None


def _made(told: str) -> Any:
    """The model of a factory of the user's, called without arguments."""
    from certimetric.deep.models.network import find_factory

    factory = find_factory(told)
    try:
        model = factory()
    except Exception as error:  # a factory of the user's may raise anything
        if is_interrupt(error):
            raise
        reason = str(error) or "no reason given"
        raise ValueError(f"the model factory {told!r} failed with {type(error).__name__}: {reason}") from error
    if not callable(model):
        given = type(model).__name__
        raise ValueError(f"the model factory {told!r} must give a Module or a callable that embeds images, got {given}")
    return model
