"""Random numbers of one's own: what a call draws is seeded, and leaves those of the caller as they were."""

# ruff: noqa: NPY002  (the global generator of NumPy is what this is about)
from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch, NumPy and Python inside; outside they go on as if nothing had been drawn, also after an error.

    Models, losses and augmentations draw from the global generators, as dropout does: what they give is then the same
    every time, and no other code sees that they were asked. It decorates functions, too.

    Parameters
    ----------
    seed : int

    Examples
    --------
    >>> before = torch.get_rng_state()
    >>> with seeded(3):
    ...     one = torch.rand(2)
    >>> with seeded(3):
    ...     other = torch.rand(2)
    >>> torch.equal(one, other), torch.equal(before, torch.get_rng_state())
    (True, True)
    """
    python, numpy = random.getstate(), np.random.get_state()
    # A GPU that is not used yet has no state to lose, and asking for it would take memory there.
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    try:
        with torch.random.fork_rng(devices):
            seed_all(seed)
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


def seed_all(seed: int) -> None:
    """Seed the global generators of torch, NumPy and Python; for the inside of :func:`seeded`."""
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)
