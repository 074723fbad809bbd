"""Loggers of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

_CLASSES = {"csv": "CSVLogger", "tensorboard": "TensorBoardLogger"}


def loggers_in(folder: Path | None, loggers: tuple[Literal["csv", "tensorboard"], ...] = ()) -> list[Any]:
    """Loggers of Lightning Fabric that write below a folder; none without one.

    Raises
    ------
    ImportError
        If one needs a package that is not installed.
    """
    if folder is None or not loggers:
        return []
    from lightning.fabric import loggers as fabric

    made: list[Any] = []
    for name in loggers:
        try:
            made.append(getattr(fabric, _CLASSES[name])(str(folder), name=name))
        except ModuleNotFoundError:
            raise ImportError(f'the logger {name!r} needs tensorboardX: pip install "certimetric[logging]"') from None
    return made
