"""The Vision Transformer of all methods."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from mmmim.models.layers import layer_index, parameter_layer
from mmmim.registry import MODELS
from mmmim.structures import Context, PatchMask
from mmmim.utils import InputError
from mmmim.utils.options import Count, DropRate, Natural, Number, Positive, ShareBelowOne, Size

from ..interfaces import Encoder
from ..layers import (
    Block,
    PatchEmbed,
    Projector,
    StateMean,
    border_coordinates,
    drop_path_rates,
    in_precision_of,
    init_token,
    init_weights,
    last_block,
    make_norm,
    make_positions,
    patch_grid,
)


@MODELS.register_module()
class ViT(Encoder):
    """Vision Transformer that sees only the visible patches, or mask tokens in the place of the others.

    The defaults are MAE's ViT-B/16 (arXiv 2111.06377): fixed positions that are added, LayerNorm and biases. CAPI's
    encoder (arXiv 2502.08769) has rotary positions, registers, RMSNorm and no biases (``configs/_base_/models``).

    Rotary positions turn queries and keys by coordinates that span [0, 1] at every resolution; registers have
    coordinates too, the border of the bounding box of the tokens that the encoder sees. Positions that are added belong
    to patches only, and are interpolated off the training size. Relative ones are a bias
    of attention that all blocks share (BEiT, data2vec). Any image size divisible by the patch size works.

    Args:
        img_size: Side, or (height, width), of training images in pixels.
        patch_size: Side of a patch in pixels.
        embed_dim: Width D of the tokens.
        depth: Number of blocks.
        num_heads: Number of attention heads.
        mlp_ratio: Hidden width of the MLPs over D.
        num_cls_tokens: Learned tokens that stand for the whole image: CLS (1), or proxies.
        num_registers: Learned tokens after those that stand for nothing; with rotary positions, all learned tokens
            together must be a multiple of 4.
        positions: 'rope', 'sincos', 'sincos_stretched', 'learnable' or 'relative_shared', see
            :func:`mmmim.models.layers.make_positions`.
        extra_positions: Whether learned tokens have a learned position vector each too (BEiT).
        fused: Whether a learned mask token stands in the place of every patch that is not visible (BEiT, data2vec),
            instead of leaving these out.
        norm: 'layer' or 'rms'.
        norm_eps: Added to the variance or mean square in every norm.
        final_norm: Whether there is a norm after the last block.
        final_affine: Whether it has weights.
        bias: Whether linear layers other than those of queries, keys and values have a bias.
        qkv_bias: Whether those have one; 'qv': those of queries and values.
        layer_scale: First value of learned factors of residual branches (BEiT); None for no factors.
        projector_dims: Hidden widths of a projector after the final norm, which tokens pass through in pre-training
            (Latent MIM); none by default. Features are those before it.
        init: How weights are initialised, see :func:`mmmim.models.layers.init_weights`.
        drop_path_rate: Stochastic depth, the same in every block, or ``(first, last)`` with equal steps between.
        attn_drop_rate: Share of the attention weights that are 0 in training.
        post_norm: Whether norms of blocks come after the sums of tokens and branches instead of before the branches
            (data2vec 2.0).
        embedding_norm: Whether there is a norm before the first block (data2vec 2.0).
        in_channels: Channels of the images.
        init_cfg: mmengine's initialisation config, e.g. to load weights; None for none.
    """

    def __init__(
        self,
        img_size: Size = 224,
        patch_size: Count = 16,
        embed_dim: Count = 768,
        depth: Count = 12,
        num_heads: Count = 12,
        mlp_ratio: Positive = 4.0,
        num_cls_tokens: Natural = 1,
        num_registers: Natural = 0,
        positions: str = 'sincos',
        extra_positions: bool = False,
        fused: bool = False,
        norm: str = 'layer',
        norm_eps: Positive = 1e-6,
        final_norm: bool = True,
        final_affine: bool = True,
        bias: bool = True,
        qkv_bias: bool | str = True,
        layer_scale: Number | None = None,
        projector_dims: Sequence[Count] = (),
        init: str = 'mae',
        drop_path_rate: DropRate = 0.0,
        attn_drop_rate: ShareBelowOne = 0.0,
        post_norm: bool = False,
        embedding_norm: bool = False,
        in_channels: Count = 3,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.patch_size, self.embed_dim, self.depth, self.in_channels = patch_size, embed_dim, depth, in_channels
        self.num_cls_tokens, self.num_extra_tokens = num_cls_tokens, num_cls_tokens + num_registers
        height, width = (img_size, img_size) if isinstance(img_size, int) else img_size
        self.grid = patch_grid((height, width), patch_size)
        if positions == 'rope':
            border_coordinates(self.num_extra_tokens)  # refuses a number that four sides cannot share
        self.patch_embed = PatchEmbed(patch_size, embed_dim, in_channels)
        self.positions = make_positions(
            positions, embed_dim, num_heads, self.grid, self.num_extra_tokens if extra_positions else 0
        )
        shape = (1, self.num_extra_tokens, embed_dim)
        self.extra_tokens = nn.Parameter(torch.empty(shape)) if self.num_extra_tokens else None
        self.mask_token = nn.Parameter(torch.empty(1, embed_dim)) if fused else None
        make = make_norm(norm, norm_eps)
        self.embedding_norm = make(embed_dim) if embedding_norm else nn.Identity()
        self.blocks = nn.ModuleList(
            Block(
                embed_dim,
                num_heads,
                mlp_ratio=mlp_ratio,
                drop_path=rate,
                norm=make,
                bias=bias,
                qkv_bias=qkv_bias,
                layer_scale=layer_scale,
                attn_drop=attn_drop_rate,
                post_norm=post_norm,
            )
            for rate in drop_path_rates(drop_path_rate, depth)
        )
        self.norm = make(embed_dim, affine=final_affine) if final_norm else nn.Identity()
        self.projector = Projector(embed_dim, projector_dims) if projector_dims else nn.Identity()
        init_weights(self, init)
        for token in (self.extra_tokens, self.mask_token):
            if token is not None:
                init_token(token, init)

    takes_reads = True
    takes_mean = True

    def normed(self, state: Tensor) -> Tensor:
        """The output of a block, ``[G, E + V, D]``, after the final norm."""
        return self.norm(state)

    def unread(self, depth: int | None, final_norm: bool) -> Iterator[nn.Module | nn.Parameter]:
        """Later blocks, the projector and the mask token of pre-training, and the norm if it is not used."""
        if depth is not None:
            yield from self.blocks[depth:]
            yield self.projector
        if self.mask_token is not None:
            yield self.mask_token
        if not final_norm:
            yield self.norm

    def get_layer_depth(self, param_name: str, prefix: str = '') -> tuple[int, int]:
        """Layer of a parameter and their number, in the convention of mmpretrain.

        Args:
            param_name: Name of the parameter.
            prefix: What the names of this encoder's parameters begin with.

        Returns:
            :func:`parameter_layer`, and ``depth + 2``.
        """
        return parameter_layer(param_name, prefix, self.depth), self.depth + 2

    def _read(self, reads: str, mask: PatchMask | None, device: torch.device) -> Tensor | None:
        """Indices ``[G or 1, Q]`` of the tokens that are read; None for all."""
        if reads == 'all':
            return None
        extra = torch.arange(self.num_extra_tokens, device=device).unsqueeze(0)
        if reads == 'extra':
            return extra
        if mask is None or self.mask_token is None:
            raise InputError(
                'Predicted patches are tokens of an encoder with mask tokens only: set model.backbone.fused=True, or '
                'take another neck.'
            )
        return torch.cat([extra.expand(mask.num_masks, -1), self.num_extra_tokens + mask.flat_predict()], dim=1)

    def _embed(self, images: Tensor, mask: PatchMask | None) -> Tensor:
        """Tokens of the patches that the encoder sees, ``[G, V or N, D]``."""
        images = in_precision_of(self.patch_embed, images)
        if mask is None or self.mask_token is None:
            return self.patch_embed(images, mask)
        tokens = self.patch_embed(images, mask.of_all)
        index = mask.visible.unsqueeze(-1).expand(-1, -1, tokens.shape[-1])
        masked = self.mask_token.to(tokens.dtype).expand_as(tokens)
        return masked.scatter(1, index, tokens.gather(1, index))

    def forward(
        self,
        images: Tensor,
        mask: PatchMask | None = None,
        layers: Sequence[int] = (),
        depth: int | None = None,
        reads: str = 'all',
        mean: StateMean | None = None,
    ) -> Context:
        """Encode.

        Args:
            images: ``[B, C, H, W]``, normalised, of any floating type: features have that of the weights.
            mask: Mask whose visible patches are seen; None for the whole images.
            layers: Blocks whose output to keep in ``hidden``, negative ones from the end.
            depth: How many blocks to run before the final norm; None for all.
            reads: What is read of the output, and of the last state in ``hidden`` if that is asked for: 'all'; 'extra':
                the extra tokens; 'predicted': the patches of ``mask.predict``, too. The last block runs for these.
            mean: States whose mean to make of the patches, as blocks finish; None for none.

        Returns:
            Context with ``visible [G, V, D]`` (all N patches where mask tokens stand for the hidden ones) and
            ``extra [G, E, D]``, CLS tokens first; both after the projector, if there is one.

        Raises:
            InputError: The patch size does not divide the image, or there is no such block.
        """
        if mask is not None and mask.offsets is not None:  # the image is larger than its patches
            grid = mask.grid
        else:
            grid = patch_grid(images.shape[-2:], self.patch_size)
        codes = self.positions.codes(grid)
        patches = None if mask is None or self.mask_token is not None else mask.visible
        seen = codes.unsqueeze(0) if patches is None else codes[patches]
        x = self.positions.add(self._embed(images, mask), seen)
        number = self.num_extra_tokens
        if self.extra_tokens is not None:
            extra = self.positions.add_extra(self.extra_tokens)
            x = torch.cat([extra.expand(x.shape[0], -1, -1), x], dim=1)
        x = self.embedding_norm(x)
        extra_seen = self.positions.extra_codes(number, seen)
        rotation = self.positions.rotation(seen if extra_seen is None else torch.cat([extra_seen, seen], dim=1))
        bias = self.positions.bias(grid, patches, number)

        keep = [layer_index(layer, self.depth) for layer in layers]
        hidden, embedded = {}, x if keep else None
        blocks = self.blocks[:depth]
        read = self._read(reads, mask, x.device)
        averaged = [] if mean is None else mean.blocks(self.depth)
        total = None
        for i, block in enumerate(blocks):
            with_mlp = mean is not None and mean.state == 'mlp' and i in averaged
            tokens = read if i == len(blocks) - 1 else None
            x = state = last_block(block, x, rotation, tokens=tokens, bias=bias, with_mlp=with_mlp)
            if with_mlp:
                x, state = state
            if mean is not None and i in averaged:
                total = mean.added(total, state[:, number:])
            if i in keep:
                hidden[i] = x
        x = self.projector(self.norm(x))
        return Context(
            visible=x[:, number:],
            extra=x[:, :number],
            grid=grid,
            positions=lambda index: codes[index],
            hidden=tuple(hidden[index] for index in keep),
            num_cls_tokens=self.num_cls_tokens,
            reads=reads,
            embedded=embedded,
            normed=self.normed,
            mean=total,
            block_inputs={'rotation': rotation, 'bias': bias},
        )
