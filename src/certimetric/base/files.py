"""Files: written so that a reader never sees half of one, and read without running what is in them."""

from __future__ import annotations

import contextlib
import os
import tempfile
import zipfile
import zlib
from collections.abc import Collection
from pathlib import Path
from typing import Any

from certimetric.base.wording import first_line

# What reading arrays from a file of any content raises.
_DAMAGED = (OSError, ValueError, TypeError, AttributeError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)


def write_atomically(path: str | os.PathLike[str], content: str | bytes) -> Path:
    """Write ``content`` to a temporary file next to ``path``, then rename it into place; an OSError where that fails.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_atomically(Path(folder) / "a.txt", "done").read_text(encoding="utf-8")
    'done'
    """
    path = Path(path)
    data = content.encode("utf-8") if isinstance(content, str) else content
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    except OSError as error:
        raise OSError(f"cannot write {str(path)!r}: {error.strerror or error}") from error
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o666 & ~_umask())  # mkstemp makes private files; a report is there to be shared
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        if isinstance(error, OSError):
            raise OSError(f"cannot write {str(path)!r}: {error.strerror or error}") from error
        raise
    return path


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def read_arrays(path: str | os.PathLike[str], wanted: Collection[str]) -> tuple[dict[str, Any], list[str]]:
    """The wanted arrays of an ``.npz`` file, those that are there, and the names of all of its arrays.

    Nothing in the file is run: arrays of objects are refused by a ValueError, like damaged files and others.
    """
    import numpy as np

    where = repr(str(path))
    if not Path(path).exists():
        raise FileNotFoundError(f"there is no file {where}")
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files if name in wanted}, list(file.files)
    except _DAMAGED as error:
        reason = first_line(error)
        if "Object arrays" in reason:  # NumPy's word for what only running code could read
            reason = "it holds an array of objects; save text as array.astype(str)"
        raise ValueError(f"{where} is not an .npz file of plain arrays, or a damaged one: {reason}") from None
