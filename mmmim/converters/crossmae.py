"""CrossMAE's weights (arXiv 2401.14391): the layout of the authors' files, which is MAE's but for the decoder."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from mmmim.utils import InputError

from . import mae
from .common import (
    Layout,
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
    vit_config,
)
from .mae import CLS, MASK_TOKEN, NECK

#: Weights of the mixtures, ``[decoder depth, states]``.
MIXTURE = f'{NECK}.mixture'
_ATTENTION = {'q': ('q_proj',), 'kv': ('k_proj', 'v_proj'), 'proj': ('proj',)}
#: What MAE has and CrossMAE lacks: the final norm of the encoder, and self-attention in the decoder.
_OF_MAE_ALONE = re.compile(r'norm\.|decoder_embed\.|decoder_blocks\.\d+\.attn\.')


def mmmim_names(key: str) -> tuple[str, ...] | None:
    """Mmmim's names of a key of the layout, two for fused keys and values; None for a key that it lacks."""
    if key == 'wfm.linear.weight':
        return (MIXTURE,)
    if match := re.fullmatch(r'dec_norms\.(\d+\.(?:weight|bias))', key):
        return (f'{NECK}.context_norms.{match[1]}',)
    if match := re.fullmatch(r'decoder_blocks\.(\d+)\.cross_attn\.(q|kv|proj)\.(weight|bias)', key):
        return tuple(f'{NECK}.blocks.{match[1]}.attn.{name}.{match[3]}' for name in _ATTENTION[match[2]])
    return None if _OF_MAE_ALONE.match(key) else mae.AUTHORS.names(key)


LAYOUT = Layout(
    'the CrossMAE authors',
    'patch_embed.*, blocks.*, wfm.*, decoder_blocks.*',
    mmmim_names,
    mae.AUTHORS.adapt,
    mae.AUTHORS.restore,
)
collect = LAYOUT.collect


def detect(checkpoint: Mapping[str, Any]) -> bool:
    """Whether a file has a decoder of cross-attention that mixes the states of the encoder."""
    return has_key(inner_table(checkpoint), r'decoder_blocks\.\d+\.cross_attn\.|wfm\.linear')


def model_config(
    converted: dict[str, Tensor],
    source: str = 'The weights',
    num_heads: int | None = None,
    decoder_num_heads: int | None = None,
    normalize: bool = True,
    layers: Sequence[int] | None = None,
    embedded: bool = True,
    grid: tuple[int, int] | None = None,
) -> dict[str, Any]:
    """The config of the model that converted weights belong to, read off their shapes.

    Args:
        converted: Weights under mmmim's names, as :meth:`Layout.convert` returns them.
        source: Name of the weights, for error messages.
        num_heads: Attention heads of the encoder, which shapes do not tell; None for heads of 64 channels (ViT-H: 80).
        decoder_num_heads: Attention heads of the decoder, which shapes do not tell; None for heads of 32 channels.
        normalize: Whether the targets were normalised pixels, which the weights do not tell either.
        layers: Blocks of the encoder whose states are mixed; None for all.
        embedded: Whether the embedded input is among the states.
        grid: Patches ``(h, w)`` of the images; None for a square.

    Returns:
        ``dict(type='mmmim.MaskedImageModeling', ...)``.

    Raises:
        InputError: Weights that every CrossMAE has are missing, heads do not divide a width, the patches are not of
            the grid, or another number of states is mixed.
    """
    needed = [CLS, MASK_TOKEN, MIXTURE, f'{NECK}.proj.weight', f'{NECK}.blocks.0.mlp.fc1.weight']
    vit = vit_config(converted, 'a CrossMAE', source, num_heads, needed, grid)
    decoder_dim = converted[MASK_TOKEN].shape[-1]
    layers = list(range(vit['depth'])) if layers is None else list(layers)
    if (number := converted[MIXTURE].shape[-1]) != len(layers) + embedded:
        raise InputError(
            f'{source} mixes {number} states of an encoder of {vit["depth"]} blocks, not {len(layers) + embedded}: '
            'which ones the weights do not tell.'
        )
    if decoder_num_heads is None and decoder_dim % 32 == 0:
        decoder_num_heads = decoder_dim // 32
    neck = {
        'type': 'mmmim.InterBlockDecoder',
        'embed_dim': decoder_dim,
        'depth': count_blocks(converted, NECK),
        'num_heads': head_count(decoder_dim, decoder_num_heads, '--decoder-num-heads', source),
        'mlp_ratio': mlp_ratio(converted, NECK, decoder_dim),
        'layers': layers,
        'embedded': embedded,
    }
    return pixel_model({**vit, 'final_norm': False}, neck, normalize)


def convert_checkpoint(
    checkpoint: dict[str, Any],
    source: str,
    num_heads: int | None = None,
    decoder_num_heads: int | None = None,
    normalize: bool = True,
) -> dict[str, Any]:
    """Convert a file of the CrossMAE authors, which has encoder and decoder.

    Args:
        checkpoint: What the file holds.
        source: Name of the file, for error messages.
        num_heads: Attention heads of the encoder, which shapes do not tell; None for heads of 64 channels (ViT-H: 80).
        decoder_num_heads: Attention heads of the decoder, which shapes do not tell; None for heads of 32 channels.
        normalize: Whether the targets were normalised pixels, which the weights do not tell either.

    Returns:
        A checkpoint for :class:`mmmim.FeatureExtractor` and :class:`mmmim.PretrainedBackbone`.

    Raises:
        InputError: Keys that are unknown, missing or of a wrong shape.
    """
    converted = LAYOUT.convert(flat_tensors(inner_table(checkpoint), source), source)
    config = model_config(converted, source, num_heads, decoder_num_heads, normalize)
    parts = {'backbone': config['backbone'], NECK: config['branches']['pixels']['neck']}
    return checked_checkpoint(converted, config, parts, 'student', source)


def describe(converted: Mapping[str, Any]) -> str:
    """What was converted, in words."""
    config = converted['mmmim']['model']
    branch = config['branches']['pixels']
    pixels = 'normalised' if branch['target_generator']['normalize'] else 'raw'
    states = len(branch['neck']['layers']) + branch['neck']['embedded']
    return f'{describe_vit(config)}; decoder of {describe_blocks(branch["neck"])}, {states} states, {pixels} pixels'
