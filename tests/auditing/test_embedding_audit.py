"""The audit of embeddings from files: exact radii against brute force, and files that are not what they should be."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is not installed: the extra 'deep' has it")

from certimetric.auditing import audit_embeddings
from certimetric.datasets.embeddings import Embeddings, load_embeddings


def clouds(n=40, dim=2, n_classes=3, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % n_classes
    return rng.normal(size=(n, dim)) + 1.5 * labels[:, None], labels


def smallest_along_rays(query, label, gallery, labels, n_rays=4000):
    """The smallest change in the plane that brings an item of another class as near as the nearest of its own.

    On a ray q + t u an item l is at least as near as j where t · 2 uᵀ(l − j) ≥ d²(q, l) − d²(q, j): for each l an
    interval of t.
    """
    squared = ((gallery - query) ** 2).sum(axis=1)
    own, other = np.flatnonzero(labels == label), np.flatnonzero(labels != label)
    if squared[other].min() <= squared[own].min():
        return 0.0
    angles = np.linspace(0, 2 * np.pi, n_rays, endpoint=False)
    rays = np.column_stack([np.cos(angles), np.sin(angles)])
    slope = 2 * rays @ (gallery[other, None] - gallery[None, own]).reshape(-1, 2).T
    slope = slope.reshape(n_rays, len(other), len(own))
    need = squared[other, None] - squared[None, own]
    with np.errstate(divide="ignore", invalid="ignore"):
        bound = need / slope
    low = np.where(slope > 0, bound, np.where((slope == 0) & (need > 0), np.inf, 0.0)).max(axis=2)
    high = np.where(slope < 0, bound, np.inf).min(axis=2)
    return float(np.where(low <= high, low, np.inf).min())


def brute_force(given):
    """The smallest change of each query, with itself out of the gallery if it is an item of it."""
    if given.queries is not None:
        pairs = zip(given.queries, given.query_labels)
        return np.array([smallest_along_rays(q, label, given.gallery, given.labels) for q, label in pairs])
    everything = np.arange(len(given.gallery))
    rest = [everything != i for i in everything]
    pairs = zip(given.gallery, given.labels, rest)
    return np.array([smallest_along_rays(q, label, given.gallery[r], given.labels[r]) for q, label, r in pairs])


def shares(result, figure="recall_at_1"):
    return [entry["worst"][figure]["mean"] for entry in result.document["learners"][0]["attacked"]]


def between(radii):
    """Sizes far from every radius, so that the directions that brute force leaves out do not matter."""
    known = np.unique(radii[radii > 0])
    gaps = np.diff(known)
    widest = np.argsort(-gaps)[:5]
    assert (gaps[widest] > 1e-3 * known[widest + 1]).all()
    return np.sort((known[widest] + known[widest + 1]) / 2)


@pytest.mark.parametrize("separate", [False, True])
def test_radii_are_exact(separate):
    points, labels = clouds()
    queries, own = (clouds(25, seed=1)) if separate else (None, None)
    given = Embeddings.from_arrays(points, labels, queries, own)
    radii = brute_force(given)
    sizes = between(radii)
    result = audit_embeddings({"model": given}, eps=sizes)
    assert shares(result) == pytest.approx([(radii > eps).mean() for eps in sizes], abs=1e-12)
    clean = result.document["learners"][0]["clean"]["recall_at_1"]["mean"]
    assert clean == pytest.approx((radii > 0).mean())
    assert 0 < shares(result)[-1] <= shares(result)[0] < clean
    median = result.document["data"]["n_queries"]
    assert median == len(radii)


def test_closed_form_on_a_line():
    """Between an own item at 0 and another at 10 the border is at 5."""
    queries, labels = [[1.0], [4.0], [6.0]], [0, 0, 0]
    given = Embeddings.from_arrays([[0.0], [10.0]], [0, 1], queries, labels)
    result = audit_embeddings({"model": given}, eps=[0.999, 1.001, 3.999, 4.001])
    assert shares(result) == pytest.approx([2 / 3, 1 / 3, 1 / 3, 0])


def test_radii_by_default_are_about_the_median():
    given = Embeddings.from_arrays(*clouds())
    radii = brute_force(given)
    told = audit_embeddings({"model": given}).document["protocol"]
    median = np.median(radii[radii > 0])
    assert told["report_eps"] == pytest.approx(median, rel=0.05)
    assert told["eps"] == pytest.approx([s * median for s in (0.25, 0.5, 1, 1.5, 2)], rel=0.05)


def test_a_threshold_at_any_size_is_measured():
    given = Embeddings.from_arrays(*clouds())
    radii = brute_force(given)
    (size, *_) = between(radii)
    result = audit_embeddings({"model": given}, fail_under=[f"attacked@{size}=0.99", "recall=0.1", "map=0.01"])
    entry = result.document["thresholds"][0]
    assert entry["observed"] == pytest.approx((radii > size).mean())
    assert [entry["passed"] for entry in result.document["thresholds"]] == [False, True, True]
    assert result.document["protocol"]["report_eps"] == pytest.approx(np.median(radii[radii > 0]), rel=0.05)


def test_a_query_without_another_of_its_class_is_left_out():
    points, labels = clouds()
    given = Embeddings.from_arrays(np.vstack([points, [[9.0, 9.0]]]), [*labels, 7])
    data = audit_embeddings({"model": given}, eps=[0.1]).document["data"]
    assert (data["n_queries"], data["n_without_positive"], data["n_gallery"]) == (40, 1, 41)


def test_text_labels_name_the_classes():
    points, labels = clouds()
    names = np.array(["ant", "bee", "cat"])[labels]
    told = audit_embeddings({"model": Embeddings.from_arrays(points, names)}, eps=[0.1]).document["learners"][0]
    assert [row["class"] for row in told["per_class"]] == ["ant", "bee", "cat"]
    assert sum(row["count"] for row in told["per_class"]) == 40


def test_checks_that_need_pictures_do_not_apply():
    points, labels = clouds()
    collapsed = Embeddings.from_arrays(1e6 + points, labels)
    fine = Embeddings.from_arrays(points, labels)
    checks = audit_embeddings({"fine": fine, "flat": collapsed}, eps=[0.1]).document["checks"]
    assert len(checks) == 2 * 8
    severities = {(entry["code"], entry["learner"]): entry["severity"] for entry in checks}
    assert severities.pop(("CR108", "fine")) == "passed"
    assert severities.pop(("CR108", "flat")) == "issue"
    assert set(severities.values()) == {"not applicable"}


def test_queries_drawn_by_seed():
    given = Embeddings.from_arrays(*clouds())
    one, two, other = (
        audit_embeddings({"m": given}, eps=[0.5], n_queries=15, seed=seed).document["learners"] for seed in (0, 0, 1)
    )
    assert one == two
    assert one != other


def test_digest_tells_queries_apart():
    points, labels = clouds()
    found = {
        audit_embeddings({"m": Embeddings.from_arrays(points, labels, points + shift, labels)}, eps=[0.1]).document[
            "reproduction"
        ]["model_sha256"]["m"]
        for shift in (0.1, 0.2)
    }
    assert len(found) == 2


WRONG = {
    "no model": ({}, {}, "at least one"),
    "radius": (None, {"eps": [-1.0]}, "eps"),
    "quoted radius alone": (None, {"report_eps": 0.5}, "report_eps"),
    "quoted radius": (None, {"eps": [0.1], "report_eps": 0.5}, "report_eps"),
    "queries": (None, {"n_queries": 0}, "n_queries"),
    "threshold": (None, {"fail_under": "accuracy=1"}, "fail_under"),
    "threshold on a figure that is not measured": (None, {"fail_under": "attacked_map@0.1=0.5"}, "attacked@EPS"),
    "threshold at another size": (None, {"eps": [0.1], "fail_under": "attacked@0.2=0.5"}, "0.1"),
}


@pytest.mark.parametrize("what", WRONG)
def test_bad_settings_come_before_the_work(tmp_path, what):
    models, options, message = WRONG[what]
    models = {"model": Embeddings.from_arrays(*clouds())} if models is None else models
    with pytest.raises(ValueError, match=message):
        audit_embeddings(models, out=tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_models_must_embed_the_same_pictures():
    points, labels = clouds()
    first = Embeddings.from_arrays(points, labels)
    others = {
        "labels differ": Embeddings.from_arrays(points, (labels + 1) % 3),
        "query_labels differ": Embeddings.from_arrays(points, labels, points, labels),
        "classes differ": Embeddings.from_arrays(points, np.array(["a", "b", "c"])[labels]),
    }
    for message, other in others.items():
        with pytest.raises(ValueError, match=f"'one' and 'two' .* {message}"):
            audit_embeddings({"one": first, "two": other}, eps=[0.1])
    with pytest.raises(ValueError, match="no query has another"):
        audit_embeddings({"one": Embeddings.from_arrays(points[:3], labels[:3])}, eps=[0.1])


# Files ---------------------------------------------------------------------------------------------------------------

POINTS, LABELS = clouds(6)
ARRAYS = {
    "no embeddings": ({"labels": LABELS}, "'embeddings'"),
    "no labels": ({"embeddings": POINTS}, "'labels'"),
    "nothing": ({}, "it holds none"),
    "one axis": ({"embeddings": POINTS[:, 0], "labels": LABELS}, "shape \\(6,\\)"),
    "no rows": ({"embeddings": POINTS[:0], "labels": LABELS[:0]}, "shape \\(0, 2\\)"),
    "text": ({"embeddings": POINTS.astype(str), "labels": LABELS}, "numbers"),
    "complex": ({"embeddings": POINTS + 1j, "labels": LABELS}, "numbers"),
    "not finite": ({"embeddings": np.where(POINTS > 0, np.nan, POINTS), "labels": LABELS}, "finite"),
    "fewer labels": ({"embeddings": POINTS, "labels": LABELS[:5]}, "each of the 6"),
    "labels in columns": ({"embeddings": POINTS, "labels": LABELS[:, None]}, "each of the 6"),
    "labels not finite": ({"embeddings": POINTS, "labels": np.full(6, np.nan)}, "numbers or text"),
    "labels in time": ({"embeddings": POINTS, "labels": LABELS.astype("M8[s]")}, "numbers or text"),
    "one class": ({"embeddings": POINTS, "labels": np.zeros(6)}, "two classes"),
    "queries without labels": ({"embeddings": POINTS, "labels": LABELS, "query_embeddings": POINTS}, "need labels"),
    "labels without queries": ({"embeddings": POINTS, "labels": LABELS, "query_labels": LABELS}, "need"),
    "objects": ({"embeddings": POINTS, "labels": np.array([object()] * 6)}, "not an .npz file of plain arrays"),
}
QUERIES = {
    "other dimensions": (POINTS[:, :1], LABELS, "1 dimensions, the gallery 2"),
    "queries not finite": (POINTS * np.inf, LABELS, "finite"),
    "another class": (POINTS, LABELS + 1, "lacks the class 3"),
    "labels of another kind": (POINTS, LABELS.astype(str), "query_labels of <U"),
}
ARRAYS |= {
    what: ({"embeddings": POINTS, "labels": LABELS, "query_embeddings": queries, "query_labels": labels}, message)
    for what, (queries, labels, message) in QUERIES.items()
}


@pytest.mark.parametrize("what", ARRAYS)
@pytest.mark.filterwarnings("ignore:invalid value")
def test_arrays_that_do_not_fit(tmp_path, what):
    arrays, message = ARRAYS[what]
    np.savez(tmp_path / "given.npz", **arrays)
    with pytest.raises(ValueError, match=message) as error:
        load_embeddings(tmp_path / "given.npz")
    assert "given.npz" in str(error.value)


def compressed():
    stream = io.BytesIO()
    np.savez_compressed(stream, embeddings=POINTS, labels=LABELS)
    return stream.getvalue()


def single():
    stream = io.BytesIO()
    np.save(stream, POINTS)
    return stream.getvalue()


def with_member(name, content):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(name, content)
    return stream.getvalue()


def flipped(content, at):
    return content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :]


FILES = {
    "empty": b"",
    "text": b"embeddings,labels\n",
    "cut": compressed()[:-40],
    "damaged inside": flipped(compressed(), 70),
    "one array": single(),
    "no arrays": with_member("embeddings.npy", b"nothing of the kind"),
    "cut array": with_member("embeddings.npy", single()[:-8]),
    "pickle": b"\x80\x04cos\nsystem\n",
}


@pytest.mark.parametrize("what", FILES)
def test_damaged_files(tmp_path, what):
    (tmp_path / "given.npz").write_bytes(FILES[what])
    with pytest.raises(ValueError, match=r"given\.npz"):
        load_embeddings(tmp_path / "given.npz")


def test_no_file_and_a_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"given\.npz"):
        load_embeddings(tmp_path / "given.npz")
    (tmp_path / "given.npz").mkdir()
    with pytest.raises(ValueError, match=r"not an \.npz file"):
        load_embeddings(tmp_path / "given.npz")


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.int64])
def test_a_file_is_read_as_it_was_written(tmp_path, dtype):
    np.savez(tmp_path / "given.npz", embeddings=(8 * POINTS).astype(dtype), labels=LABELS.astype(str))
    given = load_embeddings(tmp_path / "given.npz")
    assert np.array_equal(given.gallery, (8 * POINTS).astype(dtype))
    assert given.class_names == ("0", "1", "2")
    assert given.queries is None
