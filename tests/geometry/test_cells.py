"""Cells are a partition, their gaps and screens are bounds, whatever the rows are like."""

import numpy as np
import pytest

from certimetric.geometry.cells import Cells


@pytest.mark.parametrize("kind", ["gaussian", "duplicates", "line", "far"])
def test_every_row_is_in_one_cell_and_within_its_bounds(rng, kind):
    n, r = 3000, 5
    P = {
        "gaussian": lambda: rng.standard_normal((n, r)),
        "duplicates": lambda: rng.integers(0, 2, (n, r)).astype(float),  # no cut parts equal rows
        "line": lambda: rng.exponential(1.0, (n, 1)) ** 4 * np.ones(r),
        "far": lambda: 1e6 + 1e-3 * rng.standard_normal((n, r)),
    }[kind]()
    cells = Cells(P)
    np.testing.assert_array_equal(np.sort(np.concatenate(cells.rows)), np.arange(n))
    assert max(map(len, cells.rows)) <= 1024
    Q = np.concatenate([P[:20], P[:20] + P.std() * rng.standard_normal((20, r))])
    gaps, seen = cells.gaps(Q), 0
    for visit in cells.visit(Q, np.ones(gaps.shape, dtype=bool)):
        squared = ((Q[visit.points, None] - P[cells.rows[visit.cell]]) ** 2).sum(axis=-1)
        assert (np.sqrt(squared.min(axis=1)) * (1 + 1e-12) >= gaps[visit.points, visit.cell]).all()
        assert (visit.products + visit.offset[:, None] <= squared * (1 + 1e-12)).all()
        seen += len(visit.points) * len(cells.rows[visit.cell])
    assert seen == len(Q) * n
