"""Images of any number of channels and any range, as pictures."""

import torch
from torch import Tensor

from mmmim.models.data_preprocessors.checks import is_eight_bit

#: Standard deviations from black to white, where values are not those of 8-bit images.
_RANGE = 5.0


def to_unit(values: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Values of images as brightness.

    Args:
        values: ``[..., C, H, W]``, in the range of ``mean``.
        mean: ``[C or 1, 1, 1]`` of the data preprocessor.
        std: ``[C or 1, 1, 1]`` of the data preprocessor.

    Returns:
        In [0, 1]: 0 to 255, or 2.5 standard deviations about the mean where images are not of 8 bits.
    """
    if is_eight_bit(mean, std):
        return (values.float() / 255).clamp(0, 1)
    return ((values.float() - mean) / (_RANGE * std) + 0.5).clamp(0, 1)


def as_rgb(images: Tensor) -> Tensor:
    """``[..., C, H, W]`` as ``[..., 3, H, W]``: the first three channels, or the first of fewer as grey."""
    channels = images.shape[-3]
    if channels == 3:
        return images
    return images.index_select(-3, torch.tensor([0, 1, 2] if channels > 3 else [0, 0, 0], device=images.device))


def channel_note(channels: int) -> str:
    """What a caption has to say of images of so many channels; nothing of three."""
    if channels == 3:
        return ''
    if channels < 3:
        return ' The first channel is shown as grey.' if channels > 1 else ' Images have one channel, shown as grey.'
    return f' Of the {channels} channels of the images the first three are shown, as red, green and blue.'
