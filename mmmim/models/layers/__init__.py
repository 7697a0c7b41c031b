"""Building blocks: plain modules and functions, usable without a registry."""

from .attention import Attention, head_width
from .block import (
    Block,
    DecoderBlock,
    LayerScale,
    Mlp,
    TransformerBlock,
    blocks_of,
    compile_blocks,
    last_block,
    set_checkpointing,
)
from .checkpointing import check_mode
from .counting import block_index, layer_index, parameter_layer
from .drop_path import drop_path_rates, residual
from .init import init_token, init_weights
from .mixture import mix_states
from .norm import RMSNorm, make_norm
from .patch_embed import PatchEmbed, patch_grid, patchify, pick_patches, unpatchify
from .positions import Positions, PositionTable, make_positions, sincos_positions
from .precision import ExactBuffers, in_precision_of
from .projector import Projector
from .relative import RelativePositions, resampled_table
from .rope import AxialRoPE, border_coordinates, frequency_table, grid_coordinates, rotate, scale_to_bounding_box
from .state_mean import StateMean

__all__ = [
    'Attention',
    'AxialRoPE',
    'Block',
    'DecoderBlock',
    'ExactBuffers',
    'LayerScale',
    'Mlp',
    'PatchEmbed',
    'PositionTable',
    'Positions',
    'Projector',
    'RMSNorm',
    'RelativePositions',
    'StateMean',
    'TransformerBlock',
    'block_index',
    'blocks_of',
    'border_coordinates',
    'check_mode',
    'compile_blocks',
    'drop_path_rates',
    'frequency_table',
    'grid_coordinates',
    'head_width',
    'in_precision_of',
    'init_token',
    'init_weights',
    'last_block',
    'layer_index',
    'make_norm',
    'make_positions',
    'mix_states',
    'parameter_layer',
    'patch_grid',
    'patchify',
    'pick_patches',
    'resampled_table',
    'residual',
    'rotate',
    'scale_to_bounding_box',
    'set_checkpointing',
    'sincos_positions',
    'unpatchify',
]
