"""A sampler that shuffles by the seed alone, and whose indices know their position in the stream."""

from __future__ import annotations

from collections.abc import Iterator, Sized

import numpy as np
import torch
from mmengine.dataset import InfiniteSampler

from mmmim.registry import DATA_SAMPLERS
from mmmim.utils import InputError
from mmmim.utils.options import Count, Seed


class PositionIndex(int):
    """The index of a sample, and the position at which it occurs in the endless stream of all ranks.

    Args:
        index: Index in the data set.
        position: Position in the stream, from 0.
        seed: Seed of the stream.
    """

    position: int
    seed: int

    def __new__(cls, index: int, position: int, seed: int = 0) -> PositionIndex:
        """An int that remembers its place."""
        self = super().__new__(cls, index)
        self.position, self.seed = position, seed
        return self

    def __getnewargs__(self) -> tuple[int, int, int]:  # type: ignore[override]
        """For pickling: data loaders send indices to their workers."""
        return int(self), self.position, self.seed


@DATA_SAMPLERS.register_module()
class PositionSampler(InfiniteSampler):
    """An infinite sampler whose indices know their position in the stream (:class:`PositionIndex`).

    The stream is one shuffle of the data set after the other; rank r of R takes the positions r, r + R, r + 2R, ...
    It depends only on the seed and the size of the data set. A run of another number of ranks, or a resumed one,
    walks the same stream as long as the total batch size is the same; where the ranks do not divide it evenly,
    ``global_batch_size`` has to say what it is.

    Args:
        dataset: The data set.
        shuffle: Shuffle every pass, each differently.
        seed: Seed of the shuffles, the same on all ranks; None means mmengine's synchronised random seed.
        global_batch_size: Deal every so many consecutive positions out to the ranks on their own: rank r takes those
            at r, r + R, r + 2R, ... of each batch. :class:`mmmim.engine.Runner` sets it where it is needed.

    Raises:
        InputError: The data set is empty, or a rank gets no image of a batch.
    """

    def __init__(
        self, dataset: Sized, shuffle: bool = True, seed: Seed | None = None, global_batch_size: Count | None = None
    ) -> None:
        super().__init__(dataset, shuffle=shuffle, seed=seed)
        if self.size == 0:
            raise InputError('the training data set is empty; check its data_root, ann_file and data_prefix')
        self.global_batch_size = global_batch_size or self.world_size
        if self.global_batch_size < self.world_size:
            raise InputError(
                f'PositionSampler: global_batch_size={global_batch_size} is less than an image for each of '
                f'{self.world_size} processes.'
            )

    def _order(self, epoch: int) -> np.ndarray:
        if not self.shuffle:
            return np.arange(self.size)
        # A generator of its own for every pass makes skipping free, however far a run has come.
        seed = np.random.SeedSequence([self.seed, epoch]).generate_state(1).item()
        return torch.randperm(self.size, generator=torch.Generator().manual_seed(seed)).numpy()

    def _indices_of_rank(self, start: int = 0) -> Iterator[PositionIndex]:
        places = range(self.rank, self.global_batch_size, self.world_size)  # of this rank in a batch
        batch, used = divmod(start, len(places))
        epoch, order = 0, self._order(0)
        while True:
            for place in places[used:]:
                position = batch * self.global_batch_size + place
                if position // self.size != epoch:
                    epoch = position // self.size
                    order = self._order(epoch)
                yield PositionIndex(order[position % self.size], position, self.seed)
            batch, used = batch + 1, 0

    def skip(self, num_samples: int) -> None:
        """Go to an absolute place of this rank's stream; called by mmengine's loop when resuming.

        Args:
            num_samples: Samples of this rank, from the start of the stream, that have been used.
        """
        self.indices = self._indices_of_rank(num_samples)
