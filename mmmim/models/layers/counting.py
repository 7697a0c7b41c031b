"""Blocks and layers by number."""

from __future__ import annotations

from mmmim.utils import InputError


def block_index(index: int | float, depth: int) -> int:
    """A block counted from 0, from a number or a share of the depth.

    Args:
        index: An int, negative ones from the end; or a float in (0, 1], the share of the blocks up to and with it: 1/3,
            1/2, 2/3 and 1.0 are blocks 3, 5, 7 and 11 of 12.
        depth: Number of blocks.

    Raises:
        InputError: There is no such block.
    """
    if not isinstance(index, float):
        return layer_index(index, depth)
    if not 0 < index <= 1:
        raise InputError(f'out_indices: {index} is no share of the depth: use a float above 0 and up to 1.0, or ints.')
    return max(round(index * depth), 1) - 1


def layer_index(layer: int, depth: int) -> int:
    """A block counted from 0, from one that may be counted from the end by a negative number.

    Raises:
        InputError: There is no such block.
    """
    if not -depth <= layer < depth:
        raise InputError(
            f'There is no block {layer} in an encoder of {depth}: use 0 to {depth - 1}, or -{depth} to -1.'
        )
    return layer % depth


#: Parts after the blocks, by their names here and in timm, BEiT and mmpretrain; BEiT counts the table of relative
#: positions that blocks share among them.
_AFTER = ('norm', 'fc_norm', 'ln1', 'ln2', 'projector', 'head', 'rel_pos_bias')
#: The same table, by its name here.
_SHARED_TABLE = 'positions.table'


def parameter_layer(name: str, prefix: str, depth: int) -> int:
    """Layer of a parameter of an encoder, for learning rates that decay layer by layer (BEiT, arXiv 2106.08254).

    Args:
        name: Name of the parameter, e.g. ``backbone.blocks.3.norm1.weight``.
        prefix: What the names of the encoder's parameters begin with.
        depth: Number of its blocks.

    Returns:
        0 for all that comes before the blocks, i + 1 for block i, ``depth + 1`` for what comes after and what is
        outside the encoder.
    """
    own = name.removeprefix(prefix).split('.')
    if not name.startswith(prefix) or own[0] in _AFTER or '.'.join(own) == _SHARED_TABLE:
        return depth + 1
    return int(own[1]) + 1 if own[0] in ('blocks', 'layers') else 0
