"""A decoder that reads the encoder's output in every block."""

import torch
from torch import Tensor, nn

from mmmim.registry import MODELS
from mmmim.structures import Context, PatchMask, Prediction
from mmmim.utils.options import Count, Positive

from ..interfaces import Neck, Sizes
from ..layers import DecoderBlock, init_weights, make_norm, make_positions


@MODELS.register_module()
class CrossAttentionDecoder(Neck):
    """Blocks of self-attention, cross-attention and MLP (Latent MIM, arXiv 2407.15837, section 3.6).

    Queries are one per predicted patch, and one for the image, which sees no loss. A query starts as mask token and
    position, and with visual cues as their sum with what the visible patches near it have: their embedded tokens
    weighted by a softmax over the scaled products of position vectors. The context, embedded tokens with positions, is
    the same in every block. Target blocks are predicted apart from each other.

    Args:
        context_dim: Width D of the encoder.
        embed_dim: Width Dp of the decoder.
        depth: Number of blocks.
        num_heads: Number of attention heads.
        out_dim: Width of the predictions; None for D.
        visual_cues: Whether queries start with what is near them.
        mlp_ratio: Hidden width of the MLPs over Dp.
        positions: 'sincos', 'sincos_stretched' or 'learnable'.
        grid: ``(h, w)`` in patches of training.
        init: How weights are initialised, see :func:`mmmim.models.layers.init_weights`; the mask token starts at zero.
        init_cfg: mmengine's initialisation config; None for none.
    """

    def __init__(
        self,
        context_dim: Count = 768,
        embed_dim: Count = 512,
        depth: Count = 3,
        num_heads: Count = 16,
        out_dim: Count | None = None,
        visual_cues: bool = True,
        mlp_ratio: Positive = 4.0,
        positions: str = 'sincos_stretched',
        grid: tuple[Count, Count] = (14, 14),
        init: str = 'latent_mim',
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.context_dim, self.out_dim, self.grid = context_dim, out_dim or context_dim, tuple(grid)
        self.visual_cues = visual_cues
        self.embed = nn.Linear(context_dim, embed_dim)
        self.cls_token = nn.Parameter(torch.empty(1, embed_dim))
        self.mask_token = nn.Parameter(torch.zeros(1, embed_dim))
        self.positions = make_positions(positions, embed_dim, num_heads, (grid[0], grid[1]))
        make = make_norm('layer', 1e-6)
        self.blocks = nn.ModuleList(DecoderBlock(embed_dim, num_heads, mlp_ratio, make) for _ in range(depth))
        self.norm = make(embed_dim)
        self.proj = nn.Linear(embed_dim, self.out_dim)
        init_weights(self, init)
        nn.init.normal_(self.cls_token, std=0.02)

    def sizes(self) -> Sizes:
        """Widths and grid."""
        return {
            'width': ('context_dim', self.context_dim),
            'prediction width': ('out_dim', self.out_dim),
            'grid': ('grid', self.grid),
        }

    def inputs(self, context: Context, mask: PatchMask) -> tuple[Tensor, Tensor]:
        """What the first block gets: queries ``[G*T, 1 + M, Dp]`` and the context ``[G*T, E + V, Dp]``."""
        table = self.positions.codes(mask.grid)
        blocks = mask.predict.shape[1]
        seen, asked = table[mask.visible].repeat_interleave(blocks, dim=0), table[mask.predict.flatten(0, 1)]
        tokens = self.embed(torch.cat([context.extra, context.seen(mask)], dim=1)).repeat_interleave(blocks, dim=0)
        extra, patches = tokens.split([context.extra.shape[1], context.visible.shape[1]], dim=1)
        queries = self.positions.add(self.mask_token.expand(asked.shape[0], asked.shape[1], -1), asked)
        if self.visual_cues:
            nearness = (asked @ seen.transpose(1, 2) * asked.shape[-1] ** -0.5).softmax(dim=-1)
            queries = queries + nearness.to(patches.dtype) @ patches
        whole = self.cls_token.expand(queries.shape[0], 1, -1).to(queries.dtype)
        patches = self.positions.add(patches, seen)
        return torch.cat([whole, queries], dim=1), torch.cat([extra.to(patches.dtype), patches], dim=1)

    def forward(self, context: Context, mask: PatchMask) -> Prediction:
        """Predict the patches of ``mask.predict``: ``patches [G, T*M, out_dim]``."""
        x, source = self.inputs(context, mask)
        for block in self.blocks:
            x = block(x, source)
        patches = self.proj(self.norm(x[:, 1:]))
        return Prediction(patches=patches.reshape(mask.predict.shape[0], -1, self.out_dim))
