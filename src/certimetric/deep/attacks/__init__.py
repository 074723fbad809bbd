"""Attacks on embedding models: an attack is given what it may change, and a goal of embeddings to reach.

Most of them have a ball in a norm, and are in :data:`ATTACKS`; others change pictures as people, cameras and services
do: :data:`CORRUPTIONS`, and attacks on a place or on the position of the picture.
"""

from certimetric.deep.attacks.balls import Ball, L0Ball, L1Ball, L2Ball, LinfBall, Region, ball
from certimetric.deep.attacks.base import Attack
from certimetric.deep.attacks.black_box import NESAttack, PixelSearch, SquareAttack
from certimetric.deep.attacks.corruptions import CORRUPTIONS, Corruption
from certimetric.deep.attacks.encoding import Reencoded
from certimetric.deep.attacks.ensemble import AutoAttack, Expectation
from certimetric.deep.attacks.gradient import APGD, FGSM, PGD, CarliniWagner
from certimetric.deep.attacks.minimal import FAB
from certimetric.deep.attacks.places import OcclusionAttack, PatchAttack
from certimetric.deep.attacks.spatial import SpatialAttack

# The one list of attacks in a ball, by the names that commands use; the laws of all attacks take their cases from it.
ATTACKS: dict[str, type[Attack]] = {
    "pgd": PGD,
    "apgd": APGD,
    "square": SquareAttack,
    "fgsm": FGSM,
    "carlini-wagner": CarliniWagner,
    "nes": NESAttack,
    "fab": FAB,
    "pixels": PixelSearch,
    "auto": AutoAttack,
}

__all__ = [
    "ATTACKS",
    "CORRUPTIONS",
    "Attack",
    "Ball",
    "Corruption",
    "Expectation",
    "L0Ball",
    "L1Ball",
    "L2Ball",
    "LinfBall",
    "OcclusionAttack",
    "PatchAttack",
    "Reencoded",
    "Region",
    "SpatialAttack",
    "ball",
    *(kind.__name__ for kind in ATTACKS.values()),
]
