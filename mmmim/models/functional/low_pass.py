"""Images without their high frequencies."""

import torch
from torch import Tensor


def low_pass(images: Tensor, cutoff: float) -> Tensor:
    """An ideal low-pass filter: frequencies above the cut-off are gone, the others stay as they are.

    Args:
        images: ``[..., H, W]``, fp32.
        cutoff: The largest distance from frequency zero that stays, in cycles per height and width of the image.

    Returns:
        ``[..., H, W]``.
    """
    height, width = images.shape[-2:]
    rows = torch.fft.fftfreq(height, 1 / height, device=images.device)
    columns = torch.fft.rfftfreq(width, 1 / width, device=images.device)
    kept = rows.square().unsqueeze(1) + columns.square() <= cutoff**2
    return torch.fft.irfft2(torch.fft.rfft2(images) * kept, s=(height, width))
