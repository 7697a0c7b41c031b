"""SimMIM's weights (arXiv 2111.09886) with a Swin Transformer, in the layout of mmpretrain."""

import math
import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mmmim.utils import InputError

from .common import Layout, check_shape, checked_checkpoint, flat_tensors, has_key, inner_table, take_preprocessor

NECK = 'branches.pixels.neck'
_DECODER = 'neck.decoder.0'
_COLOURS = 3
_TABLE = r'backbone\.encoder\.stages\.{stage}\.blocks\.(\d+)\.attn\.w_msa\.relative_position_bias_table'


def mmmim_names(key: str) -> tuple[str, ...] | None:
    """Mmmim's name of a key of the layout; None for a key that it lacks."""
    if key == 'backbone.mask_token':
        return (key,)
    if match := re.fullmatch(rf'{re.escape(_DECODER)}\.(weight|bias)', key):
        return (f'{NECK}.proj.{match[1]}',)
    return (f'backbone.encoder.{key[9:]}',) if re.match(r'backbone\.(patch_embed|stages|norm\d+)\.', key) else None


def _adapt(key: str, value: Tensor, weights: Mapping[str, Tensor]) -> Tensor:
    """A tensor in mmmim's shape; rows of the decoder are colour, row and column, and get the colour last."""
    if key == 'backbone.mask_token':
        check_shape(key, value, value.ndim == 3 and value.shape[:2] == (1, 1), '[1, 1, D]')
        return value.flatten(0, 1)
    if not key.startswith(f'{_DECODER}.'):
        return value
    fits = value.ndim in (1, 4) and len(value) % _COLOURS == 0 and value.shape[2:] in ((), (1, 1))
    check_shape(key, value, fits, '[3 * p**2, D, 1, 1], or [3 * p**2]')
    return value.reshape(_COLOURS, -1, *value.shape[1:2]).transpose(0, 1).reshape(value.shape[:2])


def _restore(key: str, value: Tensor) -> Tensor:
    if key == 'backbone.mask_token':
        return value.unsqueeze(0)
    if not key.startswith(f'{_DECODER}.'):
        return value
    rows = value.reshape(-1, _COLOURS, *value.shape[1:]).transpose(0, 1).reshape(value.shape)
    return rows[..., None, None] if value.ndim == 2 else rows


LAYOUT = Layout("mmpretrain's SimMIM", 'backbone.*, neck.decoder.0.*', mmmim_names, _adapt, _restore)


def detect(checkpoint: Mapping[str, Any]) -> bool:
    """Whether a file has a mask token beside the stages of a Swin Transformer, as mmpretrain names them."""
    table = inner_table(checkpoint)
    return has_key(table, r'backbone\.mask_token$') and has_key(table, r'backbone\.stages\.\d+\.blocks\.')


def encoder_config(converted: Mapping[str, Tensor], source: str = 'The weights') -> dict[str, Any]:
    """The config of the Swin Transformer that converted weights belong to, read off their shapes.

    The size of the images the weights do not tell: it is that of a window in the last stage, as of Swin-B with windows
    of 6 at 192 pixels, or half of it where windows are of 12, which are padded there (Swin-L at 192 pixels).

    Args:
        converted: Weights under mmmim's names.
        source: Name of the weights, for error messages.

    Raises:
        InputError: Weights that every such encoder has are missing or of another shape.
    """
    stem = converted.get('backbone.encoder.patch_embed.projection.weight')
    stages: list[list[Tensor]] = []
    while found := _tables(converted, len(stages)):
        stages.append(found)
    if stem is None or stem.ndim != 4 or not stages or 'backbone.mask_token' not in converted:
        raise InputError(
            f'{source} has no mask token, stem or stages of a Swin Transformer: not the whole of a SimMIM.'
        )
    table = stages[0][0]
    check_shape('relative_position_bias_table', table, table.ndim == 2, '[(2 * window - 1)**2, heads]')
    window = (math.isqrt(len(table)) + 1) // 2
    padded = window == 12
    return {
        'type': 'mmmim.HierarchicalEncoder',
        'name': 'mmpretrain:SwinTransformer',
        'arch': {
            'embed_dims': len(stem),
            'depths': [len(stage) for stage in stages],
            'num_heads': [stage[0].shape[-1] for stage in stages],
        },
        'patch_size': stem.shape[-1],
        'in_channels': stem.shape[1],
        'window_size': window,
        'pad_small_map': padded,
        'img_size': window * stem.shape[-1] * 2 ** (len(stages) - 1) // (2 if padded else 1),
        'drop_path_rate': 0.0,
        'fused': True,
    }


def _tables(converted: Mapping[str, Tensor], stage: int) -> list[Tensor]:
    """The tables of relative positions of the blocks of a stage."""
    pattern = re.compile(_TABLE.format(stage=stage))
    return [value for key, value in converted.items() if pattern.fullmatch(key)]


def convert_checkpoint(checkpoint: dict[str, Any], source: str) -> dict[str, Any]:
    """Convert a file of mmpretrain's SimMIM, with or without the decoder.

    Args:
        checkpoint: What the file holds.
        source: Name of the file, for error messages.

    Returns:
        A checkpoint for :class:`mmmim.FeatureExtractor` and :class:`mmmim.PretrainedBackbone`.

    Raises:
        InputError: Keys that are unknown, missing or of a wrong shape.
    """
    weights = flat_tensors(inner_table(checkpoint), source)
    preprocessor = take_preprocessor(weights)
    converted = LAYOUT.convert(weights, source)
    backbone = encoder_config(converted, source)
    arch, stages = backbone['arch'], len(backbone['arch']['depths'])
    if preprocessor:
        statistics = preprocessor['data_preprocessor']
        backbone |= {key: statistics[key] for key in ('mean', 'std') if key in statistics}
    patch_size, channels = backbone['patch_size'] * 2 ** (stages - 1), backbone['in_channels']
    width, values = arch['embed_dims'] * 2 ** (stages - 1), channels * patch_size**2
    target = {'type': 'mmmim.PixelTarget', 'patch_size': patch_size, 'in_channels': channels, 'normalize': False}
    neck = {'type': 'mmmim.PickPredicted', 'context_dim': width, 'out_dim': values, 'init': 'torch'}
    head = {'type': 'mmmim.RegressionHead', 'loss': 'l1'}
    branch = {'target_generator': target, 'neck': neck, 'head': head}
    config = {'type': 'mmmim.MaskedImageModeling', 'backbone': backbone, 'branches': {'pixels': branch}, **preprocessor}
    parts = {'backbone': backbone}
    if any(key.startswith(NECK) for key in converted):
        parts[NECK] = neck
    return checked_checkpoint(converted, config, parts, 'student', source)


def describe(converted: Mapping[str, Any]) -> str:
    """What was converted, in words."""
    backbone = converted['mmmim']['model']['backbone']
    arch = backbone['arch']
    whole = any(key.startswith(NECK) for key in converted['state_dict'])
    blocks = f'{" + ".join(map(str, arch["depths"]))} blocks x {arch["embed_dims"]} and wider'
    sizes = f'windows of {backbone["window_size"]}, {backbone["img_size"]} px'
    return f'Swin Transformer of {blocks}, {sizes}; {"pixels" if whole else "no head: for features only"}'
