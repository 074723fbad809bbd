"""Embedding models under attack, with torch: threat models, attacks on embeddings, retrieval evaluation."""

from certimetric.deep.attacks import (
    APGD,
    FGSM,
    PGD,
    Attack,
    Ball,
    CarliniWagner,
    L1Ball,
    L2Ball,
    LinfBall,
    NESAttack,
    SquareAttack,
)
from certimetric.deep.certify.certificates import (
    Certified,
    Certifier,
    PixelCertifier,
    RetrievalCertificate,
    certify_retrieval,
)
from certimetric.deep.certify.interval import IntervalCertifier
from certimetric.deep.certify.lipschitz import LipschitzCertifier
from certimetric.deep.certify.lipschitz_constant import lipschitz_constant
from certimetric.deep.certify.smoothing import SmoothingCertifier
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
from certimetric.deep.defenses.tuples import mine_triplets
from certimetric.deep.goals import (
    AveragePrecisionGoal,
    AwayFromPositive,
    CandidateRank,
    EmbeddingShift,
    Goal,
    GreedyMisranking,
    GreedyTranslocation,
    LearningToMisrank,
    MarginGoal,
    QueryRank,
    SemanticsPreservingRank,
    TargetedMismatch,
    TargetEmbedding,
    TowardsNegative,
    TupleLoss,
)
from certimetric.deep.models.embed import ImageSet, embed
from certimetric.deep.models.freeze import frozen
from certimetric.deep.models.network import EmbeddingNetwork, embedding_model
from certimetric.deep.models.orthogonal import (
    GroupSort,
    NormPool2d,
    UnitBall,
    orthogonal_convolution,
    orthogonal_linear,
)
from certimetric.deep.ranking.ranks import items_ahead, nearest, relevant_ranks
from certimetric.deep.retrieval.evaluation import RetrievalResult, evaluate_retrieval
from certimetric.deep.retrieval.index import Index
from certimetric.deep.retrieval.ranking_evaluation import RankingEvaluation
from certimetric.deep.retrieval.robustness_score import Budget, ERSResult, empirical_robustness_score
from certimetric.deep.train.augmentation import augmentation
from certimetric.deep.train.checkpoints import load_checkpoint, save_checkpoint
from certimetric.deep.train.margin_loss import CertifiedMarginLoss
from certimetric.deep.train.sampling import ClassBalancedBatches
from certimetric.deep.train.trainer import RobustTrainer

__all__ = [
    "APGD",
    "FGSM",
    "PGD",
    "AntiCollapseDefense",
    "Attack",
    "AveragePrecisionGoal",
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
    "Goal",
    "GreedyMisranking",
    "GreedyTranslocation",
    "GroupSort",
    "HardnessDefense",
    "ImageSet",
    "Index",
    "IntervalCertifier",
    "L1Ball",
    "L2Ball",
    "LearningToMisrank",
    "LinfBall",
    "LipschitzCertifier",
    "MarginGoal",
    "NESAttack",
    "NoDefense",
    "NoiseDefense",
    "NormPool2d",
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
