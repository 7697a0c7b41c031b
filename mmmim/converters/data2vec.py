"""data2vec's weights for images (arXiv 2202.03555): the key layout of the authors' pre-training code."""

import math
import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mmmim.models.layers.relative import SPECIAL_ROWS
from mmmim.utils import InputError

from .common import (
    Layout,
    check_shape,
    checked_checkpoint,
    describe_vit,
    flat_tensors,
    has_key,
    inner_table,
    vit_config,
)

#: Prefix of the last layer, in a model whose only branch is ``latent``.
NECK = 'branches.latent.neck'
_TABLE = 'rel_pos_bias.relative_position_bias_table'
#: Which row of the table belongs to which pair of tokens: follows from the grid.
_INDEX = 'rel_pos_bias.relative_position_index'

_SINGLE = {
    'cls_token': 'backbone.extra_tokens',
    'mask_token': 'backbone.mask_token',
    _TABLE: 'backbone.positions.table',
    **{f'patch_embed.proj.{kind}': f'backbone.patch_embed.{kind}' for kind in ('weight', 'bias')},
    **{f'norm.{kind}': f'backbone.norm.{kind}' for kind in ('weight', 'bias')},
    **{f'lm_head.{kind}': f'{NECK}.proj.{kind}' for kind in ('weight', 'bias')},
}
_BLOCK = {
    'gamma_1': ('scale1.weight',),
    'gamma_2': ('scale2.weight',),
    'attn.q_bias': ('attn.q_proj.bias',),
    'attn.v_bias': ('attn.v_proj.bias',),
    'attn.qkv.weight': tuple(f'attn.{part}_proj.weight' for part in 'qkv'),
    **{
        f'{name}.{kind}': (f'{name}.{kind}',)
        for name in ('norm1', 'norm2', 'attn.proj', 'mlp.fc1', 'mlp.fc2')
        for kind in ('weight', 'bias')
    },
}


def mmmim_names(key: str) -> tuple[str, ...] | None:
    """Mmmim's names of a key of the layout: three for fused queries, keys and values; None for others."""
    if key in _SINGLE:
        return (_SINGLE[key],)
    match = re.fullmatch(r'blocks\.(\d+)\.(.+)', key)
    if match is None or match[2] not in _BLOCK:
        return None
    return tuple(f'backbone.blocks.{match[1]}.{name}' for name in _BLOCK[match[2]])


def _adapt(key: str, value: Tensor, _weights: Mapping[str, Tensor]) -> Tensor:
    if key in ('cls_token', 'mask_token'):
        check_shape(key, value, value.ndim == 3 and value.shape[:2] == (1, 1), '[1, 1, D]')
    return value[0] if key == 'mask_token' else value


def _restore(key: str, value: Tensor) -> Tensor:
    return value.unsqueeze(0) if key == 'mask_token' else value


LAYOUT = Layout('data2vec', 'blocks.*, rel_pos_bias.*, lm_head', mmmim_names, _adapt, _restore)
convert_weights, collect = LAYOUT.convert, LAYOUT.collect


def detect(checkpoint: Mapping[str, Any]) -> bool:
    """Whether a file has mask token, relative positions, and a last layer as wide as the encoder (BEiT: as tokens)."""
    table = inner_table(checkpoint)
    if not all(has_key(table, pattern) for pattern in ('mask_token$', re.escape(_TABLE), r'lm_head\.weight$')):
        return False
    last = next(value for key, value in table.items() if key.removeprefix('module.') == 'lm_head.weight')
    return isinstance(last, Tensor) and last.ndim == 2 and last.shape[0] == last.shape[1]


def square_of_table(rows: int, source: str) -> int:
    """Patches per side of the square image that a table of relative positions is of.

    Raises:
        InputError: It is of no square.
    """
    side = (math.isqrt(max(rows - SPECIAL_ROWS, 0)) + 1) // 2
    if (2 * side - 1) ** 2 + SPECIAL_ROWS != rows:
        raise InputError(f'{source} has relative positions of {rows} rows, which are of no square image.')
    return side


def model_config(
    converted: Mapping[str, Tensor],
    source: str = 'The weights',
    num_heads: int | None = None,
    grid: tuple[int, int] | None = None,
) -> dict[str, Any]:
    """The config of the model that converted weights belong to, read off their shapes.

    Args:
        converted: Weights under mmmim's names, as :func:`convert_weights` returns them.
        source: Name of the weights, for error messages.
        num_heads: Attention heads, of which the table of positions has a column each; None for its columns.
        grid: Rows and columns of patches of the training images; None for a square.

    Returns:
        ``dict(type='mmmim.MaskedImageModeling', ...)``.

    Raises:
        InputError: Weights that every data2vec has are missing, heads do not divide the width, or the patches form no
            square.
    """
    table = 'backbone.positions.table'
    needed = [table, 'backbone.extra_tokens', 'backbone.mask_token', f'{NECK}.proj.weight']
    if grid is None:
        side = square_of_table(len(converted[table]), source) if table in converted else 1
        grid = side, side
    columns = converted[table].shape[1] if table in converted else None
    vit = vit_config(converted, 'a data2vec', source, num_heads or columns, needed, grid)
    dim, depth = vit['embed_dim'], vit['depth']
    return {
        'type': 'mmmim.MaskedImageModeling',
        'backbone': {
            **vit,
            'positions': 'relative_shared',
            'fused': True,
            'qkv_bias': 'qv',
            'layer_scale': 1e-4,
            'init': 'beit',
        },
        'branches': {
            'latent': {
                'target_generator': {
                    'type': 'mmmim.LatentTarget',
                    'in_dim': dim,
                    'layers': list(range(max(depth - 6, 0), depth)),
                    'normalize_layers': 'layer',
                    'normalize': 'layer',
                },
                'neck': {'type': 'mmmim.PickPredicted', 'context_dim': dim, 'out_dim': dim, 'init': 'beit'},
                'head': {'type': 'mmmim.RegressionHead', 'loss': 'smooth_l1', 'beta': 2.0},
            }
        },
        'teacher': ['backbone'],
    }


def convert_checkpoint(checkpoint: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Convert a training checkpoint of the authors' code: the student; its teacher is left out.

    Args:
        checkpoint: What the file holds: weights under ``model``, or weights only, maybe prefixed ``module.``.
        source: Name of the file, for error messages.

    Returns:
        A checkpoint for :class:`mmmim.FeatureExtractor` and :class:`mmmim.PretrainedBackbone`.

    Raises:
        InputError: Keys that are unknown, missing or of a wrong shape.
    """
    weights = flat_tensors(inner_table(checkpoint), source)
    converted = convert_weights({key: value for key, value in weights.items() if key != _INDEX}, source)
    config = model_config(converted, source)
    parts = {'backbone': config['backbone'], NECK: config['branches']['latent']['neck']}
    return checked_checkpoint(converted, config, parts, 'student', source)


def describe(converted: Mapping[str, Any]) -> str:
    """What was converted, in words."""
    return f'{describe_vit(converted["mmmim"]["model"])}, mask token, relative positions and last layer'
