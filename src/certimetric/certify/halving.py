"""Successive halving: stages of more rows and folds for fewer candidates, and what was found in each."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from sklearn.model_selection import StratifiedKFold

from certimetric.base.arrays import Indices
from certimetric.certify.criteria import Criterion, Fold, Judged, judge, order
from certimetric.constraints.labels import class_draw
from certimetric.learners.baselines import Euclidean

_ROWS, _NOISE = 41, 42  # streams of random numbers
FIRST_FOLDS = 2  # of the first stage
ENOUGH_ROWS = 1000  # to judge by: smaller tables are folded anew in the last stage,
MOST_REPEATS = 3  # but so often at most


@dataclass(frozen=True, eq=False)
class Stage:
    """What was found of each candidate on the folds of one stage; a score is NaN where it failed."""

    names: list[str]
    judged: list[list[Judged] | None]  # by fold
    scores: list[float]
    admitted: list[bool]
    seconds: list[float]
    eps: float | None
    criterion: Criterion

    @classmethod
    def of(
        cls,
        candidates: Mapping[str, Any],
        folds: Sequence[Fold],
        criterion: Criterion,
        n_neighbors: int,
        norm: Any,
        seed: int,
        n_jobs: int | None,
    ) -> Stage:
        """Judge every candidate on every fold."""
        draws = [np.random.default_rng([seed, _NOISE, i]) for i in range(len(folds))]
        noise = [
            None if criterion.sigma is None else criterion.sigma * rng.standard_normal(fold.X_test.shape)
            for rng, fold in zip(draws, folds)
        ]
        done = Parallel(n_jobs=n_jobs)(
            delayed(_timed)(learner, fold, n_neighbors, norm=norm, with_radii=criterion.with_radii, noise=some)
            for learner in candidates.values()
            for fold, some in zip(folds, noise)
        )
        rows = [done[i : i + len(folds)] for i in range(0, len(done), len(folds))]
        judged = [None if any(part is None for part, _ in row) else [part for part, _ in row] for row in rows]
        together = [None if parts is None else Judged.joined(parts) for parts in judged]
        references = [part for part, learner in zip(together, candidates.values()) if is_reference(learner)]
        reference = references[0] if references else None
        eps = criterion.eps(reference)
        return cls(
            list(candidates),
            judged,
            [np.nan if each is None else criterion.score(each, eps) for each in together],
            [each is not None and criterion.admits(each, reference) for each in together],
            [float(np.mean([seconds for _, seconds in row])) for row in rows],
            eps,
            criterion,
        )

    @property
    def best(self) -> list[int]:
        """Positions of the candidates, from the best."""
        return order(self.scores, self.admitted)

    def told(self) -> str:
        """The three best."""
        return ", ".join(f"{self.names[i]} {100 * self.scores[i]:.1f} %" for i in self.best[:3])


def _timed(learner: Any, fold: Fold, n_neighbors: int, **how: Any) -> tuple[Judged | None, float]:
    start = time.perf_counter()
    return judge(learner, fold, n_neighbors, **how), time.perf_counter() - start


def results_of(stages: Sequence[Stage], rows: Sequence[int]) -> dict[str, list[Any]]:
    """``cv_results_`` of the stages, one after the other."""
    entries = []
    for number, (stage, n_rows) in enumerate(zip(stages, rows)):
        n_folds = next(len(parts) for parts in stage.judged if parts is not None)
        ranks = {position: rank for rank, position in enumerate(stage.best, 1)}
        for i, (name, parts) in enumerate(zip(stage.names, stage.judged)):
            by_fold = [np.nan] if parts is None else [stage.criterion.score(part, stage.eps) for part in parts]
            entries.append(
                {
                    "iter": number,
                    "n_resources": n_rows,
                    "n_folds": n_folds,
                    "params": {"learner": name},
                    "mean_test_score": stage.scores[i],
                    "std_test_score": float(np.std(by_fold)),
                    "mean_test_error": np.nan if parts is None else 1.0 - float(Judged.joined(parts).right.mean()),
                    "not_worse": stage.admitted[i],
                    "mean_fit_time": stage.seconds[i],
                    "rank_test_score": ranks[i],
                }
            )
    return {key: [entry[key] for entry in entries] for key in entries[0]}


def stages_of(codes: Indices, cv: Any, max_rows: int, seed: int) -> list[tuple[Indices, list[tuple[Indices, Indices]]]]:
    """Rows of each stage, and which of these are fitted and judged on in each of its folds."""
    most = int(np.bincount(codes).max())
    if most < 2:
        raise ValueError(f"y must have a class of at least two instances to be folded, got {len(codes)} different ones")

    def folded(limit: int, repeats: int) -> tuple[Indices, list[tuple[Indices, Indices]]]:
        rows = class_draw(codes, limit, np.random.default_rng([seed, _ROWS]))
        if not isinstance(cv, Integral):
            return rows, list(cv.split(rows, codes[rows]))
        count = min(int(cv), int(np.bincount(codes[rows]).max()))
        splitters = [StratifiedKFold(count, shuffle=True, random_state=(seed + i) % 2**32) for i in range(repeats)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # classes smaller than the number of folds
            return rows, [split for splitter in splitters for split in splitter.split(rows, codes[rows])]

    first, second = folded(max_rows // 4, 1), folded(max_rows // 2, 1)
    repeats = min(MOST_REPEATS, -(-ENOUGH_ROWS // min(len(codes), max_rows))) if isinstance(cv, Integral) else 1
    last = folded(max_rows, repeats)
    same = len(second[0]) == len(last[0]) and len(second[1]) == len(last[1])
    return [(first[0], first[1][:FIRST_FOLDS]), *([] if same else [second]), last]


def is_reference(learner: Any) -> bool:
    """Whether a learner is what the others are held against."""
    return isinstance(learner, Euclidean)
