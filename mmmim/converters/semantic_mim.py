"""SemanticMIM's weights (arXiv 2406.10673): the layout of its plug-in for mmpretrain's BEiT and MaskFeat."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from mmmim.utils import InputError

from .common import (
    Layout,
    check_shape,
    checked_checkpoint,
    count_blocks,
    describe_vit,
    flat_tensors,
    has_key,
    inner_table,
    vit_config,
)

#: Prefixes of mmmim's parts, in a model whose only branch is ``semantic``.
BRANCH = 'branches.semantic'
NECK = f'{BRANCH}.neck'

#: Weights outside of blocks.
_SINGLE = {
    'backbone.cls_token': ('backbone.extra_tokens',),
    'backbone.pos_embed': ('backbone.positions.extra', 'backbone.positions.weight'),
    'backbone.mask_token': (f'{NECK}.mask_token',),
    **{
        f'{theirs}.{kind}': (f'{ours}.{kind}',)
        for kind in ('weight', 'bias')
        for theirs, ours in (
            ('backbone.patch_embed.projection', 'backbone.patch_embed'),
            ('backbone.ln1', f'{NECK}.norm'),
            ('head.cls_head', f'{NECK}.proj'),
            ('neck.fc', f'{NECK}.proj'),
        )
    },
}
_ROOTS = {'layers': 'backbone', 'extra_layers': NECK}
_KV = ('attn.k_proj', 'attn.v_proj')
#: Weights of a block.
_BLOCK = {
    'gamma_1': ('scale1.weight',),
    'gamma_2': ('scale2.weight',),
    'attn.q_bias': ('attn.q_proj.bias',),
    'attn.v_bias': ('attn.v_proj.bias',),
    **{
        f'{theirs}.{kind}': tuple(f'{part}.{kind}' for part in ours)
        for kind in ('weight', 'bias')
        for theirs, ours in {
            'ln1': ('norm1',),
            'ln2': ('norm2',),
            'attn.q_proj': ('attn.q_proj',),
            'attn.kv_proj': _KV,
            'attn.q': ('attn.q_proj',),
            'attn.kv': _KV,
            'attn.proj': ('attn.proj',),
            'ffn.layers.0.0': ('mlp.fc1',),
            'ffn.layers.1': ('mlp.fc2',),
        }.items()
    },
}
#: How queries' weights are called in the two flavours.
_FLAVOURS = {'beit': '.attn.q_proj.weight', 'maskfeat': '.attn.q.weight'}


def mmmim_names(key: str) -> tuple[str, ...] | None:
    """Mmmim's names of a key of the layout: several for a fused one, whose rows they share; None for others."""
    if key in _SINGLE:
        return _SINGLE[key]
    match = re.fullmatch(r'backbone\.(layers|extra_layers)\.(\d+)\.(.+)', key)
    if match is None or match[3] not in _BLOCK:
        return None
    return tuple(f'{_ROOTS[match[1]]}.blocks.{match[2]}.{name}' for name in _BLOCK[match[3]])


def flavour(weights: Mapping[str, Tensor], source: str = 'The weights') -> str:
    """Which method the proxies were added to: 'beit' or 'maskfeat'.

    Raises:
        InputError: Neither, or a mixture.
    """
    found = [name for name, end in _FLAVOURS.items() if any(key.endswith(end) for key in weights)]
    if len(found) != 1:
        raise InputError(
            f'{source} has {"both" if found else "neither"} *.attn.q_proj.weight (BEiT) {"and" if found else "nor"} '
            '*.attn.q.weight (MaskFeat): not a SemanticMIM.'
        )
    return found[0]


def _is_stacked(key: str) -> bool:
    """Whether the layout has an axis of size 1 in front."""
    return key in ('backbone.pos_embed', 'backbone.mask_token')


def _adapt(key: str, value: Tensor, weights: Mapping[str, Tensor]) -> Tensor | tuple[Tensor, ...]:
    if key in ('backbone.cls_token', 'backbone.pos_embed', 'backbone.mask_token'):
        check_shape(key, value, value.ndim == 3 and len(value) == 1, '[1, tokens, D]')
    value = value[0] if _is_stacked(key) else value
    if key != 'backbone.pos_embed':
        return value
    cls_token = weights.get('backbone.cls_token')
    proxies = cls_token.shape[1] if cls_token is not None and cls_token.ndim == 3 else 0
    return value[:proxies], value[proxies:]


def _restore(key: str, value: Tensor) -> Tensor:
    return value.unsqueeze(0) if _is_stacked(key) else value


LAYOUT = Layout('SemanticMIM', 'backbone.*, head.cls_head, neck.fc', mmmim_names, _adapt, _restore)
convert_weights, collect = LAYOUT.convert, LAYOUT.collect


def detect(checkpoint: Mapping[str, Any]) -> bool:
    """Whether a file has the blocks beside the encoder, or the attention with queries of their own."""
    pattern = r'backbone\.(extra_layers\.\d+|layers\.\d+\.attn\.(q|kv|q_proj|kv_proj))\.'
    return has_key(inner_table(checkpoint), pattern)


def target_config(method: str, patch_size: int, num_tokens: int) -> dict[str, Any]:
    """Config of the targets of a flavour, and of their head.

    Args:
        method: The flavour, as :func:`flavour` names it.
        patch_size: Side of a patch in pixels.
        num_tokens: Number of tokens K of the BEiT flavour.
    """
    if method == 'maskfeat':
        return {
            'target_generator': {'type': 'mmmim.HOGTarget', 'patch_size': patch_size},
            'head': {'type': 'mmmim.RegressionHead'},
        }
    tokenizer = {'type': 'mmmim.DalleTokenizer', 'num_tokens': num_tokens}
    return {
        'target_generator': {'type': 'mmmim.TokenizerTarget', 'tokenizer': tokenizer, 'patch_size': patch_size},
        'head': {'type': 'mmmim.CrossEntropyHead'},
    }


def backbone_config(
    converted: Mapping[str, Tensor],
    method: str,
    source: str = 'The weights',
    num_heads: int | None = None,
    needed: Sequence[str] = (),
) -> dict[str, Any]:
    """The config of the encoder that converted weights hold; arguments and errors as in :func:`model_config`.

    Args:
        converted: Weights under mmmim's names.
        method: The flavour, as :func:`flavour` names it.
        source: Name of the weights, for error messages.
        num_heads: Attention heads; None for heads of 64 channels.
        needed: Further names that the weights must have.
    """
    needed = ['backbone.positions.extra', 'backbone.extra_tokens', *needed]
    vit = vit_config(converted, 'a SemanticMIM', source, num_heads, needed)
    beit = method == 'beit'
    return {
        **vit,
        'num_cls_tokens': converted['backbone.extra_tokens'].shape[1],
        'positions': 'learnable',
        'extra_positions': True,
        'final_norm': False,
        'qkv_bias': 'qv' if beit else True,
        'layer_scale': 0.1 if beit else None,
        'drop_path_rate': (0.0, 0.1) if beit else 0.0,
        'init': 'trunc_normal_rescaled' if beit else 'trunc_normal',
    }


def model_config(
    converted: Mapping[str, Tensor], method: str, source: str = 'The weights', num_heads: int | None = None
) -> dict[str, Any]:
    """The config of the model that converted weights belong to, read off their shapes.

    Args:
        converted: Weights under mmmim's names, as :func:`convert_weights` returns them.
        method: The flavour, as :func:`flavour` names it.
        source: Name of the weights, for error messages.
        num_heads: Attention heads of the encoder, which shapes do not tell; None for heads of 64 channels.

    Returns:
        ``dict(type='mmmim.MaskedImageModeling', ...)``.

    Raises:
        InputError: Weights that every SemanticMIM has are missing, heads do not divide the width, or the patches form
            no square.
    """
    backbone = backbone_config(converted, method, source, num_heads, [f'{NECK}.mask_token', f'{NECK}.proj.weight'])
    outputs = len(converted[f'{NECK}.proj.weight'])
    shared = ('num_heads', 'mlp_ratio', 'qkv_bias', 'layer_scale', 'drop_path_rate', 'init')
    return {
        'type': 'mmmim.MaskedImageModeling',
        'backbone': backbone,
        'branches': {
            'semantic': {
                'neck': {
                    'type': 'mmmim.ProxyReconstruction',
                    'context_dim': backbone['embed_dim'],
                    'depth': count_blocks(converted, NECK),
                    'out_dim': outputs,
                    **{option: backbone[option] for option in shared},
                },
                **target_config(method, backbone['patch_size'], outputs),
            }
        },
    }


def convert_checkpoint(checkpoint: Mapping[str, Any], source: str, num_heads: int | None = None) -> dict[str, Any]:
    """Convert a training checkpoint of the plug-in: encoder, and the blocks beside it.

    Args:
        checkpoint: What the file holds: weights under ``state_dict``, or weights only, maybe prefixed ``module.``.
            Those of the target generator, which are no part of the model, are left out.
        source: Name of the file, for error messages.
        num_heads: Attention heads of the encoder, which shapes do not tell; None for heads of 64 channels.

    Returns:
        A checkpoint for :class:`mmmim.FeatureExtractor` and :class:`mmmim.PretrainedBackbone`.

    Raises:
        InputError: Keys that are unknown, missing or of a wrong shape.
    """
    weights = flat_tensors(inner_table(checkpoint), source)
    weights = {key: value for key, value in weights.items() if not key.startswith('target_generator.')}
    converted = convert_weights(weights, source)
    config = model_config(converted, flavour(weights, source), source, num_heads)
    parts = {'backbone': config['backbone'], NECK: config['branches']['semantic']['neck']}
    return checked_checkpoint(converted, config, parts, 'student', source)


def describe(converted: Mapping[str, Any]) -> str:
    """What was converted, in words."""
    config = converted['mmmim']['model']
    branch = config['branches']['semantic']
    return (
        f'{describe_vit(config)}, {config["backbone"]["num_cls_tokens"]} proxies; {branch["neck"]["depth"]} blocks '
        f'beside it, {branch["neck"]["out_dim"]} outputs for {branch["target_generator"]["type"]}'
    )
