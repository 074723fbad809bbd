"""Results: means with their 95 % intervals, dataclasses as JSON, and names under which they were asked before."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from certimetric.base.arrays import Array
from certimetric.base.warnings import warn

if TYPE_CHECKING:
    import pandas as pd

WIDTH = 1.959964  # of a 95 % interval, in standard errors


class Told:
    """A dataclass of arrays, numbers and text that is told as JSON."""

    _also: ClassVar[tuple[str, ...]] = ()  # properties that are told besides the fields

    def to_json(self) -> str:
        """The fields as JSON, arrays as lists; an infinite number is null."""
        names = (*(each.name for each in fields(self)), *self._also)  # type: ignore[arg-type]
        held = {name: getattr(self, name) for name in names}
        lists = {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in held.items()}
        told = {n: [finite(each) for each in v] if isinstance(v, list) else finite(v) for n, v in lists.items()}
        return json.dumps(told, allow_nan=False)


class Columns(Told):
    """A dataclass of arrays of one length."""

    def to_frame(self) -> pd.DataFrame:
        """One row an entry, the fields as columns."""
        import pandas as pd

        return pd.DataFrame({each.name: getattr(self, each.name) for each in fields(self)})  # type: ignore[arg-type]


class Rows:
    """A result with rows, one dict each."""

    rows: list[dict[str, Any]]

    def to_frame(self) -> pd.DataFrame:
        """The rows as a table."""
        import pandas as pd

        return pd.DataFrame(self.rows)


class Framed:
    """A result with ``to_frame()``, which was called ``frame()`` in 0.1."""

    def frame(self) -> Any:
        """Deprecated name of ``to_frame``."""
        warn(f"{type(self).__name__}.frame() is now to_frame(); the old name goes with 2.0", DeprecationWarning)
        return self.to_frame()  # type: ignore[attr-defined]


def finite(value: Any) -> Any:
    """A value as JSON can hold it: None for a number that is infinite or NaN."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def finite_rows(rows: Sequence[Mapping[Any, Any]]) -> list[dict[Any, Any]]:
    """Rows with values as JSON can hold them."""
    return [{key: finite(value) for key, value in row.items()} for row in rows]


def estimate(values: Array) -> dict[str, float]:
    """Mean of shares from 0 to 1, shape (m,), one at least, with the ends of its 95 % interval.

    Of values that are all 0 or 1 it is Wilson's, which is right for shares near 0 and 1 too; of others the normal one.

    Examples
    --------
    >>> estimate(np.array([1.0, 1.0, 1.0, 1.0]))
    {'mean': 1.0, 'low': 0.5101..., 'high': 1.0}
    """
    n, mean = len(values), float(values.mean())
    if not np.isin(values, (0.0, 1.0)).all():
        half = WIDTH * float(values.std(ddof=1)) / math.sqrt(n) if n > 1 else 1.0
        return {"mean": mean, "low": max(mean - half, 0.0), "high": min(mean + half, 1.0)}
    return {"mean": mean, **wilson(mean, n)}


def wilson(share: float, n: int) -> dict[str, float]:
    """The ends of Wilson's 95 % interval of a share of n independent instances.

    Examples
    --------
    >>> {key: round(end, 3) for key, end in wilson(0.1, 100).items()}
    {'low': 0.055, 'high': 0.174}
    """
    z = WIDTH**2 / n
    centre, half = (share + z / 2) / (1 + z), math.sqrt(share * (1 - share) * z + z**2 / 4) / (1 + z)
    # At 0 and 1 an end of the interval is that value itself, which rounding misses.
    return {"low": min(max(centre - half, 0.0), share), "high": max(min(centre + half, 1.0), share)}
