"""BEiT's masks: several blocks until enough patches are masked."""

import math
import random

import torch
from torch import Tensor

from mmmim.registry import MASKINGS
from mmmim.structures import PatchMask
from mmmim.utils import InputError
from mmmim.utils.options import Count

from .strategies import Counts, _to_patch_mask
from .units import in_units

#: Tries to place a block before the numbers of patches that may be added are looked at anew.
_TRIES = 10


def _add_block(
    masked: set[tuple[int, int]],
    grid: tuple[int, int],
    sizes: tuple[int, int],
    aspect_ratio: tuple[float, float],
    rng: random.Random,
    last: int,
) -> None:
    """Add one block to a set of cells (row, column), if one of the tries adds between 1 and ``sizes[1]`` of them.

    ``last`` is 1 where blocks may reach the last row and column, 0 where not.
    """
    height, width = grid
    for _ in range(_TRIES):
        area = rng.uniform(*sizes)
        aspect = math.exp(rng.uniform(*(math.log(limit) for limit in aspect_ratio)))
        rows, columns = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if rows >= height or columns >= width:
            continue
        top, left = rng.randrange(height - rows + last), rng.randrange(width - columns + last)
        block = {(row, column) for row in range(top, top + rows) for column in range(left, left + columns)}
        if 0 < len(block - masked) <= sizes[1]:
            masked |= block
            return


@MASKINGS.register_module()
class BEiTMasking:
    """Blocks of random sizes are masked until the number is reached (BEiT, arXiv 2106.08254, section 2.3).

    One mask per image, one target block: all masked patches. The rules are those of mmpretrain's
    ``BEiTMaskGenerator``, which never masks the last row and the last column of the grid; the released code of BEiT and
    data2vec does (``whole_grid=True``), but masks fewer patches where ten tries to place a block fail. BEiT masks 75 of
    196 patches with ``num_visible=121``, data2vec 120 with ``num_visible=76``, mmpretrain's MaskFeat 78 with
    ``mask_ratio=0.4, min_block=15``.

    Args:
        mask_ratio: Share of the patches that are masked, ``int(N * mask_ratio)``.
        num_visible: Number of visible patches, instead of ``mask_ratio``.
        min_block: Least area of a block in patches, as long as so many are to be masked.
        aspect_ratio: Least and greatest height over width of a block; log-uniform in between.
        whole_grid: Whether blocks may reach the last row and the last column.
        unit: Side in patches of the units that are drawn: all patches of a unit are masked, predicted or seen. Numbers
            and ratios are of units then, and ``ceil(units * mask_ratio)`` are masked.

    Raises:
        InputError: An option out of range, or, when called, more patches than blocks can mask.
    """

    def __init__(
        self,
        mask_ratio: float | None = None,
        num_visible: int | None = None,
        min_block: int = 16,
        aspect_ratio: tuple[float, float] = (0.3, 1 / 0.3),
        whole_grid: bool = False,
        unit: Count = 1,
    ) -> None:
        if not (len(aspect_ratio) == 2 and 0 < aspect_ratio[0] <= aspect_ratio[1]):
            raise InputError(f'aspect_ratio={aspect_ratio}: must be two positive numbers, the smaller one first')
        if min_block < 1:
            raise InputError(f'min_block={min_block}: must be at least 1')
        self.counts = Counts(mask_ratio, num_visible=num_visible, unit=unit)
        self.min_block, self.aspect_ratio, self.whole_grid = min_block, aspect_ratio, whole_grid
        self.unit = unit

    def draw(self, grid: tuple[int, int], count: int, rng: random.Random) -> Tensor:
        """``count`` masked patches of one image, ``[h, w]``, bool."""
        masked: set[tuple[int, int]] = set()
        while len(masked) < count:
            # The least area is above the number of patches left in the end; areas are drawn between the two all the
            # same, and what is too much is not added.
            _add_block(
                masked, grid, (self.min_block, count - len(masked)), self.aspect_ratio, rng, int(self.whole_grid)
            )
        cells = torch.zeros(grid, dtype=torch.bool)
        cells[tuple(zip(*masked, strict=True))] = True
        return cells

    @in_units
    def __call__(self, num_images: int, grid: tuple[int, int], rng: torch.Generator) -> PatchMask:
        """Draw the masks of a batch: ``visible [B, V]``, ``predict [B, 1, M]``."""
        _, count, _ = self.counts(grid)
        most = (grid[0] - 1) * (grid[1] - 1)
        if count > most and not self.whole_grid:
            raise InputError(
                f'BEiTMasking cannot mask {count} patches of the {grid[0]} x {grid[1]} grid, but {most} at most, as it '
                'leaves out the last row and the last column: use a smaller mask_ratio or a greater num_visible, or '
                'whole_grid=True'
            )
        # Python's generator: blocks are placed one number at a time.
        draws = random.Random(int(torch.randint(2**62, (), generator=rng)))
        masked = torch.stack([self.draw(grid, count, draws) for _ in range(num_images)])
        return _to_patch_mask(~masked, count, rng)
