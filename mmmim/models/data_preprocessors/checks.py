"""What images must be before they are normalised: shape, channels, range of values."""

import torch
from torch import Tensor

from mmmim.utils import InputError

#: A batch whose normalised values have a mean or a standard deviation beyond this is of another scale. Of 8-bit images,
#: ImageNet's statistics give at most 2.7 and 2.2.
_FAR = 5.0
#: So is one whose values all lie within this share of a standard deviation, channel by channel.
_NEAR = 0.1


def is_eight_bit(mean: Tensor, std: Tensor) -> bool:
    """Whether statistics are those of images of 0 to 255, rather than of raw or normalised values."""
    return 1 < float(std.max()) <= 128 and float(mean.min()) >= 0 and float(mean.max()) <= 255


def check_channels(images: Tensor, channels: int) -> None:
    """Refuse a batch ``[B, C, H, W]`` of another number of channels, which would be repeated without a word.

    Raises:
        InputError: Naming both numbers.
    """
    got = images.shape[-3]
    if channels not in (1, got):  # one mean may stand for all channels
        raise InputError(
            f'Images have {got} channel(s), {list(images.shape)}, and the data preprocessor has the mean and std of '
            f'{channels}: let the pipeline load {channels} channels, or give model.data_preprocessor.mean and std '
            f'{got} values each and model.backbone.in_channels={got}.'
        )


def check_batch(images: Tensor, channels: int) -> None:
    """Refuse what is no batch of images ``[B, C, H, W]`` of so many channels, saying how to make it one.

    Raises:
        InputError: Naming the shape.
    """
    want = f'a tensor [B, {channels}, H, W] of values from 0 to 255'
    shape = list(images.shape)
    if images.ndim == 3:
        raise InputError(f'Images must be {want}, not {shape}: add a first dimension, images.unsqueeze(0).')
    if images.ndim != 4 or not images.numel():
        raise InputError(f'Images must be {want}, not {shape}.')
    if shape[1] != channels and shape[3] == channels:
        raise InputError(f'Images must be {want}, not {shape}, channels last: give images.permute(0, 3, 1, 2).')
    if shape[1] != channels:
        remedy = (
            f'repeat the grey values, images.expand(-1, {channels}, -1, -1), if that is meant.'
            if shape[1] == 1
            else f'leave the transparency out, images[:, :{channels}], if the last channel is one.'
            if shape[1] == channels + 1
            else 'the encoder was trained on others.'
        )
        raise InputError(f'Images must be {want}, not {shape}, with {shape[1]} channel(s): {remedy}')


def check_range(images: Tensor, mean: Tensor, std: Tensor, raw: bool = False) -> None:
    """Refuse values that are not from 0 to 255, or those of [0, 1]; uint8 always passes, and so does black.

    Models that were trained on other values (raw ones of more than 8 bits, or normalised by their pipeline) say so by
    ``mean`` and ``std``: of those only what is not finite is refused.

    Args:
        images: Images of any shape.
        mean: Mean of every channel, as the model's data preprocessor has it.
        std: Standard deviation of every channel, as the model's data preprocessor has it.
        raw: Whether the model says that its images keep more than eight bits.

    Raises:
        InputError: Naming the range and the remedy.
    """
    if images.dtype == torch.uint8:
        return
    if images.dtype == torch.bool or images.is_complex():
        raise InputError(f'Images must hold values from 0 to 255, not {images.dtype}.')
    low, high = (float(value) for value in images.aminmax()) if images.is_floating_point() else _int_range(images)
    if not (abs(low) < float('inf') and abs(high) < float('inf')):
        raise InputError('Images hold NaN or infinite values: look at where they come from.')
    if raw or not is_eight_bit(mean, std):
        return
    if low < 0 or high > 255:
        raise InputError(
            f'Images must hold values from 0 to 255, and these go from {low:g} to {high:g}: give what a file of 8 bits '
            'holds. Images that are normalised already are given to the extractor without preprocess.'
        )
    if images.is_floating_point() and 0 < high <= 1:
        raise InputError(
            f'Images must hold values from 0 to 255, and these go from {low:g} to {high:g}, as torchvision scales '
            'them: give 255 * images. If they are as dark as that, give them as uint8.'
        )


def _int_range(images: Tensor) -> tuple[float, float]:
    wide = images.to(torch.int64)
    return float(wide.min()), float(wide.max())


def check_scale(images: Tensor, mean: Tensor, std: Tensor) -> None:
    """Refuse a batch that mean and standard deviation were not made for: normalised already, or of another depth.

    Args:
        images: ``[B, C, H, W]``; uint8 always passes, so do images of one value.
        mean: ``[C, 1, 1]`` of the data preprocessor.
        std: ``[C, 1, 1]`` of the data preprocessor.

    Raises:
        InputError: Naming what was found and the keys.
    """
    if images.dtype == torch.uint8:
        return
    values = images.detach().to('cpu', torch.float32)
    low, high = (float(value) for value in values.aminmax())
    if low == high or not (values := values[torch.isfinite(values).all(dim=(1, 2, 3))]).numel():
        return
    normalised = (values - mean.cpu()) / std.cpu()
    width = float((normalised.amax(dim=(0, 2, 3)) - normalised.amin(dim=(0, 2, 3))).max())
    spread, centre = float(normalised.std()), float(normalised.mean())
    if width >= _NEAR and spread <= _FAR and abs(centre) <= _FAR:
        return
    guess = 'look normalised already' if low > -10 and high <= 10 else 'are of another depth'
    raise InputError(
        f'The images of the first batch go from {low:g} to {high:g} and {guess}: normalised with '
        f'model.data_preprocessor.mean={_numbers(mean)} and std={_numbers(std)} they get the mean {centre:.3g} and the '
        f'standard deviation {spread:.3g} instead of about 0 and 1. Take Normalize (or ToTensor) out of the pipeline, '
        'or set mean and std to those of the values that the pipeline gives (0 and 1 leave them as they are).'
    )


def _numbers(values: Tensor) -> list[float]:
    return [round(float(value), 3) for value in values.flatten()]
