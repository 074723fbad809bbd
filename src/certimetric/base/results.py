"""Results as JSON, and as they were asked before."""

from __future__ import annotations

import json
import math
from dataclasses import fields
from typing import Any

from certimetric.base.warnings import warn


def arrays_to_json(result: Any) -> str:
    """The arrays of a dataclass as JSON, each under its name; an infinite number is null."""
    lists = {field.name: getattr(result, field.name).tolist() for field in fields(result)}
    return json.dumps({name: [_told(value) for value in values] for name, values in lists.items()}, allow_nan=False)


class Framed:
    """A result with ``to_frame()``, which was called ``frame()`` in 0.1."""

    def frame(self) -> Any:
        """Deprecated name of ``to_frame``."""
        warn(f"{type(self).__name__}.frame() is now to_frame(); the old name goes with 0.3", DeprecationWarning)
        return self.to_frame()  # type: ignore[attr-defined]


def _told(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
