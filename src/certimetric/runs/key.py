"""A cell: one learner on one split of one data set, and the content key under which its result is kept."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Cell:
    """An independent piece of work; its result is a pure function of it.

    Parameters
    ----------
    suite : str
        Name of the suite that it belongs to.
    dataset, digest, source : str
        The data set: its name, the hash of its content, and where a worker loads it from. The source is not part of
        the key: the same table is the same work, wherever it lies.
    learner : str
        Specification of a learner.
    split, seed : int
    protocol : str
        Version of the protocol: it changes when the meaning of a figure does.
    parameters : dict
        All else that the result depends on; JSON values.
    """

    suite: str
    dataset: str
    digest: str
    source: str
    learner: str
    split: int
    seed: int
    protocol: str
    parameters: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Hash of everything that the result depends on.

        Examples
        --------
        >>> cell = Cell("quick", "iris", "d1", "iris", "lmnn", 0, 0, "1")
        >>> cell.key == dataclasses.replace(cell, source="elsewhere/iris.csv").key
        True
        >>> cell.key == dataclasses.replace(cell, digest="d2").key
        False
        """
        content = {k: v for k, v in self.to_mapping().items() if k not in ("source", "dataset")}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def to_mapping(self) -> dict[str, Any]:
        """The cell as JSON can hold it."""
        return {**dataclasses.asdict(self), "parameters": dict(self.parameters)}

    def __str__(self) -> str:
        return f"{self.learner} on {self.dataset}, split {self.split}"


@dataclass(frozen=True)
class Record:
    """What became of a cell.

    Parameters
    ----------
    cell : Cell
    status : {"done", "failed", "timeout"}
    result : dict or None
        The figures, if it is done.
    error : str
        What went wrong, if it is not.
    seconds : float
        Time that it took.
    """

    cell: Cell
    status: str
    result: Mapping[str, Any] | None
    error: str
    seconds: float
