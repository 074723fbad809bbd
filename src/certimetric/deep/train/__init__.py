"""Robust training of embedding models, and what goes into it: batches, augmentations, optimisers, checkpoints."""

from certimetric.deep.train.augmentation import AUGMENTATIONS, augmentation
from certimetric.deep.train.checkpoints import load_checkpoint, save_checkpoint
from certimetric.deep.train.margin_loss import CertifiedMarginLoss
from certimetric.deep.train.optimizers import OPTIMIZERS, SCHEDULES, optimizer_of, scheduler_of
from certimetric.deep.train.sampling import ClassBalancedBatches, balanced_loader
from certimetric.deep.train.trainer import RobustTrainer

__all__ = [
    "AUGMENTATIONS",
    "OPTIMIZERS",
    "SCHEDULES",
    "CertifiedMarginLoss",
    "ClassBalancedBatches",
    "RobustTrainer",
    "augmentation",
    "balanced_loader",
    "load_checkpoint",
    "optimizer_of",
    "save_checkpoint",
    "scheduler_of",
]
