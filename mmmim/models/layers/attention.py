"""Multi-head attention with optional rotary positions or a bias of relative ones."""

import torch.nn.functional as F
from torch import Tensor, nn

from mmmim.utils import InputError

from .rope import Rotation, rotate


def head_width(dim: int, num_heads: int) -> int:
    """Width of a head.

    Raises:
        InputError: The number of heads does not divide the width.
    """
    if num_heads < 1 or dim % num_heads:
        raise InputError(f'num_heads={num_heads} does not divide the width {dim}: change one of them.')
    return dim // num_heads


class Attention(nn.Module):
    """Self-attention, or cross-attention when a context is given.

    Args:
        dim: Width D of the queries and of the output.
        num_heads: Number of heads; must divide ``dim``.
        context_dim: Width of the context that keys and values come from; None for ``dim``.
        bias: Whether the output layer has a bias.
        qkv_bias: Whether the layers of queries, keys and values have one; 'qv': those of queries and values, as softmax
            does not see that of keys.
        dropout: Share of the attention weights that are 0 in training.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        context_dim: int | None = None,
        bias: bool = False,
        qkv_bias: bool | str = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        head_width(dim, num_heads)
        if qkv_bias not in (True, False, 'qv'):
            raise InputError(f"qkv_bias must be True, False or 'qv', got {qkv_bias!r}.")
        self.is_cross = context_dim is not None
        context_dim = context_dim or dim
        self.num_heads, self.dropout = num_heads, dropout
        self.q_proj = nn.Linear(dim, dim, bias=bool(qkv_bias))
        self.k_proj = nn.Linear(context_dim, dim, bias=qkv_bias is True)
        self.v_proj = nn.Linear(context_dim, dim, bias=bool(qkv_bias))
        self.proj = nn.Linear(dim, dim, bias=bias)

    def forward(
        self,
        x: Tensor,
        rotation: Rotation | None = None,
        context: Tensor | None = None,
        context_rotation: Rotation | None = None,
        bias: Tensor | None = None,
    ) -> Tensor:
        """Attend.

        Args:
            x: ``[G, L, D]``.
            rotation: Cosines and sines that rotate the queries (and the keys in self-attention); None for no rotation.
            context: ``[G, C, context_dim]``, or None for self-attention.
            context_rotation: Cosines and sines that rotate the keys in cross-attention; None for no rotation.
            bias: ``[G or 1, heads, L, L or C]``, added to the scaled products of queries and keys; None for none.

        Returns:
            ``[G, L, D]``.
        """
        source = x if context is None else context
        q, k = self._compared(x, source, rotation, context_rotation)
        v = self._heads(self.v_proj(source))
        added = None if bias is None else bias.to(q.dtype)
        out = F.scaled_dot_product_attention(q, k, v, added, self.dropout if self.training else 0.0)
        return self.proj(out.transpose(1, 2).flatten(2))

    def weights(
        self,
        x: Tensor,
        rotation: Rotation | None = None,
        context: Tensor | None = None,
        context_rotation: Rotation | None = None,
        bias: Tensor | None = None,
    ) -> Tensor:
        """How much each query attends to each key, ``[G, heads, L, L or C]``; arguments of :meth:`forward`."""
        q, k = self._compared(x, x if context is None else context, rotation, context_rotation)
        products = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
        return (products if bias is None else products + bias).softmax(dim=-1)

    def _heads(self, values: Tensor) -> Tensor:
        return values.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)

    def _compared(
        self, x: Tensor, source: Tensor, rotation: Rotation | None, context_rotation: Rotation | None
    ) -> tuple[Tensor, Tensor]:
        """Queries ``[G, heads, L, head_dim]`` and keys ``[G, heads, L or C, head_dim]``."""
        q, k = self._heads(self.q_proj(x)), self._heads(self.k_proj(source))
        if rotation is None:
            return q, k
        return rotate(q, rotation), rotate(k, rotation if context_rotation is None else context_rotation)
