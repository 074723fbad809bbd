"""The terms of a learning objective, each with its value and the weights it puts on pairs."""

from certimetric.objectives.bounds import PairBounds
from certimetric.objectives.divergence import LogDetDivergence, logdet_gap
from certimetric.objectives.gradient import (
    DiagonalObjective,
    MetricObjective,
    MetricState,
    Term,
    TermValue,
    TransformedObjective,
)
from certimetric.objectives.margin import MarginLoss
from certimetric.objectives.neighborhood import KernelRegression, StochasticNeighbors
from certimetric.objectives.pairs import ImpostorHinge, Pull, TripletHinge
from certimetric.objectives.perturbation import PerturbationLoss
from certimetric.objectives.quadruplets import QuadrupletHinge
from certimetric.objectives.separation import SeparationRatio

__all__ = [
    "DiagonalObjective",
    "ImpostorHinge",
    "KernelRegression",
    "LogDetDivergence",
    "MarginLoss",
    "MetricObjective",
    "MetricState",
    "PairBounds",
    "PerturbationLoss",
    "Pull",
    "QuadrupletHinge",
    "SeparationRatio",
    "StochasticNeighbors",
    "Term",
    "TermValue",
    "TransformedObjective",
    "TripletHinge",
    "logdet_gap",
]
