"""Building blocks: plain modules and functions, usable without a registry."""

from .attention import Attention, head_width
from .block import Block, Mlp, blocks_of, compile_blocks, set_checkpointing
from .checkpointing import check_mode
from .drop_path import residual
from .init import init_linear_layers
from .norm import RMSNorm, make_norm
from .patch_embed import PatchEmbed, patch_grid, patchify, unpatchify
from .positions import Positions, PositionTable, make_positions, sincos_positions
from .rope import AxialRoPE, border_coordinates, frequency_table, grid_coordinates, rotate, scale_to_bounding_box

__all__ = [
    'Attention',
    'AxialRoPE',
    'Block',
    'Mlp',
    'PatchEmbed',
    'PositionTable',
    'Positions',
    'RMSNorm',
    'blocks_of',
    'border_coordinates',
    'check_mode',
    'compile_blocks',
    'frequency_table',
    'grid_coordinates',
    'head_width',
    'init_linear_layers',
    'make_norm',
    'make_positions',
    'patch_grid',
    'patchify',
    'residual',
    'rotate',
    'scale_to_bounding_box',
    'set_checkpointing',
    'sincos_positions',
    'unpatchify',
]
