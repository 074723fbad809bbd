"""What an attacker of embeddings wants: a value to maximise, and whether the goal is reached."""

from certimetric.deep.goals.average_precision import AveragePrecisionGoal
from certimetric.deep.goals.base import Goal, JointGoal, LevelGoal, TupleLoss
from certimetric.deep.goals.identification import FalseIdentification, MissedIdentification, Templates
from certimetric.deep.goals.margins import MarginGoal
from certimetric.deep.goals.ranking import (
    CandidateRank,
    GreedyMisranking,
    GreedyTranslocation,
    LearningToMisrank,
    QueryRank,
    SemanticsPreservingRank,
)
from certimetric.deep.goals.shifts import (
    AwayFromPositive,
    Dodging,
    EmbeddingShift,
    Impersonation,
    TargetedMismatch,
    TargetEmbedding,
    TowardsNegative,
)

# The one list of goals: the laws of all goals take their cases from it.
GOALS: tuple[type[Goal], ...] = (
    MarginGoal,
    AveragePrecisionGoal,
    AwayFromPositive,
    EmbeddingShift,
    TowardsNegative,
    TargetEmbedding,
    TargetedMismatch,
    Dodging,
    Impersonation,
    MissedIdentification,
    FalseIdentification,
    TupleLoss,
    CandidateRank,
    QueryRank,
    SemanticsPreservingRank,
    LearningToMisrank,
    GreedyMisranking,
    GreedyTranslocation,
)

__all__ = ["GOALS", "Goal", "JointGoal", "LevelGoal", "Templates", *(goal.__name__ for goal in GOALS)]
