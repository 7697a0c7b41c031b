"""The decoder of MAE."""

from functools import partial

import torch
from mmengine.model import BaseModule
from torch import nn

from mmmim.registry import MODELS
from mmmim.structures import Context, PatchMask, Prediction

from ..layers import Block, PositionTable, init_linear_layers


@MODELS.register_module()
class SelfAttentionDecoder(BaseModule):
    """Encoded tokens and mask tokens attend to each other (MAE, arXiv 2111.06377).

    Only the patches of ``mask.predict`` have mask tokens: where these are all masked patches, as in MAE, the sequence
    is the whole image. Target blocks are decoded apart from each other.

    Args:
        context_dim: Width D of the encoder.
        embed_dim: Width Dp of the decoder.
        depth: Number of blocks.
        num_heads: Attention heads.
        out_dim: Width of the predictions, e.g. ``3 * patch_size**2`` for pixels.
        grid: ``(h, w)`` in patches that the model is trained on; on others, positions are interpolated.
        mlp_ratio: Hidden width of the MLPs over Dp.
        learnable_positions: Learned positions instead of fixed sines and cosines.
        qkv_bias: Whether queries, keys and values have a bias.
        norm_eps: Of the LayerNorms.
        init_cfg: mmengine's.
    """

    def __init__(
        self,
        context_dim: int = 768,
        embed_dim: int = 512,
        depth: int = 8,
        num_heads: int = 16,
        out_dim: int = 768,
        grid: tuple[int, int] = (14, 14),
        mlp_ratio: float = 4.0,
        learnable_positions: bool = False,
        qkv_bias: bool = True,
        norm_eps: float = 1e-6,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.context_dim, self.embed_dim, self.out_dim, self.grid = context_dim, embed_dim, out_dim, tuple(grid)
        self.embed = nn.Linear(context_dim, embed_dim)
        self.mask_token = nn.Parameter(torch.empty(1, embed_dim))
        self.positions = PositionTable((grid[0], grid[1]), embed_dim, learnable_positions)
        norm = partial(nn.LayerNorm, eps=norm_eps)
        self.blocks = nn.ModuleList(
            Block(embed_dim, num_heads, mlp_ratio=mlp_ratio, norm=norm, bias=True, qkv_bias=qkv_bias)
            for _ in range(depth)
        )
        self.norm = norm(embed_dim)
        self.proj = nn.Linear(embed_dim, out_dim)
        init_linear_layers(self, fused_qkv=True)
        nn.init.normal_(self.mask_token, std=0.02)

    def forward(self, context: Context, mask: PatchMask) -> Prediction:
        """Predict the patches of ``mask.predict``: ``patches [G, T*M, out_dim]``."""
        table = self.positions(mask.grid)
        masks, blocks, _ = mask.predict.shape
        seen = self.embed(context.visible).to(table.dtype) + table[mask.visible]
        known = torch.cat([self.embed(context.extra).to(table.dtype), seen], dim=1).repeat_interleave(blocks, dim=0)
        x = torch.cat([known, self.mask_token + table[mask.predict.flatten(0, 1)]], dim=1)
        for block in self.blocks:
            x = block(x)
        patches = self.proj(self.norm(x[:, known.shape[1] :]))
        return Prediction(patches=patches.unflatten(0, (masks, blocks)).flatten(1, 2))
