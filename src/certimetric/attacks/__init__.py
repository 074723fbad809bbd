"""Attacks on nearest-neighbour predictors: upper bounds on robustness, against which certificates are held."""

from certimetric.attacks.base import Attack, AttackResult
from certimetric.attacks.best_of import BestOf
from certimetric.attacks.hop_skip_jump import HopSkipJump
from certimetric.attacks.region import RegionAttack
from certimetric.attacks.smoothed_vote import SmoothedVoteAttack
from certimetric.attacks.threat_models import ThreatModel

__all__ = ["Attack", "AttackResult", "BestOf", "HopSkipJump", "RegionAttack", "SmoothedVoteAttack", "ThreatModel"]
