"""I-JEPA's weights (arXiv 2301.08243): the key layout of the released training checkpoints."""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mmmim.models.layers import sincos_positions
from mmmim.utils import InputError

from .common import (
    Layout,
    check_shape,
    checked_checkpoint,
    count_blocks,
    describe_vit,
    flat_tensors,
    grid_of,
    head_count,
    mlp_ratio,
    square_side,
    vit_config,
)

#: Prefix of the predictor, in a model whose only branch is ``latent``.
NECK = 'branches.latent.neck'
#: Parts of a checkpoint, and mmmim's prefixes of them.
PARTS = {'encoder': 'backbone', 'target_encoder': 'teacher.backbone', 'predictor': NECK}
#: How far tables of fixed positions may be from their formula. The encoder's and the predictor's only by rounding. The
#: moving average rounds that of the target encoder anew in every step: simulated in fp32, it is off by 8e-6 after
#: 20,000 steps and by 1.4e-4 to 2.3e-4 after the 187,500 to 457,000 of the released trainings.
DRIFT = {'encoder': 1e-5, 'target_encoder': 1e-3, 'predictor': 1e-5}

_ENCODER = {'patch_embed.proj': 'patch_embed', 'norm': 'norm'}
_PREDICTOR = {'embed': 'embed', 'norm': 'norm', 'proj': 'proj'}


def mmmim_names(key: str) -> tuple[str, ...] | None:
    """Mmmim's names of a key of the layout: three for fused queries, keys and values; None for others."""
    part, _, rest = key.partition('.')
    if part not in PARTS:
        return None
    root, table, prefix = PARTS[part], _ENCODER, ''
    if part == 'predictor':
        table, prefix = _PREDICTOR, 'predictor_'
        if rest == 'mask_token':
            return (f'{root}.mask_token',)
    if not rest.startswith(prefix):
        return None
    rest = rest.removeprefix(prefix)
    if rest == 'pos_embed':
        return (f'{root}.positions.weight',)
    module, _, kind = rest.rpartition('.')
    if kind not in ('weight', 'bias'):
        return None
    if module in table:
        return (f'{root}.{table[module]}.{kind}',)
    if re.fullmatch(r'blocks\.\d+\.(norm[12]|attn\.proj|mlp\.fc[12])', module):
        return (f'{root}.{module}.{kind}',)
    if match := re.fullmatch(r'(blocks\.\d+\.attn)\.qkv', module):
        return tuple(f'{root}.{match[1]}.{layer}_proj.{kind}' for layer in 'qkv')
    return None


def _has_leading_axis(key: str) -> bool:
    return key.endswith(('pos_embed', 'mask_token'))


def adapt(key: str, value: Tensor, _weights: Mapping[str, Tensor]) -> Tensor:
    """A tensor of the layout in mmmim's shape, before a fused one is divided.

    Raises:
        InputError: It has no shape that the layout allows, or holds positions other than the fixed ones.
    """
    if not _has_leading_axis(key):
        return value
    check_shape(key, value, value.ndim == 3 and len(value) == 1, '[1, N, D]')
    if key.endswith('pos_embed'):
        _check_positions(key, value[0])
    return value[0]


def _check_positions(key: str, table: Tensor) -> None:
    side, limit = square_side(table, key), DRIFT[key.partition('.')[0]]
    error = (table.float() - sincos_positions((side, side), table.shape[1])).abs().max().item()
    if not error <= limit:
        raise InputError(
            f'{key} differs by {error:.1e} from the fixed positions of I-JEPA (column first, then row; limit '
            f'{limit:.0e}): these are weights of another method, or damaged.'
        )


def _restore(key: str, value: Tensor) -> Tensor:
    return value.unsqueeze(0) if _has_leading_axis(key) else value


LAYOUT = Layout('I-JEPA', 'encoder.*, target_encoder.*, predictor.*', mmmim_names, adapt, _restore)
convert_weights, collect = LAYOUT.convert, LAYOUT.collect


def detect(checkpoint: Mapping[str, Any]) -> bool:
    """Whether a file is a training checkpoint of the reference: tables of weights named by their parts."""
    return any(
        isinstance(table := checkpoint.get(part), Mapping)
        and any(mmmim_names(f'{part}.{str(key).removeprefix("module.")}') is not None for key in table)
        for part in PARTS
    )


def model_config(
    converted: Mapping[str, Tensor], source: str = 'The weights', num_heads: int | None = None
) -> dict[str, Any]:
    """The config of the model that converted weights belong to, read off their shapes.

    Args:
        converted: Weights under mmmim's names, as :func:`convert_weights` returns them: at least the encoder, as
            ``backbone.*``. Without a predictor, the config has the paper's for this encoder.
        source: Name of the weights, for error messages.
        num_heads: Attention heads of the encoder and of the predictor, which shapes do not tell; None for those of the
            released code.

    Returns:
        ``dict(type='mmmim.MaskedImageModeling', ...)``.

    Raises:
        InputError: Weights that every I-JEPA has are missing, heads do not divide a width, or the patches form no
            square.
    """
    has_predictor = any(key.startswith(NECK) for key in converted)
    vit = vit_config(converted, 'an I-JEPA', source, num_heads, [f'{NECK}.embed.weight'] if has_predictor else [])
    dim, heads = vit['embed_dim'], vit['num_heads']
    predictor_dim = converted[f'{NECK}.embed.weight'].shape[0] if has_predictor else 384
    return {
        'type': 'mmmim.MaskedImageModeling',
        'backbone': {
            **vit,
            'num_cls_tokens': 0,
            'init': 'trunc_normal',
        },
        'branches': {
            'latent': {
                'target_generator': {'type': 'mmmim.LatentTarget', 'in_dim': dim, 'normalize': 'layer'},
                'neck': {
                    'type': 'mmmim.SelfAttentionPredictor',
                    'context_dim': dim,
                    'embed_dim': predictor_dim,
                    'depth': count_blocks(converted, NECK) if has_predictor else 12,
                    'num_heads': head_count(predictor_dim, heads, '--num-heads', f'{source}, predictor'),
                    'mlp_ratio': mlp_ratio(converted, NECK, predictor_dim),
                    'out_dim': dim,
                    'grid': grid_of(vit),
                    'init': 'trunc_normal',
                },
                'head': {'type': 'mmmim.RegressionHead', 'loss': 'huber'},
            }
        },
        'teacher': ['backbone'],
    }


def convert_checkpoint(
    checkpoint: Mapping[str, Any], source: str, num_heads: int | None = None, encoder: str = 'both'
) -> dict[str, Any]:
    """Convert a training checkpoint of the reference; its optimiser is left out.

    Tables of positions are taken from the file, drifted as they are: features are those of the file.

    Args:
        checkpoint: What the file holds: ``encoder``, ``predictor`` and ``target_encoder``, keys prefixed ``module.``.
        source: Name of the file, for error messages.
        num_heads: Attention heads of the encoder and of the predictor, which shapes do not tell; None for those of the
            released code.
        encoder: 'both': the whole state, context encoder as student, target encoder as teacher. 'target_encoder' or
            'encoder': one of them for features; the paper evaluates the first, timm and Hugging Face have the second.

    Returns:
        A checkpoint for :class:`mmmim.FeatureExtractor` and :class:`mmmim.PretrainedBackbone`.

    Raises:
        InputError: Keys that are unknown, missing or of a wrong shape.
    """
    wanted = tuple(PARTS) if encoder == 'both' else (encoder,)
    if missing := [part for part in wanted if not isinstance(checkpoint.get(part), Mapping)]:
        raise InputError(
            f'{source} has no {", ".join(missing)}: a training checkpoint of I-JEPA holds the tables encoder, '
            f'predictor and target_encoder. This file has {", ".join(map(str, list(checkpoint)[:5]))}.'
        )
    weights = {
        f'{part}.{key}': value
        for part in wanted
        for key, value in flat_tensors(checkpoint[part], f'{source}, {part}').items()
    }
    converted = convert_weights(weights, source)
    if encoder == 'target_encoder':
        converted = {key.removeprefix('teacher.'): value for key, value in converted.items()}
    config = model_config(converted, source, num_heads)
    parts = {'backbone': config['backbone']}
    if encoder == 'both':
        parts |= {'teacher.backbone': config['backbone'], NECK: config['branches']['latent']['neck']}
    which = {'both': None, 'target_encoder': 'ema', 'encoder': 'student'}[encoder]
    return checked_checkpoint(converted, config, parts, which, source)


def describe(converted: Mapping[str, Any]) -> str:
    """What was converted, in words."""
    config, which = converted['mmmim']['model'], converted['mmmim']['weights']
    neck = config['branches']['latent']['neck']
    rest = f'target encoder and encoder; predictor of {neck["depth"]} blocks x {neck["embed_dim"]}'
    if which is not None:
        rest = f'{"target_encoder" if which == "ema" else "encoder"} alone: for features only'
    return f'{describe_vit(config)}, {rest}'
