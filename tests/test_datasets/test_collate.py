from functools import partial

import numpy as np
import pytest
import torch
from mmengine.runner import Runner
from torch.utils.data import DataLoader, Dataset

from mmmim.datasets import UniformMasking, mask_collate
from mmmim.registry import MASKINGS
from mmmim.utils import InputError

MASKING = dict(type='mmmim.InverseBlockMasking', mask_ratio=0.65, predict_ratio=0.2, roll=True)


class Packed(Dataset):
    """Samples as ``mmpretrain.PackInputs`` returns them; the red value of image i is i."""

    metainfo: dict = {}  # noqa: RUF012

    def __len__(self):
        return 12

    def __getitem__(self, index):
        return sample(number=index)


def sample(size=(28, 42), number=0, **more):
    image = torch.full((3, *size), 7, dtype=torch.uint8)
    image[0] = number
    return dict(inputs=image, data_samples=f'sample {number}', **more)


def test_batch_of_a_config():
    config = dict(
        dataset=Packed(),
        sampler=dict(type='DefaultSampler', shuffle=False),
        batch_size=4,
        num_workers=1,
        collate_fn=dict(type='mmmim.MaskCollate', masking=MASKING, patch_size=7),
    )
    batches = list(Runner.build_dataloader(config, seed=3))
    assert len(batches) == 3
    for number, batch in enumerate(batches):
        own = list(range(4 * number, 4 * number + 4))
        assert sorted(batch) == ['data_samples', 'inputs', 'mask']
        assert (batch['inputs'].dtype, batch['inputs'].shape) == (torch.uint8, (4, 3, 28, 42))
        assert batch['inputs'][:, 0, 0, 0].tolist() == own
        assert batch['data_samples'] == [f'sample {i}' for i in own]
        mask = batch['mask']
        assert (mask.grid, mask.visible.shape, mask.predict.shape) == ((4, 6), (4, 9), (4, 1, 3))
        assert mask.offsets is None
    assert not batches[0]['mask'].visible.equal(batches[1]['mask'].visible)


def test_strategy_is_built_once(monkeypatch):
    built = []
    original = MASKINGS.build
    monkeypatch.setattr(MASKINGS, 'build', lambda config: built.append(config) or original(config))
    one = dict(type='mmmim.UniformMasking', mask_ratio=0.5, predict_ratio=0.25)
    other = dict(one, mask_ratio=0.75)
    for masking in (one, other, one, other, dict(one)):
        mask = mask_collate([sample((28, 28))], masking=masking, patch_size=7)['mask']
        assert mask.visible.shape[1] == (8 if masking['mask_ratio'] == 0.5 else 4)
    assert built == [one, other]


def test_masks_and_offsets_follow_the_seed_of_the_first_sample():
    collate = partial(mask_collate, masking=UniformMasking(mask_ratio=0.75), patch_size=5, gap=2)
    one, same, other = (
        collate([sample((56, 56), mask_seed=seed) for seed in seeds])['mask'] for seeds in ((1, 2), (1, 3), (2, 2))
    )
    assert one.visible.equal(same.visible)
    assert one.offsets.equal(same.offsets)
    assert not one.visible.equal(other.visible)
    assert not one.offsets.equal(other.offsets)


def test_unseeded_masks_follow_the_global_generator():
    def visible(seed):
        torch.manual_seed(seed)
        batches = [mask_collate([sample((56, 56))] * 2, masking=MASKING, patch_size=7) for _ in range(2)]
        return [batch['mask'].visible for batch in batches]

    first, second = visible(0)
    assert not first.equal(second)
    assert all(a.equal(b) for a, b in zip(visible(0), (first, second), strict=True))
    assert not visible(1)[0].equal(first)


@pytest.mark.parametrize(
    ('samples', 'options', 'message'),
    [
        ([sample((30, 28))], {}, r'patch_size=7 does not divide the image side 30; use 28 '),
        ([sample((28, 28))], {'gap': 1}, r'patch_size \+ gap = 8 does not divide the image side 28'),
        ([sample((28, 28)), sample((28, 35))], {}, r'\(3, 28, 28\) and \(3, 28, 35\).*crop or resize'),
        ([dict(img=np.zeros((28, 28, 3)), img_path='a')], {}, r"\['img', 'img_path'\].*mmpretrain.PackInputs"),
    ],
)
def test_batches_that_are_refused(samples, options, message):
    with pytest.raises(InputError, match=message):
        mask_collate(samples, masking=MASKING, patch_size=7, **options)


def test_error_of_a_worker_keeps_its_message():
    collate = partial(mask_collate, masking=MASKING, patch_size=5)
    with pytest.raises(InputError) as error:
        next(iter(DataLoader(Packed(), batch_size=2, num_workers=1, collate_fn=collate)))
    assert str(error.value).startswith('patch_size=5 does not divide the image side 28; use 30')
    assert '\n' not in str(error.value)


def test_patches_in_cells_that_are_larger():
    def spaced(**options):
        return mask_collate([Packed()[i] for i in range(3)], MASKING, patch_size=5, gap=2, **options)['mask']

    mask = spaced()
    assert (mask.grid, mask.offsets.shape) == ((4, 6), (3, 24, 2))
    assert mask.offsets.unique().tolist() == [0, 1]
    assert spaced(inclusive_gap=True).offsets.unique().tolist() == [0, 1, 2]
    # Every image, patch and axis has a draw of its own.
    assert (mask.offsets[0] != mask.offsets[1]).any()
    assert (mask.offsets[..., 0] != mask.offsets[..., 1]).any()
