"""The decoder of BootMAE."""

import torch
from torch import Tensor, nn

from mmmim.models import Neck
from mmmim.models.interfaces import Sizes
from mmmim.models.layers import DecoderBlock, init_weights, last_block, make_norm, make_positions
from mmmim.registry import MODELS
from mmmim.structures import Context, PatchMask, Prediction


@MODELS.register_module()
class FeatureInjectionDecoder(Neck):
    """Blocks that read a state of the encoder, injected by cross-attention (BootMAE, arXiv 2207.07116).

    Encoded tokens and mask tokens attend to each other and then to the output of one block of the encoder at the
    visible patches. Where that is at hand in every block, the encoder need not carry it to its end: the first block for
    pixels, the last one for features. Target blocks are predicted apart from each other.

    Args:
        context_dim: Width D of the encoder.
        embed_dim: Width Dp of the decoder.
        depth: Number of blocks.
        num_heads: Attention heads.
        out_dim: Width of the predictions; None for D.
        layer: Block of the encoder whose output is injected, counted from 0; a negative one from the end.
        mlp_ratio: Hidden width of the MLPs over Dp.
        grid: ``(h, w)`` in patches of training.
        init_cfg: mmengine's.
    """

    def __init__(
        self,
        context_dim: int = 768,
        embed_dim: int = 512,
        depth: int = 2,
        num_heads: int = 16,
        out_dim: int | None = None,
        layer: int = -1,
        mlp_ratio: float = 4.0,
        grid: tuple[int, int] = (14, 14),
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.context_dim, self.out_dim, self.grid = context_dim, out_dim or context_dim, tuple(grid)
        self.layers = (layer,)
        self.embed = nn.Linear(context_dim, embed_dim)
        self.inject = nn.Linear(context_dim, embed_dim)
        self.mask_token = nn.Parameter(torch.empty(1, embed_dim))
        self.positions = make_positions('sincos', embed_dim, num_heads, (grid[0], grid[1]))
        make = make_norm('layer', 1e-6)
        self.blocks = nn.ModuleList(DecoderBlock(embed_dim, num_heads, mlp_ratio, make) for _ in range(depth))
        self.norm = make(embed_dim)
        self.proj = nn.Linear(embed_dim, self.out_dim)
        init_weights(self, 'mae')
        nn.init.normal_(self.mask_token, std=0.02)

    def sizes(self) -> Sizes:
        """Widths and grid."""
        return {
            'width': ('context_dim', self.context_dim),
            'prediction width': ('out_dim', self.out_dim),
            'grid': ('grid', self.grid),
        }

    def inputs(self, context: Context, mask: PatchMask) -> tuple[Tensor, Tensor]:
        """What the first block gets.

        Args:
            context: Of the encoder, with one state in ``hidden``.
            mask: The masks.

        Returns:
            Extra, visible and mask tokens ``[G*T, E + V + M, Dp]``, and the injected state ``[G*T, E + V, Dp]``.
        """
        table, blocks = self.positions.codes(mask.grid), mask.predict.shape[1]
        asked = table[mask.predict.flatten(0, 1)]
        visible = self.positions.add(self.embed(context.visible), table[mask.visible])
        known = torch.cat([self.embed(context.extra).to(visible.dtype), visible], dim=1)
        queries = self.positions.add(self.mask_token.expand(*asked.shape[:2], -1), asked)
        x = torch.cat([known.repeat_interleave(blocks, dim=0), queries], dim=1)
        return x, self.inject(context.hidden[0]).repeat_interleave(blocks, dim=0)

    def forward(self, context: Context, mask: PatchMask) -> Prediction:
        """Predict the patches of ``mask.predict``: ``patches [G, T*M, out_dim]``."""
        x, injected = self.inputs(context, mask)
        for block in self.blocks[:-1]:
            x = block(x, injected)
        asked = torch.arange(x.shape[1] - mask.predict.shape[-1], x.shape[1], device=x.device)
        patches = self.proj(self.norm(last_block(self.blocks[-1], x, injected, tokens=asked.unsqueeze(0))))
        return Prediction(patches=patches.reshape(len(mask.predict), -1, self.out_dim))
