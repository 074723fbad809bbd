"""Attacks on nearest-neighbour predictors: upper bounds on robustness, against which certificates are held."""

from certimetric.attacks.base import AttackResult
from certimetric.attacks.best_of import BestOf
from certimetric.attacks.hop_skip_jump import HopSkipJump
from certimetric.attacks.projection import ProjectionAttack
from certimetric.attacks.smoothed_vote import SmoothedVoteAttack

__all__ = ["AttackResult", "BestOf", "HopSkipJump", "ProjectionAttack", "SmoothedVoteAttack"]
