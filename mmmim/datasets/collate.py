"""Batches with masks."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import default_collate

from mmmim.registry import FUNCTIONS, MASKINGS
from mmmim.utils import InputError
from mmmim.utils.options import Count, Natural

from .masking import MaskingStrategy
from .masking.functional import jitter

_STRATEGIES: dict[str, MaskingStrategy] = {}


# mmengine does not build a collate function: it calls ``partial(function, **options)(samples)`` for every batch.
@FUNCTIONS.register_module(name='MaskCollate')
def mask_collate(
    samples: Sequence[dict],
    masking: dict | MaskingStrategy,
    patch_size: Count,
    gap: Natural = 0,
    inclusive_gap: bool = False,
) -> dict[str, Any]:
    """Stack the images of a batch and draw its masks.

    The masks follow the seed that :class:`~mmmim.datasets.SeededDataset` gave to the first sample of the batch: they
    do not depend on the number of workers or on a resumption. As strategies draw per batch, they do depend on how the
    stream of samples is cut into batches (batch size and number of ranks). Without it they follow torch's global
    generator, which mmengine seeds in every worker.

    Legend: B images.

    Args:
        samples: What ``mmpretrain.PackInputs`` returns, B times: ``inputs`` uint8 ``[3, H, W]``, or a list of two after
            :class:`~mmmim.datasets.SecondView`, ``data_samples``.
        masking: Config of a masking strategy, built once per process, or the strategy itself.
        patch_size: Side of a patch in pixels; the grid is ``(H // patch_size, W // patch_size)``.
        gap: Average distance in pixels between patches that do not touch each other (Latent MIM): the image is
            divided into cells of ``patch_size + gap`` pixels, and every patch lies at random inside its cell.
        inclusive_gap: Whether patches may lie at the very end of their cells, see
            :func:`~mmmim.datasets.masking.functional.jitter`.

    Returns:
        ``inputs`` uint8 ``[B, 3, H, W]``, ``mask`` (:class:`~mmmim.structures.PatchMask`) and ``data_samples``, a list;
        of samples with two pictures ``second``, too, as ``inputs``.

    Raises:
        InputError: Samples that are not packed, images of different sizes, or sides that are no multiple of the patch.
    """
    grid = _grid([_image(sample) for sample in samples], patch_size, gap)
    seed = samples[0].get('mask_seed')
    rng = torch.Generator().manual_seed(int(torch.randint(2**32, ())) if seed is None else seed)
    offsets = jitter(len(samples), grid, gap, rng, inclusive_gap) if gap else None
    second = [sample['inputs'][1] for sample in samples if isinstance(sample['inputs'], list)]
    return {
        # Inside a worker, torch's function stacks straight into shared memory.
        'inputs': default_collate([_image(sample) for sample in samples]),
        **({'second': default_collate(second)} if second else {}),
        'mask': replace(_strategy(masking)(len(samples), grid, rng), offsets=offsets),
        'data_samples': [sample['data_samples'] for sample in samples],
    }


def _image(sample: dict) -> Tensor:
    image = sample.get('inputs')
    if isinstance(image, list) and len(image) == 2:
        image = image[0]
    if not isinstance(image, Tensor) or 'data_samples' not in sample:
        raise InputError(f'a sample has {sorted(sample)}; end the pipeline with dict(type="mmpretrain.PackInputs")')
    return image


def _grid(images: list[Tensor], patch_size: int, gap: int) -> tuple[int, int]:
    cell = patch_size + gap
    name = f'patch_size + gap = {cell}' if gap else f'patch_size={patch_size}'
    shape = images[0].shape
    for image in images:
        if image.shape != shape:
            raise InputError(
                f'a batch has images of {tuple(shape)} and {tuple(image.shape)} (channels, height, width); '
                'let the pipeline end in a crop or resize of fixed size'
            )
    for side in shape[-2:]:
        if side % cell:
            nearest = max(round(side / cell), 1) * cell
            raise InputError(
                f'{name} does not divide the image side {side}; use {nearest} as the size of the '
                'crop or resize in the pipeline, or another patch_size (here and in the backbone)'
            )
    return shape[-2] // cell, shape[-1] // cell


def _strategy(masking: dict | MaskingStrategy) -> MaskingStrategy:
    if not isinstance(masking, dict):
        return masking
    key = repr(masking)
    if key not in _STRATEGIES:
        _STRATEGIES[key] = MASKINGS.build(masking)
    return _STRATEGIES[key]
