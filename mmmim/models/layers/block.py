"""The blocks of encoders and predictors."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .attention import Attention
from .checkpointing import checkpointed, recomputed
from .drop_path import residual
from .norm import RMSNorm
from .rope import Rotation


def pick(x: Tensor, tokens: Tensor) -> Tensor:
    """Some tokens of sequences.

    Args:
        x: ``[G, L, D]``, or ``[1, L, D]`` for all sequences.
        tokens: Indices of the tokens, ``[G, Q]``, or ``[1, Q]`` for the same ones of all sequences.

    Returns:
        ``[G, Q, D]``, or ``[1, Q, D]`` where both are shared.
    """
    if len(tokens) == 1:
        return x.index_select(1, tokens[0])
    if len(x) == 1:
        return x[0].index_select(0, tokens.flatten()).unflatten(0, tokens.shape)
    # Rows as wholes: unlike those of `gather`, their gradients are added without sorting single values.
    rows = tokens + x.shape[1] * torch.arange(x.shape[0], device=x.device).unsqueeze(1)
    return x.flatten(0, 1).index_select(0, rows.flatten()).unflatten(0, tokens.shape)


def _pick_rotation(rotation: Rotation | None, tokens: Tensor) -> Rotation | None:
    """Cosines and sines ``[G or 1, 1, Q, head_dim]`` of some tokens."""
    if rotation is None:
        return None
    cos, sin = (pick(part.squeeze(1), tokens).unsqueeze(1) for part in rotation)
    return cos, sin


def _pick_queries(bias: Tensor | None, tokens: Tensor) -> Tensor | None:
    """The rows ``[G or 1, heads, Q, L]`` of a bias ``[G or 1, heads, L, L]`` that some tokens have as queries."""
    if bias is None:
        return None
    heads, length = bias.shape[1], bias.shape[-1]
    rows = bias.transpose(1, 2).flatten(2)  # G L heads*L
    # The gradients of an embedding, here of queries of many masks, are added up in the same order every time.
    picked = F.embedding(tokens, rows[0]) if len(bias) == 1 else pick(rows, tokens)
    return picked.unflatten(2, (heads, length)).transpose(1, 2)


#: Numbers from which on GELU is computed again: keeping fewer takes no memory that matters, and less time.
LARGE = 2**22


class Mlp(nn.Module):
    """Two linear layers with an exact GELU between.

    Attributes:
        recompute: Whether the backward pass computes a :data:`LARGE` GELU again in the place of keeping its output,
            which is as large as the input, kept too. Compiled, the compiler decides.
    """

    recompute: bool = True

    def __init__(self, dim: int, hidden_dim: int, bias: bool = False) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden_dim, bias=bias)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden_dim, dim, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """``[..., D]`` to ``[..., D]``."""
        x = self.fc1(x)
        if self.recompute and self.training and torch.is_grad_enabled() and not torch.compiler.is_compiling():
            return recomputed(self._second, x) if x.numel() >= LARGE else self._second(x)
        return self._second(x)

    def _second(self, x: Tensor) -> Tensor:
        return self.fc2(self.act(x))


class LayerScale(nn.Module):
    """Learned factors of the channels of a residual branch (CaiT, arXiv 2103.17239; BEiT).

    Args:
        dim: Width D of the tokens.
        start: First value of all factors.
    """

    def __init__(self, dim: int, start: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((dim,), start))

    def forward(self, x: Tensor) -> Tensor:
        """``[..., D]`` to ``[..., D]``."""
        return x * self.weight


class TransformerBlock(nn.Module):
    """What is compiled, checkpointed and divided among processes as a unit.

    Attributes:
        checkpointing: What the backward pass recomputes in training, see :func:`set_checkpointing`.
        whole: Whether it runs for all tokens even where some are read only (:func:`last_block`): for forward hooks
            that want all of its output.
        random: Whether it draws random numbers beside those of stochastic depth.
    """

    checkpointing: str | None = None
    whole: bool = False
    random: bool = False

    def _run(self, *args: Any) -> Tensor:
        raise NotImplementedError

    def _kept_or_not(self, *args: Any) -> Tensor:
        """``_run``, of which the backward pass recomputes what ``checkpointing`` says."""
        if self.checkpointing is not None and self.training and torch.is_grad_enabled():
            return checkpointed(self._run, self.checkpointing, *args, random=self.random)
        return self._run(*args)


class Block(TransformerBlock):
    """Attention and MLP, each with a norm and in a residual with efficient stochastic depth.

    The defaults are CAPI's: RMSNorm and no bias anywhere.

    Args:
        dim: Width D of the tokens.
        num_heads: Number of attention heads.
        context_dim: Width of the context of cross-attention; None for self-attention.
        mlp_ratio: Hidden width of the MLP over D.
        drop_path: Share of samples that skip each residual branch in training; a fresh subset for each.
        norm: Makes a norm of a width.
        bias: Whether linear layers other than those of queries, keys and values have a bias.
        qkv_bias: Whether those have one, see :class:`Attention`.
        layer_scale: First value of learned factors of both residual branches; None for no factors.
        attn_drop: Share of the attention weights that are 0 in training.
        post_norm: Whether norms come after the sums of tokens and branches instead of before the branches (data2vec
            2.0).
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        context_dim: int | None = None,
        mlp_ratio: float = 4.0,
        drop_path: float = 0.0,
        norm: Callable[[int], nn.Module] = RMSNorm,
        bias: bool = False,
        qkv_bias: bool | str = False,
        layer_scale: float | None = None,
        attn_drop: float = 0.0,
        post_norm: bool = False,
    ) -> None:
        super().__init__()
        self.norm1 = norm(dim)
        self.attn = Attention(dim, num_heads, context_dim, bias, qkv_bias, attn_drop)
        self.random = attn_drop > 0
        self.norm2 = norm(dim)
        self.mlp = Mlp(dim, round(dim * mlp_ratio), bias)
        self.drop_path, self.post_norm = drop_path, post_norm
        scales = [nn.Identity() if layer_scale is None else LayerScale(dim, layer_scale) for _ in range(2)]
        self.scale1, self.scale2 = scales

    def _attend(
        self,
        x: Tensor,
        rotation: Rotation | None,
        context: Tensor | None,
        context_rotation: Rotation | None,
        bias: Tensor | None = None,
    ) -> Tensor:
        return self.scale1(self.attn(self._before(self.norm1, x), rotation, context, context_rotation, bias))

    def _transform(self, x: Tensor) -> Tensor:
        return self.scale2(self.mlp(self._before(self.norm2, x)))

    def _before(self, norm: nn.Module, x: Tensor) -> Tensor:
        """What a branch sees."""
        return x if self.post_norm else norm(x)

    def _after(self, norm: nn.Module, x: Tensor) -> Tensor:
        """What tokens become when a branch is added."""
        return norm(x) if self.post_norm else x

    def _attend_for(
        self, _: Tensor, x: Tensor, tokens: Tensor, rotation: Rotation | None, bias: Tensor | None
    ) -> Tensor:
        """Self-attention of ``tokens`` to all of ``x``."""
        source = self._before(self.norm1, x)
        turned, added = _pick_rotation(rotation, tokens), _pick_queries(bias, tokens)
        return self.scale1(self.attn(pick(source, tokens), turned, source, rotation, added))

    def _run(
        self,
        x: Tensor,
        rotation: Rotation | None,
        context: Tensor | None,
        context_rotation: Rotation | None,
        tokens: Tensor | None,
        bias: Tensor | None,
        with_mlp: bool,
    ) -> Any:
        drop_prob = self.drop_path if self.training else 0.0
        if tokens is None:
            x = residual(self._attend, x, rotation, context, context_rotation, bias, drop_prob=drop_prob)
        else:
            x = residual(self._attend_for, pick(x, tokens), x, tokens, rotation, bias, drop_prob=drop_prob)
        x = self._after(self.norm1, x)
        if not with_mlp:
            return self._after(self.norm2, residual(self._transform, x, drop_prob=drop_prob))
        # A difference of sums is rounded: samples of which nothing is dropped have what the branch gives.
        change = self._transform(x) if not drop_prob else residual(self._transform, x, drop_prob=drop_prob) - x
        return self._after(self.norm2, x + change), change

    def forward(
        self,
        x: Tensor,
        rotation: Rotation | None = None,
        context: Tensor | None = None,
        context_rotation: Rotation | None = None,
        tokens: Tensor | None = None,
        bias: Tensor | None = None,
        with_mlp: bool = False,
    ) -> Any:
        """One block.

        Args:
            x: ``[G, L, D]``.
            rotation: Cosines and sines, as in :class:`Attention`.
            context: ``[G, C, context_dim]`` of cross-attention; None for self-attention.
            context_rotation: Cosines and sines of the context, as in :class:`Attention`.
            tokens: Indices ``[G or 1, Q]`` of the tokens whose output is read; None for all. Self-attention only: the
                others are keys and values, and nothing else is computed of them.
            bias: Bias of the products of all queries and keys, as in :class:`Attention`.
            with_mlp: Whether to return what the MLP branch adds, too.

        Returns:
            ``[G, L, D]``, or ``[G, Q, D]``; a pair of such with what the MLP adds.
        """
        return self._kept_or_not(x, rotation, context, context_rotation, tokens, bias, with_mlp)


class DecoderBlock(TransformerBlock):
    """Self-attention, cross-attention and MLP, each after a norm and in a residual.

    Args:
        dim: Width D of the tokens.
        num_heads: Number of attention heads.
        mlp_ratio: Hidden width of the MLP over D.
        norm: Makes a norm of a width.
    """

    def __init__(self, dim: int, num_heads: int, mlp_ratio: float, norm: Callable[[int], nn.Module]) -> None:
        super().__init__()
        self.norm1 = norm(dim)
        self.self_attn = Attention(dim, num_heads, bias=True, qkv_bias=True)
        self.norm2_query = norm(dim)
        self.norm2_context = norm(dim)
        self.cross_attn = Attention(dim, num_heads, dim, bias=True, qkv_bias=True)
        self.norm3 = norm(dim)
        self.mlp = Mlp(dim, round(dim * mlp_ratio), bias=True)

    def forward(self, x: Tensor, context: Tensor, tokens: Tensor | None = None) -> Tensor:
        """``[G, L, D]``, given a context ``[G, C, D]``, to ``[G, L, D]``, or ``[G, Q, D]`` as in :class:`Block`."""
        return self._kept_or_not(x, context, tokens)

    def _run(self, x: Tensor, context: Tensor, tokens: Tensor | None) -> Tensor:
        source = self.norm1(x)
        if tokens is None:
            x = x + self.self_attn(source)
        else:
            x = pick(x, tokens) + self.self_attn(pick(source, tokens), context=source)
        x = x + self.cross_attn(self.norm2_query(x), context=self.norm2_context(context))
        return x + self.mlp(self.norm3(x))


def last_block(block: TransformerBlock, x: Tensor, *inputs: Any, tokens: Tensor | None, **options: Any) -> Any:
    """Run the last block of a chain for the tokens that are read.

    Args:
        block: The block to run.
        x: ``[G, L, D]``.
        inputs: Other inputs of the block, by position.
        tokens: ``[G or 1, Q]``, or None for all.
        options: Other inputs of the block, by name.

    Returns:
        ``[G, Q, D]``, or ``[G, L, D]`` for all; more where the block gives more.
    """
    if tokens is None:
        return block(x, *inputs, **options)
    if block.whole:
        out = block(x, *inputs, **options)
        return tuple(pick(part, tokens) for part in out) if isinstance(out, tuple) else pick(out, tokens)
    return block(x, *inputs, tokens=tokens, **options)


def blocks_of(model: nn.Module) -> list[TransformerBlock]:
    """All blocks below a module, whatever holds them."""
    return [module for module in model.modules() if isinstance(module, TransformerBlock)]


def set_checkpointing(model: nn.Module, mode: str | None) -> None:
    """Choose what the backward pass through the blocks of a model recomputes; results do not change.

    Args:
        model: A model, whose blocks are found by type, whatever holds them.
        mode: None: GELU. 'selective': all but matrix products and attention. 'full': everything.
    """
    for block in blocks_of(model):
        block.checkpointing = mode
        for module in block.modules():
            if isinstance(module, Mlp):
                module.recompute = mode is None


def compile_blocks(model: nn.Module, **options: Any) -> None:
    """Compile the blocks of a model one by one, in place; names of parameters stay as they are.

    Equal blocks share the compiled code, so that a deep model compiles as fast as a shallow one. What is between the
    blocks (masks, clustering, collectives) runs as it is.

    Args:
        model: A model, whose blocks are found by type, those of the teacher included.
        options: Further arguments of ``torch.compile``.
    """
    for block in blocks_of(model):
        block.compile(**options)
