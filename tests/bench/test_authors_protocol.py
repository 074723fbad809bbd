"""The authors' protocol of LMNN-PL: their objective, their scaling, a search that is drawn anew in every split."""

from __future__ import annotations

import numpy as np
import pytest

from certimetric.bench.datasets import NamedSet
from certimetric.bench.suites import find_suite
from certimetric.bench.suites.perturbation import TUNED, TUNED_PL, authors_draws, authors_options
from certimetric.bench.tuning import with_options
from certimetric.constraints import nearest_triplets
from certimetric.learners.specs import make_learner
from certimetric.runs.key import Cell, Record
from certimetric.runs.splits import Preparation

SUITE = find_suite("perturbation-authors")


def authors_objective(L, X, triplets, mu, weight, tau):
    """``(1 − μ) mean hinge + μ mean pull + λ mean [τ² − r²]_+``, straight from the definition."""
    i, j, l = triplets.T
    M = L.T @ L

    def squared(a, b):
        return np.einsum("ni,ij,nj->n", X[a] - X[b], M, X[a] - X[b])

    gap = squared(i, l) - squared(i, j)
    targets = np.unique(triplets[:, :2], axis=0)
    radius = np.maximum(gap, 0.0) / (2.0 * np.linalg.norm((X[l] - X[j]) @ M, axis=1))
    loss = (1.0 - mu) * np.maximum(1.0 - gap, 0.0).mean() + mu * squared(*targets.T).mean()
    return loss + weight * np.maximum(tau**2 - radius**2, 0.0).mean()


@pytest.mark.parametrize(("mu", "weight", "tau"), [(0.1, 0.0, 1.0), (0.3, 0.7, 0.25), (0.9, 20.0, 0.8)])
def test_the_objective_is_theirs(wine, mu, weight, tau):
    """But for one factor, which moves no minimum: at the start, and at the end."""
    X, y = wine
    X = Preparation.fit(X, unit_length=True)(X)
    triplets = nearest_triplets(X, y, 3, 10)
    learner = TUNED_PL if weight else TUNED
    lmnn = make_learner(with_options(learner, authors_options(mu, weight, tau))).fit(X, y)
    factor = mu + (1.0 - mu) / 10.0
    for L, ours in ((np.eye(X.shape[1]), lmnn.objective_path_[0]), (lmnn.components_, lmnn.objective_)):
        # Options have four digits.
        assert factor * ours == pytest.approx(authors_objective(L, X, triplets, mu, weight, tau), rel=1e-3)
    assert lmnn.objective_ < lmnn.objective_path_[0]


def test_the_search_is_drawn_in_every_split_and_shared():
    first, again, other = authors_draws(0, 0), authors_draws(0, 0), authors_draws(0, 1)
    assert first == again
    assert not set(first[TUNED]) & set(other[TUNED])
    assert [options.partition(",")[0] for options in first[TUNED_PL]] == first[TUNED]
    for learner, drawn in first.items():
        for options in drawn:
            make_learner(with_options(learner, options))


def test_cells_run_and_are_told(rng, monkeypatch):
    """Every learner on a small table in two splits; the tuned one is compared split by split."""
    X = rng.normal(size=(60, 4))
    codes = (X[:, 0] + 0.5 * rng.normal(size=60) > 0).astype(np.int64)
    monkeypatch.setattr("certimetric.bench.suites.perturbation.DRAWS", 2)
    monkeypatch.setattr("certimetric.bench.suites.perturbation.load_cell", lambda cell, named: (X, codes))

    class Found:
        named = next(iter(SUITE.datasets))

        @staticmethod
        def cell(suite, learner, split, seed, protocol, parameters):
            return Cell(suite, "australian", "0", "australian", learner, split, seed, protocol, parameters)

    cells = SUITE.cells([Found], seed=0, splits=2)
    assert isinstance(Found.named, NamedSet)
    assert len(cells) == 2 * len(SUITE.learners)
    assert all(cell.parameters["unit_length"] for cell in cells)
    found = [Record(cell, "done", SUITE.run(cell), "", 1.0) for cell in cells]
    told = SUITE.tell(found)
    table = told["tables"][0]
    rows = {row[0]: row for row in table.rows}
    ours = [1.0 - record.result["error"] for record in found if record.cell.learner == TUNED_PL]
    theirs = [1.0 - record.result["error"] for record in found if record.cell.learner == "euclidean"]
    assert rows["LMNN-PL (n_impostors=10), tuned"][1:4] == [f"{np.mean(ours):.4f}", f"{np.std(ours, ddof=1):.4f}", ""]
    assert rows["Euclidean"][3] == f"{np.mean(ours) - np.mean(theirs):+.4f}"
    assert f"Euclidean {np.mean(theirs):.4f}" in told["summary"][0]
    assert sum(record.result["chosen"].startswith(f"{TUNED},push_weight=") for record in found) >= 2
