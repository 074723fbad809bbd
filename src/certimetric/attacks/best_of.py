"""The nearest adversarial point over several attacks."""

from __future__ import annotations

from collections.abc import Sequence

from certimetric.attacks.base import Attack, Search


class BestOf(Attack):
    """Run several attacks and keep, for every instance, the nearest point that any of them found.

    Parameters
    ----------
    attacks : sequence of Attack

    Examples
    --------
    >>> from certimetric import CertifiedKNeighborsClassifier
    >>> from certimetric.attacks import HopSkipJump, SmoothedVoteAttack
    >>> knn = CertifiedKNeighborsClassifier(n_neighbors=1).fit([[0.0], [4.0]], ["a", "b"])
    >>> BestOf([SmoothedVoteAttack(), HopSkipJump(5)])(knn, [[1.0]]).distances.round(6)
    array([1.])
    """

    def __init__(self, attacks: Sequence[Attack]):
        self.attacks = list(attacks)
        if not self.attacks:
            raise ValueError("attacks must hold at least one attack, got none")
        for attack in self.attacks:
            if not isinstance(attack, Attack):
                raise TypeError(f"attacks must hold attack objects, got {attack!r}")

    def propose(self, search: Search) -> None:
        for attack in self.attacks:
            attack.propose(search)
