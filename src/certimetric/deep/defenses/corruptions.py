"""Natural corruptions as a defense: pictures as they are on their way, and then an attack on them."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from certimetric.base.arguments import require
from certimetric.deep.attacks.base import Attack
from certimetric.deep.attacks.corruptions import SEVERITIES, corrupt_some
from certimetric.deep.defenses.base import Batch
from certimetric.deep.defenses.batches import BatchDefense


class CorruptionDefense(BatchDefense):
    """Corrupt a share of the batch, then perturb all of it jointly as :class:`BatchDefense` does.

    With an ``eps`` of 0 nothing is perturbed: what is left is augmentation by corruptions.

    Parameters
    ----------
    severity : int, default=3
        The largest severity that is drawn, from 1 to 5; kinds are those of ``certimetric.deep.attacks.CORRUPTIONS``.
    share : float, default=0.5
        Of the images; the others stay as they are.
    attack
        As of :class:`Defense`.

    References
    ----------
    The corruptions are after Hendrycks & Dietterich, arXiv 1903.12261 [hendrycks2019benchmarking].

    Examples
    --------
    >>> from certimetric.deep import PGD, LinfBall
    >>> defense = CorruptionDefense(severity=2, attack=PGD(LinfBall(0.1), steps=2))
    """

    def __init__(self, severity: int = 3, share: float = 0.5, attack: Attack | None = None):
        super().__init__(attack)
        require(severity in SEVERITIES, "severity", "must be 1, 2, 3, 4 or 5", severity, self)
        require(0 <= share <= 1, "share", "must lie between 0 and 1", share, self)
        self.severity, self.share = severity, share

    def compute_loss(self, batch: Batch) -> Tensor:
        return super().compute_loss(replace(batch, images=corrupt_some(batch.images, self.severity, self.share)))
