"""The value that every loader returns: instances, labels, names, and where they came from."""

from __future__ import annotations

import hashlib
import html
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from certimetric.base.arrays import Array
from certimetric.base.wording import counted, listing, repeated

if TYPE_CHECKING:
    import pandas as pd

    from certimetric.datasets.tables.encoder import TableEncoder

TARGET_NAMES = ("target", "class", "label", "y")
"""Column names that are taken for the labels when none is named (compared without case)."""


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """A classification data set in memory.

    Parameters
    ----------
    name : str
        Short name: ``"iris"``, the file's name without its endings, or ``"NAME@VERSION"`` for OpenML.
    source : str
        ``"bundled"``, ``"openml"``, or the file's path as it was given.
    X : ndarray of shape (n_samples, n_features)
        Instances, in the units of the source; float64, C-contiguous, finite.
    y : ndarray of shape (n_samples,)
        Labels, strings or integers.
    feature_names : tuple of str
        One name for each column of ``X``, all different.
    image_shape : tuple of int, optional
        (height, width) when each instance is an image stored row by row.
    encoder : TableEncoder, optional
        How text and gaps of the table became features, if they were encoded.
    imputed : bool ndarray of shape (n_samples, n_features), optional
        Cells of ``X`` that were missing and are medians of the whole table. None if there are none.

    Raises
    ------
    ValueError
        If the shapes do not fit together, a name occurs twice, or ``X`` holds NaN or infinity.

    Examples
    --------
    >>> data = Dataset("toy", "bundled", [[0.0, 1.0], [2.0, 3.0]], ["a", "b"], ("u", "v"))
    >>> data
    Dataset('toy', 2 rows × 2 features, 2 classes, bundled)
    >>> data.X.dtype, data.classes
    (dtype('float64'), ('a', 'b'))
    """

    name: str
    source: str
    X: Array
    y: npt.NDArray[Any]
    feature_names: tuple[str, ...]
    image_shape: tuple[int, int] | None = None
    encoder: TableEncoder | None = None
    imputed: npt.NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        X = np.ascontiguousarray(self.X, dtype=np.float64)
        y = np.asarray(self.y)
        names = tuple(str(name) for name in self.feature_names)
        if X.ndim != 2 or y.ndim != 1 or X.shape != (len(y), len(names)):
            raise ValueError(
                f"X, y and feature_names must have shapes (n, d), (n,) and (d,), "
                f"got {X.shape}, {y.shape} and ({len(names)},)"
            )
        if twice := repeated(names):
            raise ValueError(f"feature_names must all be different, got {listing(twice)} more than once")
        if not np.isfinite(X).all():
            raise ValueError("X must be finite, got NaN or infinite values")
        if self.image_shape is not None and math.prod(self.image_shape) != len(names):
            raise ValueError(f"image_shape {self.image_shape} does not hold {len(names)} features")
        if self.imputed is not None and self.imputed.shape != X.shape:
            raise ValueError(f"imputed must have the shape of X, {X.shape}, got {self.imputed.shape}")
        for field, value in (("X", X), ("y", y), ("feature_names", names)):
            object.__setattr__(self, field, value)

    @property
    def told_gaps(self) -> str | None:
        """One sentence on missing values that were filled in; None where there were none."""
        return None if self.encoder is None or self.imputed is None else self.encoder.told(self.imputed)

    @property
    def columns(self) -> dict[str, tuple[str, ...]]:
        """Names of the features that each column became, where the table was encoded."""
        return {} if self.encoder is None else self.encoder.features_of

    @property
    def n_samples(self) -> int:
        """Number of instances."""
        return self.X.shape[0]

    @property
    def n_features(self) -> int:
        """Number of columns of ``X``."""
        return self.X.shape[1]

    @property
    def classes(self) -> tuple[str | int, ...]:
        """The different labels, sorted."""
        return tuple(np.unique(self.y).tolist())

    def sha256(self) -> str:
        """Hash of the content: shape and bytes of ``X``, labels as strings, feature names.

        Name and source are left out: the same table read from CSV and from Parquet has the same hash.

        Examples
        --------
        >>> toy = Dataset("toy", "bundled", [[0.0], [1.0]], [0, 1], ("u",))
        >>> toy.sha256() == Dataset("other", "toy.csv", [[0.0], [1.0]], [0, 1], ("u",)).sha256()
        True
        >>> toy.sha256() == Dataset("toy", "bundled", [[0.0], [1.5]], [0, 1], ("u",)).sha256()
        False
        """
        digest = hashlib.sha256(f"{self.n_samples}x{self.n_features};".encode())
        digest.update(self.X.astype("<f8", copy=False).tobytes())
        for text in (*map(str, self.y.tolist()), *self.feature_names):
            encoded = text.encode("utf-8", "surrogatepass")
            digest.update(b"%d:" % len(encoded))  # the length keeps ("ab", "c") apart from ("a", "bc")
            digest.update(encoded)
        return digest.hexdigest()

    def to_frame(self) -> pd.DataFrame:
        """A data frame of the features with the labels as the last column.

        The last column is called ``target``, or ``class``, ``label``, ``y`` where a feature has that name.

        Examples
        --------
        >>> Dataset("toy", "bundled", [[0.5], [1.5]], ["a", "b"], ("u",)).to_frame()
             u target
        0  0.5      a
        1  1.5      b
        """
        import pandas as pd

        free = [name for name in TARGET_NAMES if name not in self.feature_names]
        if not free:
            raise ValueError(f"the features use every name a label column could have: {listing(TARGET_NAMES)}")
        frame = pd.DataFrame(self.X, columns=list(self.feature_names))
        frame[free[0]] = self.y
        return frame

    def __repr__(self) -> str:
        size = f"{counted(self.n_samples, 'row')} × {counted(self.n_features, 'feature')}"
        image = "" if self.image_shape is None else f", images {self.image_shape[0]} × {self.image_shape[1]}"
        return f"Dataset({self.name!r}, {size}, {counted(len(self.classes), 'class')}{image}, {self.source})"

    def _repr_html_(self) -> str:
        labels, counts = np.unique(self.y, return_counts=True)
        sizes = [f"{label} ({count})" for label, count in zip(labels.tolist(), counts.tolist())]
        rows = {
            "source": self.source,
            "rows": str(self.n_samples),
            "features": f"{self.n_features}: {_shortened(self.feature_names)}",
            "classes": f"{len(sizes)}: {_shortened(sizes)}",
        }
        if self.image_shape is not None:
            rows["images"] = f"{self.image_shape[0]} × {self.image_shape[1]}"
        body = "".join(
            f'<tr><th style="text-align:left">{key}</th><td style="text-align:left">{html.escape(value)}</td></tr>'
            for key, value in rows.items()
        )
        return f'<table><caption style="text-align:left">{html.escape(self.name)}</caption>{body}</table>'


def _shortened(items: tuple[str, ...] | list[str]) -> str:
    return ", ".join(items[:8]) + (" …" if len(items) > 8 else "")


def image_shape_of(feature_names: tuple[str, ...]) -> tuple[int, int] | None:
    """(side, side) if the features are ``pixel0, pixel1, …`` (or from 1) of a square image, else None.

    That is how OpenML names the columns of ``mnist_784`` and its relatives.

    Examples
    --------
    >>> image_shape_of(("pixel1", "pixel2", "pixel3", "pixel4"))
    (2, 2)
    >>> image_shape_of(("length", "width")) is None
    True
    """
    side = math.isqrt(len(feature_names))
    if side < 2 or side * side != len(feature_names):
        return None
    first = re.fullmatch(r"pixel([01])", feature_names[0])
    if first is None:
        return None
    start = int(first.group(1))
    in_order = all(name == f"pixel{start + i}" for i, name in enumerate(feature_names))
    return (side, side) if in_order else None
