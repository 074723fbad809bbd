"""Training by a configuration file, with resumption; runs that are kept on disk and read again."""

from certimetric.training.config import TrainingConfig
from certimetric.training.run import load_run, train

__all__ = ["TrainingConfig", "load_run", "train"]
