import copy
import pickle
import random
from itertools import islice
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.dataset import BaseDataset, InfiniteSampler
from mmengine.runner import Runner
from torch.utils.data import Dataset

from mmmim.datasets import PositionIndex, PositionSampler, SeededDataset
from mmmim.engine.hooks.step_seed_hook import StepSeedHook
from mmmim.registry import DATA_SAMPLERS, DATASETS
from mmmim.utils import InputError

MASKING = dict(type='mmmim.InverseBlockMasking', mask_ratio=0.65, predict_ratio=0.5, roll=True)


@DATASETS.register_module(name='ToyNoise')
class Noise(BaseDataset):
    """Augmentation at its worst: an image of random numbers of all three generators."""

    METAINFO = dict(classes=('noise',))  # noqa: RUF012

    def load_data_list(self):
        return [dict(number=i) for i in range(10)]

    def prepare_data(self, idx):
        image = torch.randint(256, (3, 12, 16), dtype=torch.uint8)
        image[0] = torch.from_numpy(np.random.randint(0, 256, (12, 16)))  # noqa: NPY002
        image[1] = random.randrange(256)
        return dict(inputs=image, data_samples=self.get_data_info(idx)['number'])


def batches(count, num_workers=0, skip=0, seed=5, shuffle=True):
    loader = Runner.build_dataloader(
        dict(
            dataset=dict(type='mmmim.SeededDataset', dataset=dict(type='mmmim.ToyNoise')),
            sampler=dict(type='mmmim.PositionSampler', shuffle=shuffle),
            batch_size=4,
            num_workers=num_workers,
            collate_fn=dict(type='mmmim.MaskCollate', masking=MASKING, patch_size=4),
        ),
        seed=seed,
    )
    loader.sampler.skip(skip)
    return list(islice(loader, count))


def same(one, other):
    masks = [(batch['mask'].visible, batch['mask'].predict) for batch in (one, other)]
    return (
        one['inputs'].equal(other['inputs'])
        and all(a.equal(b) for a, b in zip(*masks, strict=True))
        and one['data_samples'] == other['data_samples']
    )


@pytest.fixture(scope='module')
def reference():
    return batches(8)


def test_workers_and_resumption_do_not_matter(reference):
    torch.manual_seed(123)
    assert all(map(same, batches(3, num_workers=2, skip=4 * 5), reference[5:]))


def test_positions_and_seeds_of_the_run_differ(reference):
    images = torch.cat([batch['inputs'] for batch in reference])
    assert len(images.flatten(1).unique(dim=0)) == 32
    # Every generator has its part.
    assert all(len(images[:, channel].flatten(1).unique(dim=0)) > 20 for channel in range(3))
    assert len(torch.stack([batch['mask'].visible for batch in reference]).flatten(1).unique(dim=0)) == 8
    one, other = (batches(8, seed=seed, shuffle=False) for seed in (5, 6))
    assert [batch['data_samples'] for batch in one] == [batch['data_samples'] for batch in other]
    assert not any(map(same, one, other))


@pytest.fixture
def ranks(monkeypatch):
    """A sampler of one of several processes."""

    def sampler(rank, world_size, skip=0, **options):
        monkeypatch.setattr('mmengine.dataset.sampler.get_dist_info', lambda: (rank, world_size))
        built = PositionSampler(range(10), seed=7, **options)
        if skip:
            built.skip(skip)
        return built

    return sampler


def test_ranks_share_one_stream(ranks):
    everything = list(islice(ranks(0, 1), 60))
    assert [index.position for index in everything] == list(range(60))
    for epoch in range(6):
        assert sorted(everything[10 * epoch : 10 * epoch + 10]) == list(range(10))
    assert everything[:10] != everything[10:20]
    for rank in range(3):
        mine = list(islice(ranks(rank, 3), 20))
        assert mine == everything[rank::3]
        assert [index.position for index in mine] == list(range(rank, 60, 3))


def test_ranks_that_do_not_divide_the_batch_share_its_images(ranks):
    """Every batch of 11 is that of one rank, also after skipping; the data set of 10 wraps around inside of it."""
    batch, everything = 11, list(islice(ranks(0, 1), 55))
    for world_size in (2, 3, 11):
        for start in (0, 3):
            together = []
            for rank in range(world_size):
                own = batch // world_size + (rank < batch % world_size)
                together += islice(ranks(rank, world_size, start * own, global_batch_size=batch), 2 * own)
            together.sort(key=lambda index: index.position)
            expected = everything[start * batch : (start + 2) * batch]
            assert together == expected
            assert [index.position for index in together] == [index.position for index in expected]
    whole, rest = (list(islice(ranks(0, 2, skip, global_batch_size=batch), 12)) for skip in (0, 4))
    assert rest[:8] == whole[4:]  # from the middle of a batch
    with pytest.raises(InputError, match='less than an image for each of 11 processes'):
        ranks(0, 11, global_batch_size=10)


@pytest.mark.parametrize(('world_size', 'shuffle'), [(1, False), (3, True), (16, True)])
def test_skip(ranks, world_size, shuffle):
    def stream(skip):
        sampler = ranks(world_size - 1, world_size, skip, shuffle=shuffle)
        return [(int(index), index.position) for index in islice(sampler, 40)]

    for skip in (1, 9, 10, 23):
        assert stream(skip)[: 40 - skip] == stream(0)[skip:]
    # As if 500 000 steps of a batch of 16 384 had been made: no cost.
    assert stream(500_000 * 16_384)[0][1] == 500_000 * 16_384 * world_size + world_size - 1


def test_sampler_is_mmengines_kind():
    sampler = DATA_SAMPLERS.build(dict(type='mmmim.PositionSampler', shuffle=False, dataset=range(4), seed=0))
    assert isinstance(sampler, InfiniteSampler)
    with pytest.raises(InputError, match='empty'):
        PositionSampler([], seed=0)
    index = pickle.loads(pickle.dumps(PositionIndex(3, 8_000_000_000)))
    assert (index, index.position) == (3, 8_000_000_000)


def test_wrapper_is_the_data_set():
    dataset = DATASETS.build(dict(type='mmmim.SeededDataset', dataset=dict(type='mmmim.ToyNoise', lazy_init=True)))
    dataset.full_init()
    assert (len(dataset), dataset.metainfo) == (10, dict(classes=('noise',)))
    assert dataset.get_data_info(3)['number'] == 3
    with pytest.raises(AttributeError):
        dataset.no_such_thing  # noqa: B018
    for other in (copy.deepcopy(dataset), pickle.loads(pickle.dumps(dataset))):
        assert other[PositionIndex(2, 5)]['inputs'].equal(dataset[PositionIndex(2, 5)]['inputs'])

    class Batched(Dataset):
        def __getitems__(self, indices):
            raise AssertionError('bypasses the seeds')

    assert not hasattr(SeededDataset(Batched()), '__getitems__')


def draw():
    return random.random(), np.random.rand(), torch.rand(()).item()  # noqa: NPY002


def test_global_generators_are_restored():
    dataset = SeededDataset(Noise())
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    expected = draw()
    random.setstate(states[0])
    np.random.set_state(states[1])  # noqa: NPY002
    torch.set_rng_state(states[2])
    dataset[PositionIndex(0, 0)]
    assert draw() == expected


def test_plain_indices_are_their_own_position():
    dataset = SeededDataset(Noise())
    first, again, other = dataset[0], dataset[0], dataset[1]
    assert first['inputs'].equal(again['inputs'])
    assert first['mask_seed'] == again['mask_seed'] != other['mask_seed']
    assert not first['inputs'].equal(other['inputs'])
    assert dataset[-1]['inputs'].equal(dataset[len(dataset) - 1]['inputs'])


def test_step_seed_hook(monkeypatch):
    def numbers(seed, iteration, rank=0):
        monkeypatch.setattr('mmmim.engine.hooks.step_seed_hook.get_rank', lambda: rank)
        StepSeedHook().before_train_iter(SimpleNamespace(seed=seed, iter=iteration), iteration)
        return draw()

    first = numbers(0, 4)
    draw()
    assert numbers(0, 4) == first
    for other in (numbers(0, 5), numbers(1, 4), numbers(0, 4, rank=1)):
        assert all(a != b for a, b in zip(first, other, strict=True))
