"""Figures in the manner of scikit-learn's displays: ``from_estimator`` or ``from_predictions``, then ``plot`` anew.

Every display draws on the ``ax`` that it is given, or on a new figure, keeps both as ``ax_`` and ``figure_``, and keeps
the numbers that it shows. Each is imported on first use, and matplotlib when something is drawn. Reports draw the same
displays from what their documents keep, so that drawing imports no estimator: what computes does.
"""

from typing import TYPE_CHECKING

from certimetric.base.lazy_index import lazy_index

if TYPE_CHECKING:
    from certimetric.plots.accuracy import CertifiedAccuracyDisplay as CertifiedAccuracyDisplay
    from certimetric.plots.accuracy import SandwichDisplay as SandwichDisplay
    from certimetric.plots.metric import MetricDisplay as MetricDisplay
    from certimetric.plots.radar import RobustnessScoreDisplay as RobustnessScoreDisplay
    from certimetric.plots.radii import RadiusDisplay as RadiusDisplay
    from certimetric.plots.regions import DecisionRegionDisplay as DecisionRegionDisplay
    from certimetric.plots.selective import RiskCoverageDisplay as RiskCoverageDisplay
    from certimetric.plots.verification import VerificationDisplay as VerificationDisplay

__all__, __getattr__, __dir__ = lazy_index(
    __name__,
    {
        "accuracy": "CertifiedAccuracyDisplay SandwichDisplay",
        "metric": "MetricDisplay",
        "radar": "RobustnessScoreDisplay",
        "radii": "RadiusDisplay",
        "regions": "DecisionRegionDisplay",
        "selective": "RiskCoverageDisplay",
        "verification": "VerificationDisplay",
    },
)
