"""Finished cells of audits and benchmarks: their keys, their store, and the run that computes what is missing."""
