"""Building blocks: plain modules and functions, usable without a registry."""

from .attention import Attention, head_width
from .block import Block, Mlp
from .drop_path import residual
from .init import init_linear_layers
from .norm import RMSNorm
from .patch_embed import PatchEmbed, patch_grid, patchify, unpatchify
from .positions import PositionTable, sincos_positions
from .rope import AxialRoPE, border_coordinates, frequency_table, grid_coordinates, rotate, scale_to_bounding_box

__all__ = [
    'Attention',
    'AxialRoPE',
    'Block',
    'Mlp',
    'PatchEmbed',
    'PositionTable',
    'RMSNorm',
    'border_coordinates',
    'frequency_table',
    'grid_coordinates',
    'head_width',
    'init_linear_layers',
    'patch_grid',
    'patchify',
    'residual',
    'rotate',
    'scale_to_bounding_box',
    'sincos_positions',
    'unpatchify',
]
