"""Figures in the manner of scikit-learn's displays: ``from_estimator`` or ``from_predictions``, then ``plot`` anew.

Every display draws on the ``ax`` that it is given, or on a new figure, keeps both as ``ax_`` and ``figure_``, and keeps
the numbers that it shows. matplotlib is loaded when something is drawn.
"""

from certimetric.plots.accuracy import CertifiedAccuracyDisplay, SandwichDisplay
from certimetric.plots.metric import MetricDisplay
from certimetric.plots.radar import RobustnessScoreDisplay
from certimetric.plots.radii import RadiusDisplay
from certimetric.plots.regions import DecisionRegionDisplay
from certimetric.plots.verification import VerificationDisplay

__all__ = [
    "CertifiedAccuracyDisplay",
    "DecisionRegionDisplay",
    "MetricDisplay",
    "RadiusDisplay",
    "RobustnessScoreDisplay",
    "SandwichDisplay",
    "VerificationDisplay",
]
