"""Losses between vectors."""

import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor

from mmmim.registry import MODELS
from mmmim.structures import Context, Prediction, Target


@MODELS.register_module()
class RegressionHead(BaseModule):
    """Mean squared error over predicted patches and channels, in fp32 (MAE, arXiv 2111.06377).

    Without parameters: necks end in the width of the targets.
    """

    def loss(self, prediction: Prediction, target: Target, context: Context) -> dict[str, Tensor]:
        """Compare.

        Args:
            prediction: ``patches [G, T*M, D]``.
            target: ``patches [G, T*M, D]``.
            context: Not used.

        Returns:
            ``dict(loss=scalar)``.
        """
        return {'loss': F.mse_loss(prediction.patches.float(), target.patches.float())}
