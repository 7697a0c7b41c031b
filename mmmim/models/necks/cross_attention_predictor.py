"""CAPI's predictor."""

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmmim.registry import MODELS
from mmmim.structures import Context, PatchMask, Prediction

from ..layers import AxialRoPE, Block, RMSNorm, head_width, init_linear_layers


@MODELS.register_module()
class CrossAttentionPredictor(BaseModule):
    """Mask tokens attend to the encoder's output, never to each other (CAPI, arXiv 2502.08769).

    Each prediction is therefore independent of the others, and any number of positions can be asked for.

    Args:
        context_dim: Width D of the encoder.
        embed_dim: Width Dp of the predictor.
        depth: Number of blocks.
        num_heads: Attention heads.
        mlp_ratio: Hidden width of the MLPs over Dp.
        drop_path_rate: Stochastic depth, the same in every block.
        max_freq: Highest rotary frequency in turns per image side.
        min_freq: Lowest rotary frequency.
        init_cfg: mmengine's.
    """

    def __init__(
        self,
        context_dim: int = 1024,
        embed_dim: int = 1024,
        depth: int = 12,
        num_heads: int = 16,
        mlp_ratio: float = 4.0,
        drop_path_rate: float = 0.0,
        max_freq: float = 7.0,
        min_freq: float = 7e-4,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.context_dim, self.embed_dim = context_dim, embed_dim
        self.mask_token = nn.Parameter(torch.empty(1, embed_dim))
        self.rope = AxialRoPE(head_width(embed_dim, num_heads), max_freq, min_freq)
        self.blocks = nn.ModuleList(
            Block(embed_dim, num_heads, context_dim, mlp_ratio, drop_path_rate) for _ in range(depth)
        )
        self.norm = RMSNorm(embed_dim, affine=False)
        init_linear_layers(self.blocks)
        nn.init.normal_(self.mask_token, std=0.02)

    def _predict(self, context: Context, positions: Tensor, depth: int | None = None) -> Tensor:
        """Predict at coordinates ``[G, M, 2]`` with the first ``depth`` blocks: ``[G, M, Dp]``."""
        source = torch.cat([context.extra, context.visible], dim=1)
        seen = context.visible_positions
        if context.extra_positions is not None:
            seen = torch.cat([context.extra_positions, seen], dim=1)
        rotation, source_rotation = self.rope(positions), self.rope(seen)
        x = self.mask_token.expand(positions.shape[0], positions.shape[1], -1)
        for block in self.blocks[:depth]:
            x = block(x, rotation, source, source_rotation)
        return self.norm(x)

    def forward(self, context: Context, mask: PatchMask) -> Prediction:
        """Predict the patches of ``mask.predict``: ``patches [G, T*M, Dp]``."""
        return Prediction(patches=self._predict(context, context.positions(mask.flat_predict())))

    def global_feature(self, context: Context) -> Tensor:
        """Predictor pooling (CAPI, table 5): the first block asked for every position, averaged.

        Args:
            context: Of whole images: ``visible [B, N, D]``.

        Returns:
            ``[B, Dp]``.
        """
        return self._predict(context, context.visible_positions, depth=1).mean(dim=1)
