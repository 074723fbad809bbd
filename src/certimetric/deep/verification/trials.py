"""Whether an attack on probes turns decisions that are certified under noise: more of them than chance can."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from certimetric.base.arguments import ArgumentError
from certimetric.base.arrays import Indices
from certimetric.deep.attacks.base import Attack
from certimetric.deep.certify.smoothing import SmoothingCertifier
from certimetric.deep.models.images import ImageSet
from certimetric.deep.verification.certificates import VerificationCertificate
from certimetric.deep.verification.pair_index import PairIndex
from certimetric.deep.verification.pairs import Pairs
from certimetric.deep.verification.smoothed import smoothed_decisions

_SURE = 0.999  # with which chance alone turns no more decisions than are allowed


@dataclass(frozen=True, eq=False)
class SmoothedTrial:
    """Smoothed decisions, certified beyond ε, after an attack of size ε on their probes.

    Parameters
    ----------
    rows : int array of shape (n,)
        Of the pairs of the certificate, at most one for each probe.
    turned : bool array of shape (n,)
        Where the smoothed decision about the attacked probe is another, with the confidence of the certificate.
    allowed : int
        So many may be turned by chance: more are an error in the library.
    eps : float
    """

    rows: Indices
    turned: NDArray[np.bool_]
    allowed: int
    eps: float

    @property
    def broken(self) -> bool:
        """Whether more decisions are turned than chance accounts for, with 99.9 % confidence."""
        return bool(self.turned.sum() > self.allowed)


def attack_smoothed(
    certificate: VerificationCertificate,
    model: nn.Module | Callable[[Tensor], Any],
    probes: ImageSet,
    enrolled: ImageSet | None = None,
    *,
    attack: Attack,
    n_checked: int = 20,
    batch_size: int = 256,
) -> SmoothedTrial:
    """Attack probes whose smoothed decision is certified beyond the attack's ε, and take that decision again.

    An attack on the model without noise says nothing against a certificate by smoothing, which is about another
    decision: that of the majority under noise. What can be held against it is that majority at the attacked probe,
    counted by other draws. Either count is wrong with probability α for each probe, so that a single decision that is
    turned proves nothing, and more of them than chance allows do. Pairs of one probe share their draws: one of them
    counts, and which one does not depend on the certificate.

    Parameters
    ----------
    certificate : VerificationCertificate
        By smoothing.
    model, probes, enrolled, batch_size
        As of :func:`certify_verification`, which gave the certificate.
    attack : Attack
        On the model without noise, at the threshold of the certificate.
    n_checked : int, default=20
        Probes at most.

    Returns
    -------
    trial : SmoothedTrial

    Raises
    ------
    ArgumentError
        If the certificate is of another method, or the attack in another norm.

    Examples
    --------
    >>> from certimetric.deep import PGD, L2Ball
    >>> from certimetric.deep.verification import certify_verification
    >>> images = ImageSet(torch.tensor([0.0, 0.1, 0.7, 1.0]).reshape(4, 1, 1, 1), torch.tensor([0, 0, 1, 1]))
    >>> certificate = certify_verification(nn.Flatten(), images, threshold=0.4, method="smoothing", sigma=0.1)
    >>> trial = attack_smoothed(certificate, nn.Flatten(), images, attack=PGD(L2Ball(0.1)))
    >>> len(trial.rows), trial.broken
    (3, False)
    """
    from scipy.stats import binom

    if certificate.method != SmoothingCertifier.name:
        raise ArgumentError("certificate", "must be by smoothing", certificate.method)
    if attack.ball.name != certificate.norm:
        raise ArgumentError("attack", f"must be in {certificate.norm}, as the certificate is", attack)
    settings, eps = dict(certificate.settings), float(attack.ball.eps)
    again = SmoothingCertifier(**{**settings, "seed": settings["seed"] + 1})
    one_of_each = np.sort(np.unique(certificate.pairs[:, 0], return_index=True)[1])
    beyond = certificate.radii[one_of_each] > eps * (1 + 1e-5)  # in single precision an attack may pass its ball
    rows = one_of_each[beyond][:n_checked]
    if not len(rows):
        return SmoothedTrial(rows, np.zeros(0, dtype=bool), 0, eps)
    pairs = certificate.pairs[rows]
    index = PairIndex(model, Pairs(probes, enrolled), certificate.metric, batch_size)
    moved = index.attacked(pairs, attack, certificate.threshold)
    attacked = index.pairs.probes.select(torch.from_numpy(pairs[:, 0])).with_images(moved)
    listed = np.stack([np.arange(len(rows)), pairs[:, 1]], axis=1)
    found = smoothed_decisions(again, index, attacked, listed, certificate.threshold)
    turned = (found["accepted"] != certificate.accepted[rows]) & ~found["abstained"]
    looked_at = int(np.flatnonzero(beyond)[len(rows) - 1]) + 1  # of the first count so many may have been wrong
    allowed = int(binom.ppf(_SURE, looked_at + len(rows), again.alpha))
    return SmoothedTrial(rows, turned, allowed, eps)
