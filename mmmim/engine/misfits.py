"""What of a recipe does not fit the training that it is used for: said when it starts, with the remedy."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.device import get_device

from mmmim.datasets.image_stream import is_stream
from mmmim.datasets.statistics import header_size
from mmmim.utils.nested import dicts

#: Prototypes for an image of the batch above which most stay unused. CAPI (arXiv 2502.08769, table 1) goes up to 2:
#: 32 768 for 16 384 images.
_PROTOTYPES_PER_IMAGE = 2
#: Images whose size is looked at.
_LOOKED_AT = 32
_MOMENTUM = 'default_hooks.target_ema.momentum'


def misfits(
    cfg: Mapping[str, Any],
    batch: int,
    device: str = 'cuda',
    images: int | None = None,
    sizes: Sequence[tuple[int, int]] = (),
) -> list[str]:
    """What does not fit, a sentence each; all of it trains, and none of it is what the recipe means.

    Args:
        cfg: The config of a training.
        batch: Images of an iteration, over all processes.
        device: Kind of device that trains: 'cpu', 'cuda', ...
        images: Images of the data set; None where that is not known, or endless.
        sizes: Heights and widths of some of the images.

    Returns:
        Sentences, each with the key that is meant and a remedy.
    """
    found = [_of_batch(cfg, batch), *_of_prototypes(cfg, batch), _of_precision(cfg, device)]
    if images is not None and images < batch:
        found.append(
            f'A batch has {batch} images and the data set {images}, so that every batch has images more than once: set '
            f'global_batch_size to {images} or less, and scale the rate with it.'
        )
    found.append(_of_sizes(cfg, sizes))
    return [sentence for sentence in found if sentence]


def log_misfits(cfg: Mapping[str, Any], loader: Any, batch: int, logger: logging.Logger) -> None:
    """Log as warnings what of a recipe does not fit the training that starts.

    Args:
        cfg: The config of the training.
        loader: The data loader of the training.
        batch: Images of an iteration, over all processes.
        logger: Where the sentences go.
    """
    endless = is_stream(loader.dataset)
    sizes = [] if endless else sizes_of(loader.dataset)
    for sentence in misfits(cfg, batch, get_device(), None if endless else len(loader.dataset), sizes):
        logger.warning(sentence)


def sizes_of(dataset: Any) -> list[tuple[int, int]]:
    """Heights and widths of some of a data set's images, from the headers of their files; empty for one without files.

    Args:
        dataset: A data set, or one that wraps it and calls it ``dataset``.
    """
    while hasattr(dataset, 'dataset'):
        dataset = dataset.dataset
    if not hasattr(dataset, 'get_data_info'):
        return []
    number = len(dataset)
    paths = [
        dataset.get_data_info(index).get('img_path')
        for index in range(0, number, max(1, number // _LOOKED_AT))[:_LOOKED_AT]
    ]
    sizes = [header_size(path) for path in paths if isinstance(path, str)]
    return [size for size in sizes if size is not None]


def _of_batch(cfg: Mapping[str, Any], batch: int) -> str:
    scaling = cfg.get('auto_scale_lr') or {}
    base = scaling.get('base_batch_size')
    if base is None or base == batch:
        return ''
    momentum = _get(cfg, _MOMENTUM) is not None
    if scaling.get('enable'):
        return (
            f'--auto-scale-lr scales the learning rate from batches of {base} images to {batch}, and not the momentum '
            f'of the teacher, {_MOMENTUM}: tools/misc/scale_recipe.py CONFIG --batch {batch} writes a config with both.'
            if momentum
            else ''
        )
    what = 'optim_wrapper.optimizer.lr' + (f' and {_MOMENTUM} are' if momentum else ' is')
    return (
        f'{what} for batches of {base} images, and a batch has {batch}: tools/misc/scale_recipe.py CONFIG --batch '
        f'{batch} writes a config with all that depends on the batch; with a rate of your own, set '
        f'auto_scale_lr.base_batch_size={batch}.'
    )


def _of_prototypes(cfg: Mapping[str, Any], batch: int) -> list[str]:
    found = []
    for name, branch in (_get(cfg, 'model.branches') or {}).items():
        generator = (branch.get('target_generator') if isinstance(branch, Mapping) else None) or {}
        number = generator.get('num_prototypes')
        if not isinstance(number, int):
            continue
        positional = generator.get('positional', True)
        tokens = batch if positional else batch * _patches(cfg)
        if number > _PROTOTYPES_PER_IMAGE * tokens:
            among = 'images of a batch at each position' if positional else 'patches of a batch'
            key = f'model.branches.{name}'
            found.append(
                f'{key}: Sinkhorn-Knopp balances {number} prototypes over the {tokens} {among}, which cannot use them '
                f'all: set {key}.target_generator.num_prototypes and {key}.head.num_prototypes to about {tokens}, or '
                'use a larger global_batch_size.'
            )
    return found


def _of_precision(cfg: Mapping[str, Any], device: str) -> str:
    dtype = _get(cfg, 'optim_wrapper.dtype')
    if device != 'cpu' or dtype is None:
        return ''
    return (
        f'optim_wrapper.dtype={dtype!r} on a CPU is usually slower than fp32, several times on many: set '
        'optim_wrapper.dtype=None.'
    )


def _of_sizes(cfg: Mapping[str, Any], sizes: Sequence[tuple[int, int]]) -> str:
    scales = [
        node['scale'] if isinstance(node['scale'], int) else min(node['scale'])
        for node in dicts(_get(cfg, 'train_dataloader.dataset'))
        if str(node.get('type')).endswith('RandomResizedCrop') and node.get('scale')
    ]
    small = [size for size in sizes if scales and min(size) < scales[0]]
    if 2 * len(small) <= len(sizes):
        return ''
    height, width = min(small)
    key = 'images.size' if cfg.get('images') else "model.backbone.img_size, the crop's scale and the decoder's grid"
    return (
        f'{len(small)} of {len(sizes)} images looked at are smaller than the crop of {scales[0]} pixels (one has '
        f'{height} x {width}) and are enlarged, which costs time and shows nothing new: set {key} to the size that '
        'they have, and smaller patches if few are left.'
    )


def _patches(cfg: Mapping[str, Any]) -> int:
    size, patch = _get(cfg, 'model.backbone.img_size') or 224, _get(cfg, 'model.backbone.patch_size') or 16
    height, width = (size, size) if isinstance(size, int) else size
    return (height // patch) * (width // patch)


def _get(cfg: Any, key: str) -> Any:
    """The value at a dotted key, None where there is none."""
    for part in key.split('.'):
        cfg = cfg.get(part) if isinstance(cfg, Mapping) or hasattr(cfg, 'get') else None
    return cfg
