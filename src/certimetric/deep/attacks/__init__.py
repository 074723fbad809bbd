"""Attacks on embedding models: an attack is given a ball to stay in, and a goal of embeddings to reach."""

from certimetric.deep.attacks.balls import Ball, L1Ball, L2Ball, LinfBall, ball
from certimetric.deep.attacks.base import Attack
from certimetric.deep.attacks.black_box import NESAttack, SquareAttack
from certimetric.deep.attacks.gradient import APGD, FGSM, PGD, CarliniWagner

# The one list of attacks, by the names that commands use; the laws of all attacks take their cases from it.
ATTACKS: dict[str, type[Attack]] = {
    "pgd": PGD,
    "apgd": APGD,
    "square": SquareAttack,
    "fgsm": FGSM,
    "carlini-wagner": CarliniWagner,
    "nes": NESAttack,
}

__all__ = [
    "ATTACKS",
    "Attack",
    "Ball",
    "L1Ball",
    "L2Ball",
    "LinfBall",
    "ball",
    *(kind.__name__ for kind in ATTACKS.values()),
]
