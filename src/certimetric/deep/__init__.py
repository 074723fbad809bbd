"""Embedding models, with torch: training that is robust, attacks, retrieval under attack, certificates.

This is the index of what users need, imported on first use. What else a room offers is in the index of the room, such
as :mod:`certimetric.deep.models`.
"""

from typing import TYPE_CHECKING

from certimetric.base.lazy_index import lazy_index

if TYPE_CHECKING:  # the same names, for editors and type checkers
    from certimetric.deep.attacks.balls import L2Ball as L2Ball
    from certimetric.deep.attacks.balls import LinfBall as LinfBall
    from certimetric.deep.attacks.base import Attack as Attack
    from certimetric.deep.attacks.carlini_wagner import CarliniWagner as CarliniWagner
    from certimetric.deep.attacks.gradient import APGD as APGD
    from certimetric.deep.attacks.gradient import FGSM as FGSM
    from certimetric.deep.attacks.gradient import PGD as PGD
    from certimetric.deep.attacks.natural_evolution import NESAttack as NESAttack
    from certimetric.deep.attacks.square import SquareAttack as SquareAttack
    from certimetric.deep.certify import IntervalCertifier as IntervalCertifier
    from certimetric.deep.certify import LipschitzCertifier as LipschitzCertifier
    from certimetric.deep.certify import SmoothingCertifier as SmoothingCertifier
    from certimetric.deep.certify import certify_retrieval as certify_retrieval
    from certimetric.deep.certify.lipschitz_constant import lipschitz_constant as lipschitz_constant
    from certimetric.deep.defenses import AntiCollapseDefense as AntiCollapseDefense
    from certimetric.deep.defenses import BatchDefense as BatchDefense
    from certimetric.deep.defenses import DecoupledDefense as DecoupledDefense
    from certimetric.deep.defenses import EmbeddingShiftDefense as EmbeddingShiftDefense
    from certimetric.deep.defenses import EnsembleDefense as EnsembleDefense
    from certimetric.deep.defenses import FreeDefense as FreeDefense
    from certimetric.deep.defenses import HardnessDefense as HardnessDefense
    from certimetric.deep.defenses import NoDefense as NoDefense
    from certimetric.deep.defenses import NoiseDefense as NoiseDefense
    from certimetric.deep.defenses import PerturbationDefense as PerturbationDefense
    from certimetric.deep.defenses import ShiftPenaltyDefense as ShiftPenaltyDefense
    from certimetric.deep.defenses import SingleStepDefense as SingleStepDefense
    from certimetric.deep.defenses import TradesDefense as TradesDefense
    from certimetric.deep.defenses import TupleDefense as TupleDefense
    from certimetric.deep.defenses.tuples import mine_triplets as mine_triplets
    from certimetric.deep.goals.average_precision import AveragePrecisionObjective as AveragePrecisionObjective
    from certimetric.deep.goals.base import AwayFromPositive as AwayFromPositive
    from certimetric.deep.goals.base import EmbeddingShift as EmbeddingShift
    from certimetric.deep.goals.base import MarginObjective as MarginObjective
    from certimetric.deep.goals.base import Objective as Objective
    from certimetric.deep.goals.base import TargetEmbedding as TargetEmbedding
    from certimetric.deep.goals.base import TowardsNegative as TowardsNegative
    from certimetric.deep.goals.base import TupleLoss as TupleLoss
    from certimetric.deep.goals.ranking import CandidateRank as CandidateRank
    from certimetric.deep.goals.ranking import GreedyMisranking as GreedyMisranking
    from certimetric.deep.goals.ranking import GreedyTranslocation as GreedyTranslocation
    from certimetric.deep.goals.ranking import LearningToMisrank as LearningToMisrank
    from certimetric.deep.goals.ranking import QueryRank as QueryRank
    from certimetric.deep.goals.ranking import SemanticsPreservingRank as SemanticsPreservingRank
    from certimetric.deep.goals.ranking import TargetedMismatch as TargetedMismatch
    from certimetric.deep.models import ImageSet as ImageSet
    from certimetric.deep.models import embed as embed
    from certimetric.deep.models import embedding_model as embedding_model
    from certimetric.deep.retrieval import Budget as Budget
    from certimetric.deep.retrieval import Index as Index
    from certimetric.deep.retrieval import empirical_robustness_score as empirical_robustness_score
    from certimetric.deep.retrieval import evaluate_retrieval as evaluate_retrieval
    from certimetric.deep.train.augmentation import augmentation as augmentation
    from certimetric.deep.train.margin_loss import CertifiedMarginLoss as CertifiedMarginLoss
    from certimetric.deep.train.sampling import ClassBalancedBatches as ClassBalancedBatches
    from certimetric.deep.train.trainer import RobustTrainer as RobustTrainer

__all__, __getattr__, __dir__ = lazy_index(
    __name__,
    {
        "attacks.balls": "L2Ball LinfBall",
        "attacks.base": "Attack",
        "attacks.carlini_wagner": "CarliniWagner",
        "attacks.gradient": "APGD FGSM PGD",
        "attacks.natural_evolution": "NESAttack",
        "attacks.square": "SquareAttack",
        "certify": "IntervalCertifier LipschitzCertifier SmoothingCertifier certify_retrieval",
        "certify.lipschitz_constant": "lipschitz_constant",
        "defenses": "AntiCollapseDefense BatchDefense DecoupledDefense EmbeddingShiftDefense EnsembleDefense "
        "FreeDefense HardnessDefense NoDefense NoiseDefense PerturbationDefense ShiftPenaltyDefense "
        "SingleStepDefense TradesDefense TupleDefense",
        "defenses.tuples": "mine_triplets",
        "goals.average_precision": "AveragePrecisionObjective",
        "goals.base": "AwayFromPositive EmbeddingShift MarginObjective Objective TargetEmbedding TowardsNegative "
        "TupleLoss",
        "goals.ranking": "CandidateRank GreedyMisranking GreedyTranslocation LearningToMisrank QueryRank "
        "SemanticsPreservingRank TargetedMismatch",
        "models": "ImageSet embed embedding_model",
        "retrieval": "Budget Index empirical_robustness_score evaluate_retrieval",
        "train.augmentation": "augmentation",
        "train.margin_loss": "CertifiedMarginLoss",
        "train.sampling": "ClassBalancedBatches",
        "train.trainer": "RobustTrainer",
    },
)
