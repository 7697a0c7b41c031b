"""Augmentations that do not depend on how the data are loaded."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, IterableDataset, get_worker_info

from mmmim.registry import DATASETS
from mmmim.utils import InputError

from .samplers import PositionIndex


@contextmanager
def global_seeds(seeds: list[int]) -> Iterator[None]:
    """Seed the global CPU generators of Python, numpy and torch; in the main process only for a while."""
    in_main = get_worker_info() is None
    if in_main:
        states = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    random.seed(seeds[0])
    np.random.seed(seeds[1])  # noqa: NPY002
    # Not torch.manual_seed, which also seeds the GPUs.
    torch.default_generator.manual_seed(seeds[2])
    try:
        yield
    finally:
        if in_main:
            random.setstate(states[0])
            np.random.set_state(states[1])  # noqa: NPY002
            torch.set_rng_state(states[2])


@DATASETS.register_module()
class SeededDataset(Dataset):
    """Seeds the augmentations of every sample from its position in the stream of samples.

    With :class:`~mmmim.datasets.PositionSampler` a sample depends only on the run's seed and its position: not on the
    number of workers, the number of ranks, the batch size, or on whether the run was resumed. Every sample also gets
    a ``mask_seed`` from which the collate function draws the masks. It has to be the outermost wrapper. A plain index
    is its own position, so that validation sees the same masks every time.

    Everything else (``metainfo``, ``full_init``, ``get_data_info``, ...) is that of the wrapped data set.

    Args:
        dataset: The data set or its config; its samples are dicts.

    Raises:
        InputError: The data set is a stream, which has no positions to ask for.
    """

    def __init__(self, dataset: dict | Dataset) -> None:
        self.dataset = DATASETS.build(dataset) if isinstance(dataset, dict) else dataset
        if isinstance(self.dataset, IterableDataset):
            raise InputError(
                f'{type(self.dataset).__name__} seeds its samples by itself: give it as train_dataloader.dataset, '
                'without mmmim.SeededDataset'
            )

    def __getattr__(self, name: str) -> Any:
        # Special methods (pickling, torch's __getitems__) must not bypass this class, and `dataset` itself is missing
        # while an object is being unpickled.
        if name.startswith('__') or name == 'dataset':
            raise AttributeError(name)
        return getattr(self.dataset, name)

    def __len__(self) -> int:
        """Length of the wrapped data set."""
        return len(self.dataset)

    def __getitem__(self, index: int) -> dict:
        """The sample, with its ``mask_seed``."""
        index = index if isinstance(index, PositionIndex) else PositionIndex(index, index % len(self))
        *seeds, mask_seed = np.random.SeedSequence([index.seed, index.position]).generate_state(4).tolist()
        with global_seeds(seeds):
            sample = self.dataset[int(index)]
        return {**sample, 'mask_seed': mask_seed}
