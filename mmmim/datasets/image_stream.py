"""Endless streams of images that lie in shards."""

import logging
import random
import sys
from collections.abc import Iterator, Sequence
from itertools import count, islice
from typing import Any

import numpy as np
from mmcv.transforms import Compose
from mmengine.dist import get_dist_info, sync_random_seed
from mmengine.logging import print_log
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from mmmim.registry import DATASETS, TRANSFORMS
from mmmim.utils import InputError
from mmmim.utils.names import printable

from .seeded import global_seeds
from .transforms.loading import UnreadableImageError

#: A few broken files among the first images are no reason to stop.
_FEWEST_JUDGED = 1000


class ImageStream(IterableDataset):
    """Base class of data sets that are read shard by shard, endlessly, for pre-training.

    **Who reads what.** Every epoch all shards are shuffled and dealt to the readers, which are the data loader workers
    of all processes (or the processes, where ``num_workers`` is 0). A reader reads ``shards_at_once`` of its shards in
    turns through a shuffle buffer, and empties the buffer before it opens the next ones. So in an epoch every image
    comes once, to one reader. A reader with fewer images starts its next epoch sooner.

    **Seeds.** Augmentations and masks are seeded by the seed of the run, the reader, and the position in its stream, as
    :class:`~mmmim.datasets.SeededDataset` seeds those of a folder; do not wrap a stream in it.

    **Resuming** is exact with the same shards, number of processes, number of workers and batch size: a resumed run
    gets the batches that the uninterrupted one would have got. Shards that were read before the interruption are passed
    over if the number of their images is known (subclasses say when), otherwise they are read once to count them; of
    the shards that were being read, images are read again up to the place, but not decoded. With another number of
    processes or workers the stream goes on in the same epochs, but the shards of the current epoch are dealt anew, so
    some of its images come twice and others not at all. :attr:`metainfo` is saved with checkpoints to notice that.

    **Unreadable images** are logged and counted, the next readable image takes their place. When their share of the
    images that a reader has met so far exceeds ``max_unreadable_share``, training stops. One is always tolerated,
    unless the share is 0, and the first 1 000 images are judged together.

    Subclasses set :attr:`shards` and :attr:`source`, and implement :meth:`read_shard`.

    Args:
        pipeline: Transforms of an image; they find ``img_bytes`` and ``img_path``, as ``mmmim.LoadImage`` reads them.
        shards: Names of the shards.
        source: Name of the whole in messages.
        shuffle: Shuffle shards and images.
        shuffle_buffer: Encoded images that a reader keeps to draw from.
        shards_at_once: Shards that a reader reads in turns.
        max_unreadable_share: Share of the images that may be unreadable, 0 to 1.

    Raises:
        InputError: If an option has no meaning.
    """

    #: What the runner adds when :attr:`metainfo` is not that of a checkpoint.
    NOT_EXACT = (
        ' The stream goes on in the same epoch, but not exactly: for that, keep the shards, the number of processes '
        'and of data loader workers, and the batch size.'
    )

    def __init__(
        self,
        pipeline: Sequence[Any],
        shards: Sequence[str],
        source: str,
        shuffle: bool = True,
        shuffle_buffer: int = 1000,
        shards_at_once: int = 4,
        max_unreadable_share: float = 0.01,
    ) -> None:
        if not 0 <= max_unreadable_share <= 1:
            raise InputError(f'max_unreadable_share={max_unreadable_share}: give a share between 0 and 1')
        for name, value in (('shuffle_buffer', shuffle_buffer), ('shards_at_once', shards_at_once)):
            if value < 1:
                raise InputError(f'{name}={value}: give 1 or more; shuffle=False keeps the order')
        self.pipeline = Compose([TRANSFORMS.build(t) if isinstance(t, dict) else t for t in pipeline])
        self.shards, self.source = list(shards), source
        self.shuffle, self.shuffle_buffer, self.shards_at_once = shuffle, shuffle_buffer, shards_at_once
        self.max_unreadable_share = max_unreadable_share
        # Asked here and not by the workers, which do not know it where they are spawned.
        self.rank, self.world_size = get_dist_info()
        self.seed, self.batch_size, self.num_workers = 0, 1, 0
        self._batches_done = 0
        self._lengths: dict[int, int] = {}

    def read_shard(self, index: int) -> Iterator[tuple[str, bytes]]:
        """Name and encoded bytes of every image of a shard, always in the same order."""
        raise NotImplementedError

    def known_length(self, index: int) -> int | None:
        """Number of images that a shard says it has, or its index; None where nobody knows without reading it."""
        return None

    def length_of(self, index: int) -> int:
        """Number of images of a shard; it is read to count them where it does not say."""
        known = self.known_length(index)
        return sum(1 for _ in self.read_shard(index)) if known is None else known

    @property
    def metainfo(self) -> dict:
        """What an exact resumption needs to be the same."""
        return {
            'shards': len(self.shards),
            'processes': self.world_size,
            'workers': self.num_workers,
            'batch_size': self.batch_size,
        }

    def __len__(self) -> int:
        """Endless; mmengine asks."""
        return sys.maxsize

    def skip(self, num_samples: int) -> None:
        """Start after a number of images of this process; called by mmengine's loop when resuming.

        Args:
            num_samples: Images of this process, from the start of the stream, that have been used: whole batches.
        """
        self._batches_done = num_samples // self.batch_size

    def check_readers(self, workers: int) -> None:
        """Fail if there are fewer shards than readers, because one of them would have nothing to read."""
        readers = self.world_size * max(workers, 1)
        if len(self.shards) < readers:
            raise InputError(
                f'{self.source} has {len(self.shards)} shard(s), fewer than its {readers} readers ({self.world_size} '
                f'process(es) x {workers} data loader worker(s)): set train_dataloader.num_workers to at most '
                f'{len(self.shards) // self.world_size}, or write the data to more shards'
            )

    def __iter__(self) -> Iterator[dict]:
        """Samples of this reader, without end."""
        info = get_worker_info()
        workers, worker = (info.num_workers, info.id) if info else (1, 0)
        self.check_readers(workers)
        # Batches go round the workers, and a resumed data loader begins with the first one again.
        turn = (worker + self._batches_done) % workers
        position = (self._batches_done - turn + workers - 1) // workers * self.batch_size
        return self._samples(self.rank * workers + turn, self.world_size * workers, position)

    def _samples(self, reader: int, readers: int, position: int) -> Iterator[dict]:
        unreadable: list[int] = []  # positions that wait for a readable image
        met = bad = 0
        for place, (name, data) in enumerate(self._images(reader, readers, position), position):
            met += 1
            try:
                sample = self._prepare(name, data, reader, place)
            except UnreadableImageError as error:
                unreadable.append(place)
                bad += 1
                self._tolerate(bad, met, error)
                continue
            for waiting in unreadable:
                yield self._prepare(name, data, reader, waiting)
            unreadable.clear()
            yield sample

    def _prepare(self, name: str, data: bytes, reader: int, place: int) -> dict:
        *seeds, mask_seed = np.random.SeedSequence([self.seed, reader, place]).generate_state(4).tolist()
        with global_seeds(seeds):
            sample = self.pipeline({'img_path': name, 'img_bytes': data})
        return {**sample, 'mask_seed': mask_seed}

    def _tolerate(self, bad: int, met: int, error: UnreadableImageError) -> None:
        print_log(f'{error}. The next readable image takes its place.', logger='current', level=logging.WARNING)
        share = self.max_unreadable_share
        if bad > (max(1, share * max(met, _FEWEST_JUDGED)) if share else 0):
            raise InputError(
                f'{bad} of the first {met} images that a reader met in {self.source} cannot be read, which is more '
                f'than max_unreadable_share={share:g} of the dataset allows; for example: {error}. Repair the '
                'shards, or raise max_unreadable_share'
            ) from None

    def _images(self, reader: int, readers: int, skip: int) -> Iterator[tuple[str, bytes]]:
        """Names and bytes of a reader, epoch after epoch, from a position on."""
        for epoch in count():
            order = list(range(len(self.shards)))
            if self.shuffle:
                self._generator(epoch).shuffle(order)
            own = order[reader::readers]
            images = 0
            for start in range(0, len(own), self.shards_at_once):
                group = own[start : start + self.shards_at_once]
                if skip:
                    length = sum(self._length(index) for index in group)
                    images += length
                    if skip >= length:
                        skip -= length
                        continue
                stream = self._in_turns(group)
                if self.shuffle:
                    stream = shuffled(stream, self.shuffle_buffer, self._generator(epoch, 1 + group[0]))
                for image in islice(stream, skip, None):
                    images += 1
                    yield image
                skip = 0
            if not images:
                names = ', '.join(printable(self.shards[index]) for index in own[:3])
                raise InputError(f'no images in shards of {self.source} ({names}, ...): write them anew')

    def _generator(self, *numbers: int) -> random.Random:
        state = np.random.SeedSequence([self.seed, *numbers]).generate_state(2, np.uint64)
        return random.Random(int(state[0]))

    def _in_turns(self, group: list[int]) -> Iterator[tuple[str, bytes]]:
        streams = [self._counted(index) for index in group]
        while streams:
            for stream in list(streams):
                image = next(stream, None)
                if image is None:
                    streams.remove(stream)
                else:
                    yield image

    def _counted(self, index: int) -> Iterator[tuple[str, bytes]]:
        length = 0
        for length, image in enumerate(self.read_shard(index), 1):  # noqa: B007
            yield image
        if index not in self._lengths:
            said = self.known_length(index)
            self._lengths[index] = length if said is None else said
        known = self._lengths[index]
        if known != length:  # the place to resume at was reckoned with it
            raise InputError(
                f'{printable(self.shards[index])} holds {length} images, but its index says {known}: it is cut short, '
                'or correct the index'
            )

    def _length(self, index: int) -> int:
        if index not in self._lengths:
            self._lengths[index] = self.length_of(index)
        return self._lengths[index]


def shuffled(items: Iterator, size: int, generator: random.Random) -> Iterator:
    """Shuffle through a buffer of ``size`` items: every item comes once, none much too early."""
    buffer: list = []
    for item in items:
        if len(buffer) < size:
            buffer.append(item)
            continue
        place = generator.randrange(size)
        yield buffer[place]
        buffer[place] = item
    generator.shuffle(buffer)
    yield from buffer


def is_stream(dataset: Any) -> bool:
    """Whether a data set, or its config, is an :class:`ImageStream`."""
    if isinstance(dataset, dict):
        kind = dataset.get('type')
        kind = DATASETS.get(kind) if isinstance(kind, str) else kind
        return isinstance(kind, type) and issubclass(kind, ImageStream)
    return isinstance(dataset, ImageStream)


def connect_stream(loader: DataLoader, seed: int | None) -> None:
    """Tell a stream how it is read, and mmengine's loop how to resume it.

    Args:
        loader: A loader whose data set is an :class:`ImageStream`.
        seed: Seed of the run, the same on all processes; None draws one.
    """
    stream: Any = loader.dataset
    stream.seed = sync_random_seed() if seed is None else seed
    stream.batch_size, stream.num_workers = loader.batch_size, loader.num_workers
    stream.check_readers(loader.num_workers)
    # The loop asks the sampler, and torch gives an iterable data set a sampler that it cannot do without.
    loader.sampler.skip = stream.skip
