"""A part of a data set, and the rest of it."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from mmengine.dataset import BaseDataset

from mmmim.registry import DATASETS
from mmmim.utils import InputError
from mmmim.utils.options import InnerShare, Seed, check_choice, check_value


@DATASETS.register_module(name='Split')
def split_dataset(
    dataset: dict[str, Any] | BaseDataset, part: Literal['train', 'val'], share: InnerShare = 0.9, seed: Seed = 42
) -> BaseDataset:
    """A part of a data set that is drawn at random, or the rest of it, to choose settings on.

    ``dict(type='mmmim.Split', part='val', dataset=...)``. Of n images the first ``round(share * n)`` of the permutation
    of numpy's ``default_rng(seed)`` are the part 'train', the others the part 'val' (probes of CAPI, arXiv
    2502.08769).

    Args:
        dataset: Any data set, or its config.
        part: 'train', or 'val' for the images that are not in it.
        share: Share of the images in 'train'.
        seed: Seed of the permutation.

    Returns:
        A copy of the data set with these images, in the order of the permutation.

    Raises:
        InputError: A part would be without images.
    """
    check_choice('Split.part', part, ('train', 'val'))
    check_value('Split.share', share, InnerShare)
    check_value('Split.seed', seed, Seed)
    whole = dataset if isinstance(dataset, BaseDataset) else DATASETS.build(dataset)
    whole.full_init()
    order = np.random.default_rng(seed).permutation(len(whole))
    first = round(share * len(whole))
    indices = order[:first] if part == 'train' else order[first:]
    if not len(indices):
        raise InputError(f'mmmim.Split: {part!r} would have none of {len(whole)} images with share={share}.')
    return whole.get_subset(indices.tolist())
