"""Where data sets lie that are not bundled: a folder of them, named by an option or by ``CERTIMETRIC_DATA``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from certimetric.datasets.tables.bundled import bundled_names

VARIABLE = "CERTIMETRIC_DATA"
_TABLES = (".csv", ".csv.gz", ".parquet")


def data_root() -> Path | None:
    """The folder that the environment variable names, None without it; a FileNotFoundError if it is not there."""
    told = os.environ.get(VARIABLE)
    if not told:
        return None
    if not Path(told).is_dir():
        raise FileNotFoundError(f"{VARIABLE} names the folder {told!r}, and there is none")
    return Path(told)


def first_folder(root: Path | None, folders: Sequence[str]) -> Path | None:
    """The first of these folders that a folder of data sets has; None if it has none, or there is no such folder."""
    return None if root is None else next((root / name for name in folders if (root / name).is_dir()), None)


def folder_of(folders: Sequence[str], root: str | os.PathLike[str] | None) -> Path | None:
    """Where a set of files lies: in one of these folders of a folder of data sets, or right in a given folder.

    ``root`` is the folder of the set itself, or one of data sets that holds it; by default the one that
    ``CERTIMETRIC_DATA`` names, which must hold it: else None.
    """
    told = data_root() if root is None else Path(root)
    found = first_folder(told, folders)
    return found if found is not None or root is None else Path(root)


def array_file(name: str, root: str | os.PathLike[str] | None) -> Path:
    """Where an ``.npz`` file lies: in the folder that is given, else where its path says, else in the data root."""
    if root is not None or Path(name).is_file() or Path(name).is_absolute() or (told := data_root()) is None:
        return Path(name) if root is None else Path(root) / name
    places = (told / folder / name for folder in ("", "images", "images/npz"))
    return next((place for place in places if place.is_file()), Path(name))


def table_file(name: str, root: Path | None = None) -> str | None:
    """``NAME.csv``, ``NAME.csv.gz`` or ``NAME.parquet`` in a folder of data sets or in its ``tabular/``.

    By default in the folder of ``CERTIMETRIC_DATA``; None if there is no such file, or the name is that of a bundled
    set or no plain name.
    """
    if name in bundled_names() or Path(name).name != name or Path(name).suffix:
        return None
    root = data_root() if root is None else root
    if root is None:
        return None
    files = (folder / f"{name}{ending}" for folder in (root, root / "tabular") for ending in _TABLES)
    return next((str(file.resolve()) for file in files if file.is_file()), None)
