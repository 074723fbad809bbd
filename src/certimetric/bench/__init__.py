"""Experiments: the suites of published protocols, their runs, and what they write."""

from certimetric.base.lazy_index import lazy_index

__all__, __getattr__, __dir__ = lazy_index(
    __name__, {}, moved={name: f"certimetric.training:{name}" for name in ("TrainingConfig", "load_run", "train")}
)
