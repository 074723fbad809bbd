"""Robust training losses: what a mini-batch costs under an attacker, with losses of pytorch-metric-learning."""

from certimetric.deep.defenses.base import Defense, Loss, Miner, NoDefense
from certimetric.deep.defenses.batches import BatchDefense, EnsembleDefense
from certimetric.deep.defenses.decoupled import DecoupledDefense
from certimetric.deep.defenses.margins import PerturbationDefense, first_order_margin
from certimetric.deep.defenses.noise import NoiseDefense
from certimetric.deep.defenses.roles import AnchorGoal, TupleDefense
from certimetric.deep.defenses.shifts import (
    EmbeddingShiftDefense,
    NeighbourDivergence,
    ShiftPenaltyDefense,
    TradesDefense,
)
from certimetric.deep.defenses.single_step import FreeDefense, SingleStepDefense
from certimetric.deep.defenses.triplets import AntiCollapseDefense, HardnessDefense

__all__ = [
    "AnchorGoal",
    "AntiCollapseDefense",
    "BatchDefense",
    "DecoupledDefense",
    "Defense",
    "EmbeddingShiftDefense",
    "EnsembleDefense",
    "FreeDefense",
    "HardnessDefense",
    "Loss",
    "Miner",
    "NeighbourDivergence",
    "NoDefense",
    "NoiseDefense",
    "PerturbationDefense",
    "ShiftPenaltyDefense",
    "SingleStepDefense",
    "TradesDefense",
    "TupleDefense",
    "first_order_margin",
]
