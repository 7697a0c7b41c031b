"""PiLaMIM's weights (Lee et al., 2025): the key layout of the released training code."""

import math
import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mmmim.utils import InputError

from .common import (
    Layout,
    check_shape,
    checked_checkpoint,
    count_blocks,
    describe_blocks,
    describe_vit,
    flat_tensors,
    grid_of,
    has_key,
    head_count,
    mlp_ratio,
    vit_config,
)

#: The layout's roots in mmmim.
PIXEL_NECK, LATENT_NECK = 'branches.pixels.neck', 'branches.latent.neck'
_ROOTS = {
    'encoder': 'backbone',
    'target_encoder': 'teacher.backbone',
    'decoder': PIXEL_NECK,
    'target_decoder': LATENT_NECK,
}
_EMBEDDINGS = {'decoder_embed': PIXEL_NECK, 'decoder_latent_embed': LATENT_NECK}
_HEADS = {'decoder': 'head', 'target_decoder': 'head_latent'}


def mmmim_names(key: str) -> tuple[str, ...] | None:
    """Mmmim's names of a key of the layout: several for a matrix that they share the rows of; None for others."""
    side, _, rest = key.partition('.')
    if side in _EMBEDDINGS:
        return (f'{_EMBEDDINGS[side]}.embed.{rest}',) if rest in ('weight', 'bias') else None
    if side not in _ROOTS:
        return None
    root = _ROOTS[side]
    if match := re.fullmatch(r'transformer\.(\d+)\.(.+)\.(weight|bias)', rest):
        return _block_names(f'{root}.blocks.{match[1]}', match[2], match[3])
    if side in _HEADS:
        if rest == 'pos_embedding':  # the first row is that of CLS
            return (f'{root}.positions.extra', f'{root}.positions.weight')
        head = _HEADS[side]
        table = {'mask_token': 'mask_token', f'{head}.weight': 'proj.weight', f'{head}.bias': 'proj.bias'}
    else:
        table = {'cls_token': 'extra_tokens', 'pos_embedding': 'positions.weight'}
        for kind in ('weight', 'bias'):
            table |= {f'patchify.{kind}': f'patch_embed.{kind}', f'layer_norm.{kind}': f'norm.{kind}'}
    return (f'{root}.{table[rest]}',) if rest in table else None


def _block_names(block: str, part: str, kind: str) -> tuple[str, ...] | None:
    if (part, kind) == ('attn.qkv', 'weight'):  # without a bias
        return tuple(f'{block}.attn.{one}_proj.weight' for one in 'qkv')
    if part in ('norm1', 'norm2', 'attn.proj', 'mlp.fc1', 'mlp.fc2'):
        return (f'{block}.{part}.{kind}',)
    return None


def colour_last(values: Tensor, channels: int = 3) -> Tensor:
    """Rows of pixels in the order (row, column, colour) instead of the layout's (colour, row, column)."""
    return values.unflatten(0, (channels, -1)).transpose(0, 1).flatten(0, 1)


def colour_first(values: Tensor, channels: int = 3) -> Tensor:
    """The inverse of :func:`colour_last`."""
    return values.unflatten(0, (-1, channels)).transpose(0, 1).flatten(0, 1)


def adapt(key: str, value: Tensor, _weights: Mapping[str, Tensor]) -> Tensor | list[Tensor]:
    """A tensor of the layout in mmmim's shape, before a fused one is divided; positions and their first row apart.

    Raises:
        InputError: It has no shape that the layout allows.
    """
    if key.endswith('pos_embedding'):
        check_shape(key, value, value.ndim == 3 and value.shape[1] == 1 and len(value) > 1, '[N, 1, D]')
        rows = value[:, 0]
        return rows if 'decoder' not in key else [rows[:1], rows[1:]]
    if key.endswith('mask_token'):
        check_shape(key, value, value.ndim == 3 and value.shape[:2] == (1, 1), '[1, 1, D]')
        return value[0]
    if key.startswith('decoder.head.'):
        check_shape(key, value, value.ndim > 0 and len(value) % 3 == 0, '[3 * p * p, ...]')
        return colour_last(value)
    return value


def restore(key: str, value: Tensor) -> Tensor:
    """The inverse of :func:`adapt`, for weights and their gradients."""
    if key.endswith('pos_embedding'):
        return value.unsqueeze(1)
    if key.endswith('mask_token'):
        return value.unsqueeze(0)
    return colour_first(value) if key.startswith('decoder.head.') else value


LAYOUT = Layout(
    'PiLaMIM',
    'encoder.*, target_encoder.*, decoder.*, target_decoder.*, decoder_embed.*, decoder_latent_embed.*',
    mmmim_names,
    adapt,
    restore,
)
convert_weights, collect = LAYOUT.convert, LAYOUT.collect


def detect(checkpoint: Mapping[str, Any]) -> bool:
    """Whether a file has the blocks or the patch embedding of the reference's encoders."""
    return has_key(checkpoint, r'(target_)?encoder\.(transformer\.\d+|patchify)\.')


def model_config(
    converted: Mapping[str, Tensor],
    source: str = 'The weights',
    num_heads: int | None = None,
    decoder_num_heads: int = 12,
) -> dict[str, Any]:
    """The config of the model that converted weights belong to, read off their shapes.

    Args:
        converted: Weights under mmmim's names, as :func:`convert_weights` returns them.
        source: Name of the weights, for error messages.
        num_heads: Attention heads of the encoder, which shapes do not tell; None for heads of 64 channels (ViT-B: 12).
        decoder_num_heads: Attention heads of both decoders, which shapes do not tell.

    Returns:
        ``dict(type='mmmim.MaskedImageModeling', ...)``.

    Raises:
        InputError: Weights that tell the sizes are missing, heads do not divide a width, or the patches form no square.
    """
    necks = (PIXEL_NECK, LATENT_NECK)
    needed = [f'{neck}.{part}.weight' for neck in necks for part in ('embed', 'proj')]
    vit = vit_config(converted, 'a PiLaMIM', source, num_heads, needed)
    dim = vit['embed_dim']
    common = {'positions': 'learnable', 'qkv_bias': False, 'norm_eps': 1e-5, 'init': 'torch'}

    def neck(root: str, **options: Any) -> dict[str, Any]:
        width = len(converted[f'{root}.embed.weight'])
        return {
            'type': 'mmmim.SelfAttentionPredictor',
            'context_dim': dim,
            'embed_dim': width,
            'depth': count_blocks(converted, root),
            'num_heads': head_count(width, decoder_num_heads, '--decoder-num-heads', source),
            'out_dim': len(converted[f'{root}.proj.weight']),
            'mlp_ratio': mlp_ratio(converted, root, width),
            'grid': grid_of(vit),
            'num_extra_positions': 1,
            'final_norm': False,
            **common,
            **options,
        }

    pixels = {'patch_size': vit['patch_size'], 'normalize': False, 'in_channels': vit['in_channels']}
    regression = {'type': 'mmmim.RegressionHead'}
    heads = {'patches': regression, 'cls': {**regression, 'of': 'cls'}}
    return {
        'type': 'mmmim.MaskedImageModeling',
        'backbone': {**vit, **common},
        'branches': {
            'pixels': {
                'target_generator': {'type': 'mmmim.PixelTarget', **pixels},
                'neck': neck(PIXEL_NECK),
                'head': regression,
            },
            'latent': {
                'target_generator': {'type': 'mmmim.LatentTarget', 'in_dim': dim},
                'neck': neck(LATENT_NECK, predict_cls=True),
                'head': {'type': 'mmmim.CombinedHead', 'heads': heads},
            },
        },
        'teacher': ['backbone'],
    }


def convert_checkpoint(
    checkpoint: Mapping[str, Any], source: str, num_heads: int | None = None, decoder_num_heads: int = 12
) -> dict[str, Any]:
    """Convert a training checkpoint of the reference: both encoders and both decoders.

    Args:
        checkpoint: What the file holds, a plain table of weights.
        source: Name of the file, for error messages.
        num_heads: Attention heads of the encoder, which shapes do not tell; None for heads of 64 channels (ViT-B: 12).
        decoder_num_heads: Attention heads of both decoders, which shapes do not tell.

    Returns:
        A checkpoint for :class:`mmmim.FeatureExtractor` and :class:`mmmim.PretrainedBackbone`, with the weights of the
        student and of the teacher.

    Raises:
        InputError: Keys that are unknown, missing or of a wrong shape.
    """
    converted = convert_weights(flat_tensors(checkpoint, source), source)
    config = model_config(converted, source, num_heads, decoder_num_heads)
    parts = {'backbone': config['backbone'], 'teacher.backbone': config['backbone']}
    parts |= {f'branches.{name}.neck': branch['neck'] for name, branch in config['branches'].items()}
    if math.prod(converted['backbone.patch_embed.weight'].shape[1:]) != parts[PIXEL_NECK]['out_dim']:
        raise InputError(f'{source}: decoder.head does not predict the pixels of one patch.')
    return checked_checkpoint(converted, config, parts, None, source)


def describe(converted: Mapping[str, Any]) -> str:
    """What was converted, in words."""
    config = converted['mmmim']['model']
    necks = [f'{name}: {describe_blocks(branch["neck"])}' for name, branch in config['branches'].items()]
    return f'{describe_vit(config)}, with its target encoder; decoders of {"; ".join(necks)}'
