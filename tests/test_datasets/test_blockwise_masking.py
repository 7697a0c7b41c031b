"""BEiT's masks are mmpretrain's."""

import random

import numpy as np
import pytest
import torch

from mmmim.datasets import BEiTMasking
from mmmim.registry import MASKINGS
from mmmim.utils import InputError


def draw(masking, images=8, grid=(14, 14), seed=0):
    return masking(images, grid, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ('grid', 'masked', 'least', 'aspect'),
    [
        ((14, 14), 75, 16, 0.3),
        ((14, 14), 78, 15, 0.3),
        ((8, 8), 25, 4, 0.5),
        ((6, 10), 20, 16, 0.3),
        ((4, 5), 12, 1, 0.9),
    ],
)
def test_masks_are_mmpretrains(grid, masked, least, aspect, monkeypatch):
    """With the same random numbers, cell by cell."""
    from mmpretrain.datasets.transforms import BEiTMaskGenerator

    theirs = BEiTMaskGenerator(grid, masked, min_num_patches=least, min_aspect=aspect)
    masking = BEiTMasking(num_visible=grid[0] * grid[1] - masked, min_block=least, aspect_ratio=(aspect, 1 / aspect))
    numbers = random.Random(7)
    monkeypatch.setattr(np.random, 'uniform', numbers.uniform)
    monkeypatch.setattr(np.random, 'randint', numbers.randrange)
    expected = [theirs.transform({})['mask'] for _ in range(20)]
    numbers = random.Random(7)
    for mask in expected:
        assert torch.equal(masking.draw(grid, masked, numbers), torch.from_numpy(mask).bool())


@pytest.mark.parametrize(('options', 'masked'), [({'num_visible': 121}, 75), ({'mask_ratio': 0.4}, 78)])
def test_numbers_are_exact(options, masked):
    mask = draw(MASKINGS.build({'type': 'mmmim.BEiTMasking', **options}))
    assert mask.visible.shape == (8, 196 - masked)
    assert mask.predict.shape == (8, 1, masked)
    assert torch.equal(mask.image_index, torch.arange(8))
    both = torch.cat([mask.visible, mask.flat_predict()], dim=1)
    assert torch.equal(both.sort(dim=1).values, torch.arange(196).expand(8, -1))
    for part in (mask.visible, mask.flat_predict()):
        assert torch.equal(part, part.sort(dim=1).values)


def test_masks_follow_the_generator():
    masking = BEiTMasking(mask_ratio=0.4)
    one, same, other = (draw(masking, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(one.predict, same.predict)
    assert not torch.equal(one.predict, other.predict)
    assert not torch.equal(one.predict[0], one.predict[1])


def test_masks_are_blocks():
    """Most masked patches have masked neighbours, unlike those of uniform masks; the last row and column have none."""
    mask = draw(BEiTMasking(mask_ratio=0.4), images=50)
    cells = torch.zeros(50, 196, dtype=torch.bool).scatter(1, mask.flat_predict(), True).view(50, 14, 14)
    neighbours = (cells[:, 1:] & cells[:, :-1]).sum() / cells[:, :-1].sum()
    assert neighbours > 0.7
    assert not cells[:, -1].any()
    assert not cells[..., -1].any()
    assert cells[:, :-1, :-1].any(dim=0).all()


def test_options_out_of_range():
    with pytest.raises(InputError, match='give either mask_ratio or num_visible'):
        BEiTMasking()
    with pytest.raises(InputError, match='min_block=0: must be at least 1'):
        BEiTMasking(0.4, min_block=0)
    with pytest.raises(InputError, match='two positive numbers'):
        BEiTMasking(0.4, aspect_ratio=(2.0, 0.5))
    with pytest.raises(InputError, match=r'cannot mask 14 patches of the 4 x 4 grid, but 9 at most'):
        draw(BEiTMasking(0.9), grid=(4, 4))
    with pytest.raises(InputError, match='masks none'):
        draw(BEiTMasking(0.01), grid=(4, 4))
