"""Experiments: training by a configuration file, with resumption; runs that are kept on disk and read again."""

from certimetric.bench.training_config import TrainingConfig
from certimetric.bench.training_run import load_run, train

__all__ = ["TrainingConfig", "load_run", "train"]
