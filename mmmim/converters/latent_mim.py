"""Latent MIM's weights (arXiv 2407.15837): the key layout of the released checkpoints."""

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
    inner_table,
    mlp_ratio,
    vit_config,
)

#: Prefixes of mmmim's parts, in a model whose only branch is ``latent``.
BRANCH = 'branches.latent'
NECK = f'{BRANCH}.neck'

_NORMS = {'norm2q': 'norm2_query', 'norm2kv': 'norm2_context'}
_ENCODER = {'cls_token': 'extra_tokens', 'pos_embed.pos_embeds': 'positions.weight'}
_DECODER = {'cls_token': 'cls_token', 'mask_token': 'mask_token', 'pos_embed.pos_embeds': 'positions.weight'}
_FUSED = {'qkv': ('q_proj', 'k_proj', 'v_proj'), 'kv_proj': ('k_proj', 'v_proj')}


def mmmim_names(key: str) -> tuple[str, ...] | None:
    """Mmmim's names of a key of the layout: several for a fused matrix, whose rows they share; None for others."""
    side, _, rest = key.partition('.')
    if side == 'target_encoder':
        names = mmmim_names(f'encoder.{rest}')
        return None if names is None else tuple(f'teacher.{name}' for name in names)
    if side not in ('encoder', 'decoder'):
        return None
    root, table = ('backbone', _ENCODER) if side == 'encoder' else (NECK, _DECODER)
    if rest in table:
        return (f'{root}.{table[rest]}',)
    if side == 'encoder' and (match := re.fullmatch(r'embed\.proj\.(weight|bias)', rest)):
        return (f'{root}.patch_embed.{match[1]}',)
    if side == 'encoder' and (match := re.fullmatch(r'head\.(linear|norm)(\d+)\.(weight|bias)', rest)):
        return (f'{root}.projector.{match[1]}s.{match[2]}.{match[3]}',)
    if side == 'decoder' and (match := re.fullmatch(r'(embed|head)\.(weight|bias)', rest)):
        return (f'{root}.{"proj" if match[1] == "head" else "embed"}.{match[2]}',)
    if re.fullmatch(r'norm\.(weight|bias)', rest):
        return (f'{root}.{rest}',)
    if match := re.fullmatch(r'(blocks\.\d+)\.(norm\w+|mlp\.fc[12])\.(weight|bias)', rest):
        return (f'{root}.{match[1]}.{_NORMS.get(match[2], match[2])}.{match[3]}',)
    if match := re.fullmatch(r'(blocks\.\d+\.(?:self_|cross_)?attn)\.(qkv|q_proj|kv_proj|proj)\.(weight|bias)', rest):
        return tuple(f'{root}.{match[1]}.{part}.{match[3]}' for part in _FUSED.get(match[2], (match[2],)))
    return None


def _is_patch_embedding(key: str) -> bool:
    return key.endswith('embed.proj.weight')


def adapt(key: str, value: Tensor, _weights: Mapping[str, Tensor]) -> Tensor:
    """A tensor of the layout in mmmim's shape, before a fused one is divided.

    Raises:
        InputError: It has no shape that the layout allows.
    """
    if _is_patch_embedding(key):  # pixels are flattened as (row, column, colour)
        channels = 3
        side = math.isqrt(value[0].numel() // channels)
        check_shape(key, value, value.shape[1:] == (channels * side**2,), f'[D, {channels} * p * p] (RGB)')
        return value.reshape(-1, side, side, channels).permute(0, 3, 1, 2).contiguous()
    if key.endswith('pos_embed.pos_embeds'):
        check_shape(key, value, value.ndim == 2, '[1 + N, D]')
        if value[0].any():
            raise InputError(f'{key}: the first row, the position of CLS, is not zero; in mmmim CLS has no position.')
        return value[1:].clone()
    if key not in ('decoder.cls_token', 'decoder.mask_token'):
        return value
    check_shape(key, value, value.ndim == 3 and value.shape[:2] == (1, 1), '[1, 1, D]')
    return value[0]


def restore(key: str, value: Tensor) -> Tensor:
    """The inverse of :func:`adapt` for trained tensors and their gradients."""
    if _is_patch_embedding(key):
        return value.permute(0, 2, 3, 1).flatten(1)
    return value.unsqueeze(0) if key in ('decoder.cls_token', 'decoder.mask_token') else value


LAYOUT = Layout('Latent MIM', 'encoder.*, target_encoder.*, decoder.*', mmmim_names, adapt, restore)
convert_weights, collect = LAYOUT.convert, LAYOUT.collect


def detect(checkpoint: Mapping[str, Any]) -> bool:
    """Whether a file has the patch embedding or the positions of the reference's encoders."""
    return has_key(inner_table(checkpoint), r'(target_)?encoder\.(embed\.proj|pos_embed)\.')


def model_config(
    converted: Mapping[str, Tensor],
    source: str = 'The weights',
    num_heads: int | None = None,
    decoder_num_heads: int = 16,
) -> dict[str, Any]:
    """The config of the model that converted weights belong to, read off their shapes.

    Args:
        converted: Weights under mmmim's names, as :func:`convert_weights` returns them. Without a decoder, the config
            has the paper's.
        source: Name of the weights, for error messages.
        num_heads: Attention heads of the encoder, which shapes do not tell; None for heads of 64 channels.
        decoder_num_heads: Attention heads of the decoder, which shapes do not tell.

    Returns:
        ``dict(type='mmmim.MaskedImageModeling', ...)``.

    Raises:
        InputError: Weights that every Latent MIM has are missing, heads do not divide a width, or the patches form no
            square.
    """
    has_decoder = any(key.startswith(NECK) for key in converted)
    needed = ['backbone.extra_tokens', *([f'{NECK}.embed.weight', f'{NECK}.proj.weight'] if has_decoder else [])]
    vit = vit_config(converted, 'a Latent MIM', source, num_heads, needed)
    dim = vit['embed_dim']
    layers = sum(bool(re.fullmatch(r'backbone\.projector\.linears\.\d+\.weight', key)) for key in converted)
    hidden = [converted[f'backbone.projector.linears.{i}.weight'].shape[0] for i in range(layers)][:-1]
    decoder_dim = converted[f'{NECK}.embed.weight'].shape[0] if has_decoder else 512
    return {
        'type': 'mmmim.MaskedImageModeling',
        'backbone': {
            **vit,
            'positions': 'sincos_stretched',
            'projector_dims': hidden,
            'init': 'latent_mim',
        },
        'branches': {
            'latent': {
                'target_generator': {'type': 'mmmim.LatentTarget', 'in_dim': dim, 'sees': 'predicted'},
                'neck': {
                    'type': 'mmmim.CrossAttentionDecoder',
                    'context_dim': dim,
                    'embed_dim': decoder_dim,
                    'depth': count_blocks(converted, NECK) if has_decoder else 3,
                    'num_heads': head_count(decoder_dim, decoder_num_heads, '--decoder-num-heads', source),
                    'mlp_ratio': mlp_ratio(converted, NECK, decoder_dim),
                    'grid': grid_of(vit),
                },
                'head': {
                    'type': 'mmmim.CombinedHead',
                    'heads': {
                        'discrimination': {'type': 'mmmim.PatchDiscriminationHead'},
                        'similarity': {'type': 'mmmim.SimilarityConstraint'},
                    },
                },
            }
        },
        'teacher': ['backbone'],
    }


def convert_checkpoint(
    checkpoint: Mapping[str, Any], source: str, num_heads: int | None = None, decoder_num_heads: int = 16
) -> dict[str, Any]:
    """Convert a training checkpoint of the reference: online encoder, target encoder and decoder.

    Args:
        checkpoint: What the file holds: weights under ``state_dict``, or weights only, maybe prefixed ``module.``.
        source: Name of the file, for error messages.
        num_heads: Attention heads of the encoder, which shapes do not tell; None for heads of 64 channels.
        decoder_num_heads: Attention heads of the decoder, which shapes do not tell.

    Returns:
        A checkpoint for :class:`mmmim.FeatureExtractor` and :class:`mmmim.PretrainedBackbone`, with the weights of the
        student and, where the file has them, of the teacher.

    Raises:
        InputError: Keys that are unknown, missing or of a wrong shape.
    """
    converted = convert_weights(flat_tensors(inner_table(checkpoint), source), source)
    config = model_config(converted, source, num_heads, decoder_num_heads)
    parts = {'backbone': config['backbone']}
    if any(key.startswith('teacher.') for key in converted):
        parts['teacher.backbone'] = config['backbone']
    if any(key.startswith(NECK) for key in converted):
        parts[NECK] = config['branches']['latent']['neck']
    return checked_checkpoint(converted, config, parts, None, source)


def describe(converted: Mapping[str, Any]) -> str:
    """What was converted, in words."""
    config, weights = converted['mmmim']['model'], converted['state_dict']
    target = 'with' if any(key.startswith('teacher.') for key in weights) else 'without'
    decoder = (
        f'decoder of {describe_blocks(config["branches"]["latent"]["neck"])}'
        if any(key.startswith(NECK) for key in weights)
        else 'no decoder: for features only'
    )
    return f'{describe_vit(config)}, {target} its target encoder; {decoder}'
