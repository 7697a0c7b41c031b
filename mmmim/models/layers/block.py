"""Pre-norm Transformer block."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from .attention import Attention
from .checkpointing import checkpointed
from .drop_path import residual
from .norm import RMSNorm
from .rope import Rotation


class Mlp(nn.Module):
    """Two linear layers with an exact GELU between."""

    def __init__(self, dim: int, hidden_dim: int, bias: bool = False) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden_dim, bias=bias)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden_dim, dim, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """``[..., D]`` to ``[..., D]``."""
        return self.fc2(self.act(self.fc1(x)))


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
        checkpointing: What the backward pass recomputes in training, see :func:`set_checkpointing`; None for nothing.
    """

    checkpointing: str | None = None

    def _run(self, *args: Any) -> Tensor:
        raise NotImplementedError

    def _kept_or_not(self, *args: Any) -> Tensor:
        """``_run``, of which the backward pass recomputes what ``checkpointing`` says."""
        if self.checkpointing is not None and self.training and torch.is_grad_enabled():
            return checkpointed(self._run, self.checkpointing, *args)
        return self._run(*args)


class Block(TransformerBlock):
    """Attention and MLP, each after a norm and in a residual with efficient stochastic depth.

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
    ) -> None:
        super().__init__()
        self.norm1 = norm(dim)
        self.attn = Attention(dim, num_heads, context_dim, bias, qkv_bias)
        self.norm2 = norm(dim)
        self.mlp = Mlp(dim, round(dim * mlp_ratio), bias)
        self.drop_path = drop_path
        scales = [nn.Identity() if layer_scale is None else LayerScale(dim, layer_scale) for _ in range(2)]
        self.scale1, self.scale2 = scales

    def _attend(
        self, x: Tensor, rotation: Rotation | None, context: Tensor | None, context_rotation: Rotation | None
    ) -> Tensor:
        return self.scale1(self.attn(self.norm1(x), rotation, context, context_rotation))

    def _transform(self, x: Tensor) -> Tensor:
        return self.scale2(self.mlp(self.norm2(x)))

    def _run(
        self, x: Tensor, rotation: Rotation | None, context: Tensor | None, context_rotation: Rotation | None
    ) -> Tensor:
        drop_prob = self.drop_path if self.training else 0.0
        x = residual(self._attend, x, rotation, context, context_rotation, drop_prob=drop_prob)
        return residual(self._transform, x, drop_prob=drop_prob)

    def forward(
        self,
        x: Tensor,
        rotation: Rotation | None = None,
        context: Tensor | None = None,
        context_rotation: Rotation | None = None,
    ) -> Tensor:
        """``[G, L, D]`` to ``[G, L, D]``; the other arguments as in :class:`Attention`."""
        return self._kept_or_not(x, rotation, context, context_rotation)


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

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """``[G, L, D]``, given a context ``[G, C, D]``, to ``[G, L, D]``."""
        return self._kept_or_not(x, context)

    def _run(self, x: Tensor, context: Tensor) -> Tensor:
        x = x + self.self_attn(self.norm1(x))
        x = x + self.cross_attn(self.norm2_query(x), context=self.norm2_context(context))
        return x + self.mlp(self.norm3(x))


def blocks_of(model: nn.Module) -> list[TransformerBlock]:
    """All blocks below a module, whatever holds them."""
    return [module for module in model.modules() if isinstance(module, TransformerBlock)]


def set_checkpointing(model: nn.Module, mode: str | None) -> None:
    """Choose what the backward pass through the blocks of a model recomputes; results do not change.

    Args:
        model: A model, whose blocks are found by type, whatever holds them.
        mode: None: nothing. 'selective': all but matrix products and attention. 'full': everything.
    """
    for block in blocks_of(model):
        block.checkpointing = mode


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
