"""Proxy reconstruction: mask tokens that know an image only by its proxies (SemanticMIM)."""

import torch
from torch import Tensor, nn

from mmmim.registry import MODELS
from mmmim.structures import Context, PatchMask, Prediction
from mmmim.utils import InputError
from mmmim.utils.options import Count, DropRate, Number, Positive

from ..interfaces import Neck, Sizes
from ..layers import AxialRoPE, Block, drop_path_rates, head_width, init_weights, make_norm
from ..layers.rope import Rotation


class ProxyBlock(Block):
    """Mask tokens attend to proxies and to each other (SemanticMIM, arXiv 2406.10673, equation 4).

    Unlike in other cross-attention one norm serves queries, keys and values. Arguments of :class:`Block`; the context
    are the proxies alone, and ``context_rotation`` is that of proxies and mask tokens.
    """

    def _attend(
        self,
        x: Tensor,
        rotation: Rotation | None,
        context: Tensor | None,
        context_rotation: Rotation | None,
        bias: Tensor | None = None,
    ) -> Tensor:
        assert context is not None
        source = self.norm1(torch.cat([context, x], dim=1))
        return self.scale1(self.attn(source[:, context.shape[1] :], rotation, source, context_rotation, bias))


@MODELS.register_module()
class ProxyReconstruction(Neck):
    """A chain of blocks beside the encoder's, one for each (SemanticMIM, arXiv 2406.10673, equations 3 and 4).

    Mask tokens attend to the encoder's extra tokens, the proxies, as they leave the encoder's block of the same index,
    and to each other: never to image tokens, which in turn never see mask tokens. All that predictions know of the
    image has therefore passed through the proxies. Target blocks are predicted apart from each other.

    A mask token starts as one learned vector with the encoder's own position code of its patch. The final norm is part
    of the neck, since predictions alone would train it: give the encoder ``final_norm=False``, or one without weights.

    Args:
        context_dim: Width D of the encoder, and of the neck.
        depth: Number of blocks, that of the encoder.
        num_heads: Number of attention heads.
        out_dim: Width of a last linear layer, e.g. the number of tokens; None: D, without one.
        mlp_ratio: Hidden width of the MLPs over D.
        positions: How the encoder's position codes are used. 'added': they are vectors, added to the mask tokens.
            'rope': they are coordinates, which turn queries and keys; proxies have those of the encoder's extra tokens.
        norm: 'layer' or 'rms'.
        norm_eps: Added to the variance or mean square in every norm.
        final_affine: Whether the final norm has weights.
        bias: Whether linear layers other than those of queries, keys and values have a bias.
        qkv_bias: Whether those have one; 'qv': those of queries and values.
        layer_scale: First value of learned factors of residual branches (BEiT); None for no factors.
        init: How linear layers are initialised, see :func:`mmmim.models.layers.init_weights`.
        drop_path_rate: Stochastic depth, the same in every block, or ``(first, last)`` with equal steps between.
        init_cfg: mmengine's initialisation config; None for none.
    """

    reads = 'extra'

    def __init__(
        self,
        context_dim: Count = 768,
        depth: Count = 12,
        num_heads: Count = 12,
        out_dim: Count | None = None,
        mlp_ratio: Positive = 4.0,
        positions: str = 'added',
        norm: str = 'layer',
        norm_eps: Positive = 1e-6,
        final_affine: bool = True,
        bias: bool = True,
        qkv_bias: bool | str = True,
        layer_scale: Number | None = None,
        init: str = 'trunc_normal',
        drop_path_rate: DropRate = 0.0,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if positions not in ('added', 'rope'):
            raise InputError(f"ProxyReconstruction.positions must be 'added' or 'rope', got {positions!r}.")
        #: Blocks of the encoder whose states are read: all.
        self.layers = range(depth)
        self.context_dim, self.depth, self.out_dim = context_dim, depth, out_dim or context_dim
        self.mask_token = nn.Parameter(torch.empty(1, context_dim))
        self.rope = AxialRoPE(head_width(context_dim, num_heads)) if positions == 'rope' else None
        make = make_norm(norm, norm_eps)
        self.blocks = nn.ModuleList(
            ProxyBlock(context_dim, num_heads, context_dim, mlp_ratio, rate, make, bias, qkv_bias, layer_scale)
            for rate in drop_path_rates(drop_path_rate, depth)
        )
        self.norm = make(context_dim, affine=final_affine)
        self.proj = nn.Identity() if out_dim is None else nn.Linear(context_dim, out_dim)
        init_weights(self, init)
        nn.init.normal_(self.mask_token, std=0.02)

    def sizes(self) -> Sizes:
        """Widths, and the depth of the encoder."""
        return {
            'width': ('context_dim', self.context_dim),
            'prediction width': ('out_dim', self.out_dim),
            'depth': ('depth', self.depth),
        }

    def _start(self, context: Context, mask: PatchMask) -> tuple[Tensor, Rotation | None, Rotation | None]:
        """Mask tokens ``[G*T, M, D]`` of the first block, their rotation, and that of proxies and mask tokens.

        Raises:
            InputError: The encoder has no proxies, or its position codes are of the other kind.
        """
        number, dim = context.extra.shape[1:]
        if not number:
            raise InputError('ProxyReconstruction needs an encoder with proxies: set model.backbone.num_cls_tokens.')
        asked = context.positions(mask.predict.flatten(0, 1))
        if asked.shape[-1] != (dim if self.rope is None else 2):
            raise InputError(
                "ProxyReconstruction.positions must be 'rope' if model.backbone.positions is, and 'added' if not."
            )
        tokens = self.mask_token.expand(asked.shape[0], asked.shape[1], -1)
        if self.rope is None:
            return tokens.to(asked.dtype) + asked, None, None
        proxies = self.rope.extra_codes(number, context.positions(mask.visible))
        proxies = proxies.repeat_interleave(mask.predict.shape[1], dim=0)
        # A tensor of its own, not one row seen many times: compiled, the first block would need a graph for itself.
        tokens = self.rope.add(tokens, asked).contiguous()
        return tokens, self.rope.rotation(asked), self.rope.rotation(torch.cat([proxies, asked], dim=1))

    def forward(self, context: Context, mask: PatchMask) -> Prediction:
        """Predict the patches of ``mask.predict``.

        Args:
            context: Output of the encoder, with the states of all of its blocks in ``hidden``.
            mask: What is predicted.

        Returns:
            ``patches [G, T*M, out_dim or D]``.

        Raises:
            InputError: The encoder has no proxies, or its position codes are of the other kind.
        """
        x, rotation, source_rotation = self._start(context, mask)
        number, blocks = context.extra.shape[1], mask.predict.shape[1]
        for block, state in zip(self.blocks, context.hidden, strict=True):
            proxies = state[:, :number].repeat_interleave(blocks, dim=0)
            x = block(x, rotation, proxies, source_rotation)
        patches = self.proj(self.norm(x))
        return Prediction(patches=patches.reshape(mask.num_masks, -1, self.out_dim))
