"""The file of a metric: one safetensors file whose header carries JSON metadata. Loading runs no code from it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from certimetric.base.arrays import Array
from certimetric.base.files import write_atomically

_FORMAT = "certimetric.metric/1"


def write_metric_file(
    path: str | os.PathLike[str],
    components: Array,
    feature_names: tuple[str, ...] | None,
    training: Mapping[str, Any],
) -> None:
    """Write components and metadata; see :meth:`MahalanobisMetric.save`."""
    from safetensors.numpy import save

    names = None if feature_names is None else list(feature_names)
    metadata = {
        "format": _FORMAT,
        "feature_names": json.dumps(names),
        "training": json.dumps(dict(training), sort_keys=True),
    }
    write_atomically(path, save({"components": np.ascontiguousarray(components)}, metadata=metadata))


def read_metric_file(
    path: str | os.PathLike[str],
) -> tuple[Array, tuple[str, ...] | None, dict[str, Any]]:
    """Read components, feature names and training summary; see :meth:`MahalanobisMetric.load`."""
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
        names = json.loads(metadata["feature_names"])
        training = json.loads(metadata["training"])
    except SafetensorError as error:
        raise ValueError(f"{shown} is not a metric file, or is truncated ({error})") from None
    except (KeyError, json.JSONDecodeError) as error:
        raise ValueError(f"the metric file {shown} is damaged: {error}") from None
    return components, None if names is None else tuple(names), training
