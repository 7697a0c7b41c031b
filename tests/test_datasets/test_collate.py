from functools import partial

import numpy as np
import pytest
import torch
from mmengine.runner import Runner
from torch.utils.data import DataLoader, Dataset

from mmmim.datasets import UniformMasking, mask_collate
from mmmim.registry import MASKINGS
from mmmim.structures import PatchMask
from mmmim.utils import InputError

MASKING = dict(type='mmmim.InverseBlockMasking', mask_ratio=0.65, predict_ratio=0.2, roll=True)


class Packed(Dataset):
    """Samples as ``mmpretrain.PackInputs`` returns them; the red value of image i is i."""

    metainfo: dict = {}  # noqa: RUF012

    def __init__(self, size=(28, 42), length=12):
        self.size, self.length = size, length

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        image = torch.full((3, *self.size), 7, dtype=torch.uint8)
        image[0] = index
        return dict(inputs=image, data_samples=f'sample {index}')


def samples(*sizes):
    return [Packed(size)[0] for size in sizes]


def build(num_workers=0, seed=3, **options):
    config = dict(
        dataset=Packed(),
        sampler=dict(type='DefaultSampler', shuffle=False),
        batch_size=4,
        num_workers=num_workers,
        collate_fn=dict(type='mmmim.MaskCollate', **{'masking': MASKING, 'patch_size': 7, **options}),
    )
    return Runner.build_dataloader(config, seed=seed)


@pytest.mark.parametrize('num_workers', [0, 1])
def test_batch_of_a_config(num_workers):
    batches = list(build(num_workers))
    assert len(batches) == 3
    for number, batch in enumerate(batches):
        assert sorted(batch) == ['data_samples', 'inputs', 'mask']
        assert batch['inputs'].dtype == torch.uint8
        assert batch['inputs'].shape == (4, 3, 28, 42)
        first = 4 * number
        assert batch['inputs'][:, 0, 0, 0].tolist() == list(range(first, first + 4))
        assert batch['data_samples'] == [f'sample {i}' for i in range(first, first + 4)]
        mask = batch['mask']
        assert isinstance(mask, PatchMask)
        assert mask.grid == (4, 6)
        assert mask.visible.shape == (4, 9)
        assert mask.predict.shape == (4, 1, 3)
    assert not batches[0]['mask'].visible.equal(batches[1]['mask'].visible)


def test_packed_by_mmpretrain():
    from mmpretrain.datasets import PackInputs

    image = np.arange(28 * 28 * 3, dtype=np.uint8).reshape(28, 28, 3)
    packed = PackInputs()(dict(img=image, gt_label=3, img_path='a.png'))
    batch = mask_collate([packed, packed], masking=MASKING, patch_size=7)
    assert batch['inputs'].shape == (2, 3, 28, 28)
    assert batch['inputs'][0, :, 1, 2].tolist() == image[1, 2].tolist()
    assert [sample.gt_label.item() for sample in batch['data_samples']] == [3, 3]


def test_strategy_is_built_once(monkeypatch):
    built = []
    original = MASKINGS.build
    monkeypatch.setattr(MASKINGS, 'build', lambda config: built.append(config) or original(config))
    one = dict(type='mmmim.UniformMasking', mask_ratio=0.5, predict_ratio=0.25)
    other = dict(one, mask_ratio=0.75)
    for masking in (one, other, one, other, dict(one)):
        mask = mask_collate(samples((28, 28)), masking=masking, patch_size=7)['mask']
        assert mask.visible.shape[1] == (8 if masking['mask_ratio'] == 0.5 else 4)
    assert built == [one, other]


def test_strategy_object_and_mask_seed():
    collate = partial(mask_collate, masking=UniformMasking(mask_ratio=0.75), patch_size=7)

    def visible(first, second):
        pair = samples((56, 56), (56, 56))
        pair[0]['mask_seed'], pair[1]['mask_seed'] = first, second
        return collate(pair)['mask'].visible

    assert visible(1, 2).equal(visible(1, 3))
    assert not visible(1, 2).equal(visible(2, 2))


def test_unseeded_masks_follow_the_global_generator():
    def visible(seed):
        torch.manual_seed(seed)
        batches = [mask_collate(samples((56, 56)), masking=MASKING, patch_size=7) for _ in range(2)]
        return [batch['mask'].visible for batch in batches]

    first, second = visible(0)
    assert not first.equal(second)
    assert all(a.equal(b) for a, b in zip(visible(0), (first, second), strict=True))
    assert not visible(1)[0].equal(first)


@pytest.mark.parametrize('size', [(30, 28), (28, 30)])
def test_patch_does_not_divide_the_image(size):
    with pytest.raises(InputError, match=r'patch_size=7 does not divide the image side 30; use 28 '):
        mask_collate(samples(size), masking=MASKING, patch_size=7)


def test_images_of_different_sizes():
    with pytest.raises(InputError, match=r'\(3, 28, 28\) and \(3, 28, 35\).*crop or resize'):
        mask_collate(samples((28, 28), (28, 35)), masking=MASKING, patch_size=7)


def test_samples_that_are_not_packed():
    with pytest.raises(InputError, match=r"\['img', 'img_path'\].*mmpretrain.PackInputs"):
        mask_collate([dict(img=np.zeros((28, 28, 3)), img_path='a.png')], masking=MASKING, patch_size=7)


def test_error_of_a_worker_keeps_its_message():
    collate = partial(mask_collate, masking=MASKING, patch_size=5)
    with pytest.raises(InputError) as error:
        next(iter(DataLoader(Packed(), batch_size=2, num_workers=1, collate_fn=collate)))
    assert str(error.value).startswith('patch_size=5 does not divide the image side 28; use 30')
    assert '\n' not in str(error.value)


def spaced(**options):
    return partial(mask_collate, masking=MASKING, patch_size=5, **options)([Packed((28, 42))[i] for i in range(3)])


def test_patches_in_cells_that_are_larger():
    assert spaced(gap=2)['mask'].grid == (4, 6)
    with_offsets, without = spaced(gap=2)['mask'].offsets, build().__iter__().__next__()['mask'].offsets
    assert without is None
    assert with_offsets.shape == (3, 24, 2)
    assert with_offsets.unique().tolist() == [0, 1]
    assert spaced(gap=2, inclusive_gap=True)['mask'].offsets.unique().tolist() == [0, 1, 2]
    # Every image, patch and axis has a draw of its own.
    flat = with_offsets.float().flatten(1)
    assert (flat[0] != flat[1]).any()
    assert (with_offsets[..., 0] != with_offsets[..., 1]).any()
    with pytest.raises(InputError, match=r'patch_size \+ gap = 8 does not divide the image side 28'):
        spaced(gap=3)


def test_offsets_follow_the_seed_of_the_batch():
    samples = [{**Packed((28, 42))[i], 'mask_seed': 5} for i in range(2)]
    one, other = (mask_collate(samples, MASKING, 5, gap=2)['mask'] for _ in range(2))
    assert torch.equal(one.offsets, other.offsets)
    assert torch.equal(one.visible, other.visible)
