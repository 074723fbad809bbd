"""Audits of large tables: of samples, in stages that a budget allows, each with a report that the next replaces."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from scipy.stats import binom
from sklearn.datasets import load_digits
from sklearn.preprocessing import StandardScaler

from certimetric import AuditResult, CertifiedKNeighborsClassifier, audit
from certimetric.auditing.tables import plan
from certimetric.auditing.tables.intervals import median
from certimetric.auditing.tables.request import Request
from certimetric.auditing.tables.sizes import Costs, Law, Sizes, expected, largest_within
from certimetric.base.results import wilson
from certimetric.runs.splits import split_indices
from certimetric.runs.store import Store

FULL = Sizes(70_000, 5000, 100, 3)


class Time:
    """A clock that work moves."""

    def __init__(self):
        self.now = 0.0

    def perf_counter(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Time()
    monkeypatch.setattr(plan, "time", clock)
    return clock


def laws(fit, test, attack):
    return Costs(*(Law({1000: 1000 * each, 2000: 1250 * each}) for each in (fit, test, attack)))


def planned(request, clock, monkeypatch, store, cost, until=None):
    """Sizes of the stages of a request whose learners cost so much, until the clock says so; and what was told."""
    monkeypatch.setattr(plan, "pilot", lambda request, seconds: {each.spec: cost for each in request.subjects})
    found, told = [], []
    for stage in plan.stages(request, store, told.append):
        found.append(stage.sizes)
        if until is not None and clock.now + expected({"": cost}, stage.sizes, 1) > until:
            break  # killed in the middle of it
        clock.now += expected({"": cost}, stage.sizes, 1)
    return found, told


@pytest.fixture(scope="module")
def large():
    """A request about 100,000 rows, nothing of which is computed."""
    rng = np.random.default_rng(0)
    return lambda **options: Request(
        rng.standard_normal((100_000, 1)), np.arange(100_000) % 2, learners="euclidean", repeats=3, **options
    )


def test_sizes_grow_up_to_everything():
    rungs = FULL.ladder()
    assert rungs[-1] == FULL and len(set(rungs)) == len(rungs)
    cost = {"": laws(1e-4, 1e-6, 1e-4)}
    seconds = [expected(cost, sizes, 1) for sizes in rungs]
    assert seconds == sorted(seconds)
    for before, after in pairwise(rungs):
        assert before.train <= after.train and before.test <= after.test and before.attacked <= after.attacked
    small = Sizes(100, 50, 50, 2)
    assert small.ladder() == [Sizes(100, 50, 20, 1), Sizes(100, 50, 40, 1), replace(small, repeats=1), small]
    for limit in (seconds[0], seconds[3] * 1.001, np.inf):
        chosen = largest_within(rungs, lambda sizes: expected(cost, sizes, 1), limit)
        assert expected(cost, chosen, 1) <= limit
    assert largest_within(rungs, lambda sizes: expected(cost, sizes, 1), seconds[0] / 2) is None


def test_processes_share_all_but_the_longest_cell():
    costs = {"quick": laws(1e-5, 0, 0), "slow": laws(1e-3, 0, 0)}
    alone = expected(costs, FULL, 1)
    assert expected(costs, FULL, 2) == pytest.approx(alone / 2)
    assert expected(costs, FULL, 100) == costs["slow"].seconds(replace(FULL, repeats=1))


def test_costs_are_those_of_the_largest_sizes():
    law = Law({1000: 5.0, 4000: 1.0})  # the first was slow for another reason
    assert law.at(8000) >= 1.0
    law.points[8000] = 3.0
    assert law.at(16_000) == pytest.approx(7.0)
    assert Law().at(100) == 0.0


@pytest.mark.parametrize("budget", [120, 600, 3600, 1e6])
def test_stages_end_within_the_budget(large, clock, monkeypatch, budget):
    request = large(budget=budget)
    with Store(None, "an audit") as store:
        cost = laws(1e-3, 2e-7, 1e-5)
        found, told = planned(request, clock, monkeypatch, store, cost)
        assert clock.now <= budget
        assert expected({"": cost}, found[0], 1) <= plan.FIRST_LOOK
        assert found == sorted(found, key=lambda sizes: expected({"": cost}, sizes, 1))
        assert (found[-1] == request.sizes) == (budget >= 600)
        assert told[1].startswith("plan: 1 learner,") and f"{found[0].train:,} of 70,000 training rows" in told[2]
        # The same command again: what is finished is taken, and nothing is planned any more.
        assert planned(request, clock, monkeypatch, store, cost) == (found[-1:], [])


def test_a_run_that_was_stopped_goes_on_with_its_plan(large, clock, monkeypatch):
    request, cost = large(budget="10m"), laws(1e-4, 2e-7, 1e-5)
    with Store(None, "an audit") as store:
        wanted, _ = planned(request, clock, monkeypatch, store, cost)
    clock.now = 0.0
    with Store(None, "an audit") as store:
        begun, _ = planned(request, clock, monkeypatch, store, cost, until=100.0)
        assert 1 < len(begun) <= len(wanted)
        again, _ = planned(request, clock, monkeypatch, store, cost)
        assert again[: len(begun)] == begun


def test_what_cannot_end_in_time_is_said(large, clock, monkeypatch):
    with Store(None, "an audit") as store:
        found, told = planned(large(budget="5s"), clock, monkeypatch, store, laws(1e-2, 0, 0))
    assert found == [large().sizes.ladder()[0]]
    assert any("longer than the 5 s that are left" in text for text in told)


def test_a_large_table_without_a_budget_is_done_whole_after_a_first_report(large, clock, monkeypatch):
    request = large()
    with Store(None, "an audit") as store:
        found, told = planned(request, clock, monkeypatch, store, laws(1e-3, 1e-6, 1e-4))
    assert len(found) == 2 and found[-1] == request.sizes == Sizes(70_000, 5000, 100, 3)
    assert not any("budget" in text for text in told)


@pytest.mark.parametrize(("seconds", "largest"), [(0.0, (1000, 4000)), (60.0, (4000, 4000)), (500.0, (4000, 60_000))])
def test_a_pilot_ends_within_its_share_of_the_budget(large, clock, monkeypatch, seconds, largest):
    """A fit takes 2 s for a thousand rows, predictions and attacks 4 s more: 2 + 24 s first, then 8 + 360 s."""

    def work(rate, told):
        def at(request, *_):
            clock.now += rate * request.sizes.train / 1000
            return told

        return at

    monkeypatch.setattr(plan, "learned", work(2.0, (None, {"fit_seconds": 1.0})))
    monkeypatch.setattr(plan, "tested", work(1.0, {}))
    monkeypatch.setattr(plan, "examine", work(3.0, {}))
    (costs,) = plan.pilot(large(), seconds).values()
    assert (
        (max(costs.fit.points), max(costs.test.points)) == largest == (max(costs.fit.points), max(costs.attack.points))
    )
    assert clock.now <= max(seconds, 30.0)


def test_samples_have_of_every_class_its_share():
    codes = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [900, 90, 10]))
    train, test = split_indices(codes, 0.3, 0, 0)
    few, some = (split_indices(codes, 0.3, 0, 0, train_rows=size, test_rows=size) for size in (50, 200))
    assert np.bincount(codes[few[0]]).tolist() == [45, 5, 5] and np.bincount(codes[few[1]]).tolist() == [45, 4, 1]
    for part in (0, 1):
        assert set(few[part]) < set(some[part]) < set((train, test)[part])
        assert (np.diff(some[part]) > 0).all()
    everything = split_indices(codes, 0.3, 0, 0, train_rows=700, test_rows=300)
    np.testing.assert_array_equal(everything[0], train)
    np.testing.assert_array_equal(everything[1], test)


@pytest.mark.usefixtures("light_attacks", "undrawn")
def test_figures_of_a_sample_are_those_of_its_instances(tmp_path):
    X, y = load_digits(n_class=3, return_X_y=True)
    result = audit(X, y, learners="euclidean", repeats=1, test_rows=60, noise=[], eps=[0.5], out=tmp_path)
    train, test = split_indices(y, 0.3, 0, 0, test_rows=60)
    assert len(train) == len(y) - round(0.3 * len(y)) and len(test) == 60
    scaler = StandardScaler().fit(X[train])
    knn = CertifiedKNeighborsClassifier(3).fit(scaler.transform(X[train]), y[train])
    radii = knn.correctness_radius(scaler.transform(X[test]), y[test])
    summary = result.document["learners"][0]["summary"]
    assert summary["median_radius"]["mean"] == pytest.approx(np.median(radii))
    certified = summary["certified_accuracy"][0]
    assert certified["mean"] == pytest.approx((radii >= 0.5).mean()) and certified["std"] is None
    assert {key: certified[key] for key in ("low", "high")} == wilson(certified["mean"], 60)
    for figure in ("error", "balanced_accuracy", "median_radius"):
        assert summary[figure]["low"] <= summary[figure]["mean"] <= summary[figure]["high"]
    assert "60 of 161 test rows" in result.document["verdict"]["sentence"]
    check = next(each for each in result.document["checks"] if each["code"] == "CM011")
    assert check["severity"] == "passed" and "60 of 161" in check["message"]


@pytest.mark.slow
@pytest.mark.usefixtures("light_attacks", "undrawn")
def test_with_time_enough_a_budget_changes_no_figure(iris, tmp_path, monkeypatch, figures):
    asked = {"learners": ["euclidean", "gmml"], "repeats": 2}
    wanted = figures(audit(iris.X, iris.y, **asked).document)
    monkeypatch.setattr(plan, "FIRST_LOOK", 1e-6)  # so that there is one
    reports, save = [], AuditResult.save
    monkeypatch.setattr(AuditResult, "save", lambda self, *a, **k: (reports.append(self), save(self, *a, **k)))
    found = figures(audit(iris.X, iris.y, **asked, budget="100h", out=tmp_path).document)
    assert found["protocol"]["sizes"].pop("budget_seconds") == 360_000
    wanted["protocol"]["sizes"].pop("budget_seconds")
    assert found == wanted
    assert [report.document["protocol"]["sizes"]["repeats"] for report in reports][:: max(1, len(reports) - 1)] == [
        1,
        2,
    ]
    assert figures(AuditResult.load(tmp_path).document)["learners"] == found["learners"]
    again = audit(iris.X, iris.y, **asked, budget="100h", out=tmp_path).document
    assert again["reproduction"]["cells"] == {"computed": 0, "reused": 4, "failed": 0}


@pytest.mark.parametrize("n", [5, 30, 1001])
def test_intervals_cover_the_median(n):
    """The true median is between the order statistics unless too few or too many values are below it."""
    values = np.sort(np.random.default_rng(0).standard_normal(n) ** 2)
    found = median(values)
    low, high = float(found["low"]), float(found["high"])
    below, above = int((values <= low).sum()), int((values >= high).sum())
    # P(fewer than `below` or fewer than `above` values on one side of the median)
    missed = (binom.cdf(below - 1, n, 0.5) if below else 0.0) + (binom.cdf(above - 1, n, 0.5) if above else 0.0)
    assert missed <= 0.05


@pytest.mark.parametrize("given", ["soon", "-5m", "0", "10d", "", True, float("inf"), "1e3"])
def test_a_budget_is_a_span_of_time(iris, given):
    with pytest.raises(ValueError, match="budget must be a span of time such as 90s, 10m or 2h, got"):
        Request(iris.X, iris.y, budget=given)
