"""How far a computed number may be from the true one: the unit that every bound on rounding is made of."""

from __future__ import annotations

UNIT_ROUNDOFF = 2.0**-53
"""Largest relative error of one operation of float64, rounded to nearest (1.11e-16)."""

INFLATED_UNIT = 1.2e-16
"""The same for bounds of the form ``n · unit``, which drop higher orders: 8 % more than the unit covers these,
``n u / (1 − n u) ≤ n · 1.08 u``, up to n of 6·10¹⁴."""
