"""A head: the cosine distance between predictions and targets."""

import torch.nn.functional as F
from torch import Tensor

from mmmim.models import Head
from mmmim.registry import MODELS
from mmmim.structures import Context, Prediction, Target


@MODELS.register_module()
class CosineHead(Head):
    """One minus the cosine between prediction and target, averaged over predicted patches, in fp32.

    Of normalised pixels, whose mean is zero, the cosine with the target is nearly the correlation.

    Args:
        weight: Of the loss.
        init_cfg: mmengine's.
    """

    def __init__(self, weight: float = 1.0, init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg)
        self.weight = weight

    def loss(self, prediction: Prediction, target: Target, context: Context) -> dict[str, Tensor]:
        """Compare.

        Args:
            prediction: ``patches [G, T*M, D]``.
            target: ``patches [G, T*M, D]``.
            context: Not used.

        Returns:
            ``dict(loss=scalar)``.
        """
        cosine = F.cosine_similarity(prediction.patches.float(), target.patches.float(), dim=-1)
        return {'loss': self.weight * (1 - cosine).mean()}
