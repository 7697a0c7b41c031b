"""How many images a step has, over all processes."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

from mmmim.models.interfaces import balances
from mmmim.utils import InputError


def apply_global_batch_size(cfg: MutableMapping[str, Any], world_size: int, rank: int = 0) -> None:
    """Set the batch size of a process from ``cfg['global_batch_size']``, images per optimiser step over all processes.

    Where the number of processes does not divide it, the first processes have an image more;
    :class:`~mmmim.models.MaskedImageModeling` weighs their gradients accordingly, and
    :class:`~mmmim.datasets.PositionSampler` deals the images of a batch out accordingly.

    Args:
        cfg: Has ``train_dataloader`` (a dict, changed in place) and maybe ``global_batch_size``.
        world_size: Number of processes.
        rank: Number of this process, from 0.

    Raises:
        InputError: There are fewer images than processes, or ``train_dataloader.batch_size`` says something else.
    """
    total, loader = cfg.get('global_batch_size'), cfg.get('train_dataloader')
    if total is None or not isinstance(loader, MutableMapping):
        return
    if not isinstance(total, int):
        raise InputError(f'global_batch_size must be a whole number of images, not {total!r}.')
    if total < world_size:
        raise InputError(f'global_batch_size={total} is less than an image for each of {world_size} processes (GPUs).')
    own = total // world_size + (rank < total % world_size)
    if loader.get('batch_size') not in (None, own):
        raise InputError(
            f'global_batch_size={total} means {own} images on process {rank} of {world_size}, but '
            f'train_dataloader.batch_size is {loader["batch_size"]}: set one of the two to None.'
        )
    loader['batch_size'] = own
    sampler = loader.get('sampler')
    if total % world_size and isinstance(sampler, MutableMapping) and sampler.get('type') == 'mmmim.PositionSampler':
        sampler.setdefault('global_batch_size', total)


def check_micro_batches(total: int | None, micro_batch_size: int | None, world_size: int) -> None:
    """Refuse batches that processes would divide into different numbers of micro-batches.

    Where parameters are sharded every forward pass is a collective operation: a process that takes one more than the
    others waits for them forever.

    Args:
        total: ``global_batch_size``; None: all processes have the same number of images.
        micro_batch_size: Images of a micro-batch; None: no micro-batches.
        world_size: Number of processes.

    Raises:
        InputError: The numbers differ.
    """
    if total is None or micro_batch_size is None or total % world_size == 0:
        return
    fewer = total // world_size
    if fewer % micro_batch_size == 0:
        raise InputError(
            f'global_batch_size={total} on {world_size} processes is {fewer + 1} images on some and {fewer} on others, '
            f'which are {fewer // micro_batch_size + 1} and {fewer // micro_batch_size} micro-batches of '
            f'{micro_batch_size}. With sharded parameters all need the same number: set '
            f'model.micro_batch_size={micro_batch_size + 1}, or a global_batch_size that {world_size} divides.'
        )


def check_last_batch(model: Any, loader: Any, world_size: int) -> None:
    """Refuse validation batches that would leave a single image to a target generator that balances images.

    Args:
        model: The model, without a wrapper.
        loader: The data loader of the validation.
        world_size: Number of processes.

    Raises:
        InputError: The last batch would have one image.
    """
    if not balances(model) or world_size > 1 or loader.drop_last or not loader.batch_size:
        return
    images = len(loader.dataset)
    if images % loader.batch_size == 1 or loader.batch_size == 1:
        raise InputError(
            f'val_dataloader.batch_size={loader.batch_size} leaves a single image of {images} in the last batch, and '
            'Sinkhorn-Knopp balances at least 2: choose another one, or val_dataloader.drop_last=True.'
        )


def describe_batch_change(before: dict, now: dict, iteration: int) -> tuple[bool, str]:
    """What another number of processes or images per step changes in a training that is resumed.

    Args:
        before: ``world_size`` and ``global_batch_size`` of the training that was saved.
        now: ``world_size`` and ``global_batch_size`` of the training that continues it.
        iteration: Where it continues.

    Returns:
        Whether the global batch changes, and all of it in words; empty where nothing does.
    """
    (old_world, old), (world, new) = ((d['world_size'], d['global_batch_size']) for d in (before, now))
    if old != new:
        return True, (
            f'A step has {new} images on {world} process(es) from here on; it had {old} on {old_world}. Rates and '
            f'schedules stay those of the config, and the stream of images goes on at image {iteration * new:,} '
            f'instead of {iteration * old:,}. To keep the batch on any number of processes: global_batch_size={old}, '
            'train_dataloader.batch_size=None.'
        )
    if old_world != world:
        return False, (
            f'Resumed on {world} process(es), saved on {old_world}: the batch stays {new} images, and the stream of '
            'images goes on where it was. Masks and drop path are drawn by each process for its part of the batch, so '
            'they differ from those of a training that was not moved.'
        )
    return False, ''
