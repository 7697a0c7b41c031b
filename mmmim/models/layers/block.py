"""Pre-norm Transformer block."""

from collections.abc import Callable

from torch import Tensor, nn

from .attention import Attention
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


class Block(nn.Module):
    """Attention and MLP, each after a norm and in a residual with efficient stochastic depth.

    The defaults are CAPI's: RMSNorm and no bias anywhere.

    Args:
        dim: Width D.
        num_heads: Attention heads.
        context_dim: Width of the context of cross-attention; None for self-attention.
        mlp_ratio: Hidden width of the MLP over D.
        drop_path: Share of samples that skip each residual branch in training; a fresh subset for each.
        norm: Makes a norm of a width.
        bias: Whether linear layers other than those of queries, keys and values have a bias.
        qkv_bias: Whether those have one.
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
        qkv_bias: bool = False,
    ) -> None:
        super().__init__()
        self.norm1 = norm(dim)
        self.attn = Attention(dim, num_heads, context_dim, bias, qkv_bias)
        self.norm2 = norm(dim)
        self.mlp = Mlp(dim, round(dim * mlp_ratio), bias)
        self.drop_path = drop_path

    def _attend(
        self, x: Tensor, rotation: Rotation | None, context: Tensor | None, context_rotation: Rotation | None
    ) -> Tensor:
        return self.attn(self.norm1(x), rotation, context, context_rotation)

    def _transform(self, x: Tensor) -> Tensor:
        return self.mlp(self.norm2(x))

    def forward(
        self,
        x: Tensor,
        rotation: Rotation | None = None,
        context: Tensor | None = None,
        context_rotation: Rotation | None = None,
    ) -> Tensor:
        """``[G, L, D]`` to ``[G, L, D]``; the other arguments as in :class:`Attention`."""
        drop_prob = self.drop_path if self.training else 0.0
        x = residual(self._attend, x, rotation, context, context_rotation, drop_prob=drop_prob)
        return residual(self._transform, x, drop_prob=drop_prob)


class DecoderBlock(nn.Module):
    """Self-attention, cross-attention and MLP, each after a norm and in a residual.

    Args:
        dim: Width D.
        num_heads: Attention heads.
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
        x = x + self.self_attn(self.norm1(x))
        x = x + self.cross_attn(self.norm2_query(x), context=self.norm2_context(context))
        return x + self.mlp(self.norm3(x))
