"""Masks in units of several patches: of every strategy, and SimMIM's are mmpretrain's."""

import math
import random

import numpy as np
import pytest
import torch

from mmmim.datasets.masking import UniformMasking
from mmmim.datasets.masking.units import patches_of_units
from mmmim.registry import MASKINGS
from mmmim.utils import InputError
from tests.toys import as_sets, generator

#: Of 7 x 7 units or more.
STRATEGIES = {
    'Uniform': dict(mask_ratio=0.6, predict_ratio=0.5),
    'Uniform, rolled': dict(mask_ratio=0.6, roll=True),
    'Block': dict(mask_ratio=0.6, num_predicted=7),
    'InverseBlock': dict(mask_ratio=0.6, roll=True),
    'BEiT': dict(mask_ratio=0.4, min_block=4),
    'MultiBlock': dict(num_contexts=2, min_keep=3),
}


def strategy(name, **options):
    return MASKINGS.build(dict(type=f'mmmim.{name.split(",")[0]}Masking', **STRATEGIES[name], **options))


def units(indices, grid, unit):
    """Sets of patches ``[G, K]`` as sets of units, each of which must be in it whole or not at all."""
    sets = as_sets(indices, grid).unfold(1, unit, unit).unfold(2, unit, unit).flatten(3)
    assert torch.equal(sets.any(-1), sets.all(-1))
    return sets.any(-1)


@pytest.mark.parametrize('name', STRATEGIES)
@pytest.mark.parametrize(('grid', 'unit'), [((14, 14), 2), ((21, 30), 3)])
def test_all_patches_of_a_unit_have_the_same_fate(name, grid, unit):
    mask, coarse = strategy(name, unit=unit)(5, grid, generator()), (grid[0] // unit, grid[1] // unit)
    assert mask.grid == grid
    for indices in (mask.visible, *mask.predict.unbind(1)):
        assert (indices.diff(dim=-1) > 0).all()
        assert indices.shape[-1] == units(indices, grid, unit).sum((1, 2))[0] * unit**2
    if name == 'MultiBlock':
        return
    drawn = strategy(name)(5, coarse, generator())
    ratio = STRATEGIES[name]['mask_ratio']
    if math.ceil(ratio * math.prod(coarse)) == int(ratio * math.prod(coarse)):  # the same number with and without units
        assert torch.equal(units(mask.visible, grid, unit), as_sets(drawn.visible, coarse))
        assert torch.equal(units(mask.flat_predict(), grid, unit), as_sets(drawn.flat_predict(), coarse))


def test_order_of_the_patches_of_units():
    found = patches_of_units(torch.tensor([[0, 2], [1, 3]]), (4, 6), 2)  # units are 2 x 3
    assert found.tolist() == [[0, 1, 4, 5, 6, 7, 10, 11], [2, 3, 8, 9, 12, 13, 18, 19]]


@pytest.mark.parametrize(
    ('side', 'patch', 'ratio', 'masked'), [(224, 16, 0.6, 30), (192, 4, 0.6, 22), (224, 16, 0.75, 37), (256, 8, 0.1, 7)]
)
def test_masks_are_mmpretrains(side, patch, ratio, masked, monkeypatch):
    """As many units as ``SimMIMMaskGenerator`` masks, the same ones where both draw the same."""
    from mmpretrain.datasets.transforms import SimMIMMaskGenerator

    theirs, unit, grid = SimMIMMaskGenerator(side, 32, patch, ratio), 32 // patch, (side // patch, side // patch)
    masking = UniformMasking(mask_ratio=ratio, unit=unit)
    ours = masking(3, grid, generator())
    hidden = units(ours.flat_predict(), grid, unit)
    assert hidden.sum((1, 2)).tolist() == [masked] * 3
    assert masking.counts((side // 32, side // 32)) == ((side // 32) ** 2 - masked, masked, masked)
    drawn = random.Random(0).sample(hidden[0].flatten().nonzero().flatten().tolist(), masked)
    monkeypatch.setattr(np.random, 'permutation', lambda count: np.array(drawn))
    expected = torch.from_numpy(theirs.transform({})['mask']).bool()
    assert torch.equal(as_sets(ours.flat_predict(), grid)[0], expected)


@pytest.mark.parametrize(
    ('name', 'options', 'grid', 'named'),
    [
        ('Uniform', dict(unit=2), (14, 15), r'unit=2 does not divide the 14 x 15 grid of patches: use another unit'),
        ('MultiBlock', dict(unit=3), (14, 15), 'unit=3 does not divide the 14 x 15 grid'),
        ('Block', dict(unit=0), (14, 14), 'unit must be a whole number of at least 1, not 0'),
        (
            'Uniform',
            dict(unit=14),
            (14, 14),
            r'leaves none of the 1 patches.*unit=14, patches here are units of 14 x 14',
        ),
    ],
)
def test_refusals(name, options, grid, named):
    with pytest.raises(InputError, match=named):
        strategy(name, **options)(2, grid, generator())
