"""The suites: each is an instance in one of the modules here."""

from __future__ import annotations

from certimetric.base.wording import did_you_mean
from certimetric.bench.suites.base import Suite
from certimetric.runs.containment import load_reference

_SUITES = {
    name: f"{name}:SUITE"
    for name in ("quick", "perturbation", "certified", "frontier", "aml", "verification", "deep", "defenses")
}
_SUITES["defenses-l2"] = "defenses:SUITE_L2"
_SUITES["perturbation-authors"] = "perturbation:AUTHORS"
NAMES = tuple(_SUITES)


def find_suite(name: str) -> Suite:
    """The suite of this name; a ValueError suggests the nearest."""
    if name not in NAMES:
        raise ValueError(f"unknown suite {name!r}{did_you_mean(name, NAMES)}; known are {', '.join(NAMES)}")
    suite: Suite = load_reference(f"{__name__}.{_SUITES[name]}")
    return suite
