"""Rounding of double precision, which every proof about computed numbers counts in."""

UNIT_ROUNDOFF = 2.0**-53  # what an operation in double precision is off by, relative to its result, at most
