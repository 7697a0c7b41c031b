"""MAE's weights (arXiv 2111.06377): the layout of the authors' files and that of mmpretrain."""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mmmim.checkpoints.layouts import describe_layout
from mmmim.utils import InputError

from .common import checked_checkpoint, count_blocks, flat_tensors, head_count, mlp_ratio, square_side

#: Prefix of the decoder, in a model whose only branch is ``pixels``.
NECK = 'branches.pixels.neck'
CLS, MASK_TOKEN = 'backbone.extra_tokens', f'{NECK}.mask_token'

AUTHORS, MMPRETRAIN = 'the MAE authors', 'mmpretrain'

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
_NAMES = {
    layout: tuple({row[column]: row[0] for row in table} for table in (_PARTS, _PARTS_OF_A_BLOCK))
    for column, layout in enumerate((AUTHORS, MMPRETRAIN), start=1)
}
_BLOCK = re.compile(r'(.+?)\.(\d+)\.(.+)')


def find_layout(weights: Mapping[str, Tensor], source: str) -> str:
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


def mmmim_name(key: str, layout: str) -> str | None:
    """Mmmim's name of a key of a layout, ``*.attn.qkv.*`` for fused ones; None for a key that the layout lacks."""
    parts, parts_of_a_block = _NAMES[layout]
    module, _, kind = key.rpartition('.')
    if kind not in ('weight', 'bias'):
        return parts.get(key)
    match = _BLOCK.fullmatch(module)
    if match is None or match[1] not in parts:
        return f'{parts[module]}.{kind}' if module in parts else None
    inside = parts_of_a_block.get(match[3])
    return None if inside is None else f'{parts[match[1]]}.{match[2]}.{inside}.{kind}'


def convert_weights(weights: Mapping[str, Tensor], layout: str, source: str = 'The weights') -> dict[str, Tensor]:
    """Rename, split and add up weights.

    Fused queries, keys and values are split. Position tables ``[1, 1 + N, D]`` become ``[N, D]``: the encoder's first
    row, which CLS gets, is added to the CLS token.

    Args:
        weights: In ``layout``, nothing else.
        layout: From :func:`find_layout`.
        source: Their name, for error messages.

    Returns:
        Under mmmim's names.

    Raises:
        InputError: Keys that the layout does not have, or a position of CLS in the decoder.
    """
    names = {key: mmmim_name(key, layout) for key in weights}
    unknown = [key for key, name in names.items() if name is None]
    if unknown:
        raise InputError(
            f'{source}: {len(unknown)} keys are not in the layout of {layout}, e.g. {", ".join(unknown[:5])}.'
        )
    converted: dict[str, Tensor] = {}
    for key, value in weights.items():
        name = str(names[key])
        if '.attn.qkv.' in name:
            for part, piece in zip('qkv', value.chunk(3), strict=False):
                converted[name.replace('.qkv.', f'.{part}_proj.')] = piece.clone()
        else:
            converted[name] = value
    for root in ('backbone', NECK):
        name = f'{root}.positions.weight'
        if name not in converted:
            continue
        table = converted[name]
        if table.ndim != 3 or len(table) != 1:
            raise InputError(f'{source}: a table of positions has shape {list(table.shape)}, not [1, 1 + N, D].')
        converted[name] = table[0, 1:].clone()
        if root == 'backbone' and CLS in converted:
            converted[CLS] = converted[CLS] + table[:, :1]
        elif root == NECK and table[0, 0].any():
            raise InputError(
                f'{source}: the first row of the positions of the decoder, that of CLS, is not zero; in mmmim CLS has '
                'no position there.'
            )
    if MASK_TOKEN in converted:
        converted[MASK_TOKEN] = converted[MASK_TOKEN].flatten(0, 1)
    return converted


def model_config(
    converted: dict[str, Tensor],
    source: str = 'The weights',
    num_heads: int | None = None,
    decoder_num_heads: int = 16,
    normalize: bool = True,
) -> dict[str, Any]:
    """The config of the model that converted weights belong to, read off their shapes.

    Args:
        converted: From :func:`convert_weights`. Without a decoder, the config has the paper's.
        source: Their name, for error messages.
        num_heads: Of the encoder, which shapes do not tell; None for heads of 64 channels (ViT-H: 80).
        decoder_num_heads: Of the decoder.
        normalize: Whether the targets were normalised pixels, which the weights do not tell either.

    Returns:
        ``dict(type='mmmim.MaskedImageModeling', ...)``.

    Raises:
        InputError: Weights that every MAE has are missing, heads do not divide a width, or the patches form no square.
    """
    has_decoder = any(key.startswith(NECK) for key in converted)
    needed = ['backbone.patch_embed.weight', 'backbone.positions.weight', CLS]
    needed += [f'{NECK}.embed.weight'] if has_decoder else []
    missing = [key for key in needed if key not in converted]
    if missing:
        raise InputError(f"{source} has no {', '.join(missing)} (mmmim's names): not the whole of an MAE.")

    patch, positions = (converted[key] for key in needed[:2])
    dim, channels, patch_size = patch.shape[0], patch.shape[1], patch.shape[-1]
    side = square_side(positions, source)
    decoder_dim = converted[f'{NECK}.embed.weight'].shape[0] if has_decoder else 512
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
        },
        'branches': {
            'pixels': {
                'target_generator': {
                    'type': 'mmmim.PixelTarget',
                    'patch_size': patch_size,
                    'in_channels': channels,
                    'normalize': normalize,
                },
                'neck': {
                    'type': 'mmmim.SelfAttentionPredictor',
                    'context_dim': dim,
                    'embed_dim': decoder_dim,
                    'depth': count_blocks(converted, NECK) if has_decoder else 8,
                    'num_heads': head_count(decoder_dim, decoder_num_heads, '--decoder-num-heads', source),
                    'mlp_ratio': mlp_ratio(converted, NECK, decoder_dim),
                    'out_dim': channels * patch_size**2,
                    'grid': (side, side),
                },
                'head': {'type': 'mmmim.RegressionHead'},
            }
        },
    }


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
        source: Its name, for error messages.
        num_heads: As in :func:`model_config`.
        decoder_num_heads: As in :func:`model_config`.
        normalize: As in :func:`model_config`.

    Returns:
        A checkpoint for :class:`mmmim.FeatureExtractor` and :class:`mmmim.PretrainedBackbone`.

    Raises:
        InputError: A classifier, an unknown layout, or keys that are unknown, missing or of a wrong shape.
    """
    tables = [checkpoint[key] for key in ('model', 'state_dict') if isinstance(checkpoint.get(key), Mapping)]
    weights = flat_tensors(tables[0] if tables else checkpoint, source)
    layout = find_layout(weights, source)
    statistics = {key: weights.pop(f'data_preprocessor.{key}', None) for key in ('mean', 'std')}
    converted = convert_weights(weights, layout, source)
    config = model_config(converted, source, num_heads, decoder_num_heads, normalize)
    values = {key: value.flatten().tolist() for key, value in statistics.items() if value is not None}
    if values:
        config['data_preprocessor'] = {'type': 'mmmim.MIMDataPreprocessor', **values}
    parts = {'backbone': config['backbone']}
    if any(key.startswith(NECK) for key in converted):
        parts[NECK] = config['branches']['pixels']['neck']
    return checked_checkpoint(converted, config, parts, 'student', source)
