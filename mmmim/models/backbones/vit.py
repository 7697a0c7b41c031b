"""The plain Vision Transformer of MAE and its successors."""

from collections.abc import Sequence
from functools import partial

import torch
from mmengine.model import BaseModule
from torch import nn

from mmmim.registry import MODELS
from mmmim.structures import Context, PatchMask

from ..layers import Block, PatchEmbed, PositionTable, init_linear_layers, patch_grid
from .rope_vit import layer_index


@MODELS.register_module()
class ViT(BaseModule):
    """Vision Transformer with additive positions that sees only the visible patches (MAE, arXiv 2111.06377).

    Positions are added to patch tokens, not to extra tokens. Pre-norm blocks with LayerNorm and biases. Any image size
    divisible by the patch size works; off the training size the positions are interpolated.

    Args:
        img_size: Side, or (height, width), of training images in pixels.
        patch_size: Side of a patch in pixels.
        embed_dim: Width D.
        depth: Number of blocks.
        num_heads: Attention heads.
        mlp_ratio: Hidden width of the MLPs over D.
        num_extra_tokens: E, learned tokens in front of the patches; 1 for a CLS token, 0 for none.
        learnable_positions: Learned positions instead of fixed sines and cosines.
        qkv_bias: Whether queries, keys and values have a bias.
        norm_eps: Of the LayerNorms.
        drop_path_rate: Stochastic depth, the same in every block.
        in_channels: Channels of the images.
        init_cfg: mmengine's, e.g. to load weights.
    """

    #: The extra tokens stand for the whole image: their average is a global feature.
    global_extra_tokens = True

    def __init__(
        self,
        img_size: int | tuple[int, int] = 224,
        patch_size: int = 16,
        embed_dim: int = 768,
        depth: int = 12,
        num_heads: int = 12,
        mlp_ratio: float = 4.0,
        num_extra_tokens: int = 1,
        learnable_positions: bool = False,
        qkv_bias: bool = True,
        norm_eps: float = 1e-6,
        drop_path_rate: float = 0.0,
        in_channels: int = 3,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.patch_size, self.embed_dim, self.depth = patch_size, embed_dim, depth
        self.num_extra_tokens = num_extra_tokens
        height, width = (img_size, img_size) if isinstance(img_size, int) else img_size
        self.grid = patch_grid((height, width), patch_size)
        self.patch_embed = PatchEmbed(patch_size, embed_dim, in_channels)
        self.positions = PositionTable(self.grid, embed_dim, learnable_positions)
        self.extra_tokens = nn.Parameter(torch.empty(1, num_extra_tokens, embed_dim)) if num_extra_tokens else None
        norm = partial(nn.LayerNorm, eps=norm_eps)
        self.blocks = nn.ModuleList(
            Block(
                embed_dim,
                num_heads,
                mlp_ratio=mlp_ratio,
                drop_path=drop_path_rate,
                norm=norm,
                bias=True,
                qkv_bias=qkv_bias,
            )
            for _ in range(depth)
        )
        self.norm = norm(embed_dim)
        init_linear_layers(self.blocks, fused_qkv=True)
        if self.extra_tokens is not None:
            nn.init.normal_(self.extra_tokens, std=0.02)

    def forward(self, images: torch.Tensor, mask: PatchMask | None = None, layers: Sequence[int] = ()) -> Context:
        """Encode.

        Args:
            images: ``[B, C, H, W]``, normalised.
            mask: Whose visible patches to see; None for the whole image.
            layers: Blocks whose output to keep in ``hidden``, negative ones from the end.

        Returns:
            Context with ``visible [G, V, D]``, ``extra [G, E, D]``; position codes are the vectors that are added.

        Raises:
            InputError: The patch size does not divide the image, or there is no such block.
        """
        table = self.positions(patch_grid(images.shape[-2:], self.patch_size))
        seen = table.unsqueeze(0) if mask is None else table[mask.visible]
        # fp32 under autocast too, like the parameters.
        x = self.patch_embed(images, mask).to(seen.dtype) + seen
        if self.extra_tokens is not None:
            x = torch.cat([self.extra_tokens.expand(x.shape[0], -1, -1), x], dim=1)

        keep = [layer_index(layer, self.depth) for layer in layers]
        hidden = {}
        for i, block in enumerate(self.blocks):
            x = block(x)
            if i in keep:
                hidden[i] = x
        x = self.norm(x)
        return Context(
            visible=x[:, self.num_extra_tokens :],
            extra=x[:, : self.num_extra_tokens],
            positions=lambda index: table[index],
            visible_positions=seen.expand(x.shape[0], -1, -1),
            hidden=tuple(hidden[index] for index in keep),
        )
