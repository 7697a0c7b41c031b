import math

import pytest
import torch

from mmmim.datasets.masking import BlockMasking, InverseBlockMasking, MaskingStrategy, UniformMasking
from mmmim.datasets.masking.functional import block_set, random_subset, roll_set
from mmmim.registry import MASKINGS
from mmmim.structures import PatchMask
from mmmim.utils import InputError

STRATEGIES = [
    dict(type='mmmim.UniformMasking'),
    dict(type='mmmim.UniformMasking', roll=True),
    dict(type='mmmim.BlockMasking'),
    dict(type='mmmim.BlockMasking', roll=True),
    dict(type='mmmim.InverseBlockMasking'),
    dict(type='mmmim.InverseBlockMasking', roll=True),
]
GRIDS = [(3, 3), (8, 8), (16, 16), (14, 14), (7, 12), (12, 7), (9, 16), (32, 32)]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def as_sets(indices: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    sets = torch.zeros(indices.shape[0], math.prod(grid), dtype=torch.bool)
    return sets.scatter_(1, indices, True).view(-1, *grid)


@pytest.mark.parametrize('grid', GRIDS, ids=str)
@pytest.mark.parametrize('ratios', [(0.65, 1.0), (0.75, 0.5), (0.29, 0.7), (0.5, 1.0)], ids=str)
@pytest.mark.parametrize('config', STRATEGIES, ids=lambda c: f'{c["type"][6:]}-{c.get("roll", False)}')
def test_exact_counts(config, ratios, grid):
    mask = MASKINGS.build(dict(config, mask_ratio=ratios[0], predict_ratio=ratios[1]))(33, grid, generator())
    total = grid[0] * grid[1]
    masked = int(total * ratios[0])
    assert mask.grid == grid
    assert mask.visible.shape == (33, total - masked)
    assert mask.predict.shape == (33, 1, int(masked * ratios[1]))
    assert mask.image_index.tolist() == list(range(33))
    for indices in (mask.visible, mask.predict, mask.image_index):
        assert indices.dtype == torch.int64
    for visible, predict in zip(mask.visible.tolist(), mask.predict.flatten(1).tolist(), strict=True):
        # Strictly ascending: sorted, and no index twice.
        assert visible == sorted(set(visible))
        assert predict == sorted(set(predict))
        assert not set(visible) & set(predict)
        assert set(visible) | set(predict) <= set(range(total))


def test_counts_are_those_of_capi():
    mask = InverseBlockMasking(mask_ratio=0.65, predict_ratio=0.05, roll=True)(1, (16, 16), generator())
    assert (mask.visible.shape[1], mask.predict.shape[2]) == (90, 8)


@pytest.mark.parametrize('config', STRATEGIES, ids=lambda c: f'{c["type"][6:]}-{c.get("roll", False)}')
def test_only_the_generator_decides(config):
    strategy = MASKINGS.build(dict(config, mask_ratio=0.6, predict_ratio=0.3))
    first, again, other = (strategy(8, (9, 9), generator(seed)) for seed in (1, 1, 2))
    assert first.visible.equal(again.visible)
    assert first.predict.equal(again.predict)
    assert not first.visible.equal(other.visible)
    assert not first.predict.equal(other.predict)
    # The images of a batch are drawn independently of each other.
    assert len({tuple(row) for row in first.visible.tolist()}) > 1


@pytest.mark.parametrize(('strategy', 'ratio'), [(InverseBlockMasking, 0.65), (BlockMasking, 0.35)])
@pytest.mark.parametrize('grid', [(16, 16), (11, 17), (17, 11)])
def test_block_is_one_truncated_rectangle(strategy, ratio, grid):
    mask = strategy(mask_ratio=ratio)(300, grid, generator())
    sets = as_sets(mask.visible, grid)
    block = sets if strategy is InverseBlockMasking else ~sets
    for one in block:
        rows, columns = one.any(1).nonzero().flatten().tolist(), one.any(0).nonzero().flatten().tolist()
        rectangle = one[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].flatten()
        count = int(one.sum())
        assert rectangle[:count].all()
        assert not rectangle[count:].any()
        width, height = columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1
        # ceil() lengthens either side by less than a cell.
        assert height / (width - 1) >= 0.5
        assert (height - 1) / width <= 2


def test_block_reaches_every_side():
    block = block_set(2000, (16, 16), 90, (0.5, 2.0), generator())
    for side in (block[:, 0], block[:, -1], block[:, :, 0], block[:, :, -1]):
        assert side.any(1).float().mean() > 0.03


@pytest.mark.parametrize('grid', [(16, 16), (8, 20), (20, 8)])
@pytest.mark.parametrize('share', [0.02, 0.3, 0.9, 0.995])
def test_block_never_exceeds_the_grid(grid, share):
    count = int(grid[0] * grid[1] * share)
    block = block_set(500, grid, count, (1e-3, 1e3), generator())
    assert block.sum((1, 2)).eq(count).all()


def test_block_at_the_limit_of_what_fits():
    # Where the block is exactly as wide or as high as the grid, rounding must not make it wider.
    for width in range(5, 40):
        for count in range(1, width * 7):
            for limit in (count / width**2, 7**2 / count):
                assert block_set(1, (7, width), count, (limit, limit), generator()).sum() == count


def test_log_aspect_is_uniform():
    # In a grid this large neither the clipping nor the rounding of the sides matters.
    block = block_set(1000, (100, 100), 2000, (0.5, 2.0), generator())
    log_aspect = (block.any(2).sum(1) / block.any(1).sum(1)).log2()
    histogram = torch.histc(log_aspect, bins=4, min=-1, max=1)
    assert histogram.sum() > 950
    # 250 expected per quarter, standard deviation 14.
    assert histogram.min() > 190
    assert histogram.max() < 310
    assert block_set(50, (100, 100), 2000, (1.0, 1.0), generator()).any(2).sum(1).eq(45).all()


def test_roll_set_wraps():
    patches = torch.zeros(2, 3, 4, dtype=torch.bool)
    patches[0, 2, 3] = patches[1, 0, 0] = True
    rolled = roll_set(patches, torch.tensor([[1, 2], [2, 0]]))
    assert rolled.nonzero().tolist() == [[0, 0, 1], [1, 2, 0]]
    shifts = torch.tensor([[1, 2], [3, 1]])
    image = torch.rand(2, 3, 4) > 0.5
    expected = torch.stack([image[g].roll(tuple(shifts[:, g].tolist()), (0, 1)) for g in range(2)])
    assert roll_set(image, shifts).equal(expected)


def test_rolled_visible_set_is_a_block_on_the_torus():
    grid = (8, 10)
    rolled = as_sets(InverseBlockMasking(mask_ratio=0.65, roll=True)(64, grid, generator()).visible, grid)
    wrapped = 0
    for one in rolled:
        unrolled = torch.stack([one.roll((r, c), (0, 1)) for r in range(grid[0]) for c in range(grid[1])])
        # Some shift brings it to the top left corner, as a block of as many rows and columns as it touches.
        rows, columns = one.any(1), one.any(0)
        corner = unrolled[:, : int(rows.sum()), : int(columns.sum())].flatten(1)
        assert corner[:, : int(one.sum())].all(1).any()
        wrapped += int(rows[0] and rows[-1] and not rows.all())
    assert wrapped > 10


def test_roll_makes_visibility_uniform():
    def share_visible(roll):
        mask = InverseBlockMasking(mask_ratio=0.65, roll=roll)(4000, (8, 8), generator())
        return as_sets(mask.visible, (8, 8)).float().mean(0)

    expected = 23 / 64
    deviation = math.sqrt(expected * (1 - expected) / 4000)
    assert (share_visible(roll=True) - expected).abs().max() < 5 * deviation
    # Without it the corners are rarely seen.
    assert share_visible(roll=False)[0, 0] < 0.5 * expected


def test_uniform_visibility_and_prediction():
    mask = UniformMasking(mask_ratio=0.75, predict_ratio=0.25)(6000, (6, 6), generator())
    for indices, share in ((mask.visible, 9 / 36), (mask.predict.flatten(1), 6 / 36)):
        seen = as_sets(indices, (6, 6)).float()
        deviation = math.sqrt(share * (1 - share) / 6000)
        assert (seen.mean(0) - share).abs().max() < 5 * deviation
    # Not in blocks: neighbours are seen together about as often as any two patches.
    visible = as_sets(mask.visible, (6, 6)).float()
    together = (visible[:, :, 1:] * visible[:, :, :-1]).mean().item()
    assert together == pytest.approx(9 / 36 * 8 / 35, rel=0.05)


def test_predicted_patches_are_a_uniform_subset_of_the_masked():
    indices = torch.tensor([1, 4, 5, 7, 8]).expand(5000, -1)
    subset = random_subset(indices, 2, generator())
    counts = torch.bincount(subset.flatten(), minlength=9)
    assert counts[[0, 2, 3, 6]].eq(0).all()
    assert (counts[[1, 4, 5, 7, 8]] - 2000).abs().max() < 5 * math.sqrt(5000 * 0.4 * 0.6)
    assert (subset[:, 0] < subset[:, 1]).all()


@pytest.mark.parametrize(
    ('options', 'named'),
    [
        (dict(mask_ratio=0.0), 'mask_ratio=0.0'),
        (dict(mask_ratio=1.0), 'mask_ratio=1.0'),
        (dict(mask_ratio=65), 'mask_ratio=65'),
        (dict(mask_ratio=0.5, predict_ratio=0.0), 'predict_ratio=0.0'),
        (dict(mask_ratio=0.5, predict_ratio=1.5), 'predict_ratio=1.5'),
        (dict(mask_ratio=0.5, aspect_ratio=(2.0, 0.5)), r'aspect_ratio=\(2.0, 0.5\)'),
        (dict(mask_ratio=0.5, aspect_ratio=(0.0, 0.5)), r'aspect_ratio=\(0.0, 0.5\)'),
    ],
)
def test_options_out_of_range(options, named):
    with pytest.raises(InputError, match=named):
        MASKINGS.build(dict(type='mmmim.InverseBlockMasking', **options))


@pytest.mark.parametrize(
    ('options', 'grid', 'named'),
    [
        (dict(mask_ratio=0.1), (3, 3), 'mask_ratio=0.1 masks none of the 9 patches of the 3 x 3 grid; use a greater'),
        (dict(mask_ratio=0.5), (1, 1), 'mask_ratio=0.5 masks none of the 1 patches'),
        (dict(mask_ratio=0.65, predict_ratio=0.05), (5, 5), 'predict_ratio=0.05 of 16 masked.*share of 0.0625'),
        (dict(mask_ratio=0.5), (2, 32), r'aspect_ratio=\(0.5, 2.0\).*2 x 32 grid.*overlap \(0.0312, 0.125\)'),
    ],
)
def test_ratios_that_do_not_suit_the_grid(options, grid, named):
    with pytest.raises(InputError, match=named):
        InverseBlockMasking(**options)(2, grid, generator())


class MultiBlock:
    """I-JEPA's kind of masks: T = 4 target blocks of one size, the visible sets cut to the smallest of the batch."""

    def __call__(self, num_images: int, grid: tuple[int, int], rng: torch.Generator) -> PatchMask:
        count = int(torch.randint(12, 20, (), generator=rng))
        side = torch.rand((), generator=rng).item() + 0.5
        blocks = block_set(num_images * 4, grid, count, (side, side), rng).view(num_images, 4, *grid)
        visible = [(~one).flatten().nonzero().flatten() for one in blocks.any(1)]
        smallest = min(len(one) for one in visible)
        return PatchMask(
            visible=torch.stack([one[:smallest] for one in visible]),
            predict=blocks.flatten(0, 1).flatten(1).nonzero()[:, 1].view(num_images, 4, count),
            image_index=torch.arange(num_images),
            grid=grid,
        )


def test_interface_carries_target_blocks_and_sizes_shared_over_the_batch():
    strategy: MaskingStrategy = MultiBlock()
    rng = generator()
    masks = [strategy(16, (14, 14), rng) for _ in range(8)]
    assert len({mask.predict.shape[2] for mask in masks}) > 1
    for mask in masks:
        assert mask.predict.shape[:2] == (16, 4)
        assert mask.flat_predict().shape == (16, 4 * mask.predict.shape[2])
        for visible, predict in zip(mask.visible.tolist(), mask.flat_predict().tolist(), strict=True):
            assert not set(visible) & set(predict)


def test_a_number_of_visible_patches():
    rng = torch.Generator().manual_seed(0)
    for grid in ((14, 14), (5, 7)):
        mask = UniformMasking(num_visible=20)(3, grid, rng)
        assert mask.visible.shape == (3, 20)
        assert mask.predict.shape == (3, 1, grid[0] * grid[1] - 20)
    # The recipe of Latent MIM: a mask ratio of 0.9 of 196 patches.
    assert UniformMasking(mask_ratio=0.9)(1, (14, 14), rng).visible.shape == (1, 20)
    with pytest.raises(InputError, match='either mask_ratio or num_visible'):
        UniformMasking(mask_ratio=0.9, num_visible=20)
    with pytest.raises(InputError, match='either mask_ratio or num_visible'):
        UniformMasking()
    with pytest.raises(InputError, match='num_visible=0'):
        UniformMasking(num_visible=0)
    with pytest.raises(InputError, match='num_visible=16 masks none of the 16 patches'):
        UniformMasking(num_visible=16)(1, (4, 4), rng)
