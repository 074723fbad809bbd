"""An interrupt is never taken for the failure of a cell, whatever it was turned into on its way."""

import numpy as np
import pytest

from certimetric import Euclidean, audit


class Interrupted(Euclidean):
    """A learner into whose compiled code the interrupt falls on data of the real size."""

    def fit(self, X, y=None):
        if len(X) > 50:
            raise SystemError("a kernel returned a result with an exception set") from KeyboardInterrupt()
        return super().fit(X, y)


def test_interrupt_inside_a_kernel_ends_the_audit(iris, tmp_path, kept):
    with pytest.raises(KeyboardInterrupt):
        audit(iris.X, iris.y, learners={"euclidean": "euclidean", "late": Interrupted()}, repeats=1, out=tmp_path)
    assert len(kept(tmp_path)) == 1  # what was finished before is kept


def test_an_error_is_still_the_failure_of_its_cell(iris):
    class Broken(Euclidean):
        def fit(self, X, y=None):
            raise SystemError("something else")

    result = audit(iris.X, iris.y, learners={"euclidean": "euclidean", "broken": Broken()}, repeats=1)
    splits = result.to_dict()["learners"][1]["splits"]
    assert splits == [{"split": 0, "failed": "SystemError: something else"}]
    assert np.isfinite(result.to_dict()["learners"][0]["splits"][0]["error"])
