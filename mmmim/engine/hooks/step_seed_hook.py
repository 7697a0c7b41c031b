"""Steps whose random numbers do not depend on the steps before."""

from typing import Any

from mmengine.dist import get_rank
from mmengine.hooks import Hook

from mmmim.registry import HOOKS
from mmmim.utils.seeds import seed_step


@HOOKS.register_module()
class StepSeedHook(Hook):
    """Seeds all global generators before every training iteration from the run's seed, the rank and the iteration.

    Drop path and every other random number of a step are then the same in a resumed run, without any generator state
    in the checkpoint. For the data, see :class:`~mmmim.datasets.SeededDataset`.
    """

    priority = 'VERY_HIGH'

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Seed Python, numpy and torch (all devices)."""
        seed_step(runner.seed, get_rank(), runner.iter)
