"""Audits by cosine and inner product, of large galleries, beside an index, and what they say of hubs."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is not installed: the extra 'deep' has it")

from certimetric.auditing import audit_embeddings
from certimetric.auditing.embeddings import changes, indexes
from certimetric.auditing.embeddings.seen import Known, Seen
from certimetric.auditing.retrieval.hubs import hubness
from certimetric.datasets.embedding_files import Embeddings

RAYS = np.stack([f(np.linspace(0, 2 * np.pi, 2000, endpoint=False)) for f in (np.cos, np.sin)], axis=1)


def clouds(n=40, dim=2, n_classes=3, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % n_classes
    return rng.normal(size=(n, dim)) + 1.5 * labels[:, None] + 1.0, labels


def checks(result, code):
    return [(entry["severity"], entry["message"]) for entry in result.document["checks"] if entry["code"] == code]


def smallest_of_cones(query, label, gallery, labels):
    """Along rays q + t u: an item l comes first where uᵀ(l − j) t ≥ qᵀ(j − l) for every j."""
    own, other = gallery[labels == label], gallery[labels != label]
    best = np.inf
    for l in other:
        need, slope = (own - l) @ query, RAYS @ (l - own).T
        with np.errstate(divide="ignore", invalid="ignore"):
            low = np.where(slope > 0, need / slope, np.where(need > 0, np.inf, 0.0)).max(axis=1)
            high = np.where(slope < 0, need / slope, np.inf).min(axis=1)
        best = min(best, float(np.where(low <= high, np.maximum(low, 0.0), np.inf).min()))
    return best


@pytest.mark.parametrize("metric", ["cosine", "dot"])
def test_radii_of_other_searches_are_exact(metric):
    gallery, labels = clouds()
    queries, own = clouds(15, seed=1)
    given = Embeddings.from_arrays(gallery, labels, queries, own)
    seen = Seen.of(given, Known.of({"m": given}), np.arange(15), metric)
    if metric == "cosine":
        gallery, queries = (part / np.linalg.norm(part, axis=1, keepdims=True) for part in (gallery, queries))
    hit = own == labels[(queries @ gallery.T).argmax(axis=1)]
    assert 3 < hit.sum() < 15
    radii, changed = changes.smallest(seen, hit)
    for i in np.flatnonzero(hit):
        assert radii[i] == pytest.approx(smallest_of_cones(queries[i], own[i], gallery, labels), rel=1e-2)
        moved = changed[i, :2]
        assert np.linalg.norm(moved - queries[i]) == pytest.approx(radii[i], rel=1e-4)
        assert labels[(gallery @ moved).argmax()] != own[i]
    result = audit_embeddings({"m": given}, metric=metric)
    assert result.document["learners"][0]["clean"]["recall_at_1"]["mean"] == pytest.approx(hit.mean())


@pytest.mark.parametrize("metric", ["euclidean", "dot"])
@pytest.mark.parametrize("grouped", [False, True])
def test_some_items_decide_as_the_whole_gallery_does(metric, grouped, monkeypatch):
    gallery, labels = clouds(120, 3)
    groups = np.random.default_rng(0).integers(0, 6, 120) if grouped else None
    given = Embeddings.from_arrays(gallery, labels, groups=groups)
    seen = Seen.of(given, Known.of({"m": given}), np.arange(120), metric)
    hit = seen.gallery_labels[seen.first[:, 0]] == labels
    assert 30 < hit.sum() < 120
    expected, _ = changes.smallest(seen, hit)
    monkeypatch.setattr(changes, "_WHOLE", 0)
    monkeypatch.setattr(changes, "_OPPONENTS", 2)
    monkeypatch.setattr(changes, "_FRIENDS", 3)
    monkeypatch.setattr(changes, "_MEMORY", 500)
    found, changed = changes.smallest(seen, hit)
    assert found == pytest.approx(expected, rel=1e-6)
    assert np.linalg.norm(changed - seen.points, axis=1) == pytest.approx(found, rel=1e-5)


def test_single_precision_stays_and_changes_nothing():
    points, labels = clouds()
    single = points.astype(np.float32)
    one, other = (Embeddings.from_arrays(part, labels) for part in (single, single.astype(float)))
    assert one.gallery.dtype == np.float32
    told = [audit_embeddings({"m": each}).document["learners"][0] for each in (one, other)]
    for key in ("clean", "attacked", "per_class"):
        assert told[0][key] == told[1][key]


def test_a_hub_is_found_and_named():
    # Every class on its own sphere about the middle, where one item of the first class lies.
    rng = np.random.default_rng(0)
    points = rng.normal(size=(300, 40))
    points *= 10 / np.linalg.norm(points, axis=1, keepdims=True)
    labels = np.repeat(np.arange(30), 10)
    points[0] = 0.0
    given = Embeddings.from_arrays(points, [f"class {i}" for i in labels])
    result = audit_embeddings({"m": given})
    (severity, message), *_ = checks(result, "CR121")
    assert severity == "issue" and "row 0 (class 0)" in message.lower()
    told = result.document["learners"][0]["hubness"]["clean"]
    assert told["hubs"][0]["row"] == 0 and told["skewness"] > 5 * told["by_chance"]
    spread = Embeddings.from_arrays(points[1:] + 20 * np.eye(40)[labels[1:]], labels[1:])
    assert checks(audit_embeddings({"m": spread}), "CR121")[0][0] == "passed"


def test_counts_of_hubs():
    first = np.array([[0, 1], [0, 2], [0, 3], [1, 0]])
    told = hubness(first, np.array([0, 1, 1, 2]), np.array([0, 1, 1, 2, 2]))
    assert told["hubs"][0] == {"row": 0, "label": 0, "queries": 4, "wrong": 3}
    assert told["never"] == pytest.approx(1 / 5)
    counts = np.array([4, 2, 1, 1, 0])
    about = counts - counts.mean()
    assert told["skewness"] == pytest.approx((about**3).mean() / (about**2).mean() ** 1.5)


def test_queries_without_an_answer_are_told():
    points, labels = clouds()
    given = Embeddings.from_arrays(points, labels, points[:9] + 0.1, [*labels[:3], *range(7, 13)])
    ((severity, message),) = checks(audit_embeddings({"m": given}), "CR120")
    assert severity == "issue" and message.startswith("6 of 9 queries have no other item")


def poor(points, k):
    """An index that finds nothing for every second query."""
    rows = np.tile(np.arange(k), (len(points), 1))
    rows[::2] = -1
    return rows


def test_an_index_is_told_beside_exact_search_and_changes_no_evidence():
    points, labels = clouds(60, 4)
    given = Embeddings.from_arrays(points, labels)
    exact = audit_embeddings({"m": given}).document
    result = audit_embeddings({"m": given}, index=poor)
    learner = result.document["learners"][0]
    for key in ("clean", "attacked"):
        assert learner[key] == exact["learners"][0][key]
    expected = [i % 2 and labels[0] == labels[i] for i in range(60)]  # the first row, that is the query's own for one
    assert learner["deployed"]["clean"]["mean"] == pytest.approx(np.mean(expected), abs=1 / 60 + 1e-9)
    assert checks(result, "CR122")[0][0] == "issue"
    assert checks(audit_embeddings({"m": given}), "CR122")[0][0] == "not applicable"
    assert result.document["protocol"]["index"].endswith("poor")


@pytest.mark.parametrize("kind", ["faiss:Flat", "faiss:IVF4,Flat", "hnswlib", "usearch"])
@pytest.mark.parametrize("metric", ["euclidean", "cosine", "dot"])
def test_indexes_search_by_the_metric(kind, metric):
    pytest.importorskip(kind.partition(":")[0], reason=f"{kind.partition(':')[0]} is not installed")
    points, labels = clouds(400, 8)
    given = Embeddings.from_arrays(points.astype(np.float32), labels)
    learner = audit_embeddings({"m": given}, index=kind, metric=metric).document["learners"][0]
    assert learner["deployed"]["agreement"] >= (0.999 if kind == "faiss:Flat" else 0.5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metric": "l3"}, "metric must be one of"),
        ({"index": "foo"}, "index must be faiss:FACTORY"),
        ({"index": "faiss"}, "index must be faiss:FACTORY"),
        ({"index": lambda points, k: np.full((len(points), k), 99)}, "index must give rows of the gallery"),
    ],
)
def test_what_is_wrong_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        audit_embeddings({"m": Embeddings.from_arrays(*clouds())}, **options)


def test_no_query_finds_its_own_item_by_an_index():
    keys = np.arange(5)
    found = indexes.first_of_index(lambda points, k: np.tile([0, 1, 2], (5, 1)), np.zeros((5, 2)), keys, keys)
    assert found.tolist() == [1, 0, 0, 0, 0]
