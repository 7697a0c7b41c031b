"""Predictors: Transformers that turn encoded patches into predictions of the others."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from mmmim.registry import MODELS
from mmmim.structures import Context, PatchMask, Prediction
from mmmim.utils import InputError
from mmmim.utils.options import Count, DropRate, Natural, Positive

from ..interfaces import Neck, PoolingNeck, Sizes
from ..layers import Block, drop_path_rates, init_weights, last_block, make_norm, make_positions


@MODELS.register_module()
class CrossAttentionPredictor(PoolingNeck):
    """Mask tokens attend to the encoder's output, never to each other (CAPI, arXiv 2502.08769).

    Each prediction is therefore independent of the others, and any number of positions can be asked for. The defaults
    are CAPI's: rotary positions, RMSNorm, no biases.

    Args:
        context_dim: Width D of the encoder.
        embed_dim: Width Dp of the predictor.
        depth: Number of blocks.
        num_heads: Number of attention heads.
        mlp_ratio: Hidden width of the MLPs over Dp.
        positions: 'rope', 'sincos' or 'learnable'. Vectors are added to the mask tokens; what the encoder returns
            carries the encoder's own.
        grid: ``(h, w)`` in patches of training, for positions that are added.
        norm: 'layer' or 'rms'.
        norm_eps: Added to the variance or mean square in every norm.
        final_affine: Whether the final norm has weights.
        bias: Whether linear layers other than those of queries, keys and values have a bias.
        qkv_bias: Whether those have one.
        init: How linear layers are initialised, see :func:`mmmim.models.layers.init_weights`.
        drop_path_rate: Stochastic depth, the same in every block, or ``(first, last)`` with equal steps between.
        init_cfg: mmengine's initialisation config; None for none.
    """

    def __init__(
        self,
        context_dim: Count = 1024,
        embed_dim: Count = 1024,
        depth: Count = 12,
        num_heads: Count = 16,
        mlp_ratio: Positive = 4.0,
        positions: str = 'rope',
        grid: tuple[Count, Count] = (16, 16),
        norm: str = 'rms',
        norm_eps: Positive = 1e-5,
        final_affine: bool = False,
        bias: bool = False,
        qkv_bias: bool = False,
        init: str = 'capi',
        drop_path_rate: DropRate = 0.0,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.context_dim, self.out_dim = context_dim, embed_dim
        self.grid = None if positions == 'rope' else tuple(grid)
        self.mask_token = nn.Parameter(torch.empty(1, embed_dim))
        self.positions = make_positions(positions, embed_dim, num_heads, (grid[0], grid[1]))
        make = make_norm(norm, norm_eps)
        self.blocks = nn.ModuleList(
            Block(embed_dim, num_heads, context_dim, mlp_ratio, rate, make, bias, qkv_bias)
            for rate in drop_path_rates(drop_path_rate, depth)
        )
        self.norm = make(embed_dim, affine=final_affine)
        init_weights(self.blocks, init)
        nn.init.normal_(self.mask_token, std=0.02)

    def sizes(self) -> Sizes:
        """Widths, and the grid of positions that are added."""
        return {
            'width': ('context_dim', self.context_dim),
            'prediction width': ('out_dim', self.out_dim),
            'grid': ('grid', self.grid),
        }

    def _predict(self, context: Context, seen: Tensor, asked: Tensor, depth: int | None = None) -> Tensor:
        """Predict with the first ``depth`` blocks.

        Args:
            context: Output of the encoder.
            seen: Position codes of ``context.visible``, ``[G or 1, V, P]``.
            asked: Position codes of the predictions, ``[G or 1, M, P]``.
            depth: None for all blocks.

        Returns:
            ``[G, M, Dp]``.
        """
        source = torch.cat([context.extra, context.visible], dim=1)
        extra = self.positions.extra_codes(context.extra.shape[1], seen)
        source_rotation = self.positions.rotation(seen if extra is None else torch.cat([extra, seen], dim=1))
        rotation = self.positions.rotation(asked)
        # A tensor of its own, not one row seen many times: compiled, the first block would need a graph for itself.
        # `shape[0]`, since tracing and export take `len` for a constant.
        x = self.positions.add(self.mask_token.expand(source.shape[0], asked.shape[1], -1), asked).contiguous()
        for block in self.blocks[:depth]:
            x = block(x, rotation, source, source_rotation)
        return self.norm(x)

    def forward(self, context: Context, mask: PatchMask) -> Prediction:
        """Predict the patches of ``mask.predict``: ``patches [G, T*M, Dp]``."""
        context.seen(mask)
        codes = self.positions.codes(mask.grid)
        return Prediction(patches=self._predict(context, codes[mask.visible], codes[mask.flat_predict()]))

    def global_feature(self, context: Context) -> Tensor:
        """Predictor pooling (CAPI, table 5): the first block asked for every position, averaged.

        Args:
            context: Output of the encoder for whole images: ``visible [B, N, D]``.

        Returns:
            ``[B, Dp]``.
        """
        codes = self.positions.codes(context.grid).unsqueeze(0)
        return self._predict(context, codes, codes, depth=1).mean(dim=1)

    def unread(self) -> Iterator[nn.Module | nn.Parameter]:
        """All blocks but the first."""
        yield from self.blocks[1:]


@MODELS.register_module()
class SelfAttentionPredictor(Neck):
    """Encoded tokens and mask tokens attend to each other (MAE, arXiv 2111.06377; I-JEPA).

    Only the patches of ``mask.predict`` have mask tokens: where these are all masked patches, as in MAE, the sequence
    is the whole image. Target blocks are predicted apart from each other. The defaults are those of MAE's decoder.

    Args:
        context_dim: Width D of the encoder.
        embed_dim: Width Dp of the predictor.
        depth: Number of blocks.
        num_heads: Number of attention heads.
        out_dim: Width of the predictions, e.g. ``3 * patch_size**2`` for pixels; None: Dp, without a last linear layer.
        mlp_ratio: Hidden width of the MLPs over Dp.
        positions: 'rope', 'sincos' or 'learnable'.
        grid: ``(h, w)`` in patches of training, for positions that are added.
        num_extra_positions: Number of the encoder's extra tokens, where these have a learned position vector each.
        predict_cls: Whether to predict the first extra token too; for one target block.
        norm: 'layer' or 'rms'.
        norm_eps: Added to the variance or mean square in every norm.
        final_norm: Whether there is a norm after the last block.
        final_affine: Whether it has weights.
        bias: Whether linear layers other than those of queries, keys and values have a bias.
        qkv_bias: Whether those have one.
        init: How linear layers are initialised, see :func:`mmmim.models.layers.init_weights`.
        drop_path_rate: Stochastic depth, the same in every block, or ``(first, last)`` with equal steps between.
        init_cfg: mmengine's initialisation config; None for none.
    """

    def __init__(
        self,
        context_dim: Count = 768,
        embed_dim: Count = 512,
        depth: Count = 8,
        num_heads: Count = 16,
        out_dim: Count | None = None,
        mlp_ratio: Positive = 4.0,
        positions: str = 'sincos',
        grid: tuple[Count, Count] = (14, 14),
        num_extra_positions: Natural = 0,
        predict_cls: bool = False,
        norm: str = 'layer',
        norm_eps: Positive = 1e-6,
        final_norm: bool = True,
        final_affine: bool = True,
        bias: bool = True,
        qkv_bias: bool = True,
        init: str = 'mae',
        drop_path_rate: DropRate = 0.0,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.context_dim, self.out_dim = context_dim, out_dim or embed_dim
        self.grid = None if positions == 'rope' else tuple(grid)
        self.embed = nn.Linear(context_dim, embed_dim, bias=bias)
        self.mask_token = nn.Parameter(torch.empty(1, embed_dim))
        self.positions = make_positions(positions, embed_dim, num_heads, (grid[0], grid[1]), num_extra_positions)
        self.num_extra_positions, self.predict_cls = num_extra_positions or None, predict_cls
        make = make_norm(norm, norm_eps)
        self.blocks = nn.ModuleList(
            Block(embed_dim, num_heads, None, mlp_ratio, rate, make, bias, qkv_bias)
            for rate in drop_path_rates(drop_path_rate, depth)
        )
        self.norm = make(embed_dim, affine=final_affine) if final_norm else nn.Identity()
        self.proj = nn.Identity() if out_dim is None else nn.Linear(embed_dim, out_dim, bias=bias)
        init_weights(self, init)
        nn.init.normal_(self.mask_token, std=0.02)

    def sizes(self) -> Sizes:
        """Widths, the grid of positions that are added, and extra tokens that have positions."""
        return {
            'width': ('context_dim', self.context_dim),
            'prediction width': ('out_dim', self.out_dim),
            'grid': ('grid', self.grid),
            'extra tokens': ('num_extra_positions', self.num_extra_positions),
        }

    def forward(self, context: Context, mask: PatchMask) -> Prediction:
        """Predict the patches of ``mask.predict``.

        Returns:
            ``patches [G, T*M, out_dim or Dp]`` and, with ``predict_cls``, ``cls [G, out_dim or Dp]``.

        Raises:
            InputError: CLS is to be predicted, and the encoder has none or masks have several target blocks.
        """
        positions = self.positions
        table = positions.codes(mask.grid)
        masks, blocks, predicted = mask.predict.shape
        number = context.extra.shape[1]
        whole_image = context.num_cls_tokens
        if self.predict_cls and (blocks > 1 or not whole_image):
            raise InputError(
                'SelfAttentionPredictor.predict_cls needs an encoder with a CLS token (num_cls_tokens) and one target '
                f'block per mask, there are {whole_image} tokens and {blocks} blocks.'
            )
        seen, asked = table[mask.visible], table[mask.predict.flatten(0, 1)]
        extra = positions.extra_codes(number, seen)
        known = positions.add(self.embed(context.seen(mask)), seen)
        whole = positions.add_extra(self.embed(context.extra)).to(known.dtype)
        known = torch.cat([whole, known], dim=1).repeat_interleave(blocks, dim=0)
        queries = positions.add(self.mask_token.expand(asked.shape[0], predicted, -1), asked)
        x = torch.cat([known, queries], dim=1)
        codes = (seen if extra is None else torch.cat([extra, seen], dim=1)).repeat_interleave(blocks, dim=0)
        rotation = positions.rotation(torch.cat([codes, asked], dim=1))
        for block in self.blocks[:-1]:
            x = block(x, rotation)
        read = torch.arange(known.shape[1], x.shape[1], device=x.device)
        if self.predict_cls:
            read = torch.cat([read, read.new_zeros(1)])
        x = last_block(self.blocks[-1], x, rotation, tokens=read.unsqueeze(0))
        x = self.proj(self.norm(x))
        patches = x[:, :predicted]
        return Prediction(
            patches=patches.reshape(masks, blocks * predicted, patches.shape[-1]),
            cls=x[:, predicted] if self.predict_cls else None,
        )


@MODELS.register_module()
class PickPredicted(Neck):
    """The encoder's own output at the predicted patches, for encoders that see mask tokens (BEiT, data2vec).

    Nothing else is read, so that the encoder's last block runs for these patches only.

    Args:
        context_dim: Width D of the encoder.
        out_dim: Width of a last linear layer; None: D, without one.
        init: How the last layer is initialised, see :func:`mmmim.models.layers.init_weights`.
        init_cfg: mmengine's initialisation config; None for none.
    """

    reads = 'predicted'

    def __init__(
        self, context_dim: Count = 768, out_dim: Count | None = None, init: str = 'mae', init_cfg: dict | None = None
    ) -> None:
        super().__init__(init_cfg)
        self.context_dim, self.out_dim = context_dim, out_dim or context_dim
        self.proj = nn.Identity() if out_dim is None else nn.Linear(context_dim, out_dim)
        init_weights(self, init)

    def sizes(self) -> Sizes:
        """Widths of the encoder and of the predictions."""
        return {
            'width': ('context_dim', self.context_dim),
            'prediction width': ('out_dim', self.out_dim),
        }

    def forward(self, context: Context, mask: PatchMask) -> Prediction:
        """Pick the patches of ``mask.predict``: ``patches [G, T*M, out_dim or D]``."""
        return Prediction(patches=self.proj(context.predicted(mask)))
