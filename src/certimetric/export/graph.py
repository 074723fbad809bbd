"""The embedding of a metric as an ONNX graph."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from certimetric.base.files import write_atomically
from certimetric.base.version import __version__
from certimetric.geometry.mahalanobis import as_metric

_OPSET, _IR = 17, 8  # old enough for what runs graphs, and with all that is needed


def export_onnx(metric: Any, path: str | os.PathLike[str]) -> Path:
    """Write ``X ↦ X Lᵀ`` as an ONNX graph: Euclidean distances of its outputs are distances of the metric.

    It has one node, a product in double precision, an input ``X`` of shape (n, d) and an output ``embedding`` of shape
    (n, k). The names of the features, in their order, stand in its metadata under ``feature_names``, as JSON. Of a
    table with text the features are those that its encoder makes.

    Parameters
    ----------
    metric : MahalanobisMetric or fitted learner
    path : path
        File to write.

    Returns
    -------
    path : Path

    Raises
    ------
    ImportError
        If the package ``onnx`` is not installed: ``pip install "certimetric[onnx]"``.
    OSError
        If the file cannot be written.

    Examples
    --------
    >>> from certimetric import MahalanobisMetric
    >>> export_onnx(MahalanobisMetric.from_matrix([[4.0, 0.0], [0.0, 1.0]]), "metric.onnx")  # doctest: +SKIP
    """
    try:
        from onnx import TensorProto, helper, numpy_helper
    except ImportError:
        raise ImportError('a graph needs the package onnx: pip install "certimetric[onnx]"') from None
    metric = as_metric(metric)
    k, d = metric.components.shape
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["X", "components"], ["embedding"])],
        "metric",
        [helper.make_tensor_value_info("X", TensorProto.DOUBLE, ["n", d])],
        [helper.make_tensor_value_info("embedding", TensorProto.DOUBLE, ["n", k])],
        [numpy_helper.from_array(metric.components.T.copy(), "components")],
    )
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", _OPSET)],
        ir_version=_IR,
        producer_name="certimetric",
        producer_version=__version__,
    )
    if metric.feature_names is not None:
        helper.set_model_props(model, {"feature_names": json.dumps(list(metric.feature_names))})
    return write_atomically(path, model.SerializeToString())
