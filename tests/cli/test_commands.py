"""The commands on real files."""

from __future__ import annotations

import json
import re
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from sklearn.preprocessing import StandardScaler

import certimetric
from certimetric import AuditResult, CertifiedKNeighborsClassifier, MahalanobisMetric, datasets

FAST = ["--learner", "euclidean", "--learner", "gmml", "--repeats", "2", "--jobs", "1"]
light = pytest.mark.usefixtures("light_attacks")
undrawn = pytest.mark.usefixtures("undrawn")


def test_audit_of_a_file(run, tmp_path):
    datasets.load("iris").to_frame().to_csv(tmp_path / "flowers.csv", index=False)
    outcome = run("audit", "flowers.csv", "--title", "My flowers", "--junit", "audit.xml", *FAST)
    assert outcome.code == 0
    assert outcome.err == ""
    folder = tmp_path / "certimetric-audit" / "flowers"
    assert str(folder.relative_to(tmp_path) / "report.html") in outcome.out
    assert "4 cells computed, 0 reused" in outcome.out
    html = (folder / "report.html").read_text(encoding="utf-8")
    document = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    assert "My flowers" in html
    assert document["verdict"]["sentence"].split(":")[0] in outcome.out
    for learner in document["learners"]:
        assert learner["label"] in html
        assert learner["label"] in outcome.out
        assert f"{100 * learner['summary']['error']['mean']:.1f}" in outcome.out
    assert document["reproduction"]["command"].startswith("certimetric audit flowers.csv --title 'My flowers'")
    assert document["data"]["source"] == "flowers.csv"
    assert document["data"]["sha256"] == datasets.load(tmp_path / "flowers.csv").sha256()
    files = document["reproduction"]["metric_files"]
    assert len(files) == 4
    assert all(MahalanobisMetric.load(folder / file["file"]).n_features == 4 for file in files)
    cases = ElementTree.parse(tmp_path / "audit.xml").getroot().iter("testcase")
    assert len(list(cases)) == len(document["checks"])


@light
@undrawn
@pytest.mark.slow
def test_the_command_line_and_python_agree(run, tmp_path, figures):
    datasets.load("iris").to_frame()[::5].to_csv(tmp_path / "iris.csv", index=False)
    options = ["--noise", "0.5,1", "--noise", "2", "--eps", "0.1,0.2", "--norm", "linf"]
    run("audit", "iris.csv", "--out", "out", *options, *FAST)
    iris = datasets.load(tmp_path / "iris.csv")
    result = certimetric.audit(
        iris.X,
        iris.y,
        feature_names=iris.feature_names,
        name="iris",
        learners=["euclidean", "gmml"],
        noise=[0.5, 1, 2],
        eps=[0.1, 0.2],
        norm="linf",
        repeats=2,
    )
    told = figures(AuditResult.load(tmp_path / "out").document)
    assert told["data"].pop("source") == "iris.csv"
    expected = figures(result.document)
    expected["data"].pop("source")
    assert told == expected


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    """The folder of an audit, to be judged by one standard after the other: its cells are computed once."""
    return tmp_path_factory.mktemp("judged") / "iris"


@pytest.mark.parametrize(
    ("threshold", "code"),
    [
        ("accuracy=0.5", 0),
        ("accuracy=1", 1),
        ("euclidean.accuracy=0.5", 0),
        ("gmml.certified@0.1=0.5", 0),
        ("gmml.certified@9=0.5", 1),
        ("noise@0.25=0.99", 1),
        ("noise@0.25=0.5", 0),
        ("median_radius=9", 1),
        ("median_radius=0.01", 0),
        ("balanced_accuracy=1", 1),
        ("gmml.recall@virginica=0.5", 0),
    ],
)
@light
@undrawn
def test_fail_under(run, judged, threshold, code):
    outcome = run("audit", "iris", "--fail-under", threshold, "--out", judged, *FAST)
    assert outcome.code == code
    assert ("FAIL" in outcome.out) == (code == 1)
    (entry,) = AuditResult.load(judged).document["thresholds"]
    assert entry["passed"] == (code == 0)
    assert entry["expression"] in outcome.out


@light
@undrawn
def test_another_audit_gets_a_folder_of_its_own(run, tmp_path):
    (tmp_path / "points.csv").write_text("u,v,class\n" + "".join(f"{i % 5},{i % 7},{'ab'[i % 2]}\n" for i in range(24)))
    quick = ["--learner", "euclidean", "--repeats", "1", "--jobs", "1", "--neighbors", "1"]
    whole = tmp_path / "certimetric-audit"
    assert str(whole.relative_to(tmp_path) / "points" / "report.html") in run("audit", "points.csv", *quick).out
    first = (whole / "points" / "report.html").read_bytes()
    other = run("audit", "points.csv", "--norm", "linf", *quick)
    assert "points-2/report.html" in other.out.replace("\\", "/")
    assert (whole / "points" / "report.html").read_bytes() == first
    again = run("audit", "points.csv", "--norm", "linf", *quick)
    assert "points-2/report.html" in again.out.replace("\\", "/")
    assert "0 cells computed, 1 reused" in again.out
    refused = run("audit", "points.csv", "--norm", "l1", "--out", whole / "points", *quick)
    assert refused.code == 2
    assert refused.err.count("\n") == 1
    assert "holds the report of another audit (with norm l2, not l1)" in refused.err
    assert (whole / "points" / "report.html").read_bytes() == first


@light
def test_a_report_is_rendered_again(run, tmp_path):
    run("audit", "iris", "--out", "out", "--learner", "euclidean", "--repeats", "1", "--neighbors", "1", "--jobs", "1")
    outcome = run("report", "out", "-o", "again.html")
    assert outcome.code == 0
    assert (tmp_path / "again.html").read_bytes() == (tmp_path / "out" / "report.html").read_bytes()


def test_fit_tells_that_a_learner_did_not_converge(run, tmp_path):
    outcome = run("fit", "iris", "--learner", "lmnn:max_iter=1")
    assert outcome.code == 0
    assert outcome.err.count("\n") == 1
    assert outcome.err.startswith("certimetric: warning: LMNN did not converge in max_iter=1 steps")
    assert MahalanobisMetric.load(tmp_path / "metric.safetensors").training["converged"] is False
    (tmp_path / "two.csv").write_text("u,class\n" + "0,a\n1,b\n" * 12)  # what LMNN asks for holds from the start
    still = run("fit", "two.csv", "--learner", "lmnn")
    assert (still.code, still.err.count("\n")) == (0, 1)
    assert still.err.startswith("certimetric: warning: LMNN did not move")
    assert run("fit", "iris", "--learner", "lmnn").err == ""


@light
@undrawn
def test_encode(run, tmp_path):
    (tmp_path / "mixed.csv").write_text(
        "size,colour,class\n" + "".join(f"{i % 5},{'rgb'[i % 3]},{'ab'[i % 2]}\n" for i in range(30))
    )
    assert run("audit", "mixed.csv", *FAST).code == 2
    outcome = run("audit", "mixed.csv", "--encode", *FAST)
    assert outcome.code == 0
    names = AuditResult.load(tmp_path / "certimetric-audit" / "mixed").document["data"]["feature_names"]
    assert "colour=r" in names


@light
@pytest.mark.slow
def test_filled_gaps_are_told(run, tmp_path):
    rows = [f"{'' if i % 10 == 0 else i * 37 % 101 + 0.3},{i * i * 53 % 97 / 7},{'ab'[i % 2]}\n" for i in range(30)]
    (tmp_path / "gaps.csv").write_text("u,v,class\n" + "".join(rows))
    outcome = run("audit", "gaps.csv", "--encode", "--out", "out", "--neighbors", "1", *FAST)
    assert outcome.code == 0
    result = AuditResult.load(tmp_path / "out")
    assert result.document["data"]["imputed"] == {"u": 3}
    (check,) = [check for check in result.document["checks"] if check["code"] == "CM016"]
    assert (check["severity"], "3 values in 3 rows of 30" in check["message"]) == ("tip", True)
    assert "u (3): each is the median of its feature in the training part" in result.to_html()


def test_fit_searches_and_tells_what_it_chose(run):
    outcome = run("fit", "iris", "--learner", "auto:cv=2,max_rows=40", "-o", "found.safetensors")
    assert outcome.code == 0
    training = MahalanobisMetric.load("found.safetensors").training
    assert (training["spec"], training["search"]["criterion"]) == ("auto:cv=2,max_rows=40", "balanced")
    chosen = training["search"]["chosen"]
    assert f": {chosen}\n  {chosen}: score" in outcome.out
    wrong = run("fit", "iris", "--learner", "auto:criterion=best")
    assert (wrong.code, wrong.err.count("\n")) == (2, 1)
    assert "certified@EPS" in wrong.err


def test_fit_folds_the_scale_into_the_metric(run, tmp_path):
    outcome = run("fit", "wine", "--learner", "lmnn", "-o", "wine.safetensors")
    assert outcome.code == 0
    assert "certimetric certify wine.safetensors wine" in outcome.out
    wine = datasets.load("wine")
    metric = MahalanobisMetric.load(tmp_path / "wine.safetensors")
    scaler = StandardScaler().fit(wine.X)
    expected = certimetric.LMNN().fit(scaler.transform(wine.X), wine.y).metric_.pairwise(scaler.transform(wine.X[:9]))
    np.testing.assert_allclose(metric.pairwise(wine.X[:9]), expected, rtol=1e-9)
    assert metric.feature_names == wine.feature_names
    assert metric.training["n_samples"] == 178
    assert metric.training["classes"] == ["class_0", "class_1", "class_2"]
    np.testing.assert_allclose(metric.training["scale"], scaler.scale_)


@pytest.fixture
def wine_files(run, tmp_path):
    """A metric, training data, and queries whose columns come in another order."""
    frame = datasets.load("wine").to_frame()
    frame.iloc[::2].to_csv(tmp_path / "train.csv", index=False)
    frame.iloc[1::6, ::-1].to_csv(tmp_path / "queries.csv", index=False)
    frame.iloc[1::6, :-1].to_csv(tmp_path / "unlabelled.csv", index=False)
    assert run("fit", "train.csv", "--learner", "gmml", "-o", "m.safetensors").code == 0
    return tmp_path


@pytest.mark.parametrize("units", ["standardised", "original"])
@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_certify(run, wine_files, units, norm):
    outcome = run("certify", "m.safetensors", "train.csv", "queries.csv", "--units", units, "--norm", norm)
    assert outcome.code == 0
    table = pd.read_csv(wine_files / "radii.csv")
    wine = datasets.load("wine")
    scaler = StandardScaler().fit(wine.X[::2])
    learned = certimetric.GMML().fit(scaler.transform(wine.X[::2]), wine.y[::2]).metric_
    if units == "original":
        knn = CertifiedKNeighborsClassifier(3, metric=learned.compose(scaler.scale_), norm=norm)
        labels, radii = knn.fit(wine.X[::2], wine.y[::2]).predict_with_radius(wine.X[1::6])
    else:
        knn = CertifiedKNeighborsClassifier(3, metric=learned, norm=norm)
        knn.fit(scaler.transform(wine.X[::2]), wine.y[::2])
        labels, radii = knn.predict_with_radius(scaler.transform(wine.X[1::6]))
    assert table["predicted"].tolist() == labels.tolist()
    np.testing.assert_allclose(table["radius"], radii, rtol=1e-6, atol=1e-12)
    assert table["label"].tolist() == wine.y[1::6].tolist()
    right = labels == wine.y[1::6]
    assert table["correct"].tolist() == right.astype(int).tolist()
    assert f"Accuracy {100 * right.mean():.1f} %" in outcome.out
    quoted = re.findall(r"Certified accuracy ([0-9.]+) % at ε = ([0-9.]+)", outcome.out)
    assert len(quoted) == 3
    for share, eps in quoted:
        assert float(share) == pytest.approx(100 * (right & (radii >= float(eps))).mean(), abs=0.06)


def test_certify_without_labels(run, wine_files):
    run("certify", "m.safetensors", "train.csv", "queries.csv", "-o", "labelled.csv")
    outcome = run("certify", "m.safetensors", "train.csv", "unlabelled.csv")
    assert outcome.code == 0
    assert "ccuracy" not in outcome.out
    table = pd.read_csv(wine_files / "radii.csv")
    assert list(table.columns) == ["row", "predicted", "radius"]
    labelled = pd.read_csv(wine_files / "labelled.csv")
    np.testing.assert_array_equal(table["radius"], labelled["radius"])


@light
@light
@undrawn
def test_certify_with_a_metric_of_an_audit(run, wine_files):
    run("audit", "train.csv", "--out", "out", "--learner", "gmml", "--repeats", "1", "--neighbors", "1", "--jobs", "1")
    outcome = run("certify", "out/metrics/gmml-0.safetensors", "train.csv", "queries.csv")
    assert outcome.code == 0
    assert "standard deviations" in outcome.out


def test_certify_labels_of_numbers(run, tmp_path):
    """Labels are compared as text, so that files with other labels among them agree."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(30, 2)) + 4 * (np.arange(30) % 3)[:, None]
    frame = pd.DataFrame(X, columns=["u", "v"]).assign(y=np.array(["1", "2", "other"])[np.arange(30) % 3])
    frame.to_csv(tmp_path / "train.csv", index=False)
    frame[frame["y"] == "1"].to_csv(tmp_path / "ones.csv", index=False)
    run("fit", "train.csv", "--learner", "euclidean")
    outcome = run("certify", "metric.safetensors", "train.csv", "ones.csv")
    assert outcome.code == 0
    assert "Accuracy 100.0 %" in outcome.out


def test_datasets(run):
    outcome = run("datasets")
    assert outcome.code == 0
    assert [line.split()[0] for line in outcome.out.splitlines()] == ["iris", "wine", "breast_cancer", "digits"]


def test_version_and_help(run):
    assert run("--version").out == f"certimetric {certimetric.__version__}\n"
    for command in ("audit", "fit", "certify", "attack", "report", "datasets"):
        outcome = run(command, "--help")
        assert outcome.code == 0
        assert "Usage" in outcome.out
    assert "certimetric audit iris" in run("audit", "--help").out


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_certify_exact(run, wine_files, norm):
    options = ["--exact", "-k", "1", "--norm", norm, "--units", "original"]
    outcome = run("certify", "m.safetensors", "train.csv", "queries.csv", *options)
    assert outcome.code == 0
    assert "Median smallest change" in outcome.out
    table = pd.read_csv(wine_files / "radii.csv")
    wine = datasets.load("wine")
    metric = MahalanobisMetric.load(wine_files / "m.safetensors")
    found = certimetric.minimal_perturbation(metric, wine.X[::2], wine.y[::2], wine.X[1::6], norm)
    np.testing.assert_allclose(table["exact"], found.radii, rtol=1e-6)
    assert (table["radius"] <= table["exact"]).all()
    assert (table["proven_at_least"] <= table["exact"]).all()
    assert table["proven"].all()


def test_certify_exact_in_too_little_time(run, wine_files):
    options = ["--exact", "-k", "7", "--time-limit", "0.000001"]
    outcome = run("certify", "m.safetensors", "train.csv", "queries.csv", *options)
    assert outcome.code == 0
    assert "not proven within the time limit" in outcome.out
    table = pd.read_csv(wine_files / "radii.csv")
    assert (table["proven_at_least"] < table["exact"])[table["proven"] == 0].all()


def test_attack(run, wine_files):
    threat = "l2:immutable=alcohol+ash,bounds=0..,integer=proline"
    pd.read_csv("queries.csv")[::2].to_csv("queries.csv", index=False)
    outcome = run("attack", "m.safetensors", "train.csv", "queries.csv", "--threat", threat, "--units", "original")
    assert outcome.code == 0
    assert "Accuracy" in outcome.out
    table = pd.read_csv(wine_files / "attack.csv")
    wine = datasets.load("wine")
    original, changed = wine.X[1::12], table[list(wine.feature_names)].to_numpy()
    fixed = [wine.feature_names.index(name) for name in ("alcohol", "ash")]
    np.testing.assert_array_equal(changed[:, fixed], original[:, fixed])
    assert (changed >= 0).all()
    assert (changed[:, wine.feature_names.index("proline")] % 1 == 0).all()
    success = table["success"] == 1
    assert success.any()
    # What the table says is what a classifier in Python finds at these points.
    metric = MahalanobisMetric.load(wine_files / "m.safetensors")
    knn = CertifiedKNeighborsClassifier(3, metric=metric).fit(wine.X[::2], wine.y[::2])
    assert knn.predict(changed).tolist() == table["adversarial_prediction"].tolist()
    assert (table["adversarial_prediction"] != table["label"])[success].all()
    sizes = np.linalg.norm(changed - original, axis=1)[success]
    np.testing.assert_allclose(sizes, table["distance"][success], rtol=1e-6, atol=1e-9)


def test_explain_tells_of_encoded_tables_as_they_stand_in_the_file(run, tmp_path):
    rows = [f"2020-0{1 + i % 9}-01,{'yes' if i % 2 else 'no'},{i},{'ab'[i > 9]}" for i in range(20)]
    (tmp_path / "t.csv").write_text("\n".join(["opened,member,age,class", *rows]) + "\n")
    (tmp_path / "q.csv").write_text("\n".join(["opened,member,age", *(row[:-2] for row in rows)]) + "\n")
    assert run("fit", "t.csv", "--encode", "-l", "euclidean", "-o", "m.safetensors").code == 0
    outcome = run("explain", "m.safetensors", "t.csv", "q.csv", "-k", "1", "--wanted", "b", "--threat", "l1:cost=age:9")
    assert outcome.code == 0, outcome.err
    changes = pd.read_csv(tmp_path / "changes.csv")["change"]
    assert (changes[10:] == "nothing: it is so already").all() and "10 are 'b' already" in outcome.out
    assert changes.str.contains(r"opened 2020-0\d-01 → 2020-").any()


def test_explain(run, wine_files):
    pd.read_csv("unlabelled.csv")[::5].round().to_csv("unlabelled.csv", index=False)
    words = ("m.safetensors", "train.csv", "unlabelled.csv", "--wanted", "class_1", "-k", "1", "--units", "original")
    words = (*words, "--threat", "l2:increase=alcohol,immutable=ash,integer=proline", "--time-limit", "60")
    outcome = run("explain", *words, "-n", "2")
    assert outcome.code == 0
    table, asked = pd.read_csv(wine_files / "changes.csv"), pd.read_csv("unlabelled.csv")
    for query, rows in table.groupby("query"):
        assert f"Query {query}: {rows['predicted'].iloc[0]}, certified up to" in outcome.out
        assert all(f"class_1 by {change}" in outcome.out for change in rows["change"])
    wine = datasets.load("wine")
    names = list(wine.feature_names)
    before, after = asked[names].to_numpy()[table["query"]], table[names].to_numpy()
    assert table["found"].all()
    assert table["proven"].all()
    assert (table["lower"] <= table["distance"]).all()
    np.testing.assert_allclose(np.linalg.norm(after - before, axis=1), table["distance"])
    assert (table["alcohol"] >= before[:, names.index("alcohol")]).all()
    assert (table["ash"] == before[:, names.index("ash")]).all()
    assert (table["proline"] % 1 == 0).all()
    # What the table says is what a classifier in Python finds at these points.
    metric = MahalanobisMetric.load(wine_files / "m.safetensors")
    knn = CertifiedKNeighborsClassifier(1, metric=metric).fit(wine.X[::2], wine.y[::2])
    assert (knn.predict(after) == table["label"]).all()
    again = run("explain", *words, "-o", "changes.json")
    assert again.code == 0
    told = json.loads((wine_files / "changes.json").read_text())
    first = table[table["rank"] == 1]
    assert [entry["change"] for entry in told] == first["change"].tolist()
    assert [entry["distance"] for entry in told] == pytest.approx(first["distance"].tolist())


@pytest.mark.slow
def test_attack_within_a_budget_and_in_standard_deviations(run, wine_files):
    pd.read_csv("unlabelled.csv")[::4].to_csv("unlabelled.csv", index=False)
    few = run("attack", "m.safetensors", "train.csv", "unlabelled.csv", "--threat", "linf:eps=0.1")
    small = pd.read_csv(wine_files / "attack.csv")
    many = run("attack", "m.safetensors", "train.csv", "unlabelled.csv", "--threat", "linf:eps=0.4")
    large = pd.read_csv(wine_files / "attack.csv")
    assert few.code == many.code == 0
    assert "standard deviations, linf norm" in few.out
    assert "ccuracy" not in few.out  # no labels, no accuracy
    assert small["success"].sum() < large["success"].sum() < len(large)
    assert (large["success"] >= small["success"]).all()
    assert (large["distance"][large["success"] == 1] <= 0.4).all()
    certified = run("certify", "m.safetensors", "train.csv", "unlabelled.csv", "--norm", "linf")
    assert certified.code == 0
    radii = pd.read_csv(wine_files / "radii.csv")["radius"]
    assert (radii <= large["distance"]).all()
