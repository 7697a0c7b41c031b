"""MFF's weights (arXiv 2308.00261) in the layout of mmpretrain: MAE's, and what fuses states of the encoder."""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mmmim.utils import InputError

from . import mae
from .common import Layout, checked_checkpoint, flat_tensors, has_key, inner_table, take_preprocessor
from .mae import NECK

#: Blocks whose states are fused, by their number and that of all blocks: those of mmpretrain's configs.
_LAYERS = {(6, 12): [0, 2, 4, 6, 8, 11]}


def mmmim_names(key: str) -> tuple[str, ...] | None:
    """Mmmim's names of a key of the layout, three for fused queries, keys and values; None for a key that it lacks."""
    if key == 'backbone.proj_weights':
        return (f'{NECK}.weights',)
    if match := re.fullmatch(r'backbone\.proj_layers\.(\d+\.(?:weight|bias))', key):
        return (f'{NECK}.projections.{match[1]}',)
    names = mae.MMPRETRAIN.names(key)
    return None if names is None else tuple(name.replace(f'{NECK}.', f'{NECK}.neck.') for name in names)


def _adapt(key: str, value: Tensor, weights: Mapping[str, Tensor]) -> Tensor:
    adapted = mae.MMPRETRAIN.adapt(key, value, weights)
    assert isinstance(adapted, Tensor)
    return adapted.flatten() if key.endswith('proj_weights') else adapted


def _restore(key: str, value: Tensor) -> Tensor:
    return value.view(-1, 1, 1, 1) if key.endswith('proj_weights') else mae.MMPRETRAIN.restore(key, value)


LAYOUT = Layout("mmpretrain's MFF", 'backbone.*, neck.*', mmmim_names, _adapt, _restore)


def detect(checkpoint: Mapping[str, Any]) -> bool:
    """Whether a file has the weights that states of the encoder are fused with, as mmpretrain names them."""
    return has_key(inner_table(checkpoint), r'backbone\.proj_(weights|layers\.)')


def model_config(
    converted: dict[str, Tensor],
    source: str = 'The weights',
    num_heads: int | None = None,
    decoder_num_heads: int = 16,
    normalize: bool = True,
    layers: list[int] | None = None,
) -> dict[str, Any]:
    """The config of the model that converted weights belong to, read off their shapes.

    Args:
        converted: Weights under mmmim's names, as :meth:`Layout.convert` returns them.
        source: Name of the weights, for error messages.
        num_heads: Attention heads of the encoder, which shapes do not tell; None for heads of 64 channels (ViT-H: 80).
        decoder_num_heads: Attention heads of the decoder, which shapes do not tell.
        normalize: Whether the targets were normalised pixels, which the weights do not tell either.
        layers: Blocks of the encoder whose states are fused; None for all, or for the six of twelve of mmpretrain's
            configs.

    Returns:
        ``dict(type='mmmim.MaskedImageModeling', ...)``.

    Raises:
        InputError: As for :func:`mmmim.converters.mae.model_config`, or which states are fused is not known.
    """
    if f'{NECK}.weights' not in converted:
        raise InputError(f'{source} has no backbone.proj_weights: not the whole of an MFF.')
    number = len(converted[f'{NECK}.weights'])
    plain = {key.replace(f'{NECK}.neck.', f'{NECK}.'): value for key, value in converted.items()}
    config = mae.model_config(plain, source, num_heads, decoder_num_heads, normalize)
    depth, branch = config['backbone']['depth'], config['branches']['pixels']
    layers = layers or (list(range(depth)) if number == depth else _LAYERS.get((number, depth)))
    if layers is None or len(layers) != number:
        raise InputError(
            f'{source} fuses {number} states of an encoder of {depth} blocks: which ones the weights do not tell.'
        )
    fusion = {'type': 'mmmim.MultiLevelFusion', 'context_dim': config['backbone']['embed_dim'], 'layers': layers}
    branch['neck'] = {**fusion, 'neck': branch['neck']}
    return config


def convert_checkpoint(
    checkpoint: dict[str, Any],
    source: str,
    num_heads: int | None = None,
    decoder_num_heads: int = 16,
    normalize: bool = True,
) -> dict[str, Any]:
    """Convert a file of mmpretrain's MFF, which has encoder and decoder.

    Args:
        checkpoint: What the file holds.
        source: Name of the file, for error messages.
        num_heads: Attention heads of the encoder, which shapes do not tell; None for heads of 64 channels (ViT-H: 80).
        decoder_num_heads: Attention heads of the decoder, which shapes do not tell.
        normalize: Whether the targets were normalised pixels, which the weights do not tell either.

    Returns:
        A checkpoint for :class:`mmmim.FeatureExtractor` and :class:`mmmim.PretrainedBackbone`.

    Raises:
        InputError: Keys that are unknown, missing or of a wrong shape, or which states are fused is not known.
    """
    weights = flat_tensors(inner_table(checkpoint), source)
    preprocessor = take_preprocessor(weights)
    converted = LAYOUT.convert(weights, source)
    config = model_config(converted, source, num_heads, decoder_num_heads, normalize) | preprocessor
    parts = {'backbone': config['backbone'], NECK: config['branches']['pixels']['neck']}
    return checked_checkpoint(converted, config, parts, 'student', source)


def describe(converted: Mapping[str, Any]) -> str:
    """What was converted, in words."""
    config = converted['mmmim']['model']
    branch = config['branches']['pixels']
    words = mae.describe_model(config, branch['neck']['neck'], branch['target_generator'])
    return f'{words}, from states of blocks {", ".join(map(str, branch["neck"]["layers"]))}'
