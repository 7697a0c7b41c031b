"""Heads that score predictions against prototypes."""

import itertools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmmim.registry import MODELS
from mmmim.structures import Context, Prediction, Target
from mmmim.utils.options import Count, Positive

from ..functional import linear_soft_cross_entropy
from ..interfaces import Head, Sizes


@MODELS.register_module()
class PrototypeHead(Head):
    """Cosine-like logits over prototypes and their cross-entropy with soft targets (CAPI, arXiv 2502.08769).

    Features are L2-normalised; the linear layer has no bias and the weight ``g * v / (|v| + 1e-8)`` per row. With
    ``mlp_dims=(2048, 2048, 256)`` it is the head of DINO (arXiv 2104.14294) and iBOT (arXiv 2111.07832).

    Args:
        in_dim: Width Dp of the predictions.
        num_prototypes: Number of prototypes, K.
        temperature: Divides the logits in the softmax over prototypes.
        mlp_dims: Widths of the layers of an MLP before the normalisation, with GELU between them; none by default.
        init_cfg: mmengine's initialisation config; None for none.
    """

    reads = 'extra'

    def __init__(
        self,
        in_dim: Count,
        num_prototypes: Count,
        temperature: Positive = 0.12,
        mlp_dims: Sequence[Count] = (),
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.in_dim, self.num_prototypes, self.temperature = in_dim, num_prototypes, temperature
        widths = [in_dim, *mlp_dims]
        layers: list[nn.Module] = []
        for width, following in itertools.pairwise(widths):
            layers += [nn.Linear(width, following), nn.GELU()]
        self.mlp = nn.Sequential(*layers[:-1])
        self.weight_g = nn.Parameter(torch.ones(num_prototypes, 1))
        self.weight_v = nn.Parameter(torch.empty(num_prototypes, widths[-1]))
        nn.init.trunc_normal_(self.weight_v, std=0.02)
        for layer in self.mlp:
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)

    def sizes(self) -> Sizes:
        """Width of the predictions, and K."""
        return {
            'prediction width': ('in_dim', self.in_dim),
            'prototypes': ('num_prototypes', self.num_prototypes),
        }

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``[..., K]`` of features ``[..., Dp]``, before the temperature."""
        return F.linear(self._normalised(x), self._weight())

    def _normalised(self, x: Tensor) -> Tensor:
        x = self.mlp(x)
        return F.normalize(x, dim=-1, eps=1e-6 if x.dtype == torch.float16 else 1e-12)

    def _weight(self) -> Tensor:
        return self.weight_g * self.weight_v / (self.weight_v.norm(dim=1, keepdim=True) + 1e-8)

    def loss(self, prediction: Prediction, target: Target, context: Context) -> dict[str, Tensor]:
        """Mean cross-entropy over predicted patches, in fp32.

        Args:
            prediction: ``patches [G, T*M, Dp]``.
            target: ``patches [G, T*M, K]``, each a distribution.
            context: Not used; every head takes it.

        Returns:
            ``dict(loss=scalar)``.
        """
        features = self._normalised(prediction.patches)
        return {'loss': linear_soft_cross_entropy(features, self._weight(), target.patches, self.temperature)}
