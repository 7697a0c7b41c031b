"""Names, severities and families of the corruptions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from mmmim.utils import InputError

from . import blur_and_weather as blurs
from . import noise_and_digital as noises

#: Pixels of the shorter side that the constants are meant for: those of ImageNet-C's images.
SIDE = 224
SEVERITIES = (1, 2, 3, 4, 5)


class Corruption(NamedTuple):
    """A corruption and what it is told at each severity.

    Attributes:
        function: Takes the image, a generator, the scale and the constants of a severity.
        constants: Further arguments of the function, by severity from 1 to 5.
        family: Group of the paper's tables.
    """

    function: Callable[..., np.ndarray]
    constants: tuple[tuple[Any, ...], ...]
    family: str


#: The constants of ImageNet-C at 224 px, written from memory and compared with what the package imagecorruptions 1.1.2
#: makes of a photograph (docs/en/classification.md#corruptions-and-calibration). Our choice: lengths in pixels are
#: multiplied by the shorter side over 224. The elastic one has shares of the side as it is.
CORRUPTIONS: dict[str, Corruption] = {
    'gaussian_noise': Corruption(noises.gaussian_noise, ((0.08,), (0.12,), (0.18,), (0.26,), (0.38,)), 'noise'),
    'shot_noise': Corruption(noises.shot_noise, ((60,), (25,), (12,), (5,), (3,)), 'noise'),
    'impulse_noise': Corruption(noises.impulse_noise, ((0.03,), (0.06,), (0.09,), (0.17,), (0.27,)), 'noise'),
    # Radius and softness of the border.
    'defocus_blur': Corruption(blurs.defocus_blur, ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)), 'blur'),
    # Deviation of the blurs, how far pixels go, how often.
    'glass_blur': Corruption(
        blurs.glass_blur, ((0.7, 1, 2), (0.9, 2, 1), (1.0, 2, 3), (1.1, 3, 2), (1.5, 4, 2)), 'blur'
    ),
    # Half length and deviation.
    'motion_blur': Corruption(blurs.motion_blur, ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15)), 'blur'),
    # Largest factor (not reached) and step.
    'zoom_blur': Corruption(
        blurs.zoom_blur, ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03)), 'blur'
    ),
    # Mean, deviation, enlargement and threshold of the flakes, half length and deviation of their motion, how much of
    # the image stays as it is.
    'snow': Corruption(
        blurs.snow,
        (
            (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
            (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
            (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
            (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
            (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
        ),
        'weather',
    ),
    # Shares of the image and of the ice.
    'frost': Corruption(blurs.frost, ((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75)), 'weather'),
    # Amount, and how fast details of the clouds fade.
    'fog': Corruption(blurs.fog, ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4)), 'weather'),
    'brightness': Corruption(noises.brightness, ((0.1,), (0.2,), (0.3,), (0.4,), (0.5,)), 'weather'),
    'contrast': Corruption(noises.contrast, ((0.4,), (0.3,), (0.2,), (0.1,), (0.05,)), 'digital'),
    # Strength, deviation and affine part, of 244 pixels there.
    'elastic_transform': Corruption(
        noises.elastic_transform,
        ((2, 0.7, 0.1), (2, 0.08, 0.2), (0.05, 0.01, 0.02), (0.07, 0.01, 0.02), (0.12, 0.01, 0.02)),
        'digital',
    ),
    'pixelate': Corruption(noises.pixelate, ((0.6,), (0.5,), (0.4,), (0.3,), (0.25,)), 'digital'),
    'jpeg_compression': Corruption(noises.jpeg_compression, ((25,), (18,), (15,), (10,), (7,)), 'digital'),
}
NAMES = tuple(CORRUPTIONS)
FAMILIES = tuple(dict.fromkeys(each.family for each in CORRUPTIONS.values()))


def corrupt(image: np.ndarray, name: str, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Corrupt an image.

    Args:
        image: RGB, ``[H, W, 3]`` uint8, of any size.
        name: One of :data:`NAMES`.
        severity: One of :data:`SEVERITIES`.
        rng: Generator that draws everything random.

    Returns:
        ``[H, W, 3]`` uint8.

    Raises:
        InputError: There is no such corruption or severity, or the image is none.
    """
    check_corruption(name, severity)
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise InputError(f'Corruptions are of images [H, W, 3] of 8 bits, not of {image.dtype} {list(image.shape)}.')
    corruption = CORRUPTIONS[name]
    x: np.ndarray = image.astype(np.float32) / 255
    found = corruption.function(x, rng, min(image.shape[:2]) / SIDE, *corruption.constants[severity - 1])
    return (np.asarray(found).clip(0, 1) * 255).round().astype(np.uint8)


def check_corruption(name: str, severity: int) -> None:
    """Refuse what is no corruption.

    Raises:
        InputError: There is no such name or severity.
    """
    if name not in CORRUPTIONS:
        raise InputError(f'There is no corruption {name!r}: use one of {", ".join(NAMES)}.')
    if severity not in SEVERITIES:
        raise InputError(f'Corruptions have the severities 1 to 5, not {severity!r}.')
