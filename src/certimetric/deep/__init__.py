"""Embedding models, with torch: training that is robust, attacks, retrieval under attack, certificates.

This is the index of what users need, imported on first use. What else a room offers is in the index of the room, such
as :mod:`certimetric.deep.models`.
"""

from typing import TYPE_CHECKING, Any

from certimetric.base.lazy_index import lazy_index

if TYPE_CHECKING:  # the same names, for editors and type checkers
    from certimetric.deep.attacks import APGD as APGD
    from certimetric.deep.attacks import FAB as FAB
    from certimetric.deep.attacks import FGSM as FGSM
    from certimetric.deep.attacks import PGD as PGD
    from certimetric.deep.attacks import Attack as Attack
    from certimetric.deep.attacks import AutoAttack as AutoAttack
    from certimetric.deep.attacks import CarliniWagner as CarliniWagner
    from certimetric.deep.attacks import Expectation as Expectation
    from certimetric.deep.attacks import L0Ball as L0Ball
    from certimetric.deep.attacks import L1Ball as L1Ball
    from certimetric.deep.attacks import L2Ball as L2Ball
    from certimetric.deep.attacks import LinfBall as LinfBall
    from certimetric.deep.attacks import NESAttack as NESAttack
    from certimetric.deep.attacks import OcclusionAttack as OcclusionAttack
    from certimetric.deep.attacks import PatchAttack as PatchAttack
    from certimetric.deep.attacks import PixelSearch as PixelSearch
    from certimetric.deep.attacks import Reencoded as Reencoded
    from certimetric.deep.attacks import SpatialAttack as SpatialAttack
    from certimetric.deep.attacks import SquareAttack as SquareAttack
    from certimetric.deep.certify import IntervalCertifier as IntervalCertifier
    from certimetric.deep.certify import LipschitzCertifier as LipschitzCertifier
    from certimetric.deep.certify import SmoothingCertifier as SmoothingCertifier
    from certimetric.deep.certify import certify_retrieval as certify_retrieval
    from certimetric.deep.certify.lipschitz_constant import lipschitz_constant as lipschitz_constant
    from certimetric.deep.defenses import AntiCollapseDefense as AntiCollapseDefense
    from certimetric.deep.defenses import BatchDefense as BatchDefense
    from certimetric.deep.defenses import CorruptionDefense as CorruptionDefense
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
    from certimetric.deep.defenses import mine_triplets as mine_triplets
    from certimetric.deep.goals import AveragePrecisionGoal as AveragePrecisionGoal
    from certimetric.deep.goals import AwayFromPositive as AwayFromPositive
    from certimetric.deep.goals import CandidateRank as CandidateRank
    from certimetric.deep.goals import Dodging as Dodging
    from certimetric.deep.goals import EmbeddingShift as EmbeddingShift
    from certimetric.deep.goals import FalseIdentification as FalseIdentification
    from certimetric.deep.goals import Goal as Goal
    from certimetric.deep.goals import GreedyMisranking as GreedyMisranking
    from certimetric.deep.goals import GreedyTranslocation as GreedyTranslocation
    from certimetric.deep.goals import Impersonation as Impersonation
    from certimetric.deep.goals import LearningToMisrank as LearningToMisrank
    from certimetric.deep.goals import MarginGoal as MarginGoal
    from certimetric.deep.goals import MissedIdentification as MissedIdentification
    from certimetric.deep.goals import QueryRank as QueryRank
    from certimetric.deep.goals import SemanticsPreservingRank as SemanticsPreservingRank
    from certimetric.deep.goals import TargetedMismatch as TargetedMismatch
    from certimetric.deep.goals import TargetEmbedding as TargetEmbedding
    from certimetric.deep.goals import TowardsNegative as TowardsNegative
    from certimetric.deep.goals import TupleLoss as TupleLoss
    from certimetric.deep.models import ImageSet as ImageSet
    from certimetric.deep.models import Samples as Samples
    from certimetric.deep.models import embed as embed
    from certimetric.deep.models import embedding_model as embedding_model
    from certimetric.deep.models import load_model as load_model
    from certimetric.deep.models import with_output as with_output
    from certimetric.deep.retrieval import Budget as Budget
    from certimetric.deep.retrieval import Index as Index
    from certimetric.deep.retrieval import certify_additions as certify_additions
    from certimetric.deep.retrieval import empirical_robustness_score as empirical_robustness_score
    from certimetric.deep.retrieval import evaluate_corruptions as evaluate_corruptions
    from certimetric.deep.retrieval import evaluate_relevance as evaluate_relevance
    from certimetric.deep.retrieval import evaluate_retrieval as evaluate_retrieval
    from certimetric.deep.retrieval import poison_gallery as poison_gallery
    from certimetric.deep.retrieval import smallest_changes as smallest_changes
    from certimetric.deep.train import CertifiedMarginLoss as CertifiedMarginLoss
    from certimetric.deep.train import ClassBalancedBatches as ClassBalancedBatches
    from certimetric.deep.train import RobustTrainer as RobustTrainer
    from certimetric.deep.train import augmentation as augmentation
    from certimetric.deep.verification import certify_verification as certify_verification
    from certimetric.deep.verification import evaluate_identification as evaluate_identification
    from certimetric.deep.verification import evaluate_verification as evaluate_verification

__all__, _get, __dir__ = lazy_index(
    __name__,
    {
        "attacks": "APGD FAB FGSM PGD Attack AutoAttack CarliniWagner Expectation L0Ball L1Ball L2Ball LinfBall "
        "NESAttack OcclusionAttack PatchAttack PixelSearch Reencoded SpatialAttack SquareAttack",
        "certify": "IntervalCertifier LipschitzCertifier SmoothingCertifier certify_retrieval",
        "certify.lipschitz_constant": "lipschitz_constant",
        "defenses": "AntiCollapseDefense BatchDefense CorruptionDefense DecoupledDefense EmbeddingShiftDefense "
        "EnsembleDefense FreeDefense HardnessDefense NoDefense NoiseDefense PerturbationDefense ShiftPenaltyDefense "
        "SingleStepDefense TradesDefense TupleDefense mine_triplets",
        "goals": "AveragePrecisionGoal AwayFromPositive CandidateRank Dodging EmbeddingShift FalseIdentification Goal "
        "GreedyMisranking GreedyTranslocation Impersonation LearningToMisrank MarginGoal MissedIdentification "
        "QueryRank SemanticsPreservingRank "
        "TargetEmbedding TargetedMismatch TowardsNegative TupleLoss",
        "models": "ImageSet Samples embed embedding_model load_model with_output",
        "retrieval": "Budget Index certify_additions empirical_robustness_score evaluate_corruptions "
        "evaluate_relevance evaluate_retrieval poison_gallery smallest_changes",
        "train": "CertifiedMarginLoss ClassBalancedBatches RobustTrainer augmentation",
        "verification": "certify_verification evaluate_identification evaluate_verification",
    },
    moved={
        "AveragePrecisionObjective": "certimetric.deep.goals:AveragePrecisionGoal",
        "MarginObjective": "certimetric.deep.goals:MarginGoal",
        "Objective": "certimetric.deep.goals:Goal",
        **{
            name: f"certimetric.deep.{room}:{name}"
            for room, names in {
                "attacks": "Ball",
                "certify": "Certified Certifier PixelCertifier RetrievalCertificate",
                "defenses": "Defense first_order_margin",
                "retrieval": "AdditionCertificate ERSResult PoisoningResult RankingEvaluation RelevanceResult "
                "RetrievalResult",
                "models": "EmbeddingNetwork GroupSort NormPool2d UnitBall frozen orthogonal_convolution "
                "orthogonal_linear",
                "ranking": "items_ahead nearest relevant_ranks",
                "train.checkpoints": "load_checkpoint save_checkpoint",
            }.items()
            for name in names.split()
        },
    },
)


def __getattr__(name: str) -> Any:
    try:
        return _get(name)
    except ModuleNotFoundError as error:
        if error.name not in ("torch", "pytorch_metric_learning", "lightning"):
            raise
        raise ImportError(f'certimetric.deep needs {error.name}: pip install "certimetric[deep]"') from error
