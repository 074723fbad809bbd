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
from certimetric.deep.objectives import (
    AwayFromPositive,
    EmbeddingShift,
    MarginObjective,
    Objective,
    TargetEmbedding,
    TowardsNegative,
    TupleLoss,
)
from certimetric.deep.ranking import nearest, relevant_ranks
from certimetric.deep.retrieval import RetrievalResult, evaluate_retrieval
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
    "CarliniWagner",
    "ClassBalancedBatches",
    "Defense",
    "EmbeddingNetwork",
    "EmbeddingShift",
    "ImageSet",
    "Index",
    "L2Ball",
    "LinfBall",
    "MarginObjective",
    "NoDefense",
    "Objective",
    "PerturbationDefense",
    "RetrievalResult",
    "RobustTrainer",
    "SquareAttack",
    "TargetEmbedding",
    "TowardsNegative",
    "TupleDefense",
    "TupleLoss",
    "augmentation",
    "embed",
    "embedding_model",
    "evaluate_retrieval",
    "first_order_margin",
    "frozen",
    "load_checkpoint",
    "mine_triplets",
    "nearest",
    "relevant_ranks",
    "save_checkpoint",
]
