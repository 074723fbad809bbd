"""The audit from data to document: figures, resuming, determinism, failures."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing

import numpy as np
import pytest
from sklearn.base import BaseEstimator
from sklearn.metrics import balanced_accuracy_score, confusion_matrix, precision_score, recall_score
from sklearn.preprocessing import StandardScaler

from certimetric import AuditResult, CertifiedKNeighborsClassifier, Euclidean, MahalanobisMetric, audit
from certimetric.geometry import resolve_norm
from certimetric.runs.splits import split_indices, unit_noise
from certimetric.runs.store import Store, claimed

QUICK = ["euclidean", "gmml"]
light = pytest.mark.usefixtures("light_attacks")
undrawn = pytest.mark.usefixtures("undrawn")


class Failing(Euclidean):
    """Raises where the training part holds a certain row."""

    def __init__(self, row=None):
        self.row = row

    def fit(self, X, y=None):
        if self.row is None or (np.abs(X - self.row).max(axis=1) < 1e-9).any():
            raise RuntimeError("a row\nthat it cannot stand")
        return super().fit(X, y)


class Warning_(Euclidean):
    def fit(self, X, y=None):
        import warnings

        warnings.warn("not quite there", stacklevel=1)
        return super().fit(X, y)


class Blind(BaseEstimator):
    """A metric that sees the first feature only."""

    def fit(self, X, y=None):
        self.components_ = np.eye(X.shape[1])[:1]
        return self

    def transform(self, X):
        return X @ self.components_.T


def severities(result, code):
    return [(c["severity"], c["learner"]) for c in result.document["checks"] if c["code"] == code]


def test_figures_are_those_of_the_classifier(iris, iris_audit):
    """Split 1 of the Euclidean distance, computed again by hand."""
    _, codes = np.unique(iris.y, return_inverse=True)
    train, test = split_indices(codes, 0.3, 0, 1)
    scaler = StandardScaler().fit(iris.X[train])
    knn = CertifiedKNeighborsClassifier(3).fit(scaler.transform(iris.X[train]), iris.y[train])
    Q = scaler.transform(iris.X[test])
    split = iris_audit.document["learners"][0]["splits"][1]
    eps = iris_audit.document["protocol"]["eps"]
    assert split["error"] == pytest.approx(1 - knn.score(Q, iris.y[test]))
    np.testing.assert_allclose(split["certified_accuracy"], knn.certified_accuracy(Q, iris.y[test], eps))
    assert split["median_radius"] == pytest.approx(np.median(knn.correctness_radius(Q, iris.y[test])))
    assert (split["n_train"], split["n_test"]) == (51, 24)
    noise = unit_noise(Q.shape, 0, 1)
    levels = iris_audit.document["protocol"]["noise"]
    assert split["noise_error"] == pytest.approx([1 - knn.score(Q + s * noise, iris.y[test]) for s in levels])


def test_classes_add_up_to_the_whole(iris_audit):
    for learner in iris_audit.document["learners"]:
        rows = learner["per_class"]
        assert sum(row["count"] for row in rows) == 3 * 24
        assert sum(row["predicted"] for row in rows) == 3 * 24
        wrong = sum(row["count"] * row["error"] for row in rows)
        assert wrong / 72 == pytest.approx(learner["summary"]["error"]["mean"])
        assert [row["error"] for row in rows] == sorted((row["error"] for row in rows), reverse=True)


def test_one_median_radius(iris, iris_audit):
    """Mean over splits of the median, a wrong prediction counting as 0: the table's, the threshold's, each class's."""
    _, codes = np.unique(iris.y, return_inverse=True)
    whole, classes = [], {name: [] for name in iris_audit.document["data"]["classes"]}
    for split in range(3):
        train, test = split_indices(codes, 0.3, 0, split)
        scaler = StandardScaler().fit(iris.X[train])
        knn = CertifiedKNeighborsClassifier(3).fit(scaler.transform(iris.X[train]), iris.y[train])
        radii = knn.correctness_radius(scaler.transform(iris.X[test]), iris.y[test]).clip(0)
        whole.append(np.median(radii))
        for name, own in classes.items():
            own.append(np.median(radii[iris.y[test] == name]))
    learner = iris_audit.document["learners"][0]
    assert learner["summary"]["median_radius"]["mean"] == pytest.approx(np.mean(whole))
    for row in learner["per_class"]:
        assert row["median_radius"] == pytest.approx(np.mean(classes[row["class"]]))


def test_figures_of_classes_are_those_of_scikit_learn(iris, iris_audit):
    """Recall, precision, balanced accuracy and confusions, from predictions made again by hand."""
    _, codes = np.unique(iris.y, return_inverse=True)
    true, told, balanced = [], [], []
    for split in range(3):
        train, test = split_indices(codes, 0.3, 0, split)
        scaler = StandardScaler().fit(iris.X[train])
        knn = CertifiedKNeighborsClassifier(3).fit(scaler.transform(iris.X[train]), iris.y[train])
        true.append(iris.y[test])
        told.append(knn.predict(scaler.transform(iris.X[test])))
        balanced.append(balanced_accuracy_score(true[-1], told[-1]))
    true, told = np.concatenate(true), np.concatenate(told)
    classes = iris_audit.document["data"]["classes"]
    own = iris_audit.per_class().query("learner == 'euclidean'").set_index("class").loc[classes]
    assert own["recall"].tolist() == pytest.approx(recall_score(true, told, average=None))
    assert own["precision"].tolist() == pytest.approx(precision_score(true, told, average=None))
    np.testing.assert_array_equal(iris_audit.confusion_matrix("euclidean"), confusion_matrix(true, told))
    summary = iris_audit.document["learners"][0]["summary"]
    assert summary["balanced_accuracy"]["mean"] == pytest.approx(np.mean(balanced))
    recommended = iris_audit.document["verdict"]["recommended"]
    assert iris_audit.confusion_matrix().equals(iris_audit.confusion_matrix(recommended))
    with pytest.raises(ValueError, match="'lmnn'"):
        iris_audit.confusion_matrix("lmnn")


@light
def test_the_base_rate_is_known():
    """A rare class that is always missed: a small error, and no better than always answering the other."""
    rng = np.random.default_rng(0)
    y = np.zeros(100, dtype=int)
    y[:6] = 1
    asked = ["accuracy=0.9", "balanced_accuracy=0.6", "recall@1=0.1", "euclidean.recall@0=0.9"]
    result = audit(rng.normal(size=(100, 2)), y, learners=["euclidean"], n_neighbors=9, repeats=2, fail_under=asked)
    document = result.document
    assert document["baseline"] == {"class": "0", "error": pytest.approx(2 / 30), "balanced_accuracy": 0.5}
    assert [entry["passed"] for entry in document["thresholds"]] == [True, False, False, True]
    assert document["thresholds"][2] == {"expression": "euclidean.recall@1>=0.1", "observed": 0.0, "passed": False}
    assert result.status == "FAIL"
    assert "always answering '0', the most frequent class, is wrong on 6.7 %" in document["verdict"]["sentence"]
    header, rows = result.table()
    assert rows[-1][header.index("Error [%]")] == "6.7"
    assert [cell for name, cell in zip(header, rows[-1]) if name.startswith("Certified")] == ["93.3"]
    assert rows[-1][0] == "Always “0”"
    assert "Always “0”" in result.to_html()
    assert "told 1" in result.to_html()  # the column of the confusion matrix


@light
def test_of_a_rare_class_balanced_figures_decide():
    """One of 500: the verdict says so, and recommends who finds the rare class, not who answers the other always."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(1002, 3)), np.zeros(1002, dtype=int)
    y[:2], X[:2, 1] = 1, 8.0
    learners = {"blind": Blind(), "euclidean": "euclidean"}
    result = audit(X, y, learners=learners, n_neighbors=1, repeats=1, test_size=0.5)
    document = result.document
    assert document["protocol"]["judged_by"] == "balanced"
    assert document["verdict"]["recommended"] == "euclidean"
    assert (
        "99.8 % of the instances are of the class '0', so that balanced figures decide"
        in document["verdict"]["sentence"]
    )
    rows = result.per_class().set_index(["learner", "class"])
    assert rows.loc[("euclidean", "1"), "recall"] == 1.0 and rows.loc[("blind", "1"), "recall"] == 0.0
    assert (rows["certified"] <= rows["recall"]).all()
    assert "Balanced certified" in " ".join(result.table()[0])


def test_document_is_json_without_infinity_and_nan(iris_audit):
    text = iris_audit.to_json()
    assert json.loads(text, parse_constant=lambda name: pytest.fail(name)) == iris_audit.document


def test_curve_falls_from_accuracy(iris_audit):
    for learner in iris_audit.document["learners"]:
        assert len(learner["radius_quantiles"]) == 101
        assert (np.diff(learner["radius_quantiles"]) >= 0).all()
        for split in learner["splits"]:
            curve = split["certified_accuracy"]
            assert curve[0] == pytest.approx(1 - split["error"])
            assert (np.diff(curve) <= 0).all()


def test_chosen_eps(iris_audit):
    protocol = iris_audit.document["protocol"]
    medians = [np.median(learner["radius_quantiles"]) for learner in iris_audit.document["learners"]]
    assert protocol["report_eps"] in protocol["eps"]
    assert protocol["report_eps"] <= np.median(medians) * 1.05
    assert f"{protocol['report_eps']:e}"[0] in "125"
    tails = [learner["radius_quantiles"][95] for learner in iris_audit.document["learners"]]
    assert max(tails) <= max(protocol["eps"]) <= 2 * max(tails)


def test_fragile_instances_are_right_attacked_and_told_in_original_units(iris, iris_audit):
    for learner in iris_audit.document["learners"]:
        fragile = learner["fragile"]
        assert len(fragile) == 6
        radii = [entry["radius"] for entry in fragile]
        assert radii == sorted(radii)
        for entry in fragile:
            assert entry["label"] == entry["predicted"] == iris.y[entry["index"]]
            assert entry["radius"] <= entry["attack_distance"] * (1 + 1e-9)
            assert entry["adversarial_prediction"] != entry["predicted"]
            assert entry["neighbours_after"].count(entry["adversarial_prediction"]) >= 1
            size = np.linalg.norm([change["standardised"] for change in entry["changes"]])
            assert size == pytest.approx(entry["attack_distance"], rel=1e-6)  # iris has less than 8 features
            for change in entry["changes"]:
                column = iris.feature_names.index(change["name"])
                assert change["before"] == iris.X[entry["index"], column]


def test_anatomy(iris_audit):
    euclidean, gmml, _ = (learner["metric"] for learner in iris_audit.document["learners"])
    np.testing.assert_allclose(euclidean["spectrum"], 1.0)
    assert (euclidean["rank"], euclidean["condition_number"]) == (4, pytest.approx(1.0))
    assert gmml["condition_number"] > 1
    assert sum(feature["weight"] for feature in gmml["features"]) == pytest.approx(1.0)


def test_thresholds_and_verdict(iris_audit):
    first, second = iris_audit.document["thresholds"]
    assert first["passed"]
    assert not second["passed"]
    assert second["expression"] == "lmnn+pl:tau=0.5.certified@0.1>=0.99"
    assert iris_audit.status == "FAIL"
    assert not iris_audit.passed
    assert "recommended" in iris_audit.document["verdict"]["sentence"]


@pytest.mark.slow
def test_same_seed_same_figures_whatever_the_processes(iris, figures):
    X, y = iris.X[::2], iris.y[::2]
    runs = [audit(X, y, learners=QUICK, repeats=2, n_jobs=n) for n in (1, 2)]
    assert figures(runs[0].document) == figures(runs[1].document)
    other = audit(X, y, learners=QUICK, repeats=2, seed=1)
    assert figures(runs[0].document) != figures(other.document)


@light
@undrawn
def test_a_finished_run_computes_nothing_again(iris, tmp_path, figures, kept):
    first = audit(iris.X, iris.y, learners=QUICK, repeats=2, out=tmp_path)
    before, times = kept(tmp_path), {path: path.stat().st_mtime_ns for path in tmp_path.glob("metrics/*")}
    assert (
        sorted(suite for suite, *_ in before.values()) == ["audit"] * 4 + ["audit evidence"] * 2 + ["audit trust"] * 2
    )
    assert len(times) == 4
    again = audit(iris.X, iris.y, learners=QUICK, repeats=2, out=tmp_path)
    assert again.document["reproduction"]["cells"] == {"computed": 0, "reused": 4, "failed": 0}
    assert again.document["learners"] == first.document["learners"]
    (tmp_path / "results.json").unlink()  # leave to write over the report
    other_eps = audit(iris.X, iris.y, learners=QUICK, repeats=2, out=tmp_path, eps=[0.0, 0.3, 0.6])
    assert other_eps.document["reproduction"]["cells"]["computed"] == 0
    assert other_eps.document["protocol"]["report_eps"] == 0.3
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("metrics/*")} == times
    assert kept(tmp_path) == before
    # What memory gave is what the files give.
    assert figures(audit(iris.X, iris.y, learners=QUICK, repeats=2).document) == figures(first.document)


@light
@undrawn
def test_more_splits_and_learners_keep_the_old_ones(iris, tmp_path):
    audit(iris.X, iris.y, learners=["euclidean"], repeats=1, out=tmp_path)
    (tmp_path / "results.json").unlink()
    more = audit(iris.X, iris.y, learners=["euclidean", "gmml"], repeats=2, out=tmp_path)
    assert more.document["reproduction"]["cells"] == {"computed": 3, "reused": 1, "failed": 0}


@light
@undrawn
def test_what_changes_figures_is_computed_again(iris, tmp_path):
    """One of many changes; that every one changes the key is tested with the cells."""
    audit(iris.X, iris.y, learners=["euclidean"], repeats=1, out=tmp_path)
    (tmp_path / "results.json").unlink()
    again = audit(iris.X, iris.y, learners=["euclidean"], repeats=1, out=tmp_path, seed=1)
    assert again.document["reproduction"]["cells"]["reused"] == 0


@light
@undrawn
def test_the_report_of_another_audit_is_not_written_over(tmp_path):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(24, 2)), np.arange(24) % 2
    options = {"learners": ["euclidean"], "repeats": 1, "n_neighbors": 1}
    audit(X, y, out=tmp_path, **options)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for change, told in (
        ({"norm": "linf"}, "with norm l2, not linf"),
        ({"norm": resolve_norm("l2").in_units([1.0, 2.0])}, "with norm l2, not L2() in units of 2 features"),
        ({"repeats": 2}, "with repeats 1, not 2"),
        ({"eps": [0.5]}, "with other eps"),
        ({"learners": ["gmml"]}, "with other learners"),
        ({"seed": 1}, "with seed 0, not 1"),
        ({"X": X + 1}, "with other data"),
    ):
        with pytest.raises(ValueError, match="holds the report of another audit") as caught:
            audit(**{"X": X, "y": y, "out": tmp_path, **options, **change})
        assert told in str(caught.value)
        assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    # What does not change figures makes no other audit.
    judged = audit(X, y, out=tmp_path, **options, n_jobs=2, fail_under="accuracy=0")
    assert judged.document["reproduction"]["cells"]["computed"] == 0
    assert len(AuditResult.load(tmp_path).document["thresholds"]) == 1


def test_a_results_file_of_anything_else_is_not_written_over(tmp_path):
    (tmp_path / "results.json").write_text("[1, 2]")
    with pytest.raises(ValueError, match="whose options are not known"):
        audit(np.eye(4), [0, 0, 1, 1], learners=["euclidean"], n_neighbors=1, out=tmp_path)
    assert (tmp_path / "results.json").read_text() == "[1, 2]"


@light
@pytest.mark.parametrize("damage", ["row", "metric gone", "metric changed"])
@undrawn
def test_damaged_cells_are_computed_again(iris, tmp_path, damage, figures, kept):
    first = audit(iris.X, iris.y, learners=["gmml"], repeats=2, out=tmp_path)
    metric = tmp_path / first.document["reproduction"]["metric_files"][1]["file"]
    if damage == "row":
        key = next(key for key, (suite, *_) in kept(tmp_path).items() if suite == "audit")
        with closing(sqlite3.connect(tmp_path / "results.sqlite")) as database, database:
            database.execute("UPDATE cells SET result = substr(result, 1, 20) WHERE key = ?", (key,))
    elif damage == "metric gone":
        metric.unlink()
    else:
        MahalanobisMetric.from_components(np.eye(4)).save(metric)
    again = audit(iris.X, iris.y, learners=["gmml"], repeats=2, out=tmp_path)
    assert again.document["reproduction"]["cells"] == {"computed": 1, "reused": 1, "failed": 0}
    assert figures(again.document) == figures(first.document)
    assert MahalanobisMetric.load(metric).n_features == 4 and MahalanobisMetric.load(metric).training["spec"] == "gmml"


@light
@pytest.mark.parametrize("spoil", ["corrupt", "benchmark"])
def test_what_is_no_store_of_an_audit_is_left_alone(iris, tmp_path, spoil):
    if spoil == "corrupt":
        (tmp_path / "results.sqlite").write_bytes(b"no database " * 500)
    else:
        Store(tmp_path, "a benchmark").close()
    (tmp_path / "report.html").write_text("of somebody")
    before = (tmp_path / "results.sqlite").read_bytes()
    with pytest.raises(OSError, match=r"store of results|holds results of a benchmark, not of an audit") as caught:
        audit(iris.X, iris.y, learners=["euclidean"], repeats=1, out=tmp_path)
    assert "\n" not in str(caught.value)
    assert (tmp_path / "results.sqlite").read_bytes() == before
    assert (tmp_path / "report.html").read_text() == "of somebody"


@pytest.mark.slow
@light
def test_two_audits_at_once_in_one_folder(iris, tmp_path):
    with claimed(tmp_path, "an audit"), pytest.raises(OSError, match="another run is at work"):
        audit(iris.X, iris.y, learners=["euclidean"], repeats=1, out=tmp_path)
    assert audit(iris.X, iris.y, learners=["euclidean"], repeats=1, out=tmp_path).status == "REPORT"


@light
def test_a_folder_begun_by_an_earlier_version(iris, tmp_path, recwarn):
    """Its cells are neither used nor touched, and that is said, once."""
    (tmp_path / "cells").mkdir()
    (tmp_path / "cells" / "ab12.json").write_text("{}")
    with pytest.warns(UserWarning, match="kept in .*cells' is not used but computed anew"):
        first = audit(iris.X, iris.y, learners=["euclidean"], repeats=1, out=tmp_path)
    assert first.document["reproduction"]["cells"] == {"computed": 1, "reused": 0, "failed": 0}
    assert (tmp_path / "cells" / "ab12.json").read_text() == "{}"
    recwarn.clear()
    again = audit(iris.X, iris.y, learners=["euclidean"], repeats=1, out=tmp_path)
    assert again.document["reproduction"]["cells"]["reused"] == 1
    assert not [warning for warning in recwarn if "earlier version" in str(warning.message)]


@light
@undrawn
def test_metric_files_are_for_original_units(iris, tmp_path):
    result = audit(iris.X, iris.y, feature_names=iris.feature_names, learners=["gmml"], repeats=1, out=tmp_path)
    (file,) = result.document["reproduction"]["metric_files"]
    metric = MahalanobisMetric.load(tmp_path / file["file"])
    assert metric.feature_names == iris.feature_names
    assert metric.training["spec"] == "gmml"
    _, codes = np.unique(iris.y, return_inverse=True)
    train, test = split_indices(codes, 0.3, 0, 0)
    np.testing.assert_allclose(metric.training["mean"], iris.X[train].mean(axis=0))
    knn = CertifiedKNeighborsClassifier(3, metric=metric).fit(iris.X[train], iris.y[train])
    assert 1 - knn.score(iris.X[test], iris.y[test]) == pytest.approx(
        result.document["learners"][0]["splits"][0]["error"]
    )


@light
def test_a_learner_that_raises_does_not_stop_the_others(iris, tmp_path):
    # The row is in the training part of some splits only: the learner fails on some splits.
    _, codes = np.unique(iris.y, return_inverse=True)
    inside = [13 in split_indices(codes, 0.5, 0, split)[0] for split in range(3)]
    assert len(set(inside)) == 2
    first = inside.index(True)
    train, _ = split_indices(codes, 0.5, 0, first)
    row = (iris.X[13] - iris.X[train].mean(axis=0)) / iris.X[train].std(axis=0)
    learners = {"euclidean": "euclidean", "sometimes": Failing(row), "never": Failing()}
    arguments = {"learners": learners, "repeats": 3, "test_size": 0.5, "out": tmp_path}
    result = audit(iris.X, iris.y, **arguments)
    good, sometimes, never = result.document["learners"]
    assert all("failed" not in split for split in good["splits"])
    assert sometimes["splits"][first]["failed"] == "RuntimeError: a row that it cannot stand"
    assert sometimes["summary"] is not None
    assert never["summary"] is None
    assert never["metric"] is None
    assert severities(result, "CM012") == [("issue", "sometimes"), ("issue", "never")]
    assert ("skipped", "never") in severities(result, "CM001")
    assert result.status == "WARN"
    assert result.to_frame()["error"].isna().sum() == 4
    assert "<html" in result.to_html()
    again = audit(iris.X, iris.y, **arguments)  # what failed is tried again
    assert again.document["reproduction"]["cells"] == {"computed": 0, "reused": 5, "failed": 4}


def test_nothing_fitted(iris):
    result = audit(iris.X, iris.y, learners={"never": Failing()}, repeats=1, fail_under="accuracy=0")
    assert result.status == "FAIL"
    assert result.document["thresholds"][0] == {
        "expression": "recommended.accuracy>=0",
        "observed": None,
        "passed": False,
    }
    assert "<html" in result.to_html()


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["linf", pytest.param("l1", marks=pytest.mark.slow), np.diag([1.0, 2.0, 3.0, 4.0])])
def test_other_norms(iris, norm):
    result = audit(iris.X[::2], iris.y[::2], learners=["euclidean", "gmml"], norm=norm, repeats=2)
    assert severities(result, "CM001") == [("passed", None)]
    assert severities(result, "CM002") == [("passed", None)]
    protocol = result.document["protocol"]
    assert protocol["norm"] == (norm if isinstance(norm, str) else "ellipsoid")
    entry = result.document["learners"][0]["fragile"][0]
    change = np.zeros(4)
    for told in entry["changes"]:
        change[[f"x{i}" for i in range(4)].index(told["name"])] = told["standardised"]
    assert resolve_norm(norm).norm(change) == pytest.approx(entry["attack_distance"], rel=1e-6)


@light
def test_a_metric_that_is_blind(iris):
    result = audit(iris.X, iris.y, learners={"blind": Blind(), "euclidean": "euclidean"}, repeats=2)
    metric = result.document["learners"][0]["metric"]
    assert (metric["rank"], metric["condition_number"], metric["n_components"]) == (1, None, 1)
    assert ("tip", "blind") in severities(result, "CM009")
    assert "<html" in result.to_html()


@light
def test_infinite_radii_are_text():
    # One instance of class b is left for training: of three neighbours two are always of class a.
    X = np.arange(12.0)[:, None]
    y = ["a"] * 10 + ["b"] * 2
    result = audit(X, y, learners=["euclidean"], repeats=2)
    learner = result.document["learners"][0]
    assert learner["splits"][0]["median_radius"] == "inf"
    assert learner["radius_quantiles"][-1] == "inf"
    assert learner["summary"]["median_radius"] == {"mean": "inf", "std": None, "low": None, "high": None}
    assert severities(result, "CM007") == [("tip", None)]
    assert "<html" in result.to_html()
    assert np.isinf(result.to_frame()["median_radius"]).all()


@light
def test_image_evidence():
    from sklearn.datasets import load_digits

    X, y = load_digits(return_X_y=True)
    result = audit(X[:300], y[:300], learners=["euclidean"], repeats=1, image_shape=(8, 8))
    entry = result.document["learners"][0]["fragile"][0]
    np.testing.assert_array_equal(entry["image"]["original"], X[entry["index"]].reshape(8, 8))
    assert np.shape(entry["image"]["adversarial"]) == (8, 8)
    assert len(entry["changes"]) == 8


@light
def test_warnings_of_a_learner_are_told(iris):
    result = audit(iris.X, iris.y, learners={"warns": Warning_()}, repeats=1)
    (check,) = [c for c in result.document["checks"] if c["code"] == "CM008"]
    assert "not quite there" in check["message"]
