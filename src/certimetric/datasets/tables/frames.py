"""Data frames of other libraries as those of pandas, without importing any of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


def is_frame(X: Any) -> bool:
    """Whether something is a data frame, of pandas, polars or Arrow."""
    return hasattr(X, "columns") and hasattr(X, "shape") and (hasattr(X, "to_numpy") or hasattr(X, "to_pandas"))


def as_pandas(X: Any) -> pd.DataFrame:
    """A data frame of pandas, or one of pandas made of a frame of polars or Arrow (or of whatever exports Arrow).

    Raises
    ------
    TypeError
        If it is no data frame.
    """
    import pandas as pd

    if isinstance(X, pd.DataFrame):
        return X
    if hasattr(X, "to_arrow"):  # polars
        try:
            X = X.to_arrow()
        except ImportError:  # without pyarrow, as lists
            return pd.DataFrame(X.to_dict(as_series=False))
    elif not hasattr(X, "to_pandas") and hasattr(X, "__arrow_c_stream__"):
        import pyarrow

        X = pyarrow.table(X)
    if not hasattr(X, "to_pandas"):
        raise TypeError(f"a data frame is needed, got {type(X).__name__}")
    frame: pd.DataFrame = X.to_pandas()
    return frame
