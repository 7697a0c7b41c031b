"""Corruptions of single pixels, of contrast and of coding.

Everywhere: ``x`` is RGB in [0, 1], ``[H, W, 3]`` float32; ``scale`` is the shorter side over the 224 pixels that
lengths are meant for; ``rng`` draws everything random. What is returned is clipped by the caller.
"""

from __future__ import annotations

import cv2
import numpy as np
from PIL import Image

#: Pixels that ImageNet-C counts the lengths of its elastic transform in.
REFERENCE = 244


def gaussian_noise(x: np.ndarray, rng: np.random.Generator, scale: float, deviation: float) -> np.ndarray:
    """Normal noise of a deviation, a colour at a time."""
    return x + rng.normal(0, deviation, x.shape)


def shot_noise(x: np.ndarray, rng: np.random.Generator, scale: float, photons: float) -> np.ndarray:
    """Poisson noise of a number of photons at white."""
    return np.asarray(rng.poisson(x * photons) / photons)


def impulse_noise(x: np.ndarray, rng: np.random.Generator, scale: float, amount: float) -> np.ndarray:
    """A share of the values is black or white, both as often."""
    draw = rng.random(x.shape)
    return np.where(draw < amount / 2, 0.0, np.where(draw < amount, 1.0, x))


def brightness(x: np.ndarray, rng: np.random.Generator, scale: float, amount: float) -> np.ndarray:
    """More of the value in HSV."""
    return shift_value(x, amount)


def shift_value(x: np.ndarray, amount: float) -> np.ndarray:
    """RGB whose value in HSV has become greater, at most 1, with hue and saturation as they were."""
    value = x.max(axis=2, keepdims=True)
    new = np.minimum(value + amount, 1)
    # Without a value there is no hue: grey.
    return np.where(value > 0, x * (new / np.where(value > 0, value, 1)), new)


def contrast(x: np.ndarray, rng: np.random.Generator, scale: float, share: float) -> np.ndarray:
    """A share of the differences from the mean of each colour."""
    mean = x.mean(axis=(0, 1), keepdims=True)
    return (x - mean) * share + mean


def elastic_transform(
    x: np.ndarray, rng: np.random.Generator, scale: float, strength: float, sigma: float, affine: float
) -> np.ndarray:
    """Three corners are moved, and then every pixel, by noise that a Gaussian has smoothed.

    Lengths are shares of the shorter side: ``strength`` of the displacement before it is smoothed, whose values are
    even in [-1, 1]; ``sigma`` of the Gaussian; ``affine`` of what corners move at most. Smoothing takes the less of the
    noise the smaller the image is: it is scaled to what is left of it at 244 pixels.
    """
    height, width = x.shape[:2]
    side = min(height, width)
    centre, third = np.array([width, height], np.float32) / 2, side / 3
    corners = np.array([centre + third, [centre[0] + third, centre[1] - third], centre - third], np.float32)
    moved = corners + rng.uniform(-affine * side, affine * side, corners.shape).astype(np.float32)
    found = cv2.warpAffine(
        np.ascontiguousarray(x, np.float32),
        cv2.getAffineTransform(corners, moved),
        (width, height),
        borderMode=cv2.BORDER_REFLECT_101,
    )
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    # The deviation of white noise is divided by 2 sqrt(pi) sigma.
    kept = max(2 * np.pi**0.5 * sigma * side, 1) / max(2 * np.pi**0.5 * sigma * REFERENCE, 1)
    shifts = []
    for _ in range(2):
        noise = rng.uniform(-1, 1, (height, width)).astype(np.float32)
        smooth = cv2.GaussianBlur(noise, (0, 0), max(sigma * side, 0.1), borderType=cv2.BORDER_REFLECT_101)
        shifts.append(kept * strength * side * smooth)
    return cv2.remap(found, columns + shifts[0], rows + shifts[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)


def pixelate(x: np.ndarray, rng: np.random.Generator, scale: float, share: float) -> np.ndarray:
    """Averaged to a share of the pixels of each side, and enlarged to squares of one colour."""
    height, width = x.shape[:2]
    image = Image.fromarray((x * 255).round().astype(np.uint8))
    small = image.resize((max(1, int(width * share)), max(1, int(height * share))), Image.Resampling.BOX)
    return np.asarray(small.resize((width, height), Image.Resampling.BOX)) / 255


def jpeg_compression(x: np.ndarray, rng: np.random.Generator, scale: float, quality: int) -> np.ndarray:
    """JPEG of a quality, with the colours at half of the resolution, as cameras and Pillow have it."""
    image: np.ndarray = (x[..., ::-1] * 255).round().astype(np.uint8)
    coded = cv2.imencode('.jpg', image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR))[..., ::-1] / 255
