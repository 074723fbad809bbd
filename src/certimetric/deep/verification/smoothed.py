"""Decisions about pairs under Gaussian noise: what most of them say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from certimetric.base.arrays import Indices
from certimetric.deep.certify.smoothing import SmoothingCertifier, vote_radii
from certimetric.deep.models.calling import frozen
from certimetric.deep.models.images import ImageSet
from certimetric.deep.verification.pair_index import PairIndex

STEPS = 10  # of the draws of a certificate, that progress is told in


def smoothed_decisions(
    certifier: SmoothingCertifier,
    index: PairIndex,
    probes: ImageSet,
    listed: Indices,
    threshold: float,
    advance: Callable[[], None] | None = None,
) -> dict[str, Any]:
    """``accepted``, ``radii`` and ``abstained`` of pairs, guessed on some draws and counted on others.

    Pairs (m, 2) are rows of ``probes``, which need not be those of the index, and of its enrolled pictures.

    What is drawn for a probe serves all pairs that it is in: the model sees ``n_selection + n_samples`` noisy copies of
    each probe, however many its pairs are. ``advance`` is called at each tenth of them.
    """
    order = np.argsort(listed[:, 0], kind="stable")
    rows, first, count = np.unique(listed[order, 0], return_index=True, return_counts=True)
    drawn = probes.select(torch.from_numpy(rows))
    partners = index.enrolled[torch.from_numpy(listed[order, 1])]
    starts, sizes = (torch.from_numpy(part).to(index.device) for part in (first, count))
    generator = torch.Generator(device=index.device).manual_seed(certifier.seed)
    copies_in_all = (certifier.n_selection + certifier.n_samples) * len(rows)
    seen = told = 0

    def accepted(n: int) -> Indices:
        """How often each pair, in this order, is accepted in n draws."""
        nonlocal seen, told
        hits = torch.zeros(len(listed), dtype=torch.long, device=index.device)
        for which, embedded in certifier.draws(index, drawn, n, generator):
            copies = torch.arange(len(which), device=index.device).repeat_interleave(sizes[which])
            ends = sizes[which].cumsum(0)
            places = torch.arange(len(copies), device=index.device) - (ends - sizes[which])[copies]
            of_pair = starts[which][copies] + places
            near = index.metric.paired(index.metric.place(embedded)[copies], partners[of_pair]) <= threshold
            hits.index_add_(0, of_pair, near.long())
            seen += len(which)
            while advance is not None and told < STEPS * seen // copies_in_all:
                told += 1
                advance()
        return np.asarray(hits.cpu())

    with torch.no_grad(), frozen(index.model):
        guess = 2 * accepted(certifier.n_selection) > certifier.n_selection
        hits = accepted(certifier.n_samples)
    agreeing = np.where(guess, hits, certifier.n_samples - hits)
    radii = vote_radii(agreeing, certifier.n_samples, certifier.sigma, certifier.alpha)
    back = np.empty_like(order)
    back[order] = np.arange(len(order))
    return {"accepted": guess[back], "radii": radii[back], "abstained": (radii <= 0)[back]}
