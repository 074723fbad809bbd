"""A cell: an independent piece of work, and the content key under which its result is kept."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import joblib
import numpy as np

from certimetric.base.version import __version__

_UNKNOWN = "content not known"
_WITHOUT_EFFECT = ("verbose", "n_jobs")  # parameters that do not change what is learned


@dataclass(frozen=True)
class Cell:
    """An independent piece of work; its result is a pure function of it."""

    suite: str  # that it belongs to, or the kind of the audit
    # The data set: its name, the hash of its content, and where a worker loads it from. Name and source are not part
    # of the key: the same table is the same work, wherever it lies.
    dataset: str
    digest: str
    source: str
    learner: str  # specification of a learner, or what stands for it
    split: int
    seed: int
    protocol: str  # its version changes when the meaning of a figure does
    # All else that the result depends on; JSON values (see :func:`canonical`).
    parameters: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def key(self) -> str:
        """Hash of everything that the result depends on, the version of this library included.

        Where parameters hold what could not be told in full, no other cell has the same key, and nothing is reused.

        Examples
        --------
        >>> cell = Cell("quick", "iris", "d1", "iris", "lmnn", 0, 0, "1")
        >>> cell.key == dataclasses.replace(cell, source="elsewhere/iris.csv").key
        True
        >>> cell.key == dataclasses.replace(cell, digest="d2").key
        False
        """
        content = {k: v for k, v in self.to_mapping().items() if k not in ("source", "dataset")}
        text = json.dumps({"version": __version__, **content}, sort_keys=True)
        if _UNKNOWN in text:
            text += uuid.uuid4().hex
        return hashlib.sha256(text.encode()).hexdigest()

    def to_mapping(self) -> dict[str, Any]:
        """The cell as JSON can hold it."""
        return {**dataclasses.asdict(self), "parameters": dict(self.parameters)}

    def __str__(self) -> str:
        return f"{self.learner} on {self.dataset}, split {self.split}"


@dataclass(frozen=True)
class Record:
    """What became of a cell."""

    cell: Cell
    status: str  # done, failed or timeout
    result: Mapping[str, Any] | None  # the figures, if it is done: JSON values, and arrays of numbers at the top
    error: str  # what went wrong, if it is not
    seconds: float

    @property
    def done(self) -> bool:
        """Whether there are figures."""
        return self.status == "done"


def canonical(value: Any) -> Any:
    """A JSON value that is the same for equal parameters, in every process, and differs for others.

    What cannot be told in full, such as a lambda, is told by its kind alone, and marked: see :attr:`Cell.key`.
    """
    if isinstance(value, np.ndarray) and value.dtype.kind != "O":
        content = hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()
        return ["array", list(value.shape), str(value.dtype), content]
    if hasattr(value, "get_params") and not isinstance(value, type):
        parameters = {k: canonical(v) for k, v in value.get_params(deep=False).items() if k not in _WITHOUT_EFFECT}
        return [f"{type(value).__module__}.{type(value).__qualname__}", parameters]
    if isinstance(value, (list, tuple)):
        return [canonical(item) for item in value]
    if isinstance(value, Mapping):
        return ["mapping", sorted([canonical(key), canonical(item)] for key, item in value.items())]
    if isinstance(value, (bool, int, float, complex, str, bytes, type(None), np.generic)):
        return repr(value.item() if isinstance(value, np.generic) else value)
    # The repr of an object is no content: it may round, shorten or leave out.
    kind = f"{type(value).__module__}.{type(value).__qualname__}"
    try:
        return [kind, joblib.hash(value)]
    except Exception:
        return [kind, _UNKNOWN]


def digest(parts: Iterable[Any]) -> str:
    """SHA-256 over tensors, each with its type and shape, and over the texts of anything else."""
    found = hashlib.sha256()
    for part in parts:
        if hasattr(part, "detach"):
            import torch

            # As bytes, for NumPy does not know every type that a tensor may have.
            raw = part.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
            found.update(f"{part.dtype} {tuple(part.shape)} ".encode())
            found.update(raw.numpy().tobytes())
        else:
            found.update((part if isinstance(part, str) else repr(part)).encode())
    return found.hexdigest()


def told(value: float) -> float | str:
    """A figure as JSON can hold it: infinity is text."""
    return "inf" if math.isinf(value) else float(value)
