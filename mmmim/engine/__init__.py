"""Runner, hooks, optimisers, schedules and distributed training."""

from . import hooks
from .ddp import DistributedDataParallel
from .fsdp import FSDP2Strategy, FullyShardedDataParallel
from .head_adamw import HeadAdamW
from .lars import LARS
from .optim_constructor import RuleOptimWrapperConstructor
from .optim_wrapper import OptimWrapper
from .runner import Runner
from .schedules import ScheduleLR, ScheduleWeightDecay

__all__ = [
    'LARS',
    'DistributedDataParallel',
    'FSDP2Strategy',
    'FullyShardedDataParallel',
    'HeadAdamW',
    'OptimWrapper',
    'RuleOptimWrapperConstructor',
    'Runner',
    'ScheduleLR',
    'ScheduleWeightDecay',
    'hooks',
]
