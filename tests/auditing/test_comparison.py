"""Comparisons of real audits: outcomes are those of the figures, and every kind of audit tells which rows it tested."""

import numpy as np
import pytest
from sklearn.datasets import load_iris

from certimetric.auditing import audit, audit_verification, compare_audits
from certimetric.report.changes.outcomes import unpack


@pytest.fixture(scope="module")
def audits():
    """Two audits of the same splits, and one of others."""
    X, y = load_iris(return_X_y=True)
    asked = {"learners": ["euclidean"], "repeats": 2, "eps": [0.3], "noise": [0.5], "test_rows": 20}
    return [audit(X[::2], y[::2], n_neighbors=k, seed=seed, **asked) for k, seed in ((1, 0), (9, 0), (1, 1))]


def test_outcomes_are_those_of_the_figures(audits):
    for result in audits:
        (learner,), tested = result.document["learners"], result.document["data"]["tested"]
        for key, figure in (("error", learner["summary"]["error"]), ("certified_accuracy", None)):
            counts = unpack(learner["outcomes"][key])
            mean = (figure or learner["summary"][key][0])["mean"]
            assert len(counts) == tested["rows"] and counts.sum() / tested["tests"] == pytest.approx(mean)


def test_the_same_splits_compare_in_pairs_and_others_by_intervals(audits):
    how = [{each["key"]: each["how"] for each in compare_audits(audits[0], other).document["figures"]}["error"]
           for other in audits[1:]]  # fmt: skip
    assert how == ["the same rows in pairs", "two intervals"]


def test_frame_and_files(audits, tmp_path):
    told = compare_audits(audits[0], audits[1])
    frame = told.to_frame().set_index("key")
    means = [result.document["learners"][0]["summary"]["error"]["mean"] for result in audits[:2]]
    assert frame.loc["error", ["before", "after"]].tolist() == means
    assert frame.loc["error", "change"] == pytest.approx(means[1] - means[0])
    files = told.save(tmp_path / "out")
    assert [path.name for path in files] == ["compare.json", "compare.html"]
    assert files[1].read_text(encoding="utf-8") == told.to_html()
    for wrong in (-0.1, 2, "much", True):
        with pytest.raises(ValueError, match="tolerance must be a share from 0 to 1"):
            compare_audits(audits[0], audits[1], tolerance=wrong)


def test_audits_of_embeddings_and_of_verification_compare():
    pytest.importorskip("torch")
    from certimetric.auditing import audit_embeddings
    from certimetric.datasets.embedding_files import Embeddings

    rng = np.random.default_rng(0)
    labels = np.arange(80) % 4
    points = [rng.normal(size=(80, 3)) + spread * labels[:, None] for spread in (3.0, 0.5)]
    found = [audit_embeddings({"model": Embeddings.from_arrays(each, labels)}, eps=[0.25]) for each in points]
    told = compare_audits(*found).to_frame().set_index("key")
    assert told.loc[["recall_at_1", "recall_at_1_attacked"], "outcome"].tolist() == ["regression"] * 2
    X, y = load_iris(return_X_y=True)
    (one, two) = (
        audit_verification(X[::2], y[::2], learners=["euclidean"], repeats=1, far=0.2, eps=[size])
        for size in (0.1, 0.2)
    )
    outcomes = compare_audits(one, two).to_frame().set_index("key")["outcome"]
    assert outcomes["tar_matched"] == outcomes["auc"] == "same" and outcomes["certified_tar"] == "not comparable"
