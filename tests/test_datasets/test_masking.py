"""Masks: their numbers, shapes and distributions; BEiT's are mmpretrain's."""

import math
import random

import numpy as np
import pytest
import torch

from mmmim.datasets import BEiTMasking
from mmmim.datasets.masking import BlockMasking, InverseBlockMasking, UniformMasking
from mmmim.datasets.masking.functional import block_set, roll_set
from mmmim.datasets.masking.inverse_blocks import small_blocks_set
from mmmim.registry import MASKINGS
from mmmim.utils import InputError
from tests.toys import as_sets, generator

STRATEGIES = [
    dict(type=f'mmmim.{name}Masking', roll=roll)
    for name in ('Uniform', 'Block', 'InverseBlock')
    for roll in (False, True)
]


def strategy(kind='InverseBlock', **options):
    return MASKINGS.build(dict(type=f'mmmim.{kind}Masking', **options))


def check_mask(mask, images, grid, visible, predicted):
    assert (mask.grid, mask.visible.shape, mask.predict.shape) == (grid, (images, visible), (images, 1, predicted))
    assert mask.image_index.tolist() == list(range(images))
    for indices in (mask.visible, mask.predict):
        assert indices.dtype == torch.int64
        assert (indices.diff(dim=-1) > 0).all()  # sorted, and none twice
    both = torch.cat([mask.visible, mask.flat_predict()], dim=1)
    assert as_sets(both, grid).sum((1, 2)).eq(visible + predicted).all()  # nothing is seen and predicted


@pytest.mark.parametrize('config', STRATEGIES, ids=lambda c: f'{c["type"][6:]}-{c["roll"]}')
def test_exact_counts(config):
    for ratio, share in ((0.65, 1.0), (0.75, 0.5), (0.29, 0.7), (0.65, 0.5)):
        for grid in ((3, 3), (16, 16), (7, 12), (12, 7)):
            total = math.prod(grid)
            masked = int(total * ratio)
            mask = MASKINGS.build(dict(config, mask_ratio=ratio, predict_ratio=share))(33, grid, generator())
            check_mask(mask, 33, grid, total - masked, int(masked * share))


@pytest.mark.parametrize(
    ('kind', 'options', 'masked'),
    [
        ('BEiT', dict(num_visible=121), 75),
        ('BEiT', dict(mask_ratio=0.4), 78),
        ('Uniform', dict(num_visible=20), 176),
        ('Uniform', dict(mask_ratio=0.9), 176),  # the recipe of Latent MIM
    ],
)
def test_a_number_of_visible_patches(kind, options, masked):
    check_mask(strategy(kind, **options)(8, (14, 14), generator()), 8, (14, 14), 196 - masked, masked)


@pytest.mark.parametrize('config', [*STRATEGIES, dict(type='mmmim.BEiTMasking')], ids=str)
def test_only_the_generator_decides(config):
    masking = MASKINGS.build(dict(config, mask_ratio=0.6))
    first, again, other = (masking(8, (9, 9), generator(seed)) for seed in (1, 1, 2))
    assert first.visible.equal(again.visible)
    assert first.predict.equal(again.predict)
    assert not first.visible.equal(other.visible)
    assert len(first.visible.unique(dim=0)) > 1  # images are drawn independently of each other


@pytest.mark.parametrize(
    ('grid', 'masked', 'least', 'aspect'), [((14, 14), 75, 16, 0.3), ((6, 10), 20, 16, 0.3), ((4, 5), 12, 1, 0.9)]
)
def test_masks_of_beit_are_mmpretrains(grid, masked, least, aspect, monkeypatch):
    """With the same random numbers, cell by cell."""
    from mmpretrain.datasets.transforms import BEiTMaskGenerator

    theirs = BEiTMaskGenerator(grid, masked, min_num_patches=least, min_aspect=aspect)
    masking = BEiTMasking(num_visible=math.prod(grid) - masked, min_block=least, aspect_ratio=(aspect, 1 / aspect))
    numbers = random.Random(7)
    monkeypatch.setattr(np.random, 'uniform', numbers.uniform)
    monkeypatch.setattr(np.random, 'randint', numbers.randrange)
    expected = [theirs.transform({})['mask'] for _ in range(20)]
    numbers = random.Random(7)
    for mask in expected:
        assert torch.equal(masking.draw(grid, masked, numbers), torch.from_numpy(mask).bool())


def test_masks_of_the_whole_grid():
    """As in the released code of BEiT and data2vec blocks reach the last row and column as often as the first."""
    masking = BEiTMasking(num_visible=76, whole_grid=True)
    mask = masking(400, (14, 14), generator())
    check_mask(mask, 400, (14, 14), 76, 120)
    share = as_sets(mask.flat_predict(), (14, 14)).float().mean(0)
    borders = torch.stack([share[0], share[-1], share[:, 0], share[:, -1]]).mean(dim=1)
    assert (borders - borders.mean()).abs().max() < 0.04
    assert 0.15 < borders.mean() < 0.4 < share[6:8].mean()
    inner = as_sets(BEiTMasking(num_visible=76)(50, (14, 14), generator()).flat_predict(), (14, 14))
    assert not inner[:, -1].any()
    assert not inner[:, :, -1].any()
    assert BEiTMasking(num_visible=1, min_block=1, whole_grid=True)(2, (3, 4), generator()).predict.shape == (2, 1, 11)


def test_small_blocks():
    """Squares around any patch, those of the border moved onto it."""
    for grid, side in (((5, 7), 3), ((5, 7), 2), ((2, 9), 3)):
        for one in small_blocks_set(40, grid, 1, side, generator()):
            rows, columns = one.any(1).nonzero().flatten(), one.any(0).nonzero().flatten()
            assert int(one.sum()) == len(rows) * len(columns)
            inside = [int(part[-1] - part[0]) + 1 for part in (rows, columns)]
            for length, part, most in zip(inside, (rows, columns), grid, strict=True):
                assert length == min(side, most) or (length < side and (part[0] == 0 or part[-1] == most - 1))
    assert small_blocks_set(500, (5, 7), 2, 3, generator()).float().mean(0).min() > 0.1


@pytest.mark.parametrize(('grid', 'visible', 'blocks'), [((14, 14), 39, 5), ((4, 6), 3, 2), ((4, 6), 20, 1)])
def test_several_masks_of_several_blocks(grid, visible, blocks):
    masking = strategy('InverseBlocks', num_visible=visible, num_blocks=blocks, masks_per_image=4)
    mask = masking(30, grid, generator())
    total = math.prod(grid)
    assert mask.visible.shape == (120, visible)
    assert mask.predict.shape == (120, 1, total - visible)
    assert mask.image_index.tolist() == [image for image in range(30) for _ in range(4)]
    shown = as_sets(mask.visible, grid)
    assert torch.equal(~shown, as_sets(mask.flat_predict(), grid))
    assert len(mask.visible.unique(dim=0)) > 60

    # What is visible has more visible neighbours than a uniform set of as many.
    def pairs(sets):
        return (sets[:, 1:] & sets[:, :-1]).float().mean()

    uniform = as_sets(strategy('Uniform', num_visible=visible)(120, grid, generator()).visible, grid)
    assert pairs(shown) > pairs(uniform)
    with pytest.raises(InputError, match=f'masks none of the {visible} patches'):
        masking(1, (1, visible), generator())


@pytest.mark.parametrize(('kind', 'grid'), [(InverseBlockMasking, (11, 17)), (BlockMasking, (16, 16))])
def test_block_is_one_truncated_rectangle(kind, grid):
    sets = as_sets(kind(mask_ratio=0.65 if kind is InverseBlockMasking else 0.35)(300, grid, generator()).visible, grid)
    for one in sets if kind is InverseBlockMasking else ~sets:
        rows, columns = one.any(1).nonzero().flatten().tolist(), one.any(0).nonzero().flatten().tolist()
        rectangle = one[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].flatten()
        count = int(one.sum())
        assert rectangle[:count].all()
        assert not rectangle[count:].any()
        height, width = rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1
        # ceil() lengthens either side by less than a cell.
        assert height / (width - 1) >= 0.5
        assert (height - 1) / width <= 2


def test_block_reaches_every_side_and_never_exceeds_the_grid():
    block = block_set(2000, (16, 16), 90, (0.5, 2.0), generator())
    for side in (block[:, 0], block[:, -1], block[:, :, 0], block[:, :, -1]):
        assert side.any(1).float().mean() > 0.03
    for grid in ((16, 16), (8, 20), (20, 8)):
        for share in (0.02, 0.3, 0.9, 0.995):
            count = int(math.prod(grid) * share)
            assert block_set(500, grid, count, (1e-3, 1e3), generator()).sum((1, 2)).eq(count).all()
    # Where the block is exactly as wide or as high as the grid, rounding must not make it wider.
    for width in range(5, 40):
        for count in range(1, width * 7, 3):
            for limit in (count / width**2, 7**2 / count):
                assert block_set(1, (7, width), count, (limit, limit), generator()).sum() == count


def test_log_aspect_is_uniform():
    # In a grid this large neither the clipping nor the rounding of the sides matters.
    block = block_set(1000, (100, 100), 2000, (0.5, 2.0), generator())
    histogram = torch.histc((block.any(2).sum(1) / block.any(1).sum(1)).log2(), bins=4, min=-1, max=1)
    assert histogram.sum() > 950
    assert histogram.min() > 190  # 250 expected per quarter, standard deviation 14
    assert histogram.max() < 310


def test_rolled_sets_wrap_and_make_visibility_uniform():
    shifts, image = torch.tensor([[1, 2], [3, 1]]), torch.rand(2, 3, 4) > 0.5
    expected = torch.stack([image[g].roll(tuple(shifts[:, g].tolist()), (0, 1)) for g in range(2)])
    assert roll_set(image, shifts).equal(expected)
    share = 23 / 64
    seen = [
        as_sets(strategy(mask_ratio=0.65, roll=roll)(4000, (8, 8), generator()).visible, (8, 8)).float().mean(0)
        for roll in (False, True)
    ]
    assert (seen[1] - share).abs().max() < 5 * math.sqrt(share * (1 - share) / 4000)
    assert seen[0][0, 0] < 0.5 * share  # otherwise corners are rarely seen


def test_uniform_visibility_and_prediction():
    mask = UniformMasking(mask_ratio=0.75, predict_ratio=0.25)(6000, (6, 6), generator())
    for indices, share in ((mask.visible, 9 / 36), (mask.predict.flatten(1), 6 / 36)):
        deviation = math.sqrt(share * (1 - share) / 6000)
        assert (as_sets(indices, (6, 6)).float().mean(0) - share).abs().max() < 5 * deviation
    # Not in blocks: neighbours are seen together about as often as any two patches.
    visible = as_sets(mask.visible, (6, 6)).float()
    together = (visible[:, :, 1:] * visible[:, :, :-1]).mean().item()
    assert together == pytest.approx(9 / 36 * 8 / 35, rel=0.05)


@pytest.mark.parametrize('kind', ['Uniform', 'Block', 'InverseBlock'])
def test_a_number_of_predicted_patches(kind):
    for ratio in (0.5, 0.75):
        assert strategy(kind, mask_ratio=ratio, num_predicted=7)(5, (6, 6), generator()).predict.shape == (5, 1, 7)
    assert strategy(kind, mask_ratio=0.5)(5, (6, 6), generator()).predict.shape == (5, 1, 18)  # all that are masked


@pytest.mark.parametrize(
    ('kind', 'options', 'grid', 'named'),
    [
        ('InverseBlock', dict(mask_ratio=0.0), None, 'mask_ratio=0.0'),
        ('InverseBlock', dict(mask_ratio=1.0), None, 'mask_ratio=1.0'),
        ('InverseBlock', dict(mask_ratio=0.5, predict_ratio=1.5), None, 'predict_ratio=1.5'),
        ('InverseBlock', dict(mask_ratio=0.5, aspect_ratio=(0.0, 0.5)), None, r'aspect_ratio=\(0.0, 0.5\)'),
        ('InverseBlock', dict(mask_ratio=0.1), (3, 3), 'masks none of the 9 patches of the 3 x 3 grid; use a greater'),
        ('InverseBlock', dict(mask_ratio=0.65, predict_ratio=0.05), (5, 5), 'of 16 masked.*share of 0.0625'),
        (
            'InverseBlock',
            dict(mask_ratio=0.5, predict_ratio=0.5, num_predicted=3),
            None,
            'either predict_ratio or num_p',
        ),
        ('Block', dict(mask_ratio=0.5, num_predicted=0), None, 'num_predicted=0: must be at least 1'),
        ('Uniform', dict(mask_ratio=0.5, num_predicted=9), (4, 4), 'num_predicted=9: only 8 of the 16 patches'),
        ('InverseBlock', dict(mask_ratio=0.5), (2, 32), r'\(0.5, 2.0\).*2 x 32 grid.*overlap \(0.0312, 0.125\)'),
        ('Uniform', dict(mask_ratio=0.9, num_visible=20), None, 'either mask_ratio or num_visible'),
        ('Uniform', dict(num_visible=0), None, 'num_visible=0'),
        ('Uniform', dict(num_visible=16), (4, 4), 'num_visible=16 masks none of the 16 patches'),
        ('BEiT', dict(), None, 'give either mask_ratio or num_visible'),
        ('BEiT', dict(mask_ratio=0.4, min_block=0), None, 'min_block=0: must be at least 1'),
        ('BEiT', dict(mask_ratio=0.9), (4, 4), r'cannot mask 14 patches of the 4 x 4 grid, but 9 at most'),
    ],
)
def test_refusals(kind, options, grid, named):
    with pytest.raises(InputError, match=named):
        strategy(kind, **options)(2, grid or (16, 16), generator())
