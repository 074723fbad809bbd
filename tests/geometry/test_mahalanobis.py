"""The metric as a value: axioms, L ↔ M, files."""

import json

import numpy as np
import pytest
from safetensors.numpy import save_file
from scipy.spatial.distance import cdist

from certimetric import LMNN, MahalanobisMetric
from certimetric.geometry.mahalanobis import as_metric


@pytest.fixture
def metric(rng):
    return MahalanobisMetric.from_components(rng.standard_normal((3, 4)))


def test_pseudometric_axioms(metric, rng):
    x, y, z = rng.standard_normal((3, 100, 4))
    d = metric.distance
    assert (d(x, x) == 0).all()
    np.testing.assert_array_equal(d(x, y), d(y, x))
    assert (d(x, z) <= d(x, y) + d(y, z) + 1e-12).all()


def test_components_and_matrix_say_the_same(metric, rng):
    x, z = rng.standard_normal((2, 50, 4))
    twin = MahalanobisMetric.from_matrix(metric.matrix)
    np.testing.assert_allclose(twin.distance(x, z), metric.distance(x, z), rtol=1e-9)
    delta = x - z
    np.testing.assert_allclose(metric.distance(x, z) ** 2, np.einsum("ni,ij,nj->n", delta, metric.matrix, delta))
    np.testing.assert_allclose(metric.spectrum(), np.linalg.eigvalsh(metric.matrix)[::-1], atol=1e-12)


def test_pairwise_against_scipy(rng):
    metric = MahalanobisMetric.from_components(rng.standard_normal((4, 4)))
    X, Z = rng.standard_normal((40, 4)) + 100, rng.standard_normal((30, 4)) + 100
    expected = cdist(X, Z, "mahalanobis", VI=metric.matrix)
    np.testing.assert_allclose(metric.pairwise(X, Z), expected, rtol=1e-9)
    assert (np.diag(metric.pairwise(X)) == 0).all()


def test_pairwise_of_near_duplicates(rng):
    X = rng.standard_normal((20, 3)) * 1e3
    Z = X + 1e-9
    metric = MahalanobisMetric.from_components(np.eye(3))
    # Rounding of coordinates of size 1e3 is 1e-13; an expanded square would be off by 1e-5.
    np.testing.assert_allclose(np.diag(metric.pairwise(X, Z)), metric.distance(X, Z), rtol=0, atol=1e-12)


def test_compose_undoes_a_scaling(metric, rng):
    scale = rng.uniform(0.5, 20, 4)
    x, z = rng.standard_normal((2, 10, 4))
    np.testing.assert_allclose(metric.compose(scale).distance(x * scale, z * scale), metric.distance(x, z))
    with pytest.raises(ValueError, match="4 positive numbers"):
        metric.compose([1.0, 0.0, 1.0, 1.0])


def test_is_immutable(metric):
    with pytest.raises(ValueError, match="read-only"):
        metric.components[0, 0] = 1.0


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # few steps are meant
def test_round_trip_through_a_file(tmp_path, wine):
    X, y = wine
    learned = LMNN(max_iter=10).fit(X, y).metric_
    named = MahalanobisMetric.from_components(
        learned.components, feature_names=[f"feature {i}" for i in range(13)], training=learned.training
    )
    path = tmp_path / "metric.safetensors"
    named.save(path)
    loaded = MahalanobisMetric.load(path)
    assert loaded == named
    assert hash(loaded) == hash(named)
    assert loaded.training["learner"] == "LMNN"
    assert loaded.training == json.loads(json.dumps(dict(named.training)))
    assert [file.name for file in tmp_path.iterdir()] == ["metric.safetensors"]  # nothing temporary is left


def test_failed_write_keeps_the_old_file(tmp_path, metric, monkeypatch):
    path = tmp_path / "metric.safetensors"
    metric.save(path)
    before = path.read_bytes()
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space left"):
        MahalanobisMetric.from_components(np.eye(2)).save(path)
    assert path.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


def damaged(path, kind):
    good = path.with_name("good.safetensors")
    MahalanobisMetric.from_components(np.eye(3)).save(good)
    content = good.read_bytes()
    if kind == "truncated":
        path.write_bytes(content[:-5])
    elif kind == "header only":
        path.write_bytes(content[:20])
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_text("a,b,c\n1,2,3\n")
    elif kind == "foreign":
        save_file({"weight": np.eye(2)}, path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "no components":
        header = {"format": "certimetric.metric/1", "feature_names": "null", "training": "{}"}
        save_file({"weight": np.eye(2)}, path, metadata=header)
    else:
        names, training = {"training": ("null", "[]"), "names": ('"ab"', "{}"), "nested": ("[" * 10**5, "{}")}[kind]
        header = {"format": "certimetric.metric/1", "feature_names": names, "training": training}
        save_file({"components": np.eye(2)}, path, metadata=header)


@pytest.mark.parametrize(
    "kind",
    ["truncated", "header only", "empty", "text", "foreign", "folder", "no components", "training", "names", "nested"],
)
def test_damaged_and_foreign_files(tmp_path, kind):
    path = tmp_path / "some.safetensors"
    damaged(path, kind)
    with pytest.raises(ValueError, match=r"some\.safetensors") as error:
        MahalanobisMetric.load(path)
    assert "\n" not in str(error.value)


def test_equal_metrics_make_equal_files(tmp_path):
    metric = MahalanobisMetric.from_components([[1.0, 0.5]], feature_names=["ä", "b"], training={"learner": "none"})
    contents = set()
    for _ in range(20):
        metric.save(tmp_path / "some.safetensors")
        contents.add((tmp_path / "some.safetensors").read_bytes())
    assert len(contents) == 1
    assert MahalanobisMetric.load(tmp_path / "some.safetensors").feature_names == ("ä", "b")


def test_no_bit_changes_unseen(tmp_path):
    metric = MahalanobisMetric.from_components([[1.0, 0.5]], feature_names=["a", "b"], training={"learner": "none"})
    path = tmp_path / "some.safetensors"
    metric.save(path)
    content, refused = path.read_bytes(), 0
    for place in range(len(content)):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        try:
            found = MahalanobisMetric.load(path)
        except ValueError as error:
            assert "some.safetensors" in str(error) and "\n" not in str(error)
            refused += 1
        else:  # what has changed is the name of the checksum
            assert found == metric and found.training == metric.training
    assert refused >= len(content) - len("sha256")


def test_missing_file_and_unwritable_folder(tmp_path, metric):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        MahalanobisMetric.load(tmp_path / "nowhere")
    with pytest.raises(OSError, match="cannot write"):
        metric.save(tmp_path / "no" / "such" / "folder.safetensors")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MahalanobisMetric.from_components([1.0, 2.0]), "shape"),
        (lambda: MahalanobisMetric.from_components([[np.inf]]), "finite"),
        (lambda: MahalanobisMetric.from_components(np.eye(2), feature_names=["a"]), "name 2 features, got 1"),
        (lambda: MahalanobisMetric.from_matrix([[0.0, 1.0], [-1.0, 0.0]]), "symmetric"),
        (lambda: MahalanobisMetric.from_matrix([[1.0, 0.0], [0.0, -1.0]]), "positive semidefinite"),
        (lambda: MahalanobisMetric.from_components(np.eye(2)).transform(np.ones((3, 4))), "2 features, got 4"),
    ],
)
def test_bad_input_is_named(make, message):
    with pytest.raises(ValueError, match=message) as error:
        make()
    assert "\n" not in str(error.value)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # few steps are meant
def test_as_metric(wine):
    X, y = wine
    learner = LMNN(max_iter=2).fit(X, y)
    assert as_metric(learner) == learner.metric_ == MahalanobisMetric.from_components(learner.components_)
    with pytest.raises(TypeError, match="fitted learner"):
        as_metric(LMNN())
