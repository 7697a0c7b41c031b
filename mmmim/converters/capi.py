"""CAPI's weights (arXiv 2502.08769): the key layout of the released files."""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mmmim.utils import InputError

from .common import Layout, checked_checkpoint, count_blocks, describe_vit, flat_tensors, has_key, mlp_ratio

#: Prefixes of mmmim's parts, in a model whose only branch is ``capi``.
NECK, HEAD, CLUSTERING = 'branches.capi.neck', 'branches.capi.head', 'branches.capi.target_generator'

_BLOCK = re.compile(r'(encoder|decoder)\.blocks\.(\d+)\.residual([12])\.(norm|fn)\.(.+)')
_SHARD = r'(student|student_ema|teacher)\.'

#: What makes a ViT that of CAPI.
_STYLE = {
    'positions': 'rope',
    'norm': 'rms',
    'norm_eps': 1e-5,
    'final_affine': False,
    'bias': False,
    'qkv_bias': False,
    'init': 'capi',
}


def backbone_key(key: str) -> str | None:
    """Mmmim's name of a key inside ``backbone.`` of a released file; None for a key the layout does not have.

    The rotary table is stored in every attention of the reference and once per encoder or predictor here.
    """
    if key in ('patch_embed.weight', 'patch_embed.bias'):
        return f'backbone.{key}'
    if key == 'registers':
        return 'backbone.extra_tokens'
    if key == 'mask_token':
        return f'{NECK}.mask_token'
    match = _BLOCK.fullmatch(key)
    if match is None:
        return None
    side, index, half, kind, rest = match.groups()
    root = 'backbone' if side == 'encoder' else NECK
    if (half, kind, rest) == ('1', 'fn', 'rope.freqs'):
        return f'{root}.positions.freqs'
    if kind == 'norm':
        return f'{root}.blocks.{index}.norm{half}.{rest}'
    return f'{root}.blocks.{index}.{"attn" if half == "1" else "mlp"}.{rest}'


def _names(key: str) -> tuple[str] | None:
    name = None
    if key.startswith('backbone.'):
        name = backbone_key(key.removeprefix('backbone.'))
    elif key in ('head.last_layer.weight_g', 'head.last_layer.weight_v'):
        name = f'{HEAD}.{key.removeprefix("head.last_layer.")}'
    return None if name is None else (name,)


LAYOUT = Layout('the released CAPI files', 'backbone.*, head.last_layer.*', _names)


def detect(checkpoint: Mapping[str, Any]) -> bool:
    """Whether a file has the residual branches of the reference, or is one rank's shard of a training of it."""
    return has_key(checkpoint, r'backbone\.(encoder|decoder)\.blocks\.\d+\.residual') or (
        has_key(checkpoint, _SHARD) and all(isinstance(value, Tensor) for value in checkpoint.values())
    )


def convert_weights(weights: Mapping[str, Tensor], source: str = 'The weights') -> dict[str, Tensor]:
    """Rename the weights of a released file.

    Args:
        weights: ``backbone.*`` and possibly ``head.last_layer.*``.
        source: Name of the weights, for error messages.

    Returns:
        Copies under mmmim's names.

    Raises:
        InputError: A key that the layout does not have, or rotary tables that differ between layers.
    """
    kept: dict[str, Tensor] = {}
    tables: dict[str, Tensor] = {}  # one of each encoder or predictor, of those in all layers
    for key, value in weights.items():
        if value.numel() == 0:  # a model without registers
            continue
        if key.endswith('.rope.freqs'):
            side = key.partition('.blocks.')[0]
            if side in tables and not torch.equal(tables[side], value):
                raise InputError(
                    f'{source}: {key} differs from the rotary table of another layer; mmmim has one for all layers.'
                )
            if side in tables:
                continue
            tables[side] = value
        kept[key] = value
    return LAYOUT.convert(kept, source)


def model_config(converted: dict[str, Tensor], source: str = 'The weights') -> dict[str, Any]:
    """The config of the model that converted weights belong to, read off their shapes.

    Args:
        converted: Weights under mmmim's names, as :func:`convert_weights` returns them.
        source: Name of the weights, for error messages.

    Returns:
        ``dict(type='mmmim.MaskedImageModeling', ...)``.

    Raises:
        InputError: Keys that every CAPI model has are missing.
    """
    needed = [
        'backbone.patch_embed.weight',
        'backbone.positions.freqs',
        f'{NECK}.mask_token',
        f'{NECK}.positions.freqs',
    ]
    missing = [key for key in needed if key not in converted]
    if missing:
        raise InputError(f'{source} lack {", ".join(missing)}: not a CAPI encoder with predictor.')

    def attention(root: str, dim: int) -> dict[str, Any]:
        heads = dim // converted[f'{root}.positions.freqs'].shape[1]
        return {'num_heads': heads, 'mlp_ratio': mlp_ratio(converted, root, dim)}

    patch = converted['backbone.patch_embed.weight']
    dim, predictor_dim = patch.shape[0], converted[f'{NECK}.mask_token'].shape[-1]
    registers = converted.get('backbone.extra_tokens')
    head = converted.get(f'{HEAD}.weight_v')
    prototypes = 16384 if head is None else head.shape[0]
    return {
        'type': 'mmmim.MaskedImageModeling',
        'backbone': {
            'type': 'mmmim.ViT',
            **_STYLE,
            'patch_size': patch.shape[-1],
            'img_size': 16 * patch.shape[-1],
            'in_channels': patch.shape[1],
            'embed_dim': dim,
            'depth': count_blocks(converted, 'backbone'),
            'num_cls_tokens': 0,
            'num_registers': 0 if registers is None else registers.shape[1],
            **attention('backbone', dim),
        },
        'branches': {
            'capi': {
                'target_generator': {'type': 'mmmim.OnlineClustering', 'in_dim': dim, 'num_prototypes': prototypes},
                'neck': {
                    'type': 'mmmim.CrossAttentionPredictor',
                    'context_dim': dim,
                    'embed_dim': predictor_dim,
                    'depth': count_blocks(converted, NECK),
                    **attention(NECK, predictor_dim),
                },
                'head': {'type': 'mmmim.PrototypeHead', 'in_dim': predictor_dim, 'num_prototypes': prototypes},
            }
        },
        'teacher': ['backbone', NECK, HEAD],
    }


def convert_checkpoint(checkpoint: dict[str, Any], source: str) -> dict[str, Any]:
    """Convert a released file (``capi_vitl14_*.pth``), with or without its head.

    Args:
        checkpoint: What the file holds.
        source: Name of the file, for error messages.

    Returns:
        A checkpoint for :class:`mmmim.FeatureExtractor` and :class:`mmmim.PretrainedBackbone`.

    Raises:
        InputError: A per-rank shard of a training run, or keys that are unknown, missing or of a wrong shape.
    """
    if has_key(checkpoint, _SHARD):
        raise InputError(
            f"{source} is one rank's shard of a training checkpoint (student.*, student_ema.*, teacher.*): it holds "
            'a part of each weight only and cannot be converted. Convert the consolidated file whose keys start with '
            'backbone., or merge the shards with the code that wrote them.'
        )
    weights = convert_weights(flat_tensors(checkpoint, source), source)
    config = model_config(weights, source)
    parts = {'backbone': config['backbone'], NECK: config['branches']['capi']['neck']}
    return checked_checkpoint(weights, config, parts, 'ema', source)


def describe(converted: Mapping[str, Any]) -> str:
    """What was converted, in words."""
    config = converted['mmmim']['model']
    parameters = sum(value.numel() for value in converted['state_dict'].values())
    return (
        f'{describe_vit(config)}, {config["backbone"]["num_registers"]} registers; {parameters:,} parameters with '
        'predictor'
    )
