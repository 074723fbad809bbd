"""The empirical robustness score in the audit: the figures of the score itself, kept goal by goal."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: the extra 'deep' has it")

from torch import nn  # noqa: E402

from certimetric.auditing import AuditResult, audit_retrieval  # noqa: E402
from certimetric.deep import empirical_robustness_score  # noqa: E402
from certimetric.deep.retrieval import RankingEvaluation  # noqa: E402


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8))


def audited(data, **options):
    return audit_retrieval(
        {"model": network()}, data, eps=[0.05], n_checked=0, attacks=["fgsm"], n_queries=25, seed=3, **options
    )


@pytest.fixture(scope="module")
def result(data, tmp_path_factory):
    return audited(data, ers=True, out=tmp_path_factory.mktemp("whole"))


def test_figures_are_those_of_the_score(result, data):
    expected = empirical_robustness_score(network(), data, n_queries=25, seed=3)
    learner, pixels = result.document["learners"]
    assert learner["robustness_score"] == expected.summary()
    assert learner["robustness_score"]["recall_at_1"] == learner["clean"]["recall_at_1"]
    raw = empirical_robustness_score(nn.Flatten(), data, n_queries=25, seed=3)
    assert pixels["robustness_score"]["score"] == raw.score
    told = result.document["protocol"]["robustness_score"]
    assert told == {"norm": "linf", "eps": 77 / 255, "metric": "euclidean", "steps": 32, "step_size": 3 / 255}
    assert "ers=True" in result.document["reproduction"]["command"]


def test_table_and_page_show_it_beside_r_at_1(result):
    header, rows = result.table()
    assert header[1].startswith("R@1")
    score = result.document["learners"][0]["robustness_score"]["score"]["mean"]
    assert rows[0][header.index("ERS [of 100]")].split()[0] == f"{score:.1f}"
    html = result.to_html()
    assert 'id="ers"' in html
    assert "77/255, 32 steps of 3/255" in html


def test_without_it_nothing_is_said(data):
    plain = audited(data)
    assert "robustness_score" not in plain.document["learners"][0]
    assert "robustness_score" not in plain.document["protocol"]
    assert "ERS" not in " ".join(plain.table()[0])
    assert 'id="ers"' not in plain.to_html()


def test_a_stopped_audit_goes_on(result, data, tmp_path, monkeypatch):
    measure, goals = RankingEvaluation.measure, []

    def stopping(self, goal, attack):
        goals.append(goal)
        if len(goals) == 5:
            raise KeyboardInterrupt
        return measure(self, goal, attack)

    monkeypatch.setattr(RankingEvaluation, "measure", stopping)
    with pytest.raises(KeyboardInterrupt):
        audited(data, ers=True, out=tmp_path)
    monkeypatch.setattr(RankingEvaluation, "measure", measure)
    again = audited(data, ers=True, out=tmp_path)
    # Of the model: two cells of retrieval and four goals; then five goals, and eleven cells of raw pixels.
    assert again.document["reproduction"]["cells"] == {"computed": 16, "reused": 6, "failed": 0}
    assert again.document["learners"] == result.document["learners"]
    assert AuditResult.load(tmp_path).document["learners"] == result.document["learners"]
