"""Loops that count epochs, and images that never end."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from mmengine.dataset import InfiniteSampler
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop
from torch.utils.data import DataLoader

from mmmim.datasets.image_stream import is_stream
from mmmim.registry import DATA_SAMPLERS, LOOPS
from mmmim.utils import InputError
from mmmim.utils.options import Count

#: A batch may have an image more than once, which is logged; so often, somebody has mistyped a number.
_MOST_REPEATS = 100
_STREAM = 'a stream of images'


def counts_epochs(loop: Any) -> bool:
    """Whether ``train_cfg`` asks for a loop that ends after a number of epochs."""
    if not isinstance(loop, Mapping):
        return isinstance(loop, EpochBasedTrainLoop)
    kind = loop.get('type')
    if kind is None:
        return bool(loop.get('by_epoch', 'max_epochs' in loop))
    kind = LOOPS.get(kind) if isinstance(kind, str) else kind
    return isinstance(kind, type) and issubclass(kind, EpochBasedTrainLoop)


def _endless(loader: Any) -> str:
    """What makes the images of a data loader, or of its config, endless; empty where nothing does."""
    if isinstance(loader, Mapping):
        dataset, sampler = loader.get('dataset'), loader.get('sampler')
    else:
        dataset, sampler = loader.dataset, loader.sampler
    if is_stream(dataset):
        return _STREAM
    kind = sampler.get('type') if isinstance(sampler, Mapping) else type(sampler)
    kind = DATA_SAMPLERS.get(kind) if isinstance(kind, str) else kind
    return kind.__name__ if isinstance(kind, type) and issubclass(kind, InfiniteSampler) else ''


def check_epochs(loop: Any, loader: Any, batch: int | None = None) -> None:
    """Refuse a loop that waits for the end of an epoch where the images never end.

    Args:
        loop: The config of the loop, ``train_cfg``.
        loader: ``train_dataloader``, or what was made of it.
        batch: Images of an iteration, over all processes; None: not known.

    Raises:
        InputError: With the number of iterations that takes the place of the epochs, where the data set tells it.
    """
    if not counts_epochs(loop) or loader is None or not (endless := _endless(loader)):
        return
    epochs = loop.get('max_epochs') if isinstance(loop, Mapping) else None
    advice = 'train_cfg.max_iters'
    if isinstance(loader, DataLoader) and endless != _STREAM and batch and isinstance(epochs, int):
        images = len(loader.dataset)
        advice = (
            f'train_cfg.max_iters={math.ceil(epochs * images / batch)}, which is {epochs} epoch(s) of {images} images '
            f'in batches of {batch}'
        )
    raise InputError(
        f"train_cfg: an epoch of {endless} never ends; use train_cfg.type='mmengine.IterBasedTrainLoop' with {advice}, "
        'and without max_epochs.'
    )


@LOOPS.register_module()
class EpochsTrainLoop(IterBasedTrainLoop):
    """A training of so many epochs of whatever data set it gets, on the endless images of a :class:`PositionSampler`.

    An epoch is as many iterations as there are whole batches of the images (``drop_last`` of other loops), at least
    one; images left over come first in the next epoch. Everything else counts iterations, so that schedules move in
    every iteration and a training is resumed exactly, also within an epoch.

    Args:
        runner: The runner that trains.
        dataloader: Loader of the training images, or its config.
        max_epochs: Number of epochs.
        val_begin: The first epoch that is validated, from 1.
        val_interval: Epochs from one validation to the next; the last epoch is always validated.

    Raises:
        InputError: The data set is a stream, whose epochs have no end.
    """

    def __init__(
        self, runner: Any, dataloader: Any, max_epochs: Count, val_begin: Count = 1, val_interval: Count = 1
    ) -> None:
        loader = dataloader if isinstance(dataloader, DataLoader) else runner.build_dataloader(dataloader, runner.seed)
        if is_stream(loader.dataset):
            raise InputError(
                'train_cfg: an epoch of a stream of images never ends; use '
                "train_cfg.type='mmengine.IterBasedTrainLoop' with train_cfg.max_iters."
            )
        batch = runner.cfg.get('global_batch_size') or loader.batch_size * runner.world_size
        #: Iterations of an epoch.
        self.epoch_length = max(len(loader.dataset) // batch, 1)
        super().__init__(
            runner,
            loader,
            max_iters=max_epochs * self.epoch_length,
            val_begin=val_begin * self.epoch_length,
            val_interval=val_interval * self.epoch_length,
        )


def check_batch(loader: Any, images: int) -> None:
    """Refuse a batch that would hold every image of the data set very often.

    Args:
        loader: The data loader of the training.
        images: Images of an iteration, over all processes.

    Raises:
        InputError: Naming both numbers.
    """
    available = len(loader.dataset)
    if images > _MOST_REPEATS * available:
        raise InputError(
            f'A batch of {images} images (global_batch_size, or train_dataloader.batch_size per process) would hold '
            f'each of the {available} images of the data set more than {_MOST_REPEATS} times: make it smaller.'
        )
