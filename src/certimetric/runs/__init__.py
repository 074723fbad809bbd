"""Finished cells of audits and benchmarks: their keys, their store, and the progress of a run."""
