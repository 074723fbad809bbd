"""Features by name: the one place where data meet what a metric knows of its features.

A metric that knows the names of its features takes a data frame by name, whatever the order of its columns. A plain
array has no names, and is taken by position.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from certimetric.base.wording import counted, did_you_mean, listing, repeated


def feature_names(X: Any) -> tuple[str, ...] | None:
    """Names of the columns of a data frame, or of the entries of a Series that is one instance.

    None for what has no names: arrays, and frames whose columns are numbered only.

    Examples
    --------
    >>> import pandas as pd
    >>> feature_names(pd.DataFrame({"a": [1.0], "b": [2.0]}))
    ('a', 'b')
    >>> feature_names([[1.0, 0.0]]) is None
    True
    """
    labels = getattr(X, "column_names", getattr(X, "columns", None))  # the former of Arrow, whose columns are data
    if labels is None and hasattr(X, "iloc"):
        labels = X.index
    if labels is None:
        return None
    labels = list(labels)
    return tuple(map(str, labels)) if any(isinstance(label, str) for label in labels) else None


def names_of(metric: Any) -> tuple[str, ...] | None:
    """Names of the features of a metric, or of those that an estimator was fitted on; None where it knows none."""
    names = getattr(metric, "feature_names", None)
    if names is None:
        names = getattr(metric, "feature_names_in_", None)
    return None if names is None else tuple(map(str, names))


def align(X: Any, names: Sequence[str] | None, what: str = "X", owner: str = "the metric") -> Any:
    """Data with the features in the order of ``names``; as they are where either side has no names.

    A ValueError says that a feature is missing, a column is none of the features, or a name occurs twice; it calls the
    data ``what``, and those who want the features ``owner``.

    Examples
    --------
    >>> import pandas as pd
    >>> align(pd.DataFrame({"b": [2.0], "a": [1.0]}), ["a", "b"])
         a    b
    0  1.0  2.0
    """
    found = feature_names(X)
    if found is None or names is None:
        return X
    if twice := repeated(found):
        raise ValueError(f"{what} has more than one column called {listing(twice)}: names of features must differ")
    wanted = tuple(names)
    if found == wanted:
        return X
    if missing := [name for name in wanted if name not in set(found)]:
        raise ValueError(
            f"{what} lacks {len(missing)} of {counted(len(wanted), 'feature')} of {owner}: {listing(missing)}"
            f"{did_you_mean(missing[0], found)}; its columns are {listing(found)}"
        )
    if unknown := [name for name in found if name not in set(wanted)]:
        raise ValueError(
            f"{what} has {counted(len(unknown), 'column')} that {owner} does not know: {listing(unknown)}; "
            f"it takes {listing(wanted)}"
        )
    places = {name: place for place, name in enumerate(found)}
    order = [places[name] for name in wanted]
    if hasattr(X, "iloc"):
        return X.iloc[order] if X.ndim == 1 else X.iloc[:, order]
    return X.select(list(wanted)) if hasattr(X, "column_names") else X[list(wanted)]


def align_all(metric: Any, **data: Any) -> list[Any]:
    """Several data, each under its name as an argument, in the order of the features of a metric.

    Where the metric has no names, the first of the data gives them to the others.

    Examples
    --------
    >>> import pandas as pd
    >>> train, X = pd.DataFrame({"a": [1.0], "b": [2.0]}), pd.DataFrame({"b": [3.0], "a": [4.0]})
    >>> align_all(None, X_train=train, X=X)[1].to_numpy()
    array([[4., 3.]])
    """
    names, owner = names_of(metric), "the metric"
    if names is None:
        first = next(iter(data))
        names, owner = feature_names(data[first]), first
    return [align(X, names, what, owner) for what, X in data.items()]
