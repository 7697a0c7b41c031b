"""Classification of patches."""

import torch
import torch.nn.functional as F
from torch import Tensor

from mmmim.registry import MODELS
from mmmim.structures import Context, Prediction, Target

from ..interfaces import Head


@MODELS.register_module()
class CrossEntropyHead(Head):
    """Cross-entropy between predicted logits and tokens (BEiT, arXiv 2106.08254).

    Without parameters: necks end in one channel per token.

    Args:
        init_cfg: mmengine's initialisation config; None for none.
    """

    reads = 'extra'

    def loss(self, prediction: Prediction, target: Target, context: Context) -> dict[str, Tensor]:
        """Mean over predicted patches, in fp32.

        Args:
            prediction: ``patches [G, T*M, K]``, logits.
            target: ``patches [G, T*M]``, int64 in ``[0, K)``.
            context: Not used; every head takes it.

        Returns:
            ``dict(loss=scalar)``.
        """
        logits = prediction.patches
        with torch.autocast(logits.device.type, enabled=False):
            return {'loss': F.cross_entropy(logits.flatten(0, 1).float(), target.patches.flatten())}
