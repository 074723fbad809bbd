"""What a search tries where nothing else is said: specifications of learners, the simplest first."""

from __future__ import annotations

REFERENCE = "euclidean"  # what every candidate is held against
AUTO: tuple[str, ...] = (
    REFERENCE,
    "gmml:t=0.3",
    "gmml:t=0.5",
    "gmml:t=0.7",
    "itml:gamma=0.1",
    "scml+pl:weight=0.1",
    "scml+pl",
    "lmnn+pl:weight=0.1",
    "lmnn+pl",
    "nca+pl:weight=0.1,max_iter=20",
    "nca+pl",
    "arml",
)
