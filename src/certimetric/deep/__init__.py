"""Embedding models under attack, with torch: threat models, attacks on embeddings, retrieval evaluation."""

from certimetric.deep.attack import Attack
from certimetric.deep.augmentation import augmentation
from certimetric.deep.average_precision import AveragePrecisionObjective
from certimetric.deep.carlini_wagner import CarliniWagner
from certimetric.deep.certificates import (
    Certified,
    Certifier,
    PixelCertifier,
    RetrievalCertificate,
    certify_retrieval,
)
from certimetric.deep.checkpoints import load_checkpoint, save_checkpoint
from certimetric.deep.defenses import (
    AntiCollapseDefense,
    BatchDefense,
    DecoupledDefense,
    Defense,
    EmbeddingShiftDefense,
    EnsembleDefense,
    FreeDefense,
    HardnessDefense,
    NoDefense,
    NoiseDefense,
    PerturbationDefense,
    ShiftPenaltyDefense,
    SingleStepDefense,
    TradesDefense,
    TupleDefense,
    first_order_margin,
)
from certimetric.deep.embeddings import ImageSet, embed
from certimetric.deep.freeze import frozen
from certimetric.deep.gradient_attacks import APGD, FGSM, PGD
from certimetric.deep.index import Index
from certimetric.deep.interval import IntervalCertifier
from certimetric.deep.lipschitz import lipschitz_constant
from certimetric.deep.lipschitz_certificate import LipschitzCertifier
from certimetric.deep.margin_loss import CertifiedMarginLoss
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
from certimetric.deep.orthogonal import GroupSort, NormPool2d, UnitBall, orthogonal_convolution, orthogonal_linear
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
from certimetric.deep.smoothing import SmoothingCertifier
from certimetric.deep.square import SquareAttack
from certimetric.deep.threats import Ball, L2Ball, LinfBall
from certimetric.deep.trainer import RobustTrainer
from certimetric.deep.tuples import mine_triplets

__all__ = [
    "APGD",
    "FGSM",
    "PGD",
    "AntiCollapseDefense",
    "Attack",
    "AveragePrecisionObjective",
    "AwayFromPositive",
    "Ball",
    "BatchDefense",
    "Budget",
    "CandidateRank",
    "CarliniWagner",
    "Certified",
    "CertifiedMarginLoss",
    "Certifier",
    "ClassBalancedBatches",
    "DecoupledDefense",
    "Defense",
    "ERSResult",
    "EmbeddingNetwork",
    "EmbeddingShift",
    "EmbeddingShiftDefense",
    "EnsembleDefense",
    "FreeDefense",
    "GreedyMisranking",
    "GreedyTranslocation",
    "GroupSort",
    "HardnessDefense",
    "ImageSet",
    "Index",
    "IntervalCertifier",
    "L2Ball",
    "LearningToMisrank",
    "LinfBall",
    "LipschitzCertifier",
    "MarginObjective",
    "NESAttack",
    "NoDefense",
    "NoiseDefense",
    "NormPool2d",
    "Objective",
    "PerturbationDefense",
    "PixelCertifier",
    "QueryRank",
    "RankingEvaluation",
    "RetrievalCertificate",
    "RetrievalResult",
    "RobustTrainer",
    "SemanticsPreservingRank",
    "ShiftPenaltyDefense",
    "SingleStepDefense",
    "SmoothingCertifier",
    "SquareAttack",
    "TargetEmbedding",
    "TargetedMismatch",
    "TowardsNegative",
    "TradesDefense",
    "TupleDefense",
    "TupleLoss",
    "UnitBall",
    "augmentation",
    "certify_retrieval",
    "embed",
    "embedding_model",
    "empirical_robustness_score",
    "evaluate_retrieval",
    "first_order_margin",
    "frozen",
    "items_ahead",
    "lipschitz_constant",
    "load_checkpoint",
    "mine_triplets",
    "nearest",
    "orthogonal_convolution",
    "orthogonal_linear",
    "relevant_ranks",
    "save_checkpoint",
]
