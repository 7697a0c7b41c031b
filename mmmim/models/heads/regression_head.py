"""Losses between vectors."""

from collections.abc import Callable
from functools import partial

import torch.nn.functional as F
from torch import Tensor

from mmmim.registry import MODELS
from mmmim.structures import Context, Prediction, Target
from mmmim.utils import InputError
from mmmim.utils.options import NonNegative, Positive

from ..interfaces import Head


def cosine_loss(predicted: Tensor, wanted: Tensor) -> Tensor:
    """The mean of ``2 - 2 cos``, the squared distance of vectors ``[..., D]`` that are scaled to a length of 1."""
    return (2 - 2 * (F.normalize(predicted, dim=-1) * F.normalize(wanted, dim=-1)).sum(dim=-1)).mean()


_LOSSES: dict[str, Callable[..., Tensor]] = {
    'mse': F.mse_loss,
    'l1': F.l1_loss,
    'huber': F.huber_loss,
    'smooth_l1': F.smooth_l1_loss,
    'cosine': cosine_loss,
}


@MODELS.register_module()
class RegressionHead(Head):
    """A regression loss, averaged over predicted patches and channels, in fp32.

    Without parameters: necks end in the width of the targets. For patches and the global token, two heads in a
    :class:`CombinedHead` (PiLaMIM).

    Args:
        loss: 'mse' (MAE, arXiv 2111.06377), 'l1', 'huber' with a threshold of 1 (I-JEPA, arXiv 2301.08243),
            'smooth_l1': ``e^2 / (2 beta)`` of errors below ``beta``, ``e - beta / 2`` of others (data2vec, arXiv
            2202.03555, equation 2; with ``beta=1`` the same as 'huber'), or 'cosine', ``2 - 2 cos`` of prediction and
            target (EVA, arXiv 2211.07636).
        of: 'patches', or 'cls' for the global token; its loss is called ``loss_cls``.
        weight: Factor of the loss.
        nominal_ratio: Divide the sum over predicted patches by this share of all patches instead of their number, as
            in the released code of PiLaMIM; the two are the same where the share is a whole number of patches.
        beta: Threshold of 'smooth_l1', 1 by default; of that loss only.
        init_cfg: mmengine's initialisation config; None for none.

    Raises:
        InputError: There is no such loss, it has no threshold, or nothing of this name to compare.
    """

    reads = 'extra'

    def __init__(
        self,
        loss: str = 'mse',
        of: str = 'patches',
        weight: NonNegative = 1.0,
        nominal_ratio: float | None = None,
        beta: Positive | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if loss not in _LOSSES:
            raise InputError(f'The loss of a RegressionHead must be one of {", ".join(_LOSSES)}, got {loss!r}.')
        if of not in ('patches', 'cls'):
            raise InputError(f"RegressionHead.of must be 'patches' or 'cls', got {of!r}.")
        if nominal_ratio is not None and (of == 'cls' or not 0 < nominal_ratio <= 1):
            raise InputError(f'RegressionHead.nominal_ratio={nominal_ratio}: a share of the patches, for patches only.')
        if beta is not None and loss != 'smooth_l1':
            raise InputError(f"RegressionHead.beta={beta}: only loss='smooth_l1' has a threshold to choose.")
        self.compare = _LOSSES[loss] if beta is None else partial(_LOSSES[loss], beta=beta)
        self.of, self.weight, self.nominal_ratio = of, weight, nominal_ratio

    def loss(self, prediction: Prediction, target: Target, context: Context) -> dict[str, Tensor]:
        """Compare.

        Args:
            prediction: ``patches [G, T*M, D]`` or ``cls [G, D]``.
            target: Targets of the prediction's shape.
            context: Output of the encoder, whose ``grid`` counts with a nominal ratio.

        Returns:
            ``dict(loss=scalar)`` or ``dict(loss_cls=scalar)``.

        Raises:
            InputError: Neck or target generator have no global token.
        """
        predicted, wanted = getattr(prediction, self.of), getattr(target, self.of)
        if predicted is None or wanted is None:
            lacking = 'the neck predicts' if predicted is None else 'the target generator gives'
            raise InputError(
                f"RegressionHead(of='cls'): {lacking} no CLS: set neck.predict_cls=True, and a backbone with "
                'num_cls_tokens whose targets are latents of all patches.'
            )
        loss = self.weight * self.compare(predicted.float(), wanted.float())
        if self.nominal_ratio is not None:
            total = context.grid[0] * context.grid[1]
            loss = loss * (predicted.shape[1] / (total * self.nominal_ratio))
        return {'loss' if self.of == 'patches' else 'loss_cls': loss}
