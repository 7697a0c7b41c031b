"""PiLaMIM's weights (Lee et al., 2025): the key layout of the released training code."""

import math
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mmmim.utils import InputError

from .common import checked_checkpoint, count_blocks, flat_tensors, head_count, mlp_ratio, square_side

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


def adapt(key: str, value: Tensor) -> list[Tensor]:
    """A tensor of the layout as the tensors that :func:`mmmim_names` names.

    Raises:
        InputError: It has no shape that the layout allows.
    """
    if key.endswith('pos_embedding'):
        _check(key, value, value.ndim == 3 and value.shape[1] == 1 and len(value) > 1, '[N, 1, D]')
        rows = value[:, 0]
        return [rows] if 'decoder' not in key else [rows[:1], rows[1:]]
    if key.endswith('mask_token'):
        _check(key, value, value.ndim == 3 and value.shape[:2] == (1, 1), '[1, 1, D]')
        return [value[0]]
    if key.startswith('decoder.head.'):
        _check(key, value, value.ndim > 0 and len(value) % 3 == 0, '[3 * p * p, ...]')
        return [colour_last(value)]
    return list(value.tensor_split(3)) if key.endswith('qkv.weight') else [value]


def _check(key: str, value: Tensor, right: bool, shape: str) -> None:
    if not right:
        raise InputError(f'{key} has the shape {list(value.shape)}, not {shape}.')


def restore(key: str, pieces: list[Tensor]) -> Tensor:
    """The inverse of :func:`adapt`, for weights and their gradients."""
    value = torch.cat(pieces)
    if key.endswith('pos_embedding'):
        return value.unsqueeze(1)
    if key.endswith('mask_token'):
        return value.unsqueeze(0)
    return colour_first(value) if key.startswith('decoder.head.') else value


def collect(key: str, values: Mapping[str, Tensor]) -> Tensor | None:
    """The tensor of the layout that mmmim's tensors make up; None where there is one that ``values`` lacks."""
    names = mmmim_names(key)
    if names is None or any(name not in values for name in names):
        return None
    return restore(key, [values[name] for name in names])


def convert_weights(weights: Mapping[str, Tensor], source: str = 'The weights') -> dict[str, Tensor]:
    """Rename and reshape weights.

    Args:
        weights: ``encoder.*``, ``target_encoder.*``, ``decoder*.*`` and ``target_decoder.*``.
        source: Their name, for error messages.

    Returns:
        Under mmmim's names; the target encoder under ``teacher.``.

    Raises:
        InputError: Keys or shapes that the layout does not have.
    """
    if unknown := [key for key in weights if mmmim_names(key) is None]:
        raise InputError(
            f'{source}: {len(unknown)} keys are not in the layout of PiLaMIM (encoder.*, target_encoder.*, decoder.*, '
            f'target_decoder.*, decoder_embed.*, decoder_latent_embed.*), e.g. {", ".join(unknown[:5])}.'
        )
    return {
        name: piece.clone()
        for key, value in weights.items()
        for name, piece in zip(mmmim_names(key) or (), adapt(key, value), strict=True)
    }


def model_config(
    converted: Mapping[str, Tensor],
    source: str = 'The weights',
    num_heads: int | None = None,
    decoder_num_heads: int = 12,
) -> dict[str, Any]:
    """The config of the model that converted weights belong to, read off their shapes.

    Args:
        converted: From :func:`convert_weights`.
        source: Their name, for error messages.
        num_heads: Of the encoder, which shapes do not tell; None for heads of 64 channels (ViT-B: 12).
        decoder_num_heads: Of both decoders.

    Returns:
        ``dict(type='mmmim.MaskedImageModeling', ...)``.

    Raises:
        InputError: Weights that tell the sizes are missing, heads do not divide a width, or the patches form no square.
    """
    necks = (PIXEL_NECK, LATENT_NECK)
    needed = ['backbone.patch_embed.weight', 'backbone.positions.weight']
    needed += [f'{neck}.{part}.weight' for neck in necks for part in ('embed', 'proj')]
    if missing := [key for key in needed if key not in converted]:
        raise InputError(f"{source} has no {', '.join(missing)} (mmmim's names): not the whole of a PiLaMIM.")
    patch, positions = (converted[key] for key in needed[:2])
    if patch.ndim != 4:
        raise InputError(f'{source}: the patch embedding has the shape {list(patch.shape)}, not [D, 3, p, p].')
    dim, channels, patch_size = patch.shape[:3]
    side = square_side(positions, source)
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
            'grid': (side, side),
            'num_extra_positions': 1,
            'final_norm': False,
            **common,
            **options,
        }

    pixels = {'patch_size': patch_size, 'normalize': False, 'in_channels': channels}
    regression = {'type': 'mmmim.RegressionHead'}
    heads = {'patches': regression, 'cls': {**regression, 'of': 'cls'}}
    return {
        'type': 'mmmim.MaskedImageModeling',
        'backbone': {
            'type': 'mmmim.ViT',
            'img_size': side * patch_size,
            'patch_size': patch_size,
            'in_channels': channels,
            'embed_dim': dim,
            'depth': count_blocks(converted, 'backbone'),
            'num_heads': head_count(dim, num_heads, '--num-heads', source),
            'mlp_ratio': mlp_ratio(converted, 'backbone', dim),
            **common,
        },
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
        source: Its name, for error messages.
        num_heads: As in :func:`model_config`.
        decoder_num_heads: As in :func:`model_config`.

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
