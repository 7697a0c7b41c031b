"""Losses between vectors."""

from collections.abc import Callable

import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor

from mmmim.registry import MODELS
from mmmim.structures import Context, Prediction, Target
from mmmim.utils import InputError

_LOSSES: dict[str, Callable[..., Tensor]] = {'mse': F.mse_loss, 'l1': F.l1_loss, 'huber': F.huber_loss}


@MODELS.register_module()
class RegressionHead(BaseModule):
    """A regression loss, averaged over predicted patches and channels, in fp32.

    Without parameters: necks end in the width of the targets.

    Args:
        loss: 'mse' (MAE, arXiv 2111.06377), 'l1', or 'huber' with a threshold of 1, which is also called smooth L1
            (I-JEPA, arXiv 2301.08243).
        init_cfg: mmengine's.

    Raises:
        InputError: There is no such loss.
    """

    def __init__(self, loss: str = 'mse', init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg)
        if loss not in _LOSSES:
            raise InputError(f'The loss of a RegressionHead must be one of {", ".join(_LOSSES)}, got {loss!r}.')
        self.compare = _LOSSES[loss]

    def loss(self, prediction: Prediction, target: Target, context: Context) -> dict[str, Tensor]:
        """Compare.

        Args:
            prediction: ``patches [G, T*M, D]``.
            target: ``patches [G, T*M, D]``.
            context: Not used.

        Returns:
            ``dict(loss=scalar)``.
        """
        return {'loss': self.compare(prediction.patches.float(), target.patches.float())}
