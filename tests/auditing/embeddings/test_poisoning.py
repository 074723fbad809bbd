"""Items added to the gallery in audits: figures are those of a gallery that holds them, and the report tells them."""

from __future__ import annotations

import re

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is not installed: the extra 'deep' has it")

from certimetric.auditing import audit_embeddings, compare_audits
from certimetric.datasets.embedding_files import Embeddings
from certimetric.deep import certify_additions, poison_gallery
from certimetric.report import render_audit

N_ADDED = 3


def clouds(n, seed):
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 3
    return rng.normal(size=(n, 12)) + 2.5 * np.eye(12)[labels], labels


@pytest.fixture(scope="module")
def given():
    gallery, labels = clouds(100, 0)
    return Embeddings.from_arrays(gallery, labels, *clouds(60, 1), ids=range(100), query_ids=range(100, 160))


@pytest.fixture(scope="module")
def result(given):
    return audit_embeddings({"m": given}, threats=[f"poisoning={N_ADDED}"], fail_under="poisoning=0.99")


def right(queries, own, gallery, labels, added=()):
    """Whether the nearest of gallery and added items, which are of no class, is of the class of each query."""
    items, known = np.concatenate([*([added] if len(added) else []), gallery]), [-1] * len(added) + list(labels)
    first = np.linalg.norm(queries[:, None] - items, axis=2).argmin(axis=1)
    return np.array(known)[first] == own


def test_figures_are_those_of_the_poisoned_gallery(given, result):
    (told,) = result.document["learners"][0]["threats"]
    found = poison_gallery(given.queries, given.gallery, N_ADDED)
    sides = given.queries[found.new], given.query_labels[found.new], given.gallery, given.labels
    shares = [right(*sides, found.items[:n]).mean() for n in range(N_ADDED + 1)]
    assert told["curve"] == pytest.approx(shares) and shares[-1] < shares[0]
    assert (told["clean"]["mean"], told["attacked"]["mean"]) == pytest.approx((shares[0], shares[-1]))
    captured = [(found.captured_by > 0) & (found.captured_by <= n) for n in range(1, N_ADDED + 1)]
    assert found.captured_new == pytest.approx([each.mean() for each in captured])


def test_the_vote_is_of_the_same_queries_and_certified(given, result):
    vote = result.document["learners"][0]["threats"][0]["vote"]
    new = poison_gallery(given.queries, given.gallery, N_ADDED).new
    found = certify_additions(given.queries[new], given.gallery, given.labels, n_parts=vote["n_parts"])
    assert vote["n_parts"] == 10
    assert vote["curve"] == pytest.approx(found.certified_recall(given.query_labels[new], range(N_ADDED + 1)))
    assert vote["certified"]["mean"] == vote["curve"][-1] > 0
    by_product = audit_embeddings({"m": given}, threats=["poisoning"], metric="dot").document
    assert by_product["learners"][0]["threats"][0]["vote"] is None  # inner products are not certified


def test_table_page_threshold_and_tools(result):
    assert result.status == "FAIL" and result.document["thresholds"][0]["expression"] == "m.poisoning>=0.99"
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", render_audit(result.document)))
    for words in (
        "3 items of any embedding added to the gallery R@1. Who could do it: who may add items",
        "missed: at least 99.0 %",
        "where a vote of 10 parts of the gallery answers",
        "R@1 certified against added items",
        "How often items are found",
    ):
        assert words in text, words
    assert "m.poisoning&gt;=0.99" in result.to_junit() and "m.poisoning>=0.99" in result.to_sarif()
    frame = result.to_frame().set_index("attack")
    assert frame.loc["poisoning", "recall_at_1"] == result.document["thresholds"][0]["observed"]


def test_audits_with_and_without_compare(given, result):
    told = compare_audits(result, result).to_frame().set_index("key")
    assert told.loc[["poisoning", "poisoning_vote"], "outcome"].tolist() == ["same", "same"]
    other = audit_embeddings({"m": given}, threats=["poisoning=2"])
    told = compare_audits(result, other).to_frame().set_index("key")
    assert told.loc[["poisoning", "poisoning_vote"], "outcome"].tolist() == ["not comparable"] * 2
    without = audit_embeddings({"m": given}).document
    assert [each["name"] for each in without["protocol"]["untried"]] == ["poisoning"]
    assert "10 items of any embedding added to the gallery (--threat poisoning)" in render_audit(without)


def test_what_was_found_is_kept(given, tmp_path):
    runs = [audit_embeddings({"m": given}, threats=["poisoning=2"], out=tmp_path) for _ in range(2)]
    assert [run.document["reproduction"]["cells"]["reused"] for run in runs] == [0, 1]
    assert runs[0].document["learners"] == runs[1].document["learners"]
    with pytest.raises(ValueError, match="with other threats"):
        audit_embeddings({"m": given}, threats=["poisoning=3"], out=tmp_path)


def test_threats_that_need_pictures_are_none_of_embeddings(given):
    with pytest.raises(ValueError, match="threats must be of poisoning, got 'patch'"):
        audit_embeddings({"m": given}, threats=["patch"])
