"""What commands read from their arguments: lists of numbers, data, files to write."""

from __future__ import annotations

import importlib.util
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from certimetric.datasets import Reading, TableEncoder
    from certimetric.datasets.tables.loading import Features

EMBEDDINGS = (".npz", ".npy", ".safetensors", ".parquet", ".pq", ".arrow", ".feather")  # files that name models


def words(texts: Sequence[str]) -> list[str]:
    """Words of a repeatable option whose values may be lists with commas."""
    return [word.strip() for text in texts for word in text.split(",") if word.strip()]


def number(option: str, text: str, wanted: str = "be a number") -> float:
    """A number or fraction.

    Examples
    --------
    >>> number("--report-eps", "51/255")
    0.2
    """
    try:
        value, *parts = map(float, text.split("/", 1))
        return value / parts[0] if parts else value
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"{option} must {wanted}, got {text!r}") from None


def numbers(option: str, texts: Sequence[str]) -> list[float]:
    """Numbers or fractions of a repeatable option whose values may be lists with commas.

    Examples
    --------
    >>> numbers("--eps", ["0.1,0.2", "51/255"])
    [0.1, 0.2, 0.2]
    """
    return [number(option, word, "hold numbers, separated by commas") for word in words(texts)]


def named(texts: Sequence[str]) -> dict[str, str]:
    """Models by name: given as NAME=MODEL, or named after their folder, source or file."""
    found: dict[str, str] = {}
    for text in texts:
        name, equals, told = text.partition("=")
        if not equals or "?" in name or Path(text).exists():  # behind a question mark are options
            last = text.partition("?")[0].rpartition("#")[2]
            name, told = Path(last).stem if last.endswith(EMBEDDINGS) else Path(last.rpartition(":")[2]).name, text
        if not name or not told:
            raise ValueError(f"models must be told as MODEL or NAME=MODEL, got {text!r}")
        if name in found:
            raise ValueError(f"two models are called {name!r}: give them names, as NAME=MODEL")
        found[name] = told
    return found


def labelled_rows(
    source: str,
    names: Sequence[str] | None,
    target: str | None,
    encoder: TableEncoder | None = None,
    reading: Reading | None = None,
) -> Features:
    """Rows with the wanted features in their order, encoded as those that a metric was learned on; labels are text."""
    from certimetric import datasets
    from certimetric.datasets.tables.loading import Features, read_features
    from certimetric.datasets.tables.openml import PREFIX, load_openml

    bundled = source in [info.name for info in datasets.available()]
    fetched = source.lower().startswith(PREFIX)
    if not bundled and not fetched:
        # Without an encoder the names tell what is encoded, as far as they can.
        how: dict[str, Any] = {"encode": names is not None, "encoder": encoder, "reading": reading}
        read = read_features(source, feature_names=names, target=target, **how)
        return replace(read, y=None if read.y is None else read.y.astype(str))
    data = load_openml(source, target=target, encoder=encoder) if fetched else datasets.load(source, target=target)
    names = data.feature_names if names is None else tuple(names)
    if missing := [name for name in names if name not in data.feature_names]:
        raise ValueError(f"{source!r} lacks the feature {missing[0]!r} of the metric")
    X = data.X[:, [data.feature_names.index(name) for name in names]]
    return Features(X, names, data.y.astype(str), data.told_gaps, data.imputed)


def writable(option: str, path: Path, *read: str | Path | None) -> Path:
    """See that a file can be written before work starts, and is none of those that are read; an OSError if not.

    Of a folder that is read it is ``results.json`` there; what is no file, such as the name of a data set, is none.
    """
    given = [place for name in read if name for place in (name, Path(name, "results.json"))]
    if any(os.path.exists(place) and path.exists() and path.samefile(place) for place in given):
        raise OSError(f"{option}: {str(path)!r} is a file that is read here, and would be overwritten")
    if path.is_dir():
        raise OSError(f"{option}: {str(path)!r} is a folder, not a file")
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            return path
    except OSError as error:
        raise OSError(f"{option}: cannot write {str(path)!r}: {error.strerror or error}") from None


@contextmanager
def results_of(*files: Path) -> Iterator[None]:
    """What is done with results of audits: where a part of them is missing or something else, they are damaged."""
    from jinja2 import UndefinedError

    try:
        yield
    except (KeyError, IndexError, AttributeError, AssertionError, StopIteration, UndefinedError) as error:
        where = " or ".join(map(repr, map(str, files)))
        told = f"{type(error).__name__} {error}".strip()
        raise ValueError(f"{where} is not as audits write their results, or damaged: {told}") from error


def needs_deep(packages: Sequence[str] = ("torch", "pytorch_metric_learning", "lightning")) -> None:
    """See that the packages of embedding models are installed; an ImportError says what to install."""
    for name in packages:
        if importlib.util.find_spec(name) is None:
            raise ImportError(f'embedding models need {name}: pip install "certimetric[deep]"')


def see_own_modules() -> None:
    """Let ``package.module:factory`` name a module of the current folder, as ``python -m`` does."""
    if (folder := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, folder)
