"""Attacks on nearest-neighbour predictors: upper bounds on robustness, against which certificates are held."""

from certimetric.attacks.base import AttackResult
from certimetric.attacks.projection import ProjectionAttack

__all__ = ["AttackResult", "ProjectionAttack"]
