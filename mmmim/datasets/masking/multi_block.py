"""Multi-block masks (I-JEPA, arXiv 2301.08243): small target blocks, and the rest of a large block as context.

Legend: B images, G = B x contexts per image, T target blocks per image, N = h * w patches of a grid ``(h, w)``. Sets of
patches are boolean tensors ``[..., h, w]``.
"""

import itertools
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from mmmim.registry import MASKINGS
from mmmim.structures import PatchMask
from mmmim.utils import InputError
from mmmim.utils.options import Count

from .units import in_units

Range = tuple[float, float]

# Failed draws of a context after which it may overlap one target block more.
_PATIENCE = 20


def block_sizes(grid: tuple[int, int], field: tuple[int, int], scale: Range, aspect: Range, draws: Tensor) -> Tensor:
    """Rows and columns of blocks.

    Args:
        grid: ``(h, w)`` in patches.
        field: Rows and columns of the grid that blocks lie in: the greatest block.
        scale: Least and greatest share of the grid's patches.
        aspect: Least and greatest height over width.
        draws: Where in the two ranges, ``[2, K]``, in [0, 1]; float64.

    Returns:
        ``[2, K]``, int64.
    """
    share, ratio = (low + draw * (high - low) for (low, high), draw in zip((scale, aspect), draws, strict=True))
    patches = (grid[0] * grid[1] * share).floor()
    sides = torch.stack([patches * ratio, patches / ratio]).sqrt().round()
    return sides.long().minimum(torch.tensor(field).unsqueeze(1))


def place_block(grid: tuple[int, int], field: tuple[int, int], size: Sequence[int], rng: torch.Generator) -> Tensor:
    """A block of ``size`` at a uniform place in ``field``, the upper left part of the grid: ``[h, w]``, bool."""
    # Two numbers from two calls, in this order: recorded masks are reproduced from the seed of their generator.
    top, left = (int(torch.randint(f - s + 1, (), generator=rng)) for f, s in zip(field, size, strict=True))
    block = torch.zeros(grid, dtype=torch.bool)
    block[top : top + size[0], left : left + size[1]] = True
    return block


def place_context(
    grid: tuple[int, int],
    field: tuple[int, int],
    size: Sequence[int],
    targets: Tensor,
    min_keep: int,
    rng: torch.Generator,
) -> Tensor:
    """A block without the patches of target blocks, with more than ``min_keep`` patches.

    Blocks with fewer are drawn again; after every 20 of them the last target block that is still avoided no longer is.

    Args:
        grid: ``(h, w)`` in patches.
        field: Rows and columns of the grid that blocks lie in.
        size: Rows and columns of the block; more than ``min_keep`` patches.
        targets: Blocks to avoid, ``[T, h, w]``, bool.
        min_keep: The block keeps more patches than this.
        rng: Random generator on the CPU.

    Returns:
        ``[h, w]``, bool.
    """
    for failures in itertools.count():
        avoided = targets[: max(len(targets) - failures // _PATIENCE, 0)].any(0)
        context = place_block(grid, field, size, rng) & ~avoided
        if context.sum() > min_keep:
            break
    return context


def cut_to_shortest(sets: Tensor, rng: torch.Generator | None = None) -> Tensor:
    """As many patches of every set as the smallest of them has.

    Args:
        sets: ``[G, h, w]``, bool.
        rng: CPU generator to choose by; None keeps the first patches in raster order.

    Returns:
        Indices, ``[G, V]``, ascending in every row.
    """
    sets = sets.flatten(1)
    rank = torch.arange(sets.shape[1], 0, -1.0) if rng is None else torch.rand(sets.shape, generator=rng)
    kept = rank.where(sets, -1.0).topk(int(sets.sum(1).min()), sorted=False).indices
    return kept.sort().values


@MASKINGS.register_module()
class MultiBlockMasking:
    """T target blocks, and the rest of a large block as context (I-JEPA, arXiv 2301.08243, section 3 and appendix A).

    The sizes of blocks are drawn once per batch, their places once per image. Target blocks of an image may overlap
    each other; the contexts avoid all of them. Where that leaves ``min_keep`` patches or fewer, a context is drawn
    again, and after every 20 failures it may overlap one target block more. Then all contexts of the batch are cut to
    the number of patches of the smallest.

    **The batch size of a process is a hyper-parameter of these masks**: the more images, the smaller the smallest
    context. With the defaults on a 14 x 14 grid a context has 82 patches on average before it is cut and, in a batch of
    128, about 50 after it; as its last patches are cut off, the top of the image is seen most.

    The defaults are those of the released code. Where the paper's text says otherwise there is an option:
    ``independent_aspect`` and ``full_grid``, and ``cut='random'`` for contexts without preference for the top.

    Args:
        num_targets: Number of target blocks of an image, T.
        target_scale: Least and greatest share of the grid that a target block takes.
        target_aspect: Least and greatest height over width of target blocks.
        num_contexts: Contexts, hence masks, per image; they share its target blocks.
        context_scale: Least and greatest share of the grid that the block takes which contexts are cut out of.
        context_aspect: Least and greatest height over width of that block. On a grid that is not square, the grid's own
            suits better.
        min_keep: Every block has more patches than this.
        allow_overlap: Whether contexts keep the patches that are predicted.
        independent_aspect: Draw the aspect of a block independently of its scale. Otherwise one number decides both,
            and the largest blocks are the tallest.
        cut: Patches that a context keeps: the ``'first'`` in raster order, or a ``'random'`` subset.
        full_grid: Let blocks reach the last row and the last column, which otherwise are never drawn.
        unit: Side in patches of the units that are drawn: all patches of a unit are predicted, seen or neither.
            Numbers and shares are of units then.

    Raises:
        InputError: An option out of range, or, when called, blocks with too few patches on this grid.
    """

    def __init__(
        self,
        num_targets: int = 4,
        target_scale: Range = (0.15, 0.2),
        target_aspect: Range = (0.75, 1.5),
        num_contexts: int = 1,
        context_scale: Range = (0.85, 1.0),
        context_aspect: Range = (1.0, 1.0),
        min_keep: int = 10,
        allow_overlap: bool = False,
        independent_aspect: bool = False,
        cut: Literal['first', 'random'] = 'first',
        full_grid: bool = False,
        unit: Count = 1,
    ) -> None:
        for name, count in dict(num_targets=num_targets, num_contexts=num_contexts).items():
            if count < 1:
                raise InputError(f'{name}={count}: must be at least 1')
        if min_keep < 0:
            raise InputError(f'min_keep={min_keep}: must not be negative')
        for name, scale in dict(target_scale=target_scale, context_scale=context_scale).items():
            if not (len(scale) == 2 and 0 < scale[0] <= scale[1] <= 1):
                raise InputError(f'{name}={scale}: must be two numbers above 0 and at most 1, the smaller one first')
        for name, aspect in dict(target_aspect=target_aspect, context_aspect=context_aspect).items():
            if not (len(aspect) == 2 and 0 < aspect[0] <= aspect[1]):
                raise InputError(f'{name}={aspect}: must be two positive numbers, the smaller one first')
        if cut not in ('first', 'random'):
            raise InputError(f"cut={cut!r}: must be 'first' or 'random'")
        self.num_targets, self.num_contexts = num_targets, num_contexts
        # By kind of block, in the order in which sizes are drawn.
        self.ranges = {'target': (target_scale, target_aspect), 'context': (context_scale, context_aspect)}
        self.min_keep, self.allow_overlap = min_keep, allow_overlap
        self.independent_aspect, self.random_cut, self.full_grid = independent_aspect, cut == 'random', full_grid
        self.unit = unit

    @in_units
    def __call__(self, num_images: int, grid: tuple[int, int], rng: torch.Generator) -> PatchMask:
        """Draw the masks of a batch: ``visible [G, V]``, ``predict [G, T, M]``, the masks of an image consecutive."""
        # All sizes that can be drawn: options that do not suit the grid fail in the first batch, and not in the first
        # unlucky one, days later.
        line = torch.linspace(0, 1, 101 if self.independent_aspect else 2001, dtype=torch.float64)
        every = torch.cartesian_prod(line, line).T if self.independent_aspect else line.expand(2, -1)
        for kind in self.ranges:
            self._sizes(kind, every, grid)
        return self.draw(num_images, grid, rng, rng)

    def draw(
        self, num_images: int, grid: tuple[int, int], size_rng: torch.Generator, place_rng: torch.Generator
    ) -> PatchMask:
        """Draw the masks of a batch from two generators, as recorded runs of the released code do.

        Args:
            num_images: Number of images, B.
            grid: ``(h, w)`` in patches.
            size_rng: CPU generator of the sizes of blocks.
            place_rng: CPU generator of everything else.

        Returns:
            Masks on the CPU, those of an image consecutive.
        """
        # For targets and then for contexts: one number for scale and aspect, or one for each.
        draws = torch.rand(2, 2 if self.independent_aspect else 1, 1, generator=size_rng).double().expand(2, 2, 1)
        target, context = (self._sizes(*one, grid)[:, 0].tolist() for one in zip(self.ranges, draws, strict=True))
        field = self._field(grid)
        targets, contexts = [], []
        for _ in range(num_images):
            blocks = torch.stack([place_block(grid, field, target, place_rng) for _ in range(self.num_targets)])
            avoided = blocks[:0] if self.allow_overlap else blocks
            targets.append(blocks)
            contexts += [
                place_context(grid, field, context, avoided, self.min_keep, place_rng) for _ in range(self.num_contexts)
            ]
        predict = torch.stack(targets).flatten(2).nonzero()[:, 2].view(num_images, self.num_targets, -1)
        return PatchMask(
            visible=cut_to_shortest(torch.stack(contexts), place_rng if self.random_cut else None),
            predict=predict.repeat_interleave(self.num_contexts, 0),
            image_index=torch.arange(num_images).repeat_interleave(self.num_contexts),
            grid=grid,
        )

    def _field(self, grid: tuple[int, int]) -> tuple[int, int]:
        return grid if self.full_grid else (grid[0] - 1, grid[1] - 1)

    def _sizes(self, kind: str, draws: Tensor, grid: tuple[int, int]) -> Tensor:
        """Sizes of target or context blocks, ``[2, K]``; an error where one has too few patches."""
        scale, aspect = self.ranges[kind]
        sizes = block_sizes(grid, self._field(grid), scale, aspect, draws)
        smallest = sizes[:, sizes.prod(0).argmin()].tolist()
        if smallest[0] * smallest[1] <= self.min_keep:
            raise InputError(
                f'{kind}_scale={tuple(scale)}, {kind}_aspect={tuple(aspect)}: a {kind} block can have '
                f'{smallest[0]} x {smallest[1]} patches on the {grid[0]} x {grid[1]} grid, and needs more than '
                f'min_keep={self.min_keep}; use a smaller min_keep, a greater {kind}_scale, larger images or smaller '
                'patches'
            )
        return sizes
