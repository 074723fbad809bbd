"""The empirical robustness score in an audit: measured goal by goal, each kept on disk."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from certimetric.auditing.retrieval.cells import Cells, Scores
from certimetric.auditing.retrieval.request import RetrievalRequest, Subject
from certimetric.deep import Attack, Index
from certimetric.deep.retrieval import RankingEvaluation
from certimetric.deep.retrieval.ranking_evaluation import GOALS
from certimetric.deep.retrieval.robustness_score import make_attack, summarise

METRIC = "euclidean"  # as everywhere in an audit
N_GOALS = len(GOALS)


def score_attack(request: RetrievalRequest) -> Attack:
    """The attack of the published budget that suits the size of the pictures."""
    return make_attack(tuple(request.queries.images.shape), seed=request.seed)


def score_protocol(request: RetrievalRequest) -> dict[str, Any]:
    """What the document tells of how the score was measured."""
    attack = score_attack(request)
    told = {"norm": attack.ball.name, "eps": attack.ball.eps, "metric": METRIC}
    return told | {key: getattr(attack, key) for key in ("steps", "step_size")}


def robustness_score(
    request: RetrievalRequest,
    subject: Subject,
    index: Index,
    clean: Scores,
    cells: Cells,
    advance: Callable[[bool], None],
) -> dict[str, Any]:
    """The summary of one model's score, see :class:`certimetric.deep.retrieval.ERSResult`.

    Parameters
    ----------
    clean : dict of str to array
        Scores of the clean queries, of which R@1 is told beside the score.
    advance : callable
        Counts a goal that is done.
    """
    attack = score_attack(request)

    @cache
    def evaluation() -> RankingEvaluation:
        return RankingEvaluation(index, request.queries, metric=METRIC, seed=request.seed)

    found: Scores = {}
    for goal in GOALS:
        what = f"ERS {goal}, {METRIC}, seed {request.seed}, {attack!r}"
        found |= cells.scores(subject, what, lambda goal=goal: evaluation().measure(goal, attack))  # type: ignore[misc]
        advance(False)
    return summarise(found, clean["recall_at_1"], len(request.gallery), METRIC, attack).summary()
