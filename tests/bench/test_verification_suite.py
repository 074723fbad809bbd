"""The suite ``verification``: nothing is shared by its parts, and its rates are those of plain counting."""

from __future__ import annotations

import dataclasses
import json
from xml.etree import ElementTree

import numpy as np
import pytest

from certimetric import MahalanobisMetric
from certimetric.bench.datasets import NamedSet, find_datasets
from certimetric.bench.suites import find_suite, verification
from certimetric.bench.verification import threefold
from certimetric.certify import pair_radii
from certimetric.report.bench.page import bench_svgs
from certimetric.runs.key import Record

SUITE = find_suite("verification")
SMALL = {"test_rows": 200, "fit_rows": 150, "pairs": 300, "resamples": 10}
LEARNERS = ("euclidean", "gmml", "itml")


@pytest.fixture(scope="module")
def plan():
    digits, *_ = SUITE.datasets
    assert isinstance(digits, NamedSet)
    found, _ = find_datasets((digits,), None, network=False)
    return SUITE.cells(found, seed=0, splits=2)


@pytest.fixture(scope="module")
def records(plan):
    cells = [
        dataclasses.replace(cell, parameters={**cell.parameters, **SMALL})
        for cell in plan
        if cell.learner in LEARNERS and (cell.split == 0 or cell.parameters["part"] == "classes")
    ]
    return [Record(cell, "done", json.loads(json.dumps(SUITE.run(cell))), "", 1.0) for cell in cells]


def results(records, **wanted):
    return [
        record.result
        for record in records
        if all(record.cell.parameters.get(name, getattr(record.cell, name, None)) == v for name, v in wanted.items())
    ]


def test_plan_has_every_learner_in_every_part(plan):
    assert len({cell.key for cell in plan}) == len(plan) == 2 * 2 * len(SUITE.learners)
    for part in verification.PARTS:
        assert [c.learner for c in plan if c.parameters["part"] == part and c.split == 0] == list(SUITE.learners)


@pytest.mark.parametrize("by_classes", [True, False])
def test_parts_share_no_class_or_no_instance(by_classes):
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 11, 500)
    X = rng.integers(0, 40, (500, 2)).astype(float)  # many rows occur more than once
    parts = threefold(X, codes, by_classes, 3)
    rows = [{row.tobytes() for row in X[part]} for part in parts]
    assert not rows[0] & rows[1] and not rows[0] & rows[2] and not rows[1] & rows[2]
    classes = [set(codes[part]) for part in parts]
    if by_classes:
        assert [len(names) for names in classes] == [4, 4, 3] and len(set.union(*classes)) == 11
    assert all(len(part) > 20 for part in parts)
    again = threefold(X, codes, by_classes, 3)
    assert all(np.array_equal(a, b) for a, b in zip(parts, again))


def test_too_few_classes_are_told():
    with pytest.raises(ValueError, match="need six classes, got 3"):
        threefold(np.random.default_rng(0).random((9, 2)), np.repeat([0, 1, 2], 3), True, 0)


def test_learners_are_judged_by_the_same_pairs_and_sizes(records):
    for part in verification.PARTS:
        found = results(records, part=part, split=0)
        assert len(found) == len(LEARNERS)
        assert len({tuple(r["n_pairs"]) for r in found}) == len({r["scale"] for r in found}) == 1
        expected = [4, 3, 3] if part == "classes" else [10, 10, 10]
        assert all(r["n_classes"] == expected for r in found)


def test_thresholds_do_not_see_test_pairs(plan, monkeypatch):
    """With other test instances, every threshold is the same."""
    cell = dataclasses.replace(plan[0], parameters={**plan[0].parameters, **SMALL})
    before = SUITE.run(cell)
    original = verification.threefold

    def other_test(*arguments):
        train, calibration, test = original(*arguments)
        return train, calibration, test[::2]

    monkeypatch.setattr(verification, "threefold", other_test)
    after = SUITE.run(cell)
    assert before["auc"] != after["auc"]
    for far in verification.FARS:
        assert before["rates"][far]["threshold"] == after["rates"][far]["threshold"]


def test_attacked_rates_are_bounded_by_certified_ones(records):
    for result in results(records):
        assert result["violations"] == 0
        for rates in result["rates"].values():
            certified, attacked = rates["certified"], rates["attacked"]
            for kind, sign in (("tar", 1), ("far", -1)):
                sure, reached = np.array(certified[kind]), np.array(attacked[kind])
                assert (sign * np.diff(sure) <= 0).all() and sure[0] == reached[0]
                assert (sign * sure <= sign * reached).all()
                # Without bounds on features the attack is the smallest change: both are the truth.
                np.testing.assert_allclose(sure, reached, atol=0.01)
                low, high = (np.array(certified[f"{kind}_{end}"]) for end in ("low", "high"))
                assert (low <= high).all()


def test_rates_are_those_of_plain_counting():
    rng = np.random.default_rng(0)
    metric = MahalanobisMetric.from_components(rng.standard_normal((3, 3)))
    pairs, subjects = rng.standard_normal((200, 2, 3)), rng.integers(0, 4, (200, 2))
    t = 1.5
    radii = pair_radii(metric, pairs, t)
    accepted = metric.distance(pairs[:, 0], pairs[:, 1]) <= t
    found = verification._rates(np.where(accepted, 1, -1), radii, subjects, 0)
    genuine = subjects[:, 0] == subjects[:, 1]
    for eps, tar, far in zip(verification.SIZES, found["tar"], found["far"]):
        assert tar == pytest.approx((accepted & (radii >= eps))[genuine].mean())
        assert far == pytest.approx((accepted | (radii < eps))[~genuine].mean())


def test_tells_of_both_parts(records, monkeypatch, document):
    monkeypatch.setattr(type(SUITE), "learners", LEARNERS)
    told = SUITE.tell(records)
    names = [f"{part}-far-{far}{end}" for part in verification.PARTS for far in verification.FARS
             for end in ("", "-intervals")]  # fmt: skip
    assert [table.name for table in told["tables"]] == names
    assert told["summary"][-1] == "No attack changed a decision within its certified radius."
    assert len(told["summary"]) == 2 * len(verification.PARTS) * len(verification.FARS) + 1
    shown = verification.measures("0.1")
    assert len(told["tables"][0].rows) == 2 * len(shown)
    for svg in bench_svgs(document(SUITE, told)).values():
        assert ElementTree.fromstring(svg.split("\n", 1)[1]).tag == "{http://www.w3.org/2000/svg}svg"


def test_a_broken_certificate_is_told(records, monkeypatch):
    monkeypatch.setattr(type(SUITE), "learners", LEARNERS)
    broken = dataclasses.replace(records[0], result={**records[0].result, "violations": 2})
    assert "2 attacks succeeded within a certified radius" in SUITE.tell([broken, *records[1:]])["summary"][-1]
