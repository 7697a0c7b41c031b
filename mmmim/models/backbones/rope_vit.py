"""The encoder of CAPI: a Vision Transformer with rotary positions and registers."""

from collections.abc import Sequence

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmmim.registry import MODELS
from mmmim.structures import Context, PatchMask
from mmmim.utils import InputError

from ..layers import (
    AxialRoPE,
    Block,
    PatchEmbed,
    RMSNorm,
    border_coordinates,
    grid_coordinates,
    head_width,
    init_linear_layers,
    patch_grid,
    scale_to_bounding_box,
)


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


@MODELS.register_module()
class RoPEViT(BaseModule):
    """Vision Transformer that sees only the visible patches (CAPI, arXiv 2502.08769).

    No position is added to the tokens: queries and keys are rotated by coordinates that span [0, 1] at every
    resolution, so the model runs at any image size divisible by the patch size. Registers have coordinates too: the
    border of the bounding box of the tokens that the encoder sees.

    Args:
        patch_size: Side of a patch in pixels.
        embed_dim: Width D.
        depth: Number of blocks.
        num_heads: Attention heads.
        mlp_ratio: Hidden width of the MLPs over D.
        num_registers: Register tokens, a multiple of 4.
        drop_path_rate: Stochastic depth, the same in every block.
        in_channels: Channels of the images.
        max_freq: Highest rotary frequency in turns per image side.
        min_freq: Lowest rotary frequency.
        init_cfg: mmengine's, e.g. to load weights.
    """

    def __init__(
        self,
        patch_size: int = 14,
        embed_dim: int = 1024,
        depth: int = 24,
        num_heads: int = 16,
        mlp_ratio: float = 4.0,
        num_registers: int = 16,
        drop_path_rate: float = 0.0,
        in_channels: int = 3,
        max_freq: float = 7.0,
        min_freq: float = 7e-4,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.patch_size, self.embed_dim, self.depth = patch_size, embed_dim, depth
        border_coordinates(num_registers)  # refuses a number that four sides cannot share
        self.patch_embed = PatchEmbed(patch_size, embed_dim, in_channels)
        self.registers = nn.Parameter(torch.empty(1, num_registers, embed_dim)) if num_registers else None
        self.rope = AxialRoPE(head_width(embed_dim, num_heads), max_freq, min_freq)
        self.blocks = nn.ModuleList(
            Block(embed_dim, num_heads, mlp_ratio=mlp_ratio, drop_path=drop_path_rate) for _ in range(depth)
        )
        self.norm = RMSNorm(embed_dim, affine=False)
        init_linear_layers(self.blocks)
        if self.registers is not None:
            nn.init.normal_(self.registers, std=0.02)

    @property
    def num_extra_tokens(self) -> int:
        """E: the registers, which come first in ``Context.hidden``."""
        return 0 if self.registers is None else self.registers.shape[1]

    def forward(self, images: Tensor, mask: PatchMask | None = None, layers: Sequence[int] = ()) -> Context:
        """Encode.

        Args:
            images: ``[B, C, H, W]``, normalised.
            mask: Whose visible patches to see; None for the whole image.
            layers: Blocks whose output to keep in ``hidden``, negative ones from the end.

        Returns:
            Context with ``visible [G, V, D]``, ``extra [G, E, D]`` (registers), positions as (row, column)
            coordinates.

        Raises:
            InputError: The patch size does not divide the image, or there is no such block.
        """
        grid = patch_grid(images.shape[-2:], self.patch_size)
        coordinates = grid_coordinates(grid, images.device)
        seen = coordinates.unsqueeze(0) if mask is None else coordinates[mask.visible]
        # Under autocast the residual stream keeps the parameters' precision, with or without registers.
        x = self.patch_embed(images, mask).to(self.patch_embed.weight.dtype)
        num_extra = self.num_extra_tokens
        extra_seen = scale_to_bounding_box(border_coordinates(num_extra, images.device), seen)
        if self.registers is not None:
            x = torch.cat([self.registers.expand(x.shape[0], -1, -1), x], dim=1)
        rotation = self.rope(torch.cat([extra_seen, seen], dim=1))

        keep = [layer_index(layer, self.depth) for layer in layers]
        hidden = {}
        for i, block in enumerate(self.blocks):
            x = block(x, rotation)
            if i in keep:
                hidden[i] = x
        x = self.norm(x)
        return Context(
            visible=x[:, num_extra:],
            extra=x[:, :num_extra],
            positions=lambda index: coordinates[index],
            visible_positions=seen.expand(x.shape[0], -1, -1),
            extra_positions=extra_seen.expand(x.shape[0], -1, -1),
            hidden=tuple(hidden[index] for index in keep),
        )
