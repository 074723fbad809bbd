"""The rounding of double precision, for every bound on an error."""

from __future__ import annotations

UNIT_ROUNDOFF = 2.0**-53
"""Largest relative error of one rounding to the nearest number."""

INFLATED_UNIT = 1.2e-16
"""More than :data:`UNIT_ROUNDOFF`, by 8 %: with it in a bound to first order, terms of higher order are counted."""
