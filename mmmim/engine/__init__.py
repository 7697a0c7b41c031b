"""Runner, hooks, optimisers, schedules and distributed training."""

from . import hooks
from .ddp import DistributedDataParallel
from .epochs import EpochsTrainLoop
from .fsdp import FSDP2Strategy, FullyShardedDataParallel
from .head_optimizers import HeadAdamW, HeadSGD, SweepOptimWrapperConstructor
from .lars import LARS
from .optim_constructor import RuleOptimWrapperConstructor
from .optim_wrapper import OptimWrapper
from .runner import Runner
from .schedules import ScheduleLR, ScheduleWeightDecay

__all__ = [
    'LARS',
    'DistributedDataParallel',
    'EpochsTrainLoop',
    'FSDP2Strategy',
    'FullyShardedDataParallel',
    'HeadAdamW',
    'HeadSGD',
    'OptimWrapper',
    'RuleOptimWrapperConstructor',
    'Runner',
    'ScheduleLR',
    'ScheduleWeightDecay',
    'SweepOptimWrapperConstructor',
    'hooks',
]
