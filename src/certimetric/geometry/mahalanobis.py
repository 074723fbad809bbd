"""The Mahalanobis metric: a value that learners give, certifiers read and files keep."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import csr_array, issparse

from certimetric.base.arrays import Array, check_size
from certimetric.base.chunks import chunk_slices
from certimetric.base.files import write_atomically
from certimetric.base.wording import listing, repeated
from certimetric.geometry.features import align
from certimetric.geometry.spd import check_symmetric, factor_psd

_FORMAT = "certimetric.metric/1"


@dataclass(frozen=True, eq=False)
class MahalanobisMetric:
    """The distance ``d_M(x, z) = √((x − z)ᵀ M (x − z))`` with ``M = LᵀL``.

    Made by :meth:`from_components`, :meth:`from_matrix`, :meth:`load` or a fitted learner's ``metric_``;
    immutable afterwards.

    Parameters
    ----------
    components : ndarray of shape (k, d)
        L: rows map features to the space in which the distance is Euclidean.
    feature_names : tuple of str or None
        Names of the d features, all different. A metric that knows them takes a data frame by its column names: in
        another order it is put in order, with missing or unknown columns it is refused. An array has no names and is
        taken by position.
    training : mapping
        JSON-like summary of how the metric was learned.

    Examples
    --------
    >>> metric = MahalanobisMetric.from_matrix([[4.0, 0.0], [0.0, 1.0]])
    >>> metric.distance([0.0, 0.0], [3.0, 0.0])
    6.0
    >>> metric.transform([[3.0, 1.0]])
    array([[6., 1.]])
    """

    components: Array
    feature_names: tuple[str, ...] | None = None
    training: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        L = np.array(self.components, dtype=float, order="C")
        if L.ndim != 2 or not L.size:
            raise ValueError(f"components must be a matrix of shape (k, d), got an array of shape {L.shape}")
        if not np.isfinite(L).all():
            raise ValueError("components must be finite, got NaN or infinity")
        L.setflags(write=False)
        object.__setattr__(self, "components", L)
        if self.feature_names is not None:
            names = tuple(str(name) for name in self.feature_names)
            if len(names) != L.shape[1]:
                raise ValueError(f"feature_names must name {L.shape[1]} features, got {len(names)}")
            if twice := repeated(names):
                raise ValueError(f"feature_names must all be different, got {listing(twice)} more than once")
            object.__setattr__(self, "feature_names", names)

    @classmethod
    def from_components(
        cls,
        components: ArrayLike,
        *,
        feature_names: Sequence[str] | None = None,
        training: Mapping[str, Any] | None = None,
    ) -> MahalanobisMetric:
        """Metric of the components L, shape (k, d); ``M = LᵀL``."""
        names = None if feature_names is None else tuple(feature_names)
        return cls(np.asarray(components, dtype=float), names, dict(training or {}))

    @classmethod
    def from_matrix(cls, matrix: ArrayLike, *, feature_names: Sequence[str] | None = None) -> MahalanobisMetric:
        """Metric of the matrix M, shape (d, d).

        Raises
        ------
        ValueError
            If M is not symmetric, or has an eigenvalue below −1e-10 times the largest.
        """
        M = check_symmetric(matrix, "matrix")
        eigenvalues = np.linalg.eigvalsh(M)
        if eigenvalues[0] < -1e-10 * max(eigenvalues[-1], 0.0) - np.finfo(float).tiny:
            raise ValueError(f"matrix must be positive semidefinite, got the eigenvalue {eigenvalues[0]:.3g}")
        return cls.from_components(factor_psd(M), feature_names=feature_names)

    @property
    def matrix(self) -> Array:
        """M, shape (d, d)."""
        M = self.components.T @ self.components
        return (M + M.T) / 2

    @property
    def n_features(self) -> int:
        """d, the number of features."""
        return int(self.components.shape[1])

    @property
    def n_components(self) -> int:
        """k, the number of rows of L."""
        return int(self.components.shape[0])

    def spectrum(self) -> Array:
        """Eigenvalues of M in decreasing order, shape (d,)."""
        singular = np.linalg.svd(self.components, compute_uv=False)
        return np.pad(singular**2, (0, self.n_features - len(singular)))

    def _check(self, X: ArrayLike, name: str = "X") -> Array:
        if issparse(X):
            X = csr_array(X, dtype=float)
            if not np.isfinite(X.data).all():
                raise ValueError(f"{name} must be finite, got NaN or infinity")
        else:
            X = np.asarray(align(X, self.feature_names, name), dtype=float)
        if X.ndim == 0 or X.shape[-1] != self.n_features:
            came = X.shape[-1] if X.ndim else "a scalar"
            raise ValueError(f"the metric was made for {self.n_features} features, got {came}")
        return check_size(X, name)

    def _map(self, X: Any, name: str = "X") -> Array:
        with np.errstate(over="ignore", invalid="ignore"):  # told by the next line
            return check_size(np.asarray(X @ self.components.T), f"{name}, mapped by the metric,")

    def distance(self, x: ArrayLike, z: ArrayLike) -> Any:
        """Distance between instances, or row by row between arrays that broadcast: shape (…, d) gives (…).

        Data frames, and Series that are one row of a frame, are taken by the names of the features. Of two sparse
        matrices of as many rows it is that of each row of the one from that of the other.

        Raises
        ------
        ValueError
            If the features do not match, values are beyond ±1e150, or of x and z just one is sparse.
        """
        x, z = self._check(x, "x"), self._check(z, "z")
        sparse = [issparse(given) for given in (x, z)]
        if any(sparse) and not (all(sparse) and x.shape == z.shape):
            raise ValueError(f"x and z must be sparse both of them and of one shape, got {x.shape} and {z.shape}")
        difference = x - z
        if all(sparse):
            rows = chunk_slices(x.shape[0], 8.0 * self.n_components)
            norms = [np.linalg.norm(self._map(difference[some], "x − z"), axis=1) for some in rows]
            return np.concatenate([np.zeros(0), *norms])
        distance = np.linalg.norm(self._map(difference, "x − z"), axis=-1)
        return float(distance) if np.ndim(distance) == 0 else distance

    def pairwise(self, X: ArrayLike, Z: ArrayLike | None = None) -> Array:
        """All distances between the rows of X, shape (n, d), and those of Z (m, d; X if None): shape (n, m).

        Work memory is bounded: 64 MiB beside the result.
        """
        P = self.transform(X)
        Q = P if Z is None else self.transform(Z)
        center = Q.mean(axis=0) if len(Q) else 0.0
        P, Q = P - center, Q - center
        p, q = np.einsum("ij,ij->i", P, P), np.einsum("ij,ij->i", Q, Q)
        distances = np.empty((len(P), len(Q)))
        for rows in chunk_slices(len(P), 8.0 * len(Q)):
            block = distances[rows]
            np.matmul(P[rows], Q.T, out=block)
            block *= -2.0
            block += p[rows, None]
            block += q
            # The expanded square cancels for near duplicates: those pairs are recomputed from the difference.
            i, j = np.nonzero(block < 1e-8 * (p[rows, None] + q))
            for some in chunk_slices(len(i), 24.0 * P.shape[1]):
                difference = P[rows][i[some]] - Q[j[some]]
                block[i[some], j[some]] = np.einsum("ij,ij->i", difference, difference)
            np.sqrt(block, out=block)
        return distances

    def transform(self, X: ArrayLike) -> Array:
        """Map rows, sparse ones too, to the space where the distance is Euclidean, ``X Lᵀ``: (n, d) gives (n, k)."""
        return self._map(self._check(X))

    def compose(self, scale: ArrayLike) -> MahalanobisMetric:
        """The same distance for data that were divided by ``scale`` first, told about the undivided data.

        For a metric learned on ``(X − mean) / scale`` this gives the metric on X itself, so that distances,
        predictions and certified radii are in the original units.

        Parameters
        ----------
        scale : array-like of shape (d,)
            Positive.
        """
        scale = np.asarray(scale, dtype=float)
        if scale.shape != (self.n_features,) or not (scale > 0).all():
            raise ValueError(f"scale must be {self.n_features} positive numbers")
        return self._divided(scale)

    def _divided(self, scale: Array) -> MahalanobisMetric:
        return MahalanobisMetric(self.components / scale, self.feature_names, self.training)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the metric as a safetensors file with JSON metadata, atomically; equal metrics make equal files.

        Raises
        ------
        OSError
            If the file cannot be written.
        """
        from safetensors.numpy import save

        names = None if self.feature_names is None else list(self.feature_names)
        components = np.ascontiguousarray(self.components)
        told = {"feature_names": json.dumps(names), "training": json.dumps(dict(self.training), sort_keys=True)}
        metadata = {"format": _FORMAT, **told, "sha256": _checksum(components, told)}
        write_atomically(path, _in_order(save({"components": components}, metadata=metadata)))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> MahalanobisMetric:
        """Read a metric that :meth:`save` wrote. Nothing in the file is executed.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If the file is truncated, changed since, or not a metric of certimetric. (Changes are not seen in files of
            versions before 1.0, which had no checksum.)
        """
        from safetensors import SafetensorError, safe_open

        shown = repr(str(path))
        if Path(path).is_dir():
            raise ValueError(f"{shown} is a folder, not a metric file")
        if not Path(path).exists():
            raise FileNotFoundError(f"there is no metric file {shown}")
        try:
            with safe_open(str(path), framework="numpy") as file:
                metadata = file.metadata() or {}
                if metadata.get("format") != _FORMAT:
                    raise ValueError(f"{shown} is a safetensors file, but not a metric of certimetric ({_FORMAT})")
                components = file.get_tensor("components")
            names, training = json.loads(metadata["feature_names"]), json.loads(metadata["training"])
            if not isinstance(training, dict) or not isinstance(names, list | None):
                raise TypeError("names must be a list, and what is told of the training an object")
        except SafetensorError as error:
            raise ValueError(f"{shown} is not a metric file, or is truncated ({error})") from None
        except (KeyError, TypeError, json.JSONDecodeError, RecursionError) as error:
            raise ValueError(f"the metric file {shown} is damaged: {error}") from None
        if metadata.get("sha256", checksum := _checksum(components, metadata)) != checksum:
            raise ValueError(f"the metric file {shown} is damaged: its content does not match its checksum")
        return cls(components, None if names is None else tuple(names), training)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, MahalanobisMetric):
            return NotImplemented
        return np.array_equal(self.components, other.components) and self.feature_names == other.feature_names

    def __hash__(self) -> int:
        return hash((self.components.tobytes(), self.feature_names))

    def __repr__(self) -> str:
        return f"MahalanobisMetric({self.n_components} components of {self.n_features} features)"


def _checksum(components: Array, told: Mapping[str, str]) -> str:
    """Of all that a file says of a metric: safetensors itself does not see a bit that has changed."""
    digest = hashlib.sha256(f"{components.dtype.str}{components.shape}".encode())
    digest.update(components.tobytes())
    for name in ("feature_names", "training"):
        digest.update(f"{len(told[name])}:{told[name]}".encode())
    return digest.hexdigest()


def _in_order(content: bytes) -> bytes:
    """A safetensors file with its header in alphabetical order: safetensors has metadata in a random one."""
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.dumps(json.loads(content[8:end]), sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)  # tensors begin at a multiple of 8 bytes
    return len(header).to_bytes(8, "little") + header + content[end:]


def as_metric(metric: Any) -> MahalanobisMetric:
    """Give the metric value of a :class:`MahalanobisMetric`, of a fitted learner, or of a fitted transformer.

    A transformer of another library (a ``PCA``, a pipeline of scalers and learners, a learner of metric-learn) is taken
    as the affine map that its own ``transform`` computes, whatever its ``components_`` say; a ValueError if it is none.
    What is none of these, or not fitted, is a TypeError.
    """
    if isinstance(metric, MahalanobisMetric):
        return metric
    if isinstance(getattr(metric, "metric_", None), MahalanobisMetric):
        return metric.metric_
    from certimetric.geometry.affine import affine_components  # loads scikit-learn, which a metric alone does not need

    names = getattr(metric, "feature_names_in_", None)
    return MahalanobisMetric.from_components(affine_components(metric), feature_names=names)
