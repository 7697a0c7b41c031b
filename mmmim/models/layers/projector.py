"""Multi-layer perceptron after an encoder."""

import itertools
from collections.abc import Sequence

from torch import Tensor, nn


class Projector(nn.Module):
    """Linear layers without bias, each followed by a LayerNorm, with exact GELU between (Latent MIM, arXiv 2407.15837).

    Args:
        dim: Width D of input and output.
        hidden_dims: Widths between the layers.
    """

    def __init__(self, dim: int, hidden_dims: Sequence[int]) -> None:
        super().__init__()
        widths = list(itertools.pairwise([dim, *hidden_dims, dim]))
        self.linears = nn.ModuleList(nn.Linear(one, other, bias=False) for one, other in widths)
        self.norms = nn.ModuleList(nn.LayerNorm(other) for _, other in widths)
        self.act = nn.GELU()

    def forward(self, x: Tensor) -> Tensor:
        """``[..., D]`` to ``[..., D]``."""
        for i, (linear, norm) in enumerate(zip(self.linears, self.norms, strict=True)):
            x = norm(linear(self.act(x) if i else x))
        return x
