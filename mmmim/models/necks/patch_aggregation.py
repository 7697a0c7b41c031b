"""Predictions from the last block, and from CLS with an earlier block's patches (BEiT v2)."""

import math

import torch
from torch import nn

from mmmim.registry import MODELS
from mmmim.structures import Context, PatchMask, Prediction
from mmmim.utils import InputError
from mmmim.utils.options import Count, DropRate, Natural, Number, Positive

from ..interfaces import Neck, Sizes
from ..layers import Block, drop_path_rates, init_weights, last_block, make_norm


@MODELS.register_module()
class PatchAggregation(Neck):
    """What CLS gathers of an image helps an earlier block to predict (BEiT v2, arXiv 2208.06366).

    The patches of the encoder's last block are predicted as in :class:`PickPredicted`. Beside that, CLS of the last
    block and the patches of an earlier one pass through a few more blocks, with the positions of the encoder's own,
    and the same norm, the encoder's final one, and the same linear layer predict from these. The earlier block lacks
    what the blocks after it would have gathered, so CLS has to bring it. The blocks are thrown away afterwards.

    Args:
        context_dim: Width D of the encoder.
        out_dim: Width of the predictions, e.g. the number of tokens.
        early_layer: Block of the encoder, from 0, whose patches meet CLS of the last one.
        depth: Number of blocks of the neck.
        num_heads: Number of attention heads, that of the encoder.
        mlp_ratio: Hidden width of the MLPs over D.
        norm_eps: Added to the variance in the norms of the blocks.
        layer_scale: First value of learned factors of residual branches; None for no factors.
        init: How the linear layer is initialised, see :func:`mmmim.models.layers.init_weights`. The blocks have
            PyTorch's default, as in the released code, zero biases of queries and values, and the last weights of both
            branches divided by the square root of twice the number that the block would have in the encoder.
        drop_path_rate: Stochastic depth, the same in every block, or ``(first, last)`` with equal steps between.
        init_cfg: mmengine's initialisation config; None for none.
    """

    reads = 'predicted'

    def __init__(
        self,
        context_dim: Count = 768,
        out_dim: Count = 8192,
        early_layer: Natural = 8,
        depth: Count = 2,
        num_heads: Count = 12,
        mlp_ratio: Positive = 4.0,
        norm_eps: Positive = 1e-6,
        layer_scale: Number | None = 0.1,
        init: str = 'beit',
        drop_path_rate: DropRate = 0.0,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.context_dim, self.out_dim = context_dim, out_dim
        #: Blocks of the encoder whose states are read.
        self.layers = (early_layer, -1)
        make = make_norm('layer', norm_eps)
        self.blocks = nn.ModuleList(
            Block(context_dim, num_heads, None, mlp_ratio, rate, make, True, 'qv', layer_scale)
            for rate in drop_path_rates(drop_path_rate, depth)
        )
        self.proj = nn.Linear(context_dim, out_dim)
        init_weights(self.proj, init)
        for number, block in enumerate(self.blocks, start=early_layer + 2):
            for part in (block.attn.q_proj, block.attn.v_proj):
                nn.init.zeros_(part.bias)
            for last in (block.attn.proj, block.mlp.fc2):
                last.weight.data /= math.sqrt(2 * number)

    def sizes(self) -> Sizes:
        """Widths of the encoder and of the predictions."""
        return {
            'width': ('context_dim', self.context_dim),
            'prediction width': ('out_dim', self.out_dim),
        }

    def forward(self, context: Context, mask: PatchMask) -> Prediction:
        """Predict the patches of ``mask.predict`` twice.

        Args:
            context: Output of the encoder, with the states of ``early_layer`` and the last block in ``hidden``.
            mask: What is predicted.

        Returns:
            ``patches [G, T*M, out_dim]`` from the last block, and ``early`` of the same shape from the earlier one.

        Raises:
            InputError: The encoder has no CLS, does not give what its blocks get or its final norm, or
                ``early_layer`` is its last block.
        """
        number = context.extra.shape[1]
        early, last = context.hidden
        if not context.num_cls_tokens:
            raise InputError('PatchAggregation needs an encoder with CLS: set model.backbone.num_cls_tokens=1.')
        if context.normed is None or context.block_inputs is None:
            raise InputError(
                'PatchAggregation needs an encoder that gives its final norm and what its blocks get beside tokens '
                '(Context.normed, Context.block_inputs), as mmmim.ViT does.'
            )
        if early.shape[1] != number + context.grid[0] * context.grid[1]:
            raise InputError(
                'PatchAggregation.early_layer must be a block before the last one of an encoder that sees mask tokens '
                '(model.backbone.fused=True).'
            )
        x = torch.cat([last[:, :number], early[:, number:]], dim=1)
        for block in self.blocks[:-1]:
            x = block(x, **context.block_inputs)
        asked = number + mask.flat_predict()
        x = last_block(self.blocks[-1], x, tokens=asked, **context.block_inputs)
        return Prediction(patches=self.proj(context.predicted(mask)), early=self.proj(context.normed(x)))
