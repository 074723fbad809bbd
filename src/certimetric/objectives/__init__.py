"""The terms of a learning objective, each with its value and the weights it puts on pairs."""

from certimetric.objectives.gradient import MetricObjective, MetricState, Term, TermValue
from certimetric.objectives.margin import MarginLoss
from certimetric.objectives.neighborhood import KernelRegression, StochasticNeighbors
from certimetric.objectives.pairs import ImpostorHinge, Pull, TripletHinge
from certimetric.objectives.perturbation import PerturbationLoss

__all__ = [
    "ImpostorHinge",
    "KernelRegression",
    "MarginLoss",
    "MetricObjective",
    "MetricState",
    "PerturbationLoss",
    "Pull",
    "StochasticNeighbors",
    "Term",
    "TermValue",
    "TripletHinge",
]
