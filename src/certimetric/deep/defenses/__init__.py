"""Robust training losses: what a mini-batch costs under an attacker, with losses of pytorch-metric-learning."""

from certimetric.deep.defenses.base import Batch, Defense, Loss, Miner
from certimetric.deep.defenses.batches import BatchDefense, EnsembleDefense, NoDefense, NoiseDefense
from certimetric.deep.defenses.corruptions import CorruptionDefense
from certimetric.deep.defenses.shifts import EmbeddingShiftDefense, ShiftPenaltyDefense, TradesDefense
from certimetric.deep.defenses.single_step import FreeDefense, SingleStepDefense
from certimetric.deep.defenses.triplets import AntiCollapseDefense, DecoupledDefense, HardnessDefense
from certimetric.deep.defenses.tuples import PerturbationDefense, TupleDefense, first_order_margin, mine_triplets

# The one list: ``kind`` of a configuration, of the comparison in ``certimetric bench defenses``, and of the tests.
DEFENSES: dict[str, type[Defense]] = {
    "none": NoDefense,
    "tuple": TupleDefense,
    "batch": BatchDefense,
    "perturbation": PerturbationDefense,
    "noise": NoiseDefense,
    "est": EmbeddingShiftDefense,
    "ses": ShiftPenaltyDefense,
    "act": AntiCollapseDefense,
    "hm": HardnessDefense,
    "decoupled": DecoupledDefense,
    "trades": TradesDefense,
    "ensemble": EnsembleDefense,
    "single-step": SingleStepDefense,
    "free": FreeDefense,
    "corruptions": CorruptionDefense,
}

__all__ = [
    "DEFENSES",
    "Batch",
    "Defense",
    "Loss",
    "Miner",
    "first_order_margin",
    "mine_triplets",
    *(kind.__name__ for kind in DEFENSES.values()),
]
