"""Embedding models under attack, with torch: threat models, attacks on embeddings, retrieval evaluation."""

from certimetric.deep.attack import Attack
from certimetric.deep.carlini_wagner import CarliniWagner
from certimetric.deep.embeddings import ImageSet, embed
from certimetric.deep.freeze import frozen
from certimetric.deep.gradient_attacks import APGD, FGSM, PGD
from certimetric.deep.objectives import (
    AwayFromPositive,
    EmbeddingShift,
    MarginObjective,
    Objective,
    TargetEmbedding,
    TowardsNegative,
    TupleLoss,
)
from certimetric.deep.ranking import relevant_ranks
from certimetric.deep.retrieval import RetrievalResult, evaluate_retrieval
from certimetric.deep.square import SquareAttack
from certimetric.deep.threats import Ball, L2Ball, LinfBall

__all__ = [
    "APGD",
    "FGSM",
    "PGD",
    "Attack",
    "AwayFromPositive",
    "Ball",
    "CarliniWagner",
    "EmbeddingShift",
    "ImageSet",
    "L2Ball",
    "LinfBall",
    "MarginObjective",
    "Objective",
    "RetrievalResult",
    "SquareAttack",
    "TargetEmbedding",
    "TowardsNegative",
    "TupleLoss",
    "embed",
    "evaluate_retrieval",
    "frozen",
    "relevant_ranks",
]
