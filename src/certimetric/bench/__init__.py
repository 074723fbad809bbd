"""Experiments: the suites of published protocols, their runs, and what they write."""
