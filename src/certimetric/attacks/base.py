"""What every attack gives back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class AttackResult:
    """Adversarial points and how far they are: upper bounds on the robustness of each prediction.

    Parameters
    ----------
    adversarial : array of shape (m, d)
        The nearest point found at which the prediction is another one (or wrong, where labels were given); the
        query itself where none was found.
    success : bool array of shape (m,)
        Checked with ``predict``.
    distances : array of shape (m,)
        Size of the perturbation in the norm of the threat model; infinity where there was no success.
    """

    adversarial: Array
    success: NDArray[np.bool_]
    distances: Array
