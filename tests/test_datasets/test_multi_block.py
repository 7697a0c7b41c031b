"""I-JEPA's masks: recorded ones, their properties and distributions."""

import math
from functools import cache

import numpy as np
import pytest
import torch

from mmmim import datasets
from mmmim.datasets.masking import MultiBlockMasking
from mmmim.datasets.masking.multi_block import cut_to_shortest, place_context
from mmmim.registry import MASKINGS
from mmmim.utils import InputError
from tests.paths import ROOT
from tests.toys import as_sets, generator

WIDE = dict(num_targets=2, target_scale=(0.05, 0.3), target_aspect=(0.3, 3.0), num_contexts=2, context_scale=(0.3, 0.9))
# Options, grid, images, and the seed of the places of the first of three batches; the seed of sizes is their number.
DRAWS = {
    'g14': (dict(), 14, 6, 511),
    'g16': (dict(), 16, 6, 511),
    'relax': (dict(min_keep=33), 14, 16, 611),
    'overlap': (dict(allow_overlap=True), 14, 16, 611),
    'wide': (WIDE | dict(min_keep=5), 14, 6, 711),
}
OPTIONS = {
    'default': dict(),
    'contexts': dict(num_contexts=3, context_scale=(0.3, 0.9)),
    'independent': dict(independent_aspect=True, num_targets=2),
    'full_grid': dict(full_grid=True),
    'random_cut': dict(cut='random'),
    'overlap': dict(allow_overlap=True, num_targets=1),
    'everything': dict(
        WIDE, min_keep=3, independent_aspect=True, full_grid=True, cut='random', context_aspect=(0.5, 2)
    ),
}


@cache
def recorded():
    with np.load(ROOT / 'tests/data/ijepa_tiny.npz') as file:
        return {key: torch.from_numpy(file[key]) for key in file if key.startswith(('draw.', 'masks_', 'traj.'))}


@pytest.mark.parametrize('name', DRAWS)
def test_recorded_draws(name):
    options, side, images, seed = DRAWS[name]
    masking = MultiBlockMasking(**options)
    contexts = masking.num_contexts
    for call in range(3):
        mask = masking.draw(images, (side, side), generator(call), generator(seed + call))
        context, target = recorded()[f'draw.{name}.{call}.enc'], recorded()[f'draw.{name}.{call}.pred']
        if contexts == 1:
            context = context.unsqueeze(0)
        # Recorded with contexts and targets outermost.
        assert mask.visible.equal(context.transpose(0, 1).flatten(0, 1))
        assert mask.predict.equal(target.transpose(0, 1).repeat_interleave(contexts, 0))
        assert mask.image_index.tolist() == [image for image in range(images) for _ in range(contexts)]


@pytest.mark.parametrize('options', OPTIONS.values(), ids=OPTIONS)
def test_properties(options):
    masking = MASKINGS.build(dict(type='mmmim.MultiBlockMasking', **options))
    rng, contexts = generator(), masking.num_contexts
    for images, grid in ((1, (14, 14)), (7, (16, 16)), (7, (9, 16)), (7, (20, 11))):
        mask = masking(images, grid, rng)
        assert mask.visible.shape[1] > masking.min_keep
        assert len(mask.visible) == images * contexts
        assert mask.predict.shape[:2] == (images * contexts, masking.num_targets)
        assert mask.image_index.tolist() == [image for image in range(images) for _ in range(contexts)]
        for indices in (mask.visible, mask.predict):
            assert indices.dtype == torch.int64
            assert (indices.diff(dim=-1) > 0).all()
        # Every target is a full rectangle, of one size, and they are those of the image.
        blocks, seen = as_sets(mask.predict, grid), as_sets(mask.visible, grid)
        assert blocks.sum((2, 3)).equal(blocks.any(3).sum(2) * blocks.any(2).sum(2))
        assert blocks.equal(blocks[::contexts].repeat_interleave(contexts, 0))
        assert blocks.sum((2, 3)).unique().numel() == 1
        # With so few patches to keep, no context has to give up on avoiding targets.
        assert bool((seen & blocks.any(1)).any()) == masking.allow_overlap
        if not masking.full_grid:
            for sets in (seen.unsqueeze(1), blocks):
                assert not sets[..., -1, :].any()
                assert not sets[..., -1].any()


def test_every_place_in_the_full_grid_is_as_likely():
    options = dict(num_targets=2, target_scale=(0.15, 0.15), target_aspect=(1.0, 1.0), context_scale=(1.0, 1.0))
    masking = MultiBlockMasking(**options, min_keep=8, allow_overlap=True, full_grid=True)
    mask = masking(1000, (8, 8), generator())
    assert mask.predict.shape[2] == 9
    counts = torch.bincount(mask.predict[:, :, 0].flatten(), minlength=64).view(8, 8)
    inside = counts[:6, :6].float()  # squares of 3 patches
    assert inside.sum() == 2000
    assert (inside - 2000 / 36).abs().max() < 5 * math.sqrt(2000 / 36)
    assert mask.visible.shape == (1000, 64)  # the greatest context is the grid


def test_scale_and_aspect_can_be_drawn_each():
    masking, rng = MultiBlockMasking(num_targets=1, independent_aspect=True), generator()
    blocks = torch.stack([as_sets(masking(1, (32, 32), rng).predict[0, 0], (32, 32)) for _ in range(200)])
    rows, columns = blocks.any(2).sum(1).float(), blocks.any(1).sum(1).float()
    patches, ratio = rows * columns, rows / columns
    assert torch.corrcoef(torch.stack([patches, ratio]))[0, 1].abs() < 0.2
    # Both fill their ranges, but for the rounding of the sides.
    assert 0.135 * 1024 < patches.min() < 0.16 * 1024
    assert 0.19 * 1024 < patches.max() < 0.215 * 1024
    assert 0.7 < ratio.min() < 0.8
    assert 1.4 < ratio.max() < 1.6


def test_cut_keeps_the_first_or_a_random_subset():
    options = dict(num_targets=3, target_scale=(0.15, 0.15), context_scale=(1.0, 1.0))
    # The generator is at the same point until contexts are cut, so both have the same blocks.
    first, random = (MultiBlockMasking(cut=cut, **options)(200, (14, 14), generator()) for cut in ('first', 'random'))
    assert first.predict.equal(random.predict)
    uncut = ~as_sets(first.predict, (14, 14)).any(1)
    uncut[:, -1] = uncut[:, :, -1] = False
    smallest = int(uncut.sum((1, 2)).min())
    assert first.visible.shape == random.visible.shape == (200, smallest)
    for row, whole in zip(first.visible, uncut.flatten(1), strict=True):
        assert row.equal(whole.nonzero()[:smallest, 0])
    kept = as_sets(random.visible, (14, 14))
    assert (kept <= uncut).all()
    # A random subset has no preference for the top.
    assert kept[:, :4].sum().item() == pytest.approx(kept[:, 9:13].sum().item(), rel=0.1)


def test_random_subsets_are_uniform():
    sets = torch.zeros(4001, 2, 5, dtype=torch.bool)
    sets[:, 0, 1:] = True
    sets[:, 1, 0] = True
    sets[-1, 0, :3] = False
    counts = torch.bincount(cut_to_shortest(sets, generator())[:-1].flatten(), minlength=10)
    # Three of the five patches 1 .. 5.
    assert counts[[0, 6, 7, 8, 9]].eq(0).all()
    assert (counts[1:6] - 2400).abs().max() < 5 * math.sqrt(4000 * 0.6 * 0.4)


@pytest.mark.parametrize(('given_up', 'min_keep'), [(0, 1), (1, 2), (1, 9), (2, 10), (2, 24)])
def test_a_context_gives_up_targets_from_the_last(given_up, min_keep):
    # The first target leaves two columns of the context, the last one the first row.
    targets = torch.zeros(2, 6, 6, dtype=torch.bool)
    targets[0, :, :3] = True
    targets[1, 1:] = True
    rng, reference = generator(), generator()
    context = place_context((6, 6), (5, 5), (5, 5), targets, min_keep, rng)
    expected = torch.zeros(6, 6, dtype=torch.bool)
    expected[:5, :5] = ~targets[: 2 - given_up, :5, :5].any(0)
    assert context.equal(expected)
    # A row and a column for each of the failed draws and the last one.
    for _ in range(2 * (20 * given_up + 1)):
        torch.randint(1, (), generator=reference)
    assert rng.get_state().equal(reference.get_state())


@pytest.mark.parametrize(('aspect', 'columns'), [(0.5, 15), (1.0, 11)])
def test_grids_that_are_not_square(aspect, columns):
    masking = MultiBlockMasking(context_scale=(1.0, 1.0), context_aspect=(aspect, aspect), allow_overlap=True)
    # A context that is not as flat as the grid is as high as the field, and no wider than it should be.
    context = as_sets(masking(5, (8, 16), generator()).visible, (8, 16))
    assert context[:, :7].all(1).sum(1).tolist() == [columns] * 5
    assert context.sum((1, 2)).tolist() == [7 * columns] * 5


def test_collate_and_slices_with_two_contexts():
    masking = dict(type='mmmim.MultiBlockMasking', num_contexts=2, context_scale=(0.4, 0.8))
    samples = [dict(inputs=torch.zeros(3, 112, 112, dtype=torch.uint8), data_samples=i, mask_seed=5) for i in range(6)]
    mask = datasets.mask_collate(samples, masking=masking, patch_size=8)['mask']
    assert (mask.num_masks, mask.grid) == (12, (14, 14))
    part = mask.images(2, 5, 6)
    assert part.image_index.tolist() == [0, 0, 1, 1, 2, 2]
    assert part.visible.equal(mask.visible[4:10])
    assert part.predict.equal(mask.predict[4:10])
    assert not part.visible[0].equal(part.visible[1])


@pytest.mark.parametrize(
    ('options', 'grid', 'named'),
    [
        (dict(num_contexts=0), (14, 14), 'num_contexts=0: must be at least 1'),
        (dict(min_keep=-1), (14, 14), 'min_keep=-1: must not be negative'),
        (dict(context_scale=(0.5, 1.1)), (14, 14), r'context_scale=\(0.5, 1.1\)'),
        (dict(target_aspect=(0.0, 1.0)), (14, 14), r'target_aspect=\(0.0, 1.0\): must be two positive numbers'),
        (dict(context_aspect=(1.0,)), (14, 14), r'context_aspect must be 2 values, .*not \(1.0,\)'),
        (dict(cut='last'), (14, 14), "cut must be 'first' or 'random', not 'last'"),
        (dict(), (8, 8), r'target_scale=.*target block can have 3 x 3 .* 8 x 8 grid.*min_keep=10; use a smaller'),
        (dict(context_scale=(0.01, 1.0)), (14, 14), 'context block can have 1 x 1 .*greater context_scale'),
        (dict(min_keep=0), (1, 8), 'target block can have 0 x'),
        # Only draws next to the lower limits give so few patches.
        (dict(target_scale=(0.05, 0.9), independent_aspect=True), (14, 14), 'target block can have 4 x 2 '),
    ],
)
def test_options_that_do_not_suit_the_grid_or_nothing_fail_at_once(options, grid, named):
    for seed in range(3):
        with pytest.raises(InputError, match=named):
            MultiBlockMasking(**options)(2, grid, generator(seed))


def test_no_endless_loop_with_unlucky_sizes():
    masking = MultiBlockMasking()
    # The first draw gives more than ten patches on this grid, a later one does not.
    masking.draw(2, (8, 8), generator(0), generator())
    with pytest.raises(InputError, match='3 x 3 patches on the 8 x 8 grid'):
        masking.draw(2, (8, 8), generator(3), generator())
