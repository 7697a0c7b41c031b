"""Steps whose random numbers do not depend on the steps before."""

import random
from typing import Any

import numpy as np
import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook

from mmmim.registry import HOOKS


@HOOKS.register_module()
class StepSeedHook(Hook):
    """Seeds all global generators before every training iteration from the run's seed, the rank and the iteration.

    Drop path and every other random number of a step are then the same in a resumed run, without any generator state
    in the checkpoint. For the data, see :class:`~mmmim.datasets.SeededDataset`.
    """

    priority = 'VERY_HIGH'

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Seed Python, numpy and torch (all devices)."""
        seeds = np.random.SeedSequence([runner.seed, get_rank(), runner.iter]).generate_state(3).tolist()
        random.seed(seeds[0])
        np.random.seed(seeds[1])  # noqa: NPY002
        torch.manual_seed(seeds[2])
