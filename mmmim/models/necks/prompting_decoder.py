"""MILAN's decoder, in which what the encoder has seen stays as it is."""

from typing import Any

import torch
from torch import Tensor, nn

from mmmim.registry import MODELS
from mmmim.structures import Context, PatchMask, Prediction
from mmmim.structures.patch_mask import gather_patches
from mmmim.utils.options import Count, Positive

from ..interfaces import Neck, Sizes
from ..layers import Block, init_weights, make_norm, make_positions


class PromptedBlock(Block):
    """A block whose tokens attend to each other, after a norm, and to a context as it is, which it does not change."""

    def _attend(
        self, x: Tensor, rotation: Any, context: Tensor | None, context_rotation: Any, bias: Tensor | None = None
    ) -> Tensor:
        normed = self.norm1(x)
        source = normed if context is None else torch.cat([context, normed], dim=1)
        return self.scale1(self.attn(normed, rotation, source, context_rotation, bias))


@MODELS.register_module()
class PromptingDecoder(Neck):
    """Mask tokens attend to themselves and to the encoder's tokens, which no block changes (MILAN, arXiv 2208.06049).

    Every block updates the mask tokens of all hidden patches: queries come from them after a norm, keys and values from
    the same and from the encoder's tokens, which have no norm. Predictions of visible patches and of the CLS token are
    what the last norm and the last linear layer make of the encoder's tokens.

    Args:
        context_dim: Width D of the encoder.
        embed_dim: Width Dp of the decoder.
        depth: Number of blocks.
        num_heads: Number of attention heads.
        out_dim: Width of the predictions.
        mlp_ratio: Hidden width of the MLPs over Dp.
        grid: ``(h, w)`` in patches of training.
        predict_cls: Whether to predict the first extra token too.
        init: How weights are initialised, see :func:`mmmim.models.layers.init_weights`.
        init_cfg: mmengine's initialisation config; None for none.
    """

    def __init__(
        self,
        context_dim: Count = 768,
        embed_dim: Count = 512,
        depth: Count = 8,
        num_heads: Count = 16,
        out_dim: Count = 512,
        mlp_ratio: Positive = 4.0,
        grid: tuple[Count, Count] = (14, 14),
        predict_cls: bool = False,
        init: str = 'mae',
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.context_dim, self.out_dim, self.grid = context_dim, out_dim, tuple(grid)
        self.predict_cls = predict_cls
        self.embed = nn.Linear(context_dim, embed_dim)
        self.mask_token = nn.Parameter(torch.empty(1, embed_dim))
        self.positions = make_positions('sincos', embed_dim, num_heads, (grid[0], grid[1]))
        make = make_norm('layer', 1e-6)
        self.blocks = nn.ModuleList(
            PromptedBlock(embed_dim, num_heads, embed_dim, mlp_ratio, norm=make, bias=True, qkv_bias=True)
            for _ in range(depth)
        )
        self.norm = make(embed_dim)
        self.proj = nn.Linear(embed_dim, out_dim)
        init_weights(self, init)
        nn.init.normal_(self.mask_token, std=0.02)

    def sizes(self) -> Sizes:
        """Widths and grid."""
        return {
            'width': ('context_dim', self.context_dim),
            'prediction width': ('out_dim', self.out_dim),
            'grid': ('grid', self.grid),
        }

    def forward(self, context: Context, mask: PatchMask) -> Prediction:
        """Predict the patches of ``mask.predict``, hidden or visible.

        Args:
            context: Output of the encoder for the visible patches.
            mask: What is visible and what is predicted.

        Returns:
            ``patches [G, T*M, out_dim]`` and, if asked for, ``cls [G, out_dim]``.
        """
        extra = context.extra.shape[1]
        codes = self.positions.codes(mask.grid)
        tokens: Tensor = self.embed(torch.cat([context.extra, context.seen(mask)], dim=1))
        seen = self.positions.add(tokens[:, extra:], codes[mask.visible])
        fixed = torch.cat([tokens[:, :extra].to(seen.dtype), seen], dim=1)
        asked = codes[mask.hidden]
        x = self.positions.add(self.mask_token.expand(*asked.shape[:2], -1), asked)
        for block in self.blocks:
            x = block(x, None, fixed)
        # Where patches lie in `fixed` and `x`, one behind the other.
        place = torch.cat([mask.visible, mask.hidden], dim=1).argsort(dim=1)
        states = torch.cat([fixed[:, extra:], x], dim=1)
        picked = gather_patches(states, place.gather(1, mask.flat_predict()))
        if not self.predict_cls:
            return Prediction(patches=self.proj(self.norm(picked)))
        predicted = self.proj(self.norm(torch.cat([fixed[:, :1], picked], dim=1)))
        return Prediction(patches=predicted[:, 1:], cls=predicted[:, 0])
