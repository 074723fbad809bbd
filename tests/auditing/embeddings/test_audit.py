"""The audit of embeddings from files: exact radii against brute force, and files that are not what they should be."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is not installed: the extra 'deep' has it")

from certimetric.auditing import audit_embeddings
from certimetric.auditing.embeddings import run
from certimetric.datasets.embedding_files import Embeddings, load_embeddings


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


def scale(given):
    """The median distance from a query to its nearest item."""
    queries = given.gallery if given.queries is None else given.queries
    distances = np.linalg.norm(queries[:, None] - given.gallery, axis=2)
    if given.queries is None:
        np.fill_diagonal(distances, np.inf)
    return float(np.median(distances.min(axis=1)))


def shares(result, figure="recall_at_1"):
    return [entry["worst"][figure]["mean"] for entry in result.document["learners"][0]["attacked"]]


def between(radii):
    """Sizes far from every radius, so that the directions that brute force leaves out do not matter."""
    known = np.unique(radii[radii > 0])
    gaps = np.diff(known)
    widest = np.argsort(-gaps)[:5]
    assert (gaps[widest] > 1e-3 * known[widest + 1]).all()
    return np.sort((known[widest] + known[widest + 1]) / 2)


@pytest.mark.parametrize("separate", [pytest.param(False, marks=pytest.mark.slow), True])
def test_radii_are_exact(separate):
    points, labels = clouds()
    queries, own = (clouds(25, seed=1)) if separate else (None, None)
    given = Embeddings.from_arrays(points, labels, queries, own)
    radii = brute_force(given)
    sizes = between(radii)
    result = audit_embeddings({"model": given}, eps=sizes / scale(given))
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
    distance = np.median([1.0, 4.0, 4.0])  # to the nearest item
    result = audit_embeddings({"model": given}, eps=np.array([0.999, 1.001, 3.999, 4.001]) / distance)
    assert result.document["learners"][0]["neighbour_distance"] == distance
    assert shares(result) == pytest.approx([2 / 3, 1 / 3, 1 / 3, 0])


def about(result):
    """All that is said of the model, but for where it lies."""
    (learner,) = result.document["learners"]
    return {key: value for key, value in learner.items() if key not in ("map", "neighbour_distance", "source")}


@pytest.mark.parametrize("factor", [10.0, 1e-8, 2.0**40])
@pytest.mark.parametrize("separate", [False, True])
def test_a_multiple_of_an_embedding_is_the_same(factor, separate):
    points, labels = clouds()
    queries, own = clouds(25, seed=1) if separate else (None, None)
    scaled = Embeddings.from_arrays(factor * points, labels, None if queries is None else factor * queries, own)
    one = audit_embeddings({"m": Embeddings.from_arrays(points, labels, queries, own)})
    other = audit_embeddings({"m": scaled})
    assert about(one) == about(other)
    assert one.document["verdict"] == other.document["verdict"]
    assert one.document["protocol"] == other.document["protocol"]
    # Beside each other, too: the worse of two models cannot gain by being written in smaller numbers.
    both = audit_embeddings({"m": Embeddings.from_arrays(points, labels, queries, own), "n": scaled})
    first, second = ([entry["worst"] for entry in learner["attacked"]] for learner in both.document["learners"])
    assert first == second


def test_the_size_that_is_quoted_does_not_depend_on_the_outcome():
    """Classes that are far apart withstand it, classes that are mixed do not."""
    points, labels = clouds()
    apart = audit_embeddings({"m": Embeddings.from_arrays(points + 50 * labels[:, None], labels)})
    mixed = audit_embeddings({"m": Embeddings.from_arrays(clouds(n_classes=1)[0], labels)})
    for result in (apart, mixed):
        told = result.document["protocol"]
        assert (told["eps"], told["report_eps"], told["units"]) == (
            [0.05, 0.1, 0.25, 0.5, 1.0],
            0.25,
            "neighbour distance",
        )
    assert shares(apart)[2] == 1.0 and shares(mixed)[2] < 0.3


def test_a_threshold_at_any_size_is_measured():
    given = Embeddings.from_arrays(*clouds())
    radii = brute_force(given)
    (size, *_) = between(radii)
    at = size / scale(given)
    result = audit_embeddings({"model": given}, fail_under=[f"attacked@{at}=0.99", "recall=0.1", "map=0.01"])
    entry = result.document["thresholds"][0]
    assert entry["observed"] == pytest.approx((radii > size).mean())
    assert [entry["passed"] for entry in result.document["thresholds"]] == [False, True, True]
    assert result.document["protocol"]["report_eps"] == 0.25


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


def severities(result):
    return {(entry["code"], entry["learner"]): entry["severity"] for entry in result.document["checks"]}


def test_checks_that_need_pictures_do_not_apply():
    points, labels = clouds()
    collapsed = Embeddings.from_arrays(1e6 + points, labels)
    fine = Embeddings.from_arrays(points, labels)
    result = audit_embeddings({"fine": fine, "flat": collapsed}, eps=[0.1])
    told = severities(result)
    own = {"CR120", "CR121", "CR122"}
    assert {code for code, _ in told} == {f"CR1{i:02}" for i in range(1, 13)} | own
    told = {key: severity for key, severity in told.items() if key[0] not in own}
    assert len(told) == 2 * 9 + 3
    assert told.pop(("CR108", "fine")) == told.pop(("CR109", "fine")) == told.pop(("CR109", "flat")) == "passed"
    assert told.pop(("CR108", "flat")) == "issue"
    assert told.pop(("CR110", None)) == "tip"
    assert set(told.values()) == {"not applicable"}
    assert result.status == "WARN" and "(collapsed embeddings)" in result.document["verdict"]["sentence"]
    assert audit_embeddings({"fine": fine}, eps=[0.1]).status == "REPORT"
    assert audit_embeddings({"fine": fine}, eps=[0.1], fail_under="recall=0.1").status == "PASS"


# Ids and groups ------------------------------------------------------------------------------------------------------


def told(result):
    (learner,) = result.document["learners"]
    return {key: value["mean"] for key, value in learner["clean"].items() if key != "nmi"}, shares(result)


def test_queries_out_of_the_gallery_are_known_by_ids_or_found():
    points, labels = clouds()
    rows, sizes = np.arange(5, 30), [0.1, 0.3]
    ids = np.array([f"{i}.png" for i in range(40)])
    given = Embeddings.from_arrays(points, labels, points[rows], labels[rows], ids=ids, query_ids=ids[rows])
    guessed = Embeddings.from_arrays(points, labels, points[rows], labels[rows])
    noisy = Embeddings.from_arrays(points, labels, points[rows] + 1e-6, labels[rows], ids=ids, query_ids=ids[rows])
    # Each query alone, its item cut out of the gallery.
    radii = np.array(
        [smallest_along_rays(points[i], labels[i], *(np.delete(part, i, 0) for part in (points, labels))) for i in rows]
    )
    result = audit_embeddings({"m": given}, eps=sizes)
    unit = result.document["learners"][0]["neighbour_distance"]
    assert unit == pytest.approx(np.median([np.sort(np.linalg.norm(points - points[i], axis=1))[1] for i in rows]))
    assert shares(result) == pytest.approx([(radii > size * unit).mean() for size in sizes])
    assert told(result) == told(audit_embeddings({"m": guessed}, eps=sizes))
    assert told(result)[0] == pytest.approx(told(audit_embeddings({"m": noisy}, eps=sizes))[0])
    checks = {
        entry["severity"]: entry
        for entry in audit_embeddings({"m": guessed}).document["checks"]
        if entry["code"] == "CR109"
    }
    assert checks["issue"]["message"].startswith("25 queries equal an item of the gallery, and no ids say so")
    assert severities(result)["CR109", "m"] == "passed" and ("CR109", None) not in severities(result)
    # Ids that say that they are other pictures are believed, and the copies are told.
    copies = Embeddings.from_arrays(
        points, labels, points[rows], labels[rows], ids=ids, query_ids=["q" + i for i in ids[rows]]
    )
    trivial = audit_embeddings({"m": copies}, eps=sizes)
    assert told(trivial)[0]["recall_at_1"] == 1.0
    assert severities(trivial)["CR109", "m"] == "issue" and trivial.status == "WARN"
    # Items that are one point to one model only may be different pictures.
    constant = Embeddings.from_arrays(0 * points, labels, 0 * points[rows], labels[rows])
    both = audit_embeddings({"a": constant, "b": guessed}, eps=sizes).document
    assert both["learners"][1]["clean"]["recall_at_1"]["mean"] == told(result)[0]["recall_at_1"]


@pytest.mark.parametrize("separate", [False, True])
def test_groups_are_out_of_every_figure(separate):
    points, labels = clouds()
    groups = np.random.default_rng(1).integers(0, 3, 40)
    rows = np.arange(25) if separate else np.arange(40)
    others = (points[rows], labels[rows]) if separate else (None, None)
    given = Embeddings.from_arrays(
        points, labels, *others, groups=groups, query_groups=groups[rows] if separate else None
    )
    sizes, shown = [0.1, 0.3], [groups != groups[i] for i in rows]
    radii = np.array(
        [smallest_along_rays(points[i], labels[i], points[see], labels[see]) for i, see in zip(rows, shown)]
    )
    unit = np.median([np.linalg.norm(points[see] - points[i], axis=1).min() for i, see in zip(rows, shown)])
    result = audit_embeddings({"m": given}, eps=sizes)
    assert result.document["learners"][0]["neighbour_distance"] == pytest.approx(unit)
    assert told(result)[0]["recall_at_1"] == pytest.approx((radii > 0).mean())
    assert shares(result) == pytest.approx([(radii > size * unit).mean() for size in sizes])


def test_queries_of_a_class_that_the_gallery_lacks_are_left_out():
    points, labels = clouds()
    given = Embeddings.from_arrays(points, labels, points[:9] + 0.1, [*labels[:7], 8, 9])
    data = audit_embeddings({"m": given}, eps=[0.1]).document["data"]
    assert (data["n_queries"], data["n_without_positive"], data["n_classes"]) == (7, 2, 3)
    names = audit_embeddings({"m": given}, eps=[0.1]).document["learners"][0]["per_class"]
    assert [row["class"] for row in names] == ["0", "1", "2"]


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


def test_the_report_of_another_audit_is_not_written_over(tmp_path):
    points, labels = clouds()
    given = Embeddings.from_arrays(points, labels)
    audit_embeddings({"m": given}, out=tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    for models, options, told in (
        ({"m": given}, {"eps": [0.3]}, "with other eps"),
        ({"m": given}, {"n_queries": 5}, "with n_queries"),
        ({"m": given}, {"seed": 1}, "with seed 0, not 1"),
        ({"m": Embeddings.from_arrays(points + 1, labels)}, {}, "with other models"),
        ({"m": Embeddings.from_arrays(points, labels, groups=np.arange(len(labels)) % 5)}, {}, "with other data"),
    ):
        with pytest.raises(ValueError, match="holds the report of another audit") as caught:
            audit_embeddings(models, out=tmp_path, **options)
        assert told in str(caught.value)
        assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    judged = audit_embeddings({"m": given}, out=tmp_path, fail_under="attacked@0.2=0")  # another size, the same audit
    assert len(judged.document["thresholds"]) == 1
    assert judged.document["reproduction"]["cells"] == {"computed": 0, "reused": 1, "failed": 0}


def test_a_stopped_audit_goes_on(tmp_path, monkeypatch):
    points, labels = clouds()
    models = {name: Embeddings.from_arrays(points * stretch, labels) for name, stretch in (("a", 1), ("b", [1, 3]))}
    whole = audit_embeddings(models)
    compute, calls = run.smallest, []

    def stopping(*arguments):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return compute(*arguments)

    monkeypatch.setattr(run, "smallest", stopping)
    with pytest.raises(KeyboardInterrupt):
        audit_embeddings(models, out=tmp_path)
    monkeypatch.undo()
    again = audit_embeddings(models, out=tmp_path)
    assert again.document["reproduction"]["cells"] == {"computed": 1, "reused": 1, "failed": 0}
    assert again.document["learners"] == whole.document["learners"]


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


def test_models_must_embed_the_same_pictures(tmp_path):
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
        audit_embeddings({"one": Embeddings.from_arrays(points[:3], labels[:3])}, eps=[0.1], out=tmp_path / "out")
    assert not list(tmp_path.iterdir())


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
    "labels of another kind": (POINTS, LABELS.astype(str), "query_labels of <U"),
}
ARRAYS |= {
    what: ({"embeddings": POINTS, "labels": LABELS, "query_embeddings": queries, "query_labels": labels}, message)
    for what, (queries, labels, message) in QUERIES.items()
}


IDS = {
    "too few ids": ({"ids": LABELS[:5]}, "ids must be one for each of the 6"),
    "ids of queries alone": ({"query_ids": LABELS}, "ids of queries need queries"),
    "ids of one side": (
        {"query_embeddings": POINTS, "query_labels": LABELS, "ids": np.arange(6)},
        "ids must be given for",
    ),
    "groups of one side": (
        {"query_embeddings": POINTS, "query_labels": LABELS, "query_groups": LABELS},
        "groups must be",
    ),
    "ids of two kinds": (
        {"query_embeddings": POINTS, "query_labels": LABELS, "ids": np.arange(6), "query_ids": LABELS.astype(str)},
        "ids are of int64, and those of queries of <U",
    ),
    "an id of two labels": ({"ids": np.array([0, 1, 2, 3, 4, 0])}, "same picture, but row 5 has other labels"),
    "an id of two groups": ({"ids": np.arange(6) % 3, "groups": np.arange(6)}, "but row 3 has other groups"),
    "a query of another label": (
        {"query_embeddings": POINTS, "query_labels": (LABELS + 1) % 3, "ids": np.arange(6), "query_ids": np.arange(6)},
        "but query 0 has other labels",
    ),
}
ARRAYS |= {
    what: ({"embeddings": POINTS, "labels": LABELS, **arrays}, message) for what, (arrays, message) in IDS.items()
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
