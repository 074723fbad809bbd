"""The ONNX graph: what others compute from it."""

import json

import numpy as np
import pytest

from certimetric import MahalanobisMetric
from certimetric.export import export_onnx


def test_a_graph_embeds_as_the_metric_does(rng, tmp_path):
    onnx, runtime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    names = ["age", 'in "k"', "größe"]
    metric = MahalanobisMetric.from_components(rng.standard_normal((2, 3)), feature_names=names)
    path = export_onnx(metric, tmp_path / "metric.onnx")
    onnx.checker.check_model(str(path), full_check=True)
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert json.loads(session.get_modelmeta().custom_metadata_map["feature_names"]) == names
    X = rng.standard_normal((7, 3))
    (Z,) = session.run(["embedding"], {"X": X})
    assert Z.dtype == np.float64
    np.testing.assert_allclose(Z, metric.transform(X), rtol=1e-13)


def test_without_the_package_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(ImportError, match=r'pip install "certimetric\[onnx\]"'):
        export_onnx(MahalanobisMetric.from_components(np.eye(2)), tmp_path / "metric.onnx")
    assert not [*tmp_path.iterdir()]
