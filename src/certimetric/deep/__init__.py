"""Embedding models under attack, with torch: threat models, attacks on embeddings, retrieval evaluation."""

from certimetric.deep.attack import Attack
from certimetric.deep.augmentation import augmentation
from certimetric.deep.carlini_wagner import CarliniWagner
from certimetric.deep.checkpoints import load_checkpoint, save_checkpoint
from certimetric.deep.defenses import (
    BatchDefense,
    Defense,
    NoDefense,
    PerturbationDefense,
    TupleDefense,
    first_order_margin,
)
from certimetric.deep.embeddings import ImageSet, embed
from certimetric.deep.freeze import frozen
from certimetric.deep.gradient_attacks import APGD, FGSM, PGD
from certimetric.deep.index import Index
from certimetric.deep.models import EmbeddingNetwork, embedding_model
from certimetric.deep.natural_evolution import NESAttack
from certimetric.deep.objectives import (
    AwayFromPositive,
    EmbeddingShift,
    MarginObjective,
    Objective,
    TargetEmbedding,
    TowardsNegative,
    TupleLoss,
)
from certimetric.deep.ranking import items_ahead, nearest, relevant_ranks
from certimetric.deep.ranking_attacks import (
    CandidateRank,
    GreedyMisranking,
    GreedyTranslocation,
    LearningToMisrank,
    QueryRank,
    SemanticsPreservingRank,
    TargetedMismatch,
)
from certimetric.deep.ranking_evaluation import RankingEvaluation
from certimetric.deep.retrieval import RetrievalResult, evaluate_retrieval
from certimetric.deep.robustness_score import Budget, ERSResult, empirical_robustness_score
from certimetric.deep.sampling import ClassBalancedBatches
from certimetric.deep.square import SquareAttack
from certimetric.deep.threats import Ball, L2Ball, LinfBall
from certimetric.deep.trainer import RobustTrainer
from certimetric.deep.tuples import mine_triplets

__all__ = [
    "APGD",
    "FGSM",
    "PGD",
    "Attack",
    "AwayFromPositive",
    "Ball",
    "BatchDefense",
    "Budget",
    "CandidateRank",
    "CarliniWagner",
    "ClassBalancedBatches",
    "Defense",
    "ERSResult",
    "EmbeddingNetwork",
    "EmbeddingShift",
    "GreedyMisranking",
    "GreedyTranslocation",
    "ImageSet",
    "Index",
    "L2Ball",
    "LearningToMisrank",
    "LinfBall",
    "MarginObjective",
    "NESAttack",
    "NoDefense",
    "Objective",
    "PerturbationDefense",
    "QueryRank",
    "RankingEvaluation",
    "RetrievalResult",
    "RobustTrainer",
    "SemanticsPreservingRank",
    "SquareAttack",
    "TargetEmbedding",
    "TargetedMismatch",
    "TowardsNegative",
    "TupleDefense",
    "TupleLoss",
    "augmentation",
    "embed",
    "embedding_model",
    "empirical_robustness_score",
    "evaluate_retrieval",
    "first_order_margin",
    "frozen",
    "items_ahead",
    "load_checkpoint",
    "mine_triplets",
    "nearest",
    "relevant_ranks",
    "save_checkpoint",
]
