"""Robust training of embedding models, and what goes into it: batches, augmentations, optimisers, checkpoints."""

from certimetric.deep.train.batches import AUGMENTATIONS as AUGMENTATIONS
from certimetric.deep.train.batches import ClassBalancedBatches as ClassBalancedBatches
from certimetric.deep.train.batches import augmentation as augmentation
from certimetric.deep.train.batches import balanced_loader as balanced_loader
from certimetric.deep.train.checkpoints import load_checkpoint as load_checkpoint
from certimetric.deep.train.checkpoints import save_checkpoint as save_checkpoint
from certimetric.deep.train.margin_loss import CertifiedMarginLoss as CertifiedMarginLoss
from certimetric.deep.train.trainer import OPTIMIZERS as OPTIMIZERS
from certimetric.deep.train.trainer import SCHEDULES as SCHEDULES
from certimetric.deep.train.trainer import RobustTrainer as RobustTrainer
from certimetric.deep.train.trainer import optimizer_of as optimizer_of
from certimetric.deep.train.trainer import scheduler_of as scheduler_of
