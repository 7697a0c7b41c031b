"""CAPI's student head."""

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmmim.registry import MODELS
from mmmim.structures import Context, Prediction, Target

from ..functional import soft_cross_entropy


@MODELS.register_module()
class PrototypeHead(BaseModule):
    """Cosine-like logits over prototypes and their cross-entropy with soft targets (CAPI, arXiv 2502.08769).

    Features are L2-normalised; the linear layer has no bias and the weight ``g * v / (|v| + 1e-8)`` per row.

    Args:
        in_dim: Width Dp of the predictions.
        num_prototypes: K.
        temperature: Of the softmax over the logits.
        init_cfg: mmengine's.
    """

    def __init__(
        self, in_dim: int, num_prototypes: int, temperature: float = 0.12, init_cfg: dict | None = None
    ) -> None:
        super().__init__(init_cfg)
        self.in_dim, self.num_prototypes, self.temperature = in_dim, num_prototypes, temperature
        self.weight_g = nn.Parameter(torch.ones(num_prototypes, 1))
        self.weight_v = nn.Parameter(torch.empty(num_prototypes, in_dim))
        nn.init.trunc_normal_(self.weight_v, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``[..., K]`` of features ``[..., Dp]``, before the temperature."""
        x = F.normalize(x, dim=-1, eps=1e-6 if x.dtype == torch.float16 else 1e-12)
        weight = self.weight_g * self.weight_v / (self.weight_v.norm(dim=1, keepdim=True) + 1e-8)
        return F.linear(x, weight)

    def loss(self, prediction: Prediction, target: Target, context: Context) -> dict[str, Tensor]:
        """Mean cross-entropy over predicted patches, in fp32.

        Args:
            prediction: ``patches [G, T*M, Dp]``.
            target: ``patches [G, T*M, K]``, each a distribution.
            context: Not used.

        Returns:
            ``dict(loss=scalar)``.
        """
        return {'loss': soft_cross_entropy(self(prediction.patches), target.patches, self.temperature)}
