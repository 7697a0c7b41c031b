"""MAE's weights (arXiv 2111.06377): the layout of the authors' files and that of mmpretrain."""

import re
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from mmmim.checkpoints.layouts import describe_layout
from mmmim.utils import InputError

from .common import (
    Layout,
    check_shape,
    checked_checkpoint,
    count_blocks,
    describe_blocks,
    describe_vit,
    flat_tensors,
    has_key,
    head_count,
    inner_table,
    mlp_ratio,
    pixel_model,
    take_preprocessor,
    vit_config,
)

#: Prefix of the decoder, in a model whose only branch is ``pixels``.
NECK = 'branches.pixels.neck'
CLS, MASK_TOKEN = 'backbone.extra_tokens', f'{NECK}.mask_token'

# Each row: mmmim's name, the authors', mmpretrain's.
_PARTS = [
    (CLS, 'cls_token', 'backbone.cls_token'),
    ('backbone.positions.weight', 'pos_embed', 'backbone.pos_embed'),
    ('backbone.patch_embed', 'patch_embed.proj', 'backbone.patch_embed.projection'),
    ('backbone.blocks', 'blocks', 'backbone.layers'),
    ('backbone.norm', 'norm', 'backbone.ln1'),
    (MASK_TOKEN, 'mask_token', 'neck.mask_token'),
    (f'{NECK}.embed', 'decoder_embed', 'neck.decoder_embed'),
    (f'{NECK}.positions.weight', 'decoder_pos_embed', 'neck.decoder_pos_embed'),
    (f'{NECK}.blocks', 'decoder_blocks', 'neck.decoder_blocks'),
    (f'{NECK}.norm', 'decoder_norm', 'neck.ln1'),
    (f'{NECK}.proj', 'decoder_pred', 'neck.decoder_pred'),
]
_PARTS_OF_A_BLOCK = [
    ('norm1', 'norm1', 'ln1'),
    ('attn.qkv', 'attn.qkv', 'attn.qkv'),
    ('attn.proj', 'attn.proj', 'attn.proj'),
    ('norm2', 'norm2', 'ln2'),
    ('mlp.fc1', 'mlp.fc1', 'ffn.layers.0.0'),
    ('mlp.fc2', 'mlp.fc2', 'ffn.layers.1'),
]
_BLOCK = re.compile(r'(.+?)\.(\d+)\.(.+)')


def _names(parts: dict[str, str], parts_of_a_block: dict[str, str], key: str) -> tuple[str, ...] | None:
    """Mmmim's names of a key of a layout: three for fused queries, keys and values; None for others."""
    module, _, kind = key.rpartition('.')
    if kind not in ('weight', 'bias'):
        return (parts[key],) if key in parts else None
    match = _BLOCK.fullmatch(module)
    if match is None or match[1] not in parts:
        return (f'{parts[module]}.{kind}',) if module in parts else None
    inside, block = parts_of_a_block.get(match[3]), f'{parts[match[1]]}.{match[2]}'
    if inside == 'attn.qkv':
        return tuple(f'{block}.attn.{one}_proj.{kind}' for one in 'qkv')
    return None if inside is None else (f'{block}.{inside}.{kind}',)


def _adapt(key: str, value: Tensor, weights: Mapping[str, Tensor]) -> Tensor:
    """A tensor in mmmim's shape, before a fused one is divided.

    Position tables ``[1, 1 + N, D]`` become ``[N, D]``: the encoder's first row, which CLS gets, is added to the CLS
    token.
    """
    if key.endswith('pos_embed'):
        check_shape(key, value, value.ndim == 3 and len(value) == 1, '[1, 1 + N, D]')
        if 'decoder' in key and value[0, 0].any():
            raise InputError(f'the first row of {key}, that of CLS, is not zero; in mmmim CLS has no position there.')
        return value[0, 1:]
    if key.endswith('mask_token'):
        return value.flatten(0, 1)
    if not key.endswith('cls_token'):
        return value
    positions = weights.get(f'{key.removesuffix("cls_token")}pos_embed')
    return value if positions is None or positions.ndim != 3 else value + positions[:, :1]


def _restore(key: str, value: Tensor) -> Tensor:
    if key.endswith('pos_embed'):
        return torch.cat([torch.zeros_like(value[:1]), value]).unsqueeze(0)
    return value.unsqueeze(0) if key.endswith('mask_token') else value


def _layout(column: int, name: str, roots: str) -> Layout:
    parts, parts_of_a_block = ({row[column]: row[0] for row in table} for table in (_PARTS, _PARTS_OF_A_BLOCK))
    return Layout(name, roots, partial(_names, parts, parts_of_a_block), _adapt, _restore)


AUTHORS = _layout(1, 'the MAE authors', 'patch_embed.*, blocks.*, decoder_blocks.*')
MMPRETRAIN = _layout(2, 'mmpretrain', 'backbone.*, neck.*')


def find_layout(weights: Mapping[str, Tensor], source: str) -> Layout:
    """Which layout weights are in, from their names.

    Raises:
        InputError: Neither, or a fine-tuned classifier.
    """
    for layout, patches in (
        (AUTHORS, 'patch_embed.proj.weight'),
        (MMPRETRAIN, 'backbone.patch_embed.projection.weight'),
    ):
        if patches not in weights:
            continue
        classifier = [key for key in weights if re.match(r'(head|fc_norm)\.', key)]
        if classifier:
            raise InputError(
                f'{source} is a classifier ({", ".join(classifier[:3])}), fine-tuned from MAE: its features are not '
                "those of the pre-training, and its head has no place here. Convert the pre-trained model's file."
            )
        return layout
    raise InputError(
        f'{source} is in no known layout of MAE: neither that of the authors (patch_embed.proj.weight, blocks.0.*, '
        'decoder_blocks.0.*) nor that of mmpretrain (backbone.patch_embed.projection.weight, backbone.layers.0.*, '
        f'neck.decoder_blocks.0.*). {describe_layout(weights)}'
    )


def detect(checkpoint: Mapping[str, Any]) -> bool:
    """Whether a file has the fused attention of a Vision Transformer of the authors, or of one of mmpretrain.

    Not with a decoder of cross-attention, which is CrossMAE's, nor with states that are fused, which is MFF's. BEiT and
    its relatives call theirs as the authors do, and have relative positions, too.
    """
    table = inner_table(checkpoint)
    ours = has_key(table, r'(decoder_)?blocks\.\d+\.attn\.qkv|backbone\.layers\.\d+\.attn\.qkv')
    others = r'decoder_blocks\.\d+\.cross_attn\.|wfm\.linear|rel_pos_bias\.|backbone\.proj_(weights|layers\.)'
    return ours and not has_key(table, others)


def model_config(
    converted: dict[str, Tensor],
    source: str = 'The weights',
    num_heads: int | None = None,
    decoder_num_heads: int = 16,
    normalize: bool = True,
) -> dict[str, Any]:
    """The config of the model that converted weights belong to, read off their shapes.

    Args:
        converted: Weights under mmmim's names, as :meth:`Layout.convert` returns them. Without a decoder, the config
            has the paper's.
        source: Name of the weights, for error messages.
        num_heads: Attention heads of the encoder, which shapes do not tell; None for heads of 64 channels (ViT-H: 80).
        decoder_num_heads: Attention heads of the decoder, which shapes do not tell.
        normalize: Whether the targets were normalised pixels, which the weights do not tell either.

    Returns:
        ``dict(type='mmmim.MaskedImageModeling', ...)``.

    Raises:
        InputError: Weights that every MAE has are missing, heads do not divide a width, or the patches form no square.
    """
    has_decoder = any(key.startswith(NECK) for key in converted)
    vit = vit_config(converted, 'an MAE', source, num_heads, [CLS, *([f'{NECK}.embed.weight'] if has_decoder else [])])
    decoder_dim = converted[f'{NECK}.embed.weight'].shape[0] if has_decoder else 512
    neck = {
        'type': 'mmmim.SelfAttentionPredictor',
        'embed_dim': decoder_dim,
        'depth': count_blocks(converted, NECK) if has_decoder else 8,
        'num_heads': head_count(decoder_dim, decoder_num_heads, '--decoder-num-heads', source),
        'mlp_ratio': mlp_ratio(converted, NECK, decoder_dim),
    }
    return pixel_model(vit, neck, normalize)


def convert_checkpoint(
    checkpoint: dict[str, Any],
    source: str,
    num_heads: int | None = None,
    decoder_num_heads: int = 16,
    normalize: bool = True,
) -> dict[str, Any]:
    """Convert a file of the MAE authors or of mmpretrain, with or without the decoder.

    Args:
        checkpoint: What the file holds.
        source: Name of the file, for error messages.
        num_heads: Attention heads of the encoder, which shapes do not tell; None for heads of 64 channels (ViT-H: 80).
        decoder_num_heads: Attention heads of the decoder, which shapes do not tell.
        normalize: Whether the targets were normalised pixels, which the weights do not tell either.

    Returns:
        A checkpoint for :class:`mmmim.FeatureExtractor` and :class:`mmmim.PretrainedBackbone`.

    Raises:
        InputError: A classifier, an unknown layout, or keys that are unknown, missing or of a wrong shape.
    """
    weights = flat_tensors(inner_table(checkpoint), source)
    layout = find_layout(weights, source)
    preprocessor = take_preprocessor(weights)
    converted = layout.convert(weights, source)
    config = model_config(converted, source, num_heads, decoder_num_heads, normalize) | preprocessor
    parts = {'backbone': config['backbone']}
    if any(key.startswith(NECK) for key in converted):
        parts[NECK] = config['branches']['pixels']['neck']
    return checked_checkpoint(converted, config, parts, 'student', source)


def describe_model(config: Mapping[str, Any], neck: Mapping[str, Any] | None, target: Mapping[str, Any]) -> str:
    """Encoder, decoder and targets of a model in words.

    Args:
        config: Config of the model.
        neck: Config of its decoder; None where there is none.
        target: Config of its targets.
    """
    pixels = 'normalised' if target['normalize'] else 'raw'
    decoder = (
        'no decoder: for features only' if neck is None else f'decoder of {describe_blocks(neck)}, {pixels} pixels'
    )
    return f'{describe_vit(config)}; {decoder}'


def describe(converted: Mapping[str, Any]) -> str:
    """What was converted, in words."""
    config = converted['mmmim']['model']
    branch = config['branches']['pixels']
    whole = any(key.startswith(NECK) for key in converted['state_dict'])
    return describe_model(config, branch['neck'] if whole else None, branch['target_generator'])
