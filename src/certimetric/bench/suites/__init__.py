"""The suites: each is one module here with its ``SUITE``."""

from __future__ import annotations

from importlib import import_module

from certimetric.bench.suites.base import Suite
from certimetric.datasets.wording import did_you_mean

NAMES = ("quick", "perturbation", "certified", "aml", "deep", "defenses")


def find_suite(name: str) -> Suite:
    """The suite of this name.

    Raises
    ------
    ValueError
        If there is none; the message suggests the nearest.
    """
    if name not in NAMES:
        raise ValueError(f"unknown suite {name!r}{did_you_mean(name, NAMES)}; known are {', '.join(NAMES)}")
    return load_suite(f"certimetric.bench.suites.{name}:SUITE")


def load_suite(reference: str) -> Suite:
    """The suite at ``module:attribute``, for workers."""
    module, _, attribute = reference.partition(":")
    suite: Suite = getattr(import_module(module), attribute)
    return suite
