"""Necks that read a mixture of the encoder's states: CrossMAE's decoder, and MFF's fusion before any other neck."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

import torch
from torch import Tensor, nn

from mmmim.registry import MODELS
from mmmim.structures import Context, PatchMask, Prediction
from mmmim.utils import InputError
from mmmim.utils.options import Count, DropRate, Members, Positive

from ..interfaces import Neck, Sizes, check_part
from ..layers import Block, drop_path_rates, init_weights, make_norm, make_positions, mix_states

#: Blocks of the encoder, at least one.
Layers = Annotated[Sequence[int], Members()]


@MODELS.register_module()
class InterBlockDecoder(Neck):
    """Cross-attention, in which every block reads a learned mixture of the encoder's states (CrossMAE).

    Mask tokens attend to the visible tokens and never to each other, so that any part of the masked patches can be
    asked for (arXiv 2401.14391). Block j reads ``sum_k W[j, k] state_k`` after a norm of its own; the states are those
    of blocks of the encoder, before its final norm, and its embedded input. Give the encoder ``final_norm=False``:
    nothing here would train that norm.

    Args:
        context_dim: Width D of the encoder.
        embed_dim: Width Dp of the decoder.
        depth: Number of blocks.
        num_heads: Number of attention heads.
        out_dim: Width of the predictions, e.g. ``3 * patch_size**2`` for pixels; None: Dp, without a last linear layer.
        layers: Blocks of the encoder whose states are mixed, negative ones from the end.
        embedded: Whether the encoder's input, patches with positions and CLS, is among the states, as the first.
        mlp_ratio: Hidden width of the MLPs over Dp.
        positions: 'sincos', 'sincos_stretched' or 'learnable': vectors, added to the mask tokens.
        grid: ``(h, w)`` in patches of training.
        norm_eps: Added to the variance in every norm.
        init: How linear layers are initialised, see :func:`mmmim.models.layers.init_weights`; weights of mixtures start
            normal, with a variance of one over their number.
        drop_path_rate: Stochastic depth, the same in every block, or ``(first, last)`` with equal steps between.
        init_cfg: mmengine's initialisation config; None for none.

    Raises:
        InputError: Positions that are no vectors.
    """

    def __init__(
        self,
        context_dim: Count = 768,
        embed_dim: Count = 512,
        depth: Count = 12,
        num_heads: Count = 16,
        out_dim: Count | None = None,
        layers: Layers = tuple(range(12)),
        embedded: bool = True,
        mlp_ratio: Positive = 4.0,
        positions: str = 'sincos',
        grid: tuple[Count, Count] = (14, 14),
        norm_eps: Positive = 1e-6,
        init: str = 'mae',
        drop_path_rate: DropRate = 0.0,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if positions == 'rope':
            # Rotated keys would need coordinates of every state, and the states carry their positions already.
            raise InputError("InterBlockDecoder.positions must be 'sincos', 'sincos_stretched' or 'learnable'.")
        self.context_dim, self.out_dim, self.grid = context_dim, out_dim or embed_dim, tuple(grid)
        #: Blocks of the encoder whose states are read.
        self.layers = tuple(layers)
        self.embedded = embedded
        self.mask_token = nn.Parameter(torch.empty(1, embed_dim))
        self.positions = make_positions(positions, embed_dim, num_heads, (grid[0], grid[1]))
        make = make_norm('layer', norm_eps)
        number = len(self.layers) + embedded
        self.mixture = nn.Parameter(torch.empty(depth, number))
        self.context_norms = nn.ModuleList(make(context_dim) for _ in range(depth))
        self.blocks = nn.ModuleList(
            Block(embed_dim, num_heads, context_dim, mlp_ratio, rate, make, bias=True, qkv_bias=True)
            for rate in drop_path_rates(drop_path_rate, depth)
        )
        self.norm = make(embed_dim)
        self.proj = nn.Identity() if out_dim is None else nn.Linear(embed_dim, out_dim)
        init_weights(self, init)
        nn.init.normal_(self.mask_token, std=0.02)
        nn.init.normal_(self.mixture, std=number**-0.5)

    def sizes(self) -> Sizes:
        """Widths, and the grid of positions."""
        return {
            'width': ('context_dim', self.context_dim),
            'prediction width': ('out_dim', self.out_dim),
            'grid': ('grid', self.grid),
        }

    def _states(self, context: Context) -> tuple[Tensor, ...]:
        """States that are mixed, each ``[G, E + V, D]``.

        Raises:
            InputError: The encoder does not give its embedded input.
        """
        if not self.embedded:
            return context.hidden
        if context.embedded is None:
            raise InputError(
                'InterBlockDecoder.embedded needs an encoder that gives its embedded input (Context.embedded), as '
                'mmmim.ViT does: set embedded=False.'
            )
        return (context.embedded, *context.hidden)

    def forward(self, context: Context, mask: PatchMask) -> Prediction:
        """Predict the patches of ``mask.predict``.

        Args:
            context: Output of the encoder, with the states of ``layers`` in ``hidden``.
            mask: What is predicted.

        Returns:
            ``patches [G, T*M, out_dim or Dp]``.

        Raises:
            InputError: The encoder does not give its embedded input.
        """
        context.seen(mask)
        sources = mix_states(self._states(context), self.mixture)
        asked = self.positions.codes(mask.grid)[mask.flat_predict()]
        # A tensor of its own, not one row seen many times: compiled, the first block would need a graph for itself.
        x = self.positions.add(self.mask_token.expand(*asked.shape[:2], -1), asked).contiguous()
        for block, norm, source in zip(self.blocks, self.context_norms, sources, strict=True):
            x = block(x, None, norm(source))
        return Prediction(patches=self.proj(self.norm(x)))


@MODELS.register_module()
class MultiLevelFusion(Neck):
    """Any neck after a fusion of the encoder's states in the place of its output (MFF, arXiv 2308.00261).

    The neck sees ``sum_k softmax(a)_k P_k(state_k)`` after the encoder's final norm. ``P`` is a linear layer for all
    states but the last; the weights ``a`` start equal. Shallow blocks then need not carry pixels up to the last one.

    Args:
        neck: Config of the neck that predicts, e.g. MAE's decoder.
        context_dim: Width D of the encoder.
        layers: Blocks of the encoder whose states are fused, in this order, negative ones from the end.
        init: How the linear layers are initialised, see :func:`mmmim.models.layers.init_weights`.
        init_cfg: mmengine's initialisation config; None for none.

    Raises:
        InputError: The neck reads states of the encoder itself.
    """

    def __init__(
        self,
        neck: dict,
        context_dim: Count = 768,
        layers: Layers = (0, 2, 4, 6, 8, 11),
        init: str = 'mae',
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.context_dim = context_dim
        #: Blocks of the encoder whose states are read.
        self.layers = tuple(layers)
        self.projections = nn.ModuleList(nn.Linear(context_dim, context_dim) for _ in self.layers[1:])
        init_weights(self.projections, init)
        self.weights = nn.Parameter(torch.ones(len(self.layers)), requires_grad=len(self.layers) > 1)
        self.neck = check_part(MODELS.build(neck), Neck, 'MultiLevelFusion.neck')
        if self.neck.layers:
            raise InputError(
                f'MultiLevelFusion.neck is a {type(self.neck).__name__}, which reads states of the encoder and not its '
                'output: use it without a fusion.'
            )

    def sizes(self) -> Sizes:
        """Those of the neck, and the width of the encoder."""
        inner = {quantity: (f'neck.{option}', value) for quantity, (option, value) in self.neck.sizes().items()}
        return {**inner, 'width': ('context_dim', self.context_dim)}

    def forward(self, context: Context, mask: PatchMask) -> Prediction:
        """Predict the patches of ``mask.predict``.

        Args:
            context: Output of the encoder, with the states of ``layers`` in ``hidden``.
            mask: What is predicted.

        Returns:
            The prediction of the neck.

        Raises:
            InputError: The encoder does not give its final norm.
        """
        if context.normed is None:
            raise InputError(
                'MultiLevelFusion needs an encoder that gives its final norm (Context.normed), as mmmim.ViT does.'
            )
        *before, last = context.hidden
        states = [projection(state) for projection, state in zip(self.projections, before, strict=True)]
        weights = self.weights.softmax(dim=0).unsqueeze(0)
        fused = context.normed(mix_states([*states, last], weights)[0])
        extra, visible = fused.tensor_split([context.extra.shape[1]], dim=1)
        return self.neck(replace(context, extra=extra, visible=visible, hidden=()), mask)
