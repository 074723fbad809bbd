"""One function for every data set: bundled, from a file, or from OpenML."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from certimetric.base.arrays import Array
from certimetric.base.wording import did_you_mean, listing
from certimetric.datasets.data_root import table_file
from certimetric.datasets.tables.bundled import bundled_names, load_bundled
from certimetric.datasets.tables.column_code import Encoding
from certimetric.datasets.tables.dataset import Dataset, image_shape_of
from certimetric.datasets.tables.encoder import TableEncoder
from certimetric.datasets.tables.encoding import encode_features, encode_labels, encode_like
from certimetric.datasets.tables.files import FILE_TYPES, assemble, existing_file, file_type, read_labelled, suited
from certimetric.datasets.tables.openml import PREFIX, load_openml
from certimetric.datasets.tables.parquet_files import PARQUET_TYPES, stream_parquet
from certimetric.datasets.tables.reading import Reading

if TYPE_CHECKING:
    import pandas as pd


def load(
    name_or_path: str | os.PathLike[str],
    *,
    target: str | None = None,
    encode: bool | Encoding = False,
    reading: Reading | None = None,
) -> Dataset:
    """Load a classification data set by name or from a file.

    Parameters
    ----------
    name_or_path : str or path
        One of

        * a bundled data set: ``"iris"``, ``"wine"``, ``"breast_cancer"``, ``"digits"`` (a file of that name
          needs a path, such as ``"./iris"``);
        * a file as :func:`~certimetric.datasets.read_table` reads it: CSV (``.csv``, ``.tsv``, also with ``.gz``
          behind), Parquet (``.parquet``, ``.pq``; needs pyarrow) or LIBSVM (``.libsvm``, ``.svmlight``, ``.svm``);
        * the name, without its ending, of a CSV or Parquet file in the folder that the environment variable
          ``CERTIMETRIC_DATA`` names, or in its ``tabular/``;
        * ``"openml:NAME"`` or ``"openml:NAME@VERSION"``, fetched once, then taken from scikit-learn's cache.
    target : str, optional
        Column with the labels. By default the one called target, class, label or y (in any case) if exactly
        one is there, and for OpenML the one that it names. It does not apply to bundled sets and to LIBSVM
        files.
    encode : bool or Encoding, default False
        Features have to be numbers without gaps (booleans become 0 and 1); anything else is an error that
        names the columns. With ``encode=True``

        * a column of text becomes one 0/1 column per distinct text, ``column=text``, sorted by text; more
          than 50 distinct texts are an error, since they look like an identifier;
        * yes and no, true and false, on and off become 1 and 0, ISO dates and times days since 1970-01-01;
        * a missing number is replaced by the median of its column;
        * a 0/1 column ``column is missing`` is added behind each column with missing cells.

        An :class:`~certimetric.datasets.Encoding` names columns of ordered categories, and numbers that are categories.
        The medians are those of the whole file, a later test split included. This is a mild leak; ``imputed``
        says where they stand, and :func:`~certimetric.datasets.fill_gaps` puts those of a training part there.
        ``encoder`` encodes further tables in the same way.

        Rows without a label are always an error.
    reading : Reading, optional
        How a file of text is written (delimiter, decimal mark, words for missing values, …), and columns to leave out.

    Returns
    -------
    Dataset
        Instances (float64, finite), labels (strings, or int64 where all are whole numbers or booleans),
        feature names, and the image shape of ``digits`` and of square images with columns
        ``pixel1, pixel2, …``.

    Raises
    ------
    TypeError
        If ``name_or_path`` is neither str nor path, or ``target`` is not a str.
    FileNotFoundError
        If there is no such file; the message suggests the closest name.
    ConnectionError
        If OpenML cannot be reached and the data set is not in the cache.
    OSError
        If the file is a directory, may not be read, or is damaged; or if pyarrow is missing.
    ValueError
        If there is no data set of that name (the closest is suggested); if the file is empty, has only a
        header, is binary, ragged, or repeats a column name; if the target column is missing (the message
        lists the columns), lacks labels, has one class only, spells one number in several ways in CSV (``01``
        and ``1``), or looks like a regression target; if features hold text or missing values without
        ``encode=True``; if they hold infinite values.

    Examples
    --------
    >>> data = load("iris")
    >>> data
    Dataset('iris', 150 rows × 4 features, 3 classes, bundled)
    >>> data.X.shape, data.classes[0], data.feature_names[0]
    ((150, 4), 'setosa', 'sepal length (cm)')
    >>> load("irsi")
    Traceback (most recent call last):
        ...
    ValueError: unknown data set 'irsi' (did you mean 'iris'?): expected iris, wine, ...
    """
    if not isinstance(name_or_path, (str, os.PathLike)):
        raise TypeError(f"name_or_path must be str or path, got {type(name_or_path).__name__}")
    if isinstance(name_or_path, str):
        fetched = name_or_path.lower().startswith(PREFIX)
        if reading not in (None, Reading()) and (name_or_path in bundled_names() or fetched):
            raise ValueError(
                f"how a file is written, and what to drop of it, is not for {name_or_path!r}, which is none"
            )
        if name_or_path in bundled_names():
            if target is not None:
                raise ValueError(
                    f"target does not apply to the bundled data set {name_or_path!r}, got {target!r}: "
                    f"its labels are known"
                )
            return load_bundled(name_or_path)
        if fetched:
            return load_openml(name_or_path, target=target, encode=encode)
        if not _looks_like_path(name_or_path):
            if (found := table_file(name_or_path)) is None:
                raise ValueError(
                    f"unknown data set {name_or_path!r}{did_you_mean(name_or_path, bundled_names())}: expected "
                    f"{', '.join(bundled_names())}, openml:NAME, or a file ({', '.join(FILE_TYPES)})"
                )
            name_or_path = found
    return _of_file(name_or_path, target, encode, reading)


def _of_file(
    path: str | os.PathLike[str], target: str | None, encode: bool | Encoding, reading: Reading | None
) -> Dataset:
    found, source, where = existing_file(path), os.fspath(path), repr(os.fspath(path))
    plain = not encode and reading is None and file_type(found) in PARQUET_TYPES
    if plain and (streamed := stream_parquet(found, target)) is not None:
        X, names, column = streamed
        y = encode_labels(column, where=where)
        if len(np.unique(y)) > 1:
            return Dataset(_stem(path), source, X, y, names, image_shape_of(names))
    frame, labels, where = read_labelled(path, target, must=True, reading=reading)
    assert labels is not None  # or it was refused
    return assemble(frame, name=_stem(path), source=source, where=where, target=labels, encode=encode)


def load_grouped(
    name_or_path: str | os.PathLike[str],
    group: str,
    *,
    target: str | None = None,
    encode: bool | Encoding = False,
    reading: Reading | None = None,
) -> tuple[Dataset, npt.NDArray[Any]]:
    """Load a file of which one column is a group of each instance, and no feature.

    Parameters
    ----------
    name_or_path : str or path
        A file, or the name of one, as in :func:`~certimetric.datasets.load`.
    group : str
        The column. A missing cell is the group ``missing``.
    target, encode, reading
        As there.

    Returns
    -------
    data : Dataset
    groups : str array of shape (n,)

    Raises
    ------
    ValueError
        If there is no such column, or it is that of the labels; and for what ``load`` refuses.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder) / "toy.csv"
    ...     _ = file.write_text("u,site,class\\n1,east,a\\n3,west,b\\n")
    ...     data, groups = load_grouped(file, "site")
    >>> data.feature_names, groups.tolist()
    (('u',), ['east', 'west'])
    """
    data, beside = load_beside(name_or_path, {"groups": group}, target=target, encode=encode, reading=reading)
    groups = beside["groups"]
    return data, groups.where(groups.notna(), "missing").astype(str).to_numpy()


def load_beside(
    name_or_path: str | os.PathLike[str],
    columns: Mapping[str, str],
    *,
    target: str | None = None,
    encode: bool | Encoding = False,
    reading: Reading | None = None,
) -> tuple[Dataset, dict[str, pd.Series]]:
    """Load a file of which some columns are no features, and these columns; ``columns`` holds them by what they are."""
    path: str | os.PathLike[str] | None = name_or_path
    what = " and ".join(columns)
    if isinstance(name_or_path, str) and not _looks_like_path(name_or_path):
        path = None if name_or_path in bundled_names() else table_file(name_or_path)
        if path is None:
            raise ValueError(f"{what} are a column of a file, and {name_or_path!r} is none")
    assert path is not None
    frame, labels, where = read_labelled(path, target, must=True, reading=reading)
    assert labels is not None  # or it was refused
    frame, found = _beside(frame, columns, labels, where)
    data = assemble(frame, name=_stem(path), source=os.fspath(path), where=where, target=labels, encode=encode)
    return data, found


def load_with_test(
    name_or_path: str | os.PathLike[str],
    test: str | os.PathLike[str],
    columns: Mapping[str, str],
    *,
    target: str | None = None,
    encode: bool | Encoding = False,
    reading: Reading | None = None,
) -> tuple[Dataset, dict[str, pd.Series], npt.NDArray[np.bool_]]:
    """Load a table with another behind it, encoded as the first is, which alone tells categories and medians.

    Columns of ``columns`` are no features, and are given of both; the last of the results says which rows are of the
    other table. A ValueError says that labels or features differ, beside all that :func:`load` refuses.
    """
    import pandas as pd

    from certimetric.constraints.labels import unknown_labels  # loads scikit-learn

    how: dict[str, Any] = {"target": target, "encode": encode, "reading": reading}
    data, beside = load_beside(name_or_path, columns, **how) if columns else (load(name_or_path, **how), {})
    path = (table_file(test) or test) if isinstance(test, str) and not _looks_like_path(test) else test
    frame, labels, where = read_labelled(path, target, must=True, reading=suited(reading, path))
    assert labels is not None  # or it was refused
    frame, further = _beside(frame, columns, labels, where)
    y, features = encode_labels(frame[labels], where=where), frame.drop(columns=labels)
    differ = unknown_labels(list(data.classes), y.tolist(), repr(os.fspath(name_or_path)), where)
    if differ is not None:
        raise ValueError(f"{differ.sentence}: mend the labels of the test table")
    if data.encoder is None:
        X, imputed = encode_like(features, data.feature_names, where=where), None
    else:
        X, imputed = data.encoder.transform(features, where=where)
    if imputed is not None or data.imputed is not None:
        none = [np.zeros(part.shape, dtype=bool) for part in (data.X, X)]
        imputed = np.concatenate(
            [none[0] if data.imputed is None else data.imputed, none[1] if imputed is None else imputed]
        )
    both = replace(
        data,
        X=np.concatenate([data.X, X]),
        y=np.concatenate([data.y, y]),
        imputed=imputed,
        source=f"{data.source}, tested on {os.fspath(test)}",
    )
    found = {role: pd.concat([beside[role], further[role]], ignore_index=True) for role in columns}
    return both, found, np.arange(both.n_samples) >= data.n_samples


def _beside(
    frame: pd.DataFrame, columns: Mapping[str, str], labels: str, where: str
) -> tuple[pd.DataFrame, dict[str, pd.Series]]:
    """A table without the columns that are no features, and these by what they are."""
    known = [str(column) for column in frame.columns if str(column) != labels]
    for role, column in columns.items():
        if column not in known:
            fault = "holds the labels" if column == labels else f"is not there{did_you_mean(column, known)}"
            raise ValueError(f"the column {column!r} of {role} {fault}: {where} has {listing(known, limit=12)}")
    found = {role: frame[column].astype("object") for role, column in columns.items()}
    return frame.drop(columns=list(set(columns.values()))), found


def _stem(path: str | os.PathLike[str]) -> str:
    """The name of a file without its endings."""
    name = Path(os.fspath(path)).name
    return Path(name[: -len(".gz")] if name.lower().endswith(".gz") else name).stem


def load_features(
    path: str | os.PathLike[str],
    *,
    feature_names: Sequence[str] | None = None,
    target: str | None = None,
    encode: bool | Encoding = False,
    reading: Reading | None = None,
) -> tuple[Array, tuple[str, ...], npt.NDArray[Any] | None]:
    """Load instances from a file that may have no labels, for example queries to certify.

    Parameters
    ----------
    path : str or path
        A CSV, Parquet or LIBSVM file.
    feature_names : sequence of str, optional
        The features wanted, in this order (those of the training set). Other columns are ignored. Without it
        every column but the labels is a feature.
    target : str, optional
        Column with labels. By default the column called target, class, label or y, if exactly one is there
        that is not a feature. With ``feature_names`` the file may do without it.
    encode : bool, default False
        Encode text and missing values as :func:`~certimetric.datasets.load` does. With ``feature_names`` the
        encoding is the one that these names tell: a text they do not know and a missing number are errors.
    reading : Reading, optional
        How a file of text is written.

    Returns
    -------
    X : ndarray of shape (n_samples, n_features)
        Finite float64, in the units of the file.
    feature_names : tuple of str
        The names of the columns of ``X``.
    y : ndarray of shape (n_samples,), or None
        Labels, where the file has them.

    Raises
    ------
    FileNotFoundError, OSError
        If the file is missing or cannot be read.
    ValueError
        If features are missing (with their names), or for what :func:`~certimetric.datasets.load` refuses;
        instances of one class only are accepted.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder) / "queries.csv"
    ...     _ = file.write_text("v,u\\n2,1\\n4,3\\n")
    ...     load_features(file, feature_names=("u", "v"))
    (array([[1., 2.],
           [3., 4.]]), ('u', 'v'), None)
    """
    read = read_features(path, feature_names=feature_names, target=target, encode=encode, reading=reading)
    return read.X, read.feature_names, read.y


@dataclass(frozen=True)
class Features:
    """Instances of a file that may have no labels; ``gaps`` is a sentence on missing values that were filled in."""

    X: Array
    feature_names: tuple[str, ...]
    y: npt.NDArray[Any] | None
    gaps: str | None = None
    imputed: npt.NDArray[np.bool_] | None = None  # cells that were missing


def read_features(
    path: str | os.PathLike[str],
    *,
    feature_names: Sequence[str] | None = None,
    target: str | None = None,
    encode: bool | Encoding = False,
    reading: Reading | None = None,
    encoder: TableEncoder | None = None,
) -> Features:
    """The same as :func:`load_features`, or with the encoder of an earlier table, whose features are then wanted.

    What ``reading`` says of files of text is for those alone.
    """
    if isinstance(path, str) and not _looks_like_path(path):
        path = table_file(path) or path
    wanted = None if feature_names is None else tuple(str(name) for name in feature_names)
    if encoder is not None:  # what is no column of it may be the labels
        wanted = tuple(column.name for column in encoder.columns)
    frame, target, where = read_labelled(path, target, wanted=wanted, reading=suited(reading, path))
    y = None if target is None else encode_labels(frame[target], where=where)
    features = frame if target is None else frame.drop(columns=target)
    if encoder is not None:
        X, imputed = encoder.transform(features, where=where)
        return Features(X, encoder.feature_names, y, encoder.told(imputed), imputed)
    if wanted is None:
        return Features(*encode_features(features, where=where, encode=encode), y)
    return Features(encode_like(features, wanted, where=where, encode=encode), wanted, y)


def _looks_like_path(text: str) -> bool:
    has_folder = any(mark in text for mark in (os.sep, os.altsep) if mark)
    return has_folder or Path(text).suffix != "" or (text != "" and Path(text).exists())
