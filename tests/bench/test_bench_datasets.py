"""The data sets of the suites: named once, checked on load, told when missing."""

from __future__ import annotations

import numpy as np
import pytest

from certimetric.bench.datasets import FURTHER, IRIS, SIXTEEN, NamedSet, find_datasets, load_checked
from certimetric.bench.suites import NAMES, find_suite

TOY = NamedSet("toy", "", 6, 2, (2, 4))
ROWS = "u,v,target\n1,2,a\n2,3,a\n3,4,b\n4,5,b\n5,6,b\n6,8,b\n"


def test_names_are_unique_and_classes_add_up():
    everything = [*SIXTEEN, *FURTHER]
    assert len(SIXTEEN) == 16
    assert len({named.name for named in everything}) == len(everything)
    for named in everything:
        assert sum(named.classes) == named.rows
        assert list(named.classes) == sorted(named.classes)
        assert named.openml == "" or "@" in named.openml


def test_bundled_files_and_missing(tmp_path):
    (tmp_path / "tabular").mkdir()
    (tmp_path / "tabular" / "toy.csv").write_text(ROWS)
    found, missing = find_datasets((IRIS, TOY, NamedSet("gone", "", 1, 1, (1,))), tmp_path, network=False)
    assert [entry.named.name for entry in found] == ["iris", "toy"]
    assert list(missing) == ["gone"]


def test_openml_is_asked_once(tmp_path, monkeypatch):
    asked = []

    def refuse(source, **options):
        asked.append(source)
        raise ConnectionError("no network")

    monkeypatch.setattr("certimetric.bench.datasets.load", refuse)
    load_checked.cache_clear()
    wanted = (NamedSet("p", "p@1", 9, 9, (9,)), NamedSet("q", "q@1", 9, 9, (9,)))
    found, missing = find_datasets(wanted, None)
    assert (found, list(missing), asked) == ([], ["p", "q"], ["openml:p@1"])
    assert all("OpenML cannot be reached" in reason for reason in missing.values())


@pytest.mark.parametrize(
    "named, what",
    [
        (NamedSet("toy", "", 7, 2, (2, 5)), "rows are 6, expected 7"),
        (NamedSet("toy", "", 6, 3, (2, 4)), "features are 2, expected 3"),
        (NamedSet("toy", "", 6, 2, (3, 3)), r"class sizes are \(2, 4\), expected \(3, 3\)"),
    ],
)
def test_other_data_of_the_same_name_is_refused(tmp_path, named, what):
    (tmp_path / "toy.csv").write_text(ROWS)
    with pytest.raises(ValueError, match=what):
        find_datasets((named,), tmp_path)


def test_rows_with_gaps_and_columns_of_names_are_left_out(tmp_path):
    (tmp_path / "toy.csv").write_text(ROWS.replace("4,5,b", "4,,b").replace("1,2,a", "?,2,a"))
    data = load_checked(NamedSet("toy", "", 4, 2, (1, 3), gaps=True, drop=1), str(tmp_path / "toy.csv"))
    assert data.feature_names == ("v",)
    assert data.X.ravel().tolist() == [3.0, 4.0, 6.0, 8.0]
    assert data.y.tolist() == ["a", "b", "b", "b"]


def test_all_sets_at_hand_are_what_they_should_be(real_data):
    found, missing = find_datasets((*SIXTEEN, *FURTHER), real_data, network=False)
    assert len(found) + len(missing) == len(SIXTEEN) + len(FURTHER)
    assert len(found) >= 25


@pytest.mark.parametrize("name", NAMES)
def test_plans_have_one_cell_for_each_combination(name):
    suite = find_suite(name)
    found, _ = find_datasets([named for named in suite.datasets if named.name in ("iris", "wine", "digits")], None)
    cells = suite.cells(found, seed=0, splits=2)
    parts = [cell.parameters.get("part", "tabular") for cell in cells]
    assert len(cells) == len({cell.key for cell in cells})
    for part in {"tabular", "classes", "instances"} & set(parts) or {"tabular"}:  # aml has parts of another kind, too
        assert parts.count(part) == 2 * len(found) * len(suite.learners)
    more = suite.cells(found, seed=0, splits=3)
    assert {cell.key for cell in cells} <= {cell.key for cell in more}
    assert not {cell.key for cell in cells} & {cell.key for cell in suite.cells(found, seed=1, splits=2)}
    assert np.all([cell.split for cell in cells] == np.sort([cell.split for cell in cells]))
