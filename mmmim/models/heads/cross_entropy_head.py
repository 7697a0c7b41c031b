"""Classification of patches."""

import torch
import torch.nn.functional as F
from torch import Tensor

from mmmim.registry import MODELS
from mmmim.structures import Context, Prediction, Target
from mmmim.utils import InputError

from ..interfaces import Head


@MODELS.register_module()
class CrossEntropyHead(Head):
    """Cross-entropy between predicted logits and tokens (BEiT, arXiv 2106.08254).

    Without parameters: necks end in one channel per token. For predictions of two blocks, two heads in a
    :class:`CombinedHead` (BEiT v2, arXiv 2208.06366).

    Args:
        of: 'patches', or 'early' for what the neck predicts from an earlier block; its loss is called ``loss_early``.
        init_cfg: mmengine's initialisation config; None for none.

    Raises:
        InputError: Nothing of this name to compare.
    """

    reads = 'extra'

    def __init__(self, of: str = 'patches', init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg)
        if of not in ('patches', 'early'):
            raise InputError(f"CrossEntropyHead.of must be 'patches' or 'early', got {of!r}.")
        self.of = of

    def loss(self, prediction: Prediction, target: Target, context: Context) -> dict[str, Tensor]:
        """Mean over predicted patches, in fp32.

        Args:
            prediction: ``patches [G, T*M, K]``, or ``early`` of that shape, logits.
            target: ``patches [G, T*M]``, int64 in ``[0, K)``.
            context: Not used; every head takes it.

        Returns:
            ``dict(loss=scalar)`` or ``dict(loss_early=scalar)``.

        Raises:
            InputError: The neck predicts nothing from an earlier block.
        """
        logits = prediction.patches if self.of == 'patches' else prediction.early
        if logits is None:
            raise InputError(
                "CrossEntropyHead(of='early'): the neck predicts nothing from an earlier block: take PatchAggregation."
            )
        with torch.autocast(logits.device.type, enabled=False):
            loss = F.cross_entropy(logits.flatten(0, 1).float(), target.patches.flatten())
        return {'loss' if self.of == 'patches' else 'loss_early': loss}
