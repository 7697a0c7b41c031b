"""Losses of Latent MIM (arXiv 2407.15837)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from mmmim.utils import InputError


def patch_discrimination(
    prediction: Tensor,
    target: Tensor,
    temperature: float = 0.2,
    standardize: bool = True,
    eps: float = 1e-4,
    others: Tensor | None = None,
) -> Tensor:
    """Telling every target patch of an image from the others of the same image (equation 7), in fp32.

    ``2 * temperature`` times the cross-entropy of cosine similarities over temperature, averaged over patches; the
    factor sets the balance with the similarity constraint, and is the one of the released code.

    Args:
        prediction: ``[G, M, D]``.
        target: ``[G, M, D]``.
        temperature: Divides the cosines.
        standardize: Whether predictions are standardised beforehand, per image and channel over patches.
        eps: Added to the standard deviation.
        others: ``[G, V, D]``, more patches to tell the target patches from; None for none.

    Returns:
        Scalar; ``2 * temperature * log(M + V)`` is chance.

    Raises:
        InputError: There is one patch only.
    """
    if prediction.shape[1] < 2:
        raise InputError('Patch discrimination needs at least 2 patches to predict in an image: mask more.')
    with torch.autocast(prediction.device.type, enabled=False):
        target = target if others is None else torch.cat([target, others], dim=1)
        prediction, target = prediction.float(), target.float()
        if standardize:
            std, mean = torch.std_mean(prediction, dim=1, keepdim=True)
            prediction = (prediction - mean) / (std + eps)
        cosines = F.normalize(prediction, dim=-1) @ F.normalize(target, dim=-1).transpose(1, 2)
        # The first candidates are the targets, in the order of the predictions.
        same = torch.arange(cosines.shape[1], device=cosines.device).repeat(len(cosines))
        return 2 * temperature * F.cross_entropy(cosines.flatten(0, 1) / temperature, same)


def mean_similarity(tokens: Tensor) -> Tensor:
    """Mean cosine similarity over all pairs of tokens of an image, each with itself included, in fp32.

    Args:
        tokens: ``[G, M, D]``.

    Returns:
        ``[G]``.
    """
    # The mean over pairs is the squared length of the mean.
    return F.normalize(tokens.float(), dim=-1).mean(dim=1).square().sum(dim=-1)
