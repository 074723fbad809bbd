"""Attacks on nearest-neighbour predictors: upper bounds on robustness, against which certificates are held."""

from certimetric.attacks.base import Attack, AttackResult
from certimetric.attacks.best_of import BestOf
from certimetric.attacks.feature_rules import FeatureRules
from certimetric.attacks.hop_skip_jump import HopSkipJump
from certimetric.attacks.pairs import PairAttack
from certimetric.attacks.region import RegionAttack
from certimetric.attacks.smoothed_vote import SmoothedVoteAttack
from certimetric.geometry.threat_models import ThreatModel

ATTACKS: dict[str, type[Attack]] = {
    "region": RegionAttack,
    "smoothed-vote": SmoothedVoteAttack,
    "hop-skip-jump": HopSkipJump,
}
"""The attacks by the names that the command line knows: the one list that it and the tests of all attacks read."""

__all__ = [
    "ATTACKS",
    "Attack",
    "AttackResult",
    "BestOf",
    "FeatureRules",
    "HopSkipJump",
    "PairAttack",
    "RegionAttack",
    "SmoothedVoteAttack",
    "ThreatModel",
]
