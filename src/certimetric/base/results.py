"""Results as JSON."""

from __future__ import annotations

import json
import math
from dataclasses import fields
from typing import Any


def arrays_to_json(result: Any) -> str:
    """The arrays of a dataclass as JSON, each under its name; an infinite number is null."""
    lists = {field.name: getattr(result, field.name).tolist() for field in fields(result)}
    return json.dumps({name: [_told(value) for value in values] for name, values in lists.items()}, allow_nan=False)


def _told(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
