"""The embedding of a metric as a view of a database, and the nearest rows in it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from certimetric.base.arguments import chosen, require
from certimetric.base.arrays import Array
from certimetric.base.wording import listing, repeated
from certimetric.datasets.tables.column_code import BOOLEAN, CATEGORY, DATE, ORDINAL, ColumnCode
from certimetric.datasets.tables.columns import TRUTH
from certimetric.datasets.tables.encoder import TableEncoder
from certimetric.geometry.mahalanobis import MahalanobisMetric, as_metric

DIALECTS = ("duckdb", "postgresql")
_LONGEST = 63  # bytes of a name that PostgreSQL does not cut
_DOUBLE = "DOUBLE PRECISION"


@dataclass(frozen=True)
class SqlEmbedding:
    """Statements of SQL.

    Parameters
    ----------
    view : str
        Creates the view: the id, kept columns, and ``z0``, ``z1``, …, in which the metric is the Euclidean distance.
    nearest : str
        A query of the parameter ``$1``, an id: ids, kept columns and distances of the nearest others, the smaller id
        first where these are equal.

    Examples
    --------
    >>> from certimetric import MahalanobisMetric
    >>> metric = MahalanobisMetric.from_components([[2.0]], feature_names=["age"])
    >>> print(export_sql(metric, "people", id="number", n_neighbors=1).nearest)
    SELECT other."number", SQRT((other."z0" - own."z0") * (other."z0" - own."z0")) AS distance
    FROM "people_embedding" AS own JOIN "people_embedding" AS other ON other."number" <> own."number"
    WHERE own."number" = $1
    ORDER BY distance, other."number" LIMIT 1;
    """

    view: str
    nearest: str

    def __str__(self) -> str:
        return f"{self.view}\n\n-- The nearest of the row with the id $1:\n{self.nearest}\n"


def export_sql(
    metric: Any,
    table: str | Sequence[str],
    *,
    id: str,
    columns: Sequence[str] | None = None,
    keep: Sequence[str] = (),
    view: str | None = None,
    n_neighbors: int = 5,
    dialect: str = "duckdb",
) -> SqlEmbedding:
    """Write the embedding of a metric as a view of a table, and a query for the nearest rows.

    Numbers are written so that they are read again as they are, to the last digit; sums are taken in another order
    than here, so that embeddings agree to rounding. A row with a gap in a feature has none (NULL). What a metric file
    says of the encoding of a table is part of the view: gaps filled, categories, dates, yes and no, as learned; a
    category that was not seen is none of the known ones there.

    Parameters
    ----------
    metric : MahalanobisMetric or fitted learner
    table : str or sequence of str
        Name of the table, or of its schema and the table, or of its database too. All names are quoted.
    id : str
        Column that tells rows apart.
    columns : sequence of str, default=None
        Columns with the features of the metric, in their order. None for its own names.
    keep : sequence of str, default=()
        Further columns of the view, such as labels.
    view : str, default=None
        Name of the view. None for that of the table and ``_embedding``.
    n_neighbors : int, default=5
        Of the query.
    dialect : {"duckdb", "postgresql"}, default="duckdb"

    Returns
    -------
    statements : SqlEmbedding
        Its text is both.

    Raises
    ------
    ValueError
        On names that are empty, too long or given twice, a wrong number of columns, or columns where none are named.

    Examples
    --------
    >>> from certimetric import MahalanobisMetric
    >>> metric = MahalanobisMetric.from_components([[2.0, 0.0], [0.1, 1.0]], feature_names=["age", 'a"b'])
    >>> print(export_sql(metric, "people", id="number").view)
    CREATE VIEW "people_embedding" AS SELECT
      "number",
      CAST('2.0' AS DOUBLE PRECISION) * CAST("age" AS DOUBLE PRECISION) AS "z0",
      (CAST('0.1' AS DOUBLE PRECISION) * CAST("age" AS DOUBLE PRECISION) + CAST("a""b" AS DOUBLE PRECISION)) AS "z1"
    FROM "people";
    """
    metric = as_metric(metric)
    chosen("dialect", dialect, DIALECTS)
    require(n_neighbors >= 1, "n_neighbors", "must be at least 1", n_neighbors)
    quote = partial(_quoted, longest=_LONGEST if dialect == "postgresql" else None)
    source = [table] if isinstance(table, str) else list(table)
    if not 1 <= len(source) <= 3:
        raise ValueError(f"table must be TABLE, SCHEMA.TABLE or DATABASE.SCHEMA.TABLE, got {'.'.join(source)!r}")
    others = [id, *keep]
    axes = [f"z{axis}" for axis in range(metric.n_components)]
    if twice := repeated([*others, *axes]):
        raise ValueError(f"id, keep and the axes z0, z1, … must have different names, got {listing(twice)} twice")
    features = _features(metric, columns, quote)
    name = quote(view or f"{source[-1]}_embedding")
    selected = [quote(other) for other in others]
    selected += [f'{_sum(row, features)} AS "{axis}"' for row, axis in zip(metric.components, axes)]
    squares = [f'(other."{axis}" - own."{axis}") * (other."{axis}" - own."{axis}")' for axis in axes]
    shown = "".join(f"other.{quote(other)}, " for other in others)
    return SqlEmbedding(
        f"CREATE VIEW {name} AS SELECT\n  " + ",\n  ".join(selected) + f"\nFROM {'.'.join(map(quote, source))};",
        f"SELECT {shown}SQRT({_tree(squares)}) AS distance\n"
        f"FROM {name} AS own JOIN {name} AS other ON other.{quote(id)} <> own.{quote(id)}\n"
        f"WHERE own.{quote(id)} = $1\nORDER BY distance, other.{quote(id)} LIMIT {n_neighbors};",
    )


def _features(metric: MahalanobisMetric, columns: Sequence[str] | None, quote: Callable[[str], str]) -> list[str]:
    """An expression for each feature."""
    told = metric.training.get("encoding")
    if told is not None and columns is None:
        encoder = TableEncoder.from_dict(told)
        if encoder.feature_names != metric.feature_names:
            raise ValueError("the encoding that the metric was learned with makes other features than it has")
        return [text for code in encoder.columns for text in _encoded(code, quote(code.name))]
    names = metric.feature_names if columns is None else columns
    if names is None:
        raise ValueError(f"columns must name the {metric.n_features} features, for the metric has no names of its own")
    if len(names) != metric.n_features:
        raise ValueError(f"columns must name the {metric.n_features} features of the metric, got {len(names)}")
    return [f"CAST({quote(name)} AS {_DOUBLE})" for name in names]


def _encoded(code: ColumnCode, column: str) -> list[str]:
    """Expressions for the features that a column becomes."""
    text, gap = f"CAST({column} AS VARCHAR)", f"CASE WHEN {column} IS NULL THEN 1 ELSE 0 END"
    indicator = [gap] if code.indicator else []
    if code.kind == CATEGORY:
        unknown = "" if indicator else f"WHEN {column} IS NULL THEN NULL "
        cases = [f"CASE {unknown}WHEN {text} = {_text(each)} THEN 1 ELSE 0 END" for each in code.categories or ()]
        return [*cases, *indicator]
    if code.kind == DATE:
        value = f"CAST(EXTRACT(EPOCH FROM CAST({column} AS TIMESTAMP)) AS {_DOUBLE}) / 86400"
    elif code.kind == ORDINAL:
        value = _places(text, [[word] for word in code.categories or ()])
    elif code.kind == BOOLEAN:
        words = [[str(place), *(word for word in TRUTH if TRUTH[word] == place)] for place in (0, 1)]
        value = _places(f"LOWER(TRIM({text}))", words)
    else:
        value = f"CAST({column} AS {_DOUBLE})"
    if indicator and code.fill is not None and code.fill == code.fill:
        value = f"CASE WHEN {column} IS NULL THEN {_number(code.fill)} ELSE {value} END"
    return [value, *indicator]


def _places(text: str, words: Sequence[Sequence[str]]) -> str:
    """0 of the first words, 1 of the next ones, and so on; nothing of others."""
    cases = [f"WHEN {text} IN ({', '.join(map(_text, each))}) THEN {place}" for place, each in enumerate(words)]
    return f"CASE {' '.join(cases)} END"


def _sum(weights: Array, features: Sequence[str]) -> str:
    """The weighted sum of features of which the weight is not 0."""
    used = np.flatnonzero(weights).tolist()
    terms = [features[j] if weights[j] == 1.0 else f"{_number(weights[j])} * {features[j]}" for j in used]
    return _tree(terms) if terms else _number(0.0)


def _tree(terms: list[str]) -> str:
    """A sum in brackets, half by half: databases bound how deep an expression is."""
    if len(terms) == 1:
        return terms[0]
    half = len(terms) // 2
    return f"({_tree(terms[:half])} + {_tree(terms[half:])})"


def _number(value: float) -> str:
    """A number as its shortest text that is read as the same one: a literal may be a decimal of fewer digits."""
    return f"CAST('{float(value)!r}' AS {_DOUBLE})"


def _text(word: str) -> str:
    return "'" + word.replace("'", "''") + "'"


def _quoted(name: str, longest: int | None) -> str:
    if not isinstance(name, str) or not name or "\0" in name:
        raise ValueError(f"names of tables and columns must be text of at least one character, got {name!r}")
    if longest is not None and len(name.encode()) > longest:
        raise ValueError(f"PostgreSQL cuts names of more than {longest} bytes, got {name!r}: give it another name")
    return '"' + name.replace('"', '""') + '"'
