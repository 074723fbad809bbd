"""``quick``: a few minutes on two cores, what a build server can afford."""

from __future__ import annotations

from typing import Any

from certimetric.bench.datasets import DIGITS, IRIS, WINE, Found
from certimetric.bench.suites.perturbation import PerturbationSuite


class QuickSuite(PerturbationSuite):
    """The perturbation experiment in small."""

    name = "quick"
    title = "Quick benchmark"
    about = "The experiment of the suite perturbation in small: three bundled data sets, five learners, two splits."
    needs = "nothing: its data sets come with scikit-learn"
    minutes = 1.0
    splits = 2
    datasets = (IRIS, WINE, DIGITS)
    further = ()
    learners = ("euclidean", "lmnn", "lmnn+pl", "scml", "scml+pl")

    def parameters(self, found: Found, learner: str) -> dict[str, Any]:
        return super().parameters(found, learner) | ({"subset": 600} if found.named is DIGITS else {})


SUITE = QuickSuite()
