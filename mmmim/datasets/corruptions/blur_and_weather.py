"""Corruptions by blur and by weather; arguments are those of ``noise_and_digital.py``."""

from __future__ import annotations

import cv2
import numpy as np


def disk(radius: float, soften: float) -> np.ndarray:
    """A kernel of a disk, with a border that a Gaussian has softened; its sum is 1.

    Between pixels an image is taken to be linear, so that a radius below one blurs, too.
    """
    reach = int(np.ceil(radius)) + 1
    side = 2 * reach + 1
    places: np.ndarray = np.arange(-reach, reach, 0.125) + 0.0625
    rows: np.ndarray = np.repeat(places, len(places))
    columns: np.ndarray = np.tile(places, len(places))
    inside = rows**2 + columns**2 <= max(radius, 0.1) ** 2
    kernel = spread(rows[inside] + reach, columns[inside] + reach, np.ones(inside.sum()), side)
    border = int(np.ceil(2 * soften))
    kernel = cv2.copyMakeBorder(kernel, border, border, border, border, cv2.BORDER_CONSTANT, value=0)
    kernel = cv2.GaussianBlur(kernel, (0, 0), soften, borderType=cv2.BORDER_CONSTANT)
    return kernel / kernel.sum()


def spread(rows: np.ndarray, columns: np.ndarray, weights: np.ndarray, side: int) -> np.ndarray:
    """Weights ``[m]`` at places between pixels, dealt to the four pixels around each: ``[side, side]`` float32."""
    top, left = np.floor(rows).astype(int), np.floor(columns).astype(int)
    low, right = rows - top, columns - left
    kernel = np.zeros(side * side)
    for i, share in ((0, 1 - low), (1, low)):
        for j, part in ((0, 1 - right), (1, right)):
            kernel += np.bincount((top + i) * side + left + j, weights * share * part, side * side)
    return kernel.reshape(side, side).astype(np.float32)


def defocus_blur(x: np.ndarray, rng: np.random.Generator, scale: float, radius: float, soften: float) -> np.ndarray:
    """A lens that is out of focus: every point becomes a disk."""
    return cv2.filter2D(x, -1, disk(radius * scale, soften), borderType=cv2.BORDER_REFLECT_101)


def gaussian_blur(x: np.ndarray, sigma: float) -> np.ndarray:
    """Blur by a Gaussian, mirrored at the border."""
    return cv2.GaussianBlur(x, (0, 0), max(sigma, 0.05), borderType=cv2.BORDER_REFLECT_101)


def glass_blur(
    x: np.ndarray, rng: np.random.Generator, scale: float, sigma: float, reach: int, rounds: int
) -> np.ndarray:
    """Frosted glass: pixels change places with near ones, between two blurs.

    In each round every pixel, from the last to the first, is exchanged with one at most ``reach`` pixels away; where
    that is less than a pixel, so great a share of the pixels with one next to it.
    """
    found = gaussian_blur(x, sigma * scale)
    height, width = x.shape[:2]
    far = reach * scale
    reach = max(1, round(far))
    share = min(1.0, far / reach)
    place = np.arange(height * width).reshape(height, width)
    for _ in range(rounds):
        moves = rng.random((height, width)) < share
        rows, columns = ((moves * rng.integers(-reach, reach + 1, (height, width))).tolist() for _ in range(2))
        order = place.tolist()
        for i in range(height - reach - 1, reach - 1, -1):
            for j in range(width - reach - 1, reach - 1, -1):
                k, m = i + rows[i][j], j + columns[i][j]
                order[i][j], order[k][m] = order[k][m], order[i][j]
        place = np.asarray(order)
    return gaussian_blur(found.reshape(-1, 3)[place], sigma * scale)


def streak(radius: float, sigma: float, angle: float) -> np.ndarray:
    """A kernel of motion in a direction in degrees: half a Gaussian along a line; its sum is 1."""
    length = max(1, int(np.ceil(radius)))
    steps = np.arange(0, max(2 * radius, 0.25), 0.125)
    steps = steps[steps < length]
    weights = np.exp(-((steps / max(sigma, 0.1)) ** 2) / 2)
    direction = np.radians(angle)
    kernel = spread(
        length + 1 + steps * np.sin(direction), length + 1 + steps * np.cos(direction), weights, 2 * length + 3
    )
    return kernel / kernel.sum()


def motion_blur(x: np.ndarray, rng: np.random.Generator, scale: float, radius: float, sigma: float) -> np.ndarray:
    """A camera that moves, up to 45 degrees from the horizontal."""
    kernel = streak(radius * scale, sigma * scale, rng.uniform(-45, 45))
    return cv2.filter2D(x, -1, kernel, borderType=cv2.BORDER_REFLECT_101)


def zoom_into(x: np.ndarray, factor: float) -> np.ndarray:
    """The centre of an image, enlarged to the size of the whole."""
    height, width = x.shape[:2]
    scale = 1 / factor
    turn = np.float32([[scale, 0, (1 - scale) * (width - 1) / 2], [0, scale, (1 - scale) * (height - 1) / 2]])
    return cv2.warpAffine(
        x, turn, (width, height), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REFLECT_101
    )


def zoom_blur(x: np.ndarray, rng: np.random.Generator, scale: float, most: float, step: float) -> np.ndarray:
    """A camera that moves towards what it sees: the mean of the image and of many enlargements."""
    factors = np.arange(1, most, step)
    return np.mean([x, *(zoom_into(x, float(factor)) for factor in factors)], axis=0)


def plasma(height: int, width: int, rng: np.random.Generator, roughness: float) -> np.ndarray:
    """Clouds in [0, 1], ``[height, width]``: random numbers at doubling resolutions.

    Of each octave the amplitude is that of the coarser one over ``roughness``.
    """
    found: np.ndarray = np.zeros((height, width), np.float32)
    cells, amplitude = 2, 1.0
    while True:
        coarse = rng.uniform(-1, 1, (cells, cells)).astype(np.float32)
        found += amplitude * cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
        if cells >= max(height, width):
            break
        cells, amplitude = 2 * cells, amplitude / roughness
    found -= found.min()
    return found / max(float(found.max()), 1e-6)


def fog(x: np.ndarray, rng: np.random.Generator, scale: float, amount: float, roughness: float) -> np.ndarray:
    """Clouds are added, and the whole is darkened to its old maximum."""
    most = float(x.max())
    clouds = plasma(x.shape[0], x.shape[1], rng, roughness)[..., None]
    return (x + amount * clouds) * most / (most + amount)


def frost(x: np.ndarray, rng: np.random.Generator, scale: float, keep: float, amount: float) -> np.ndarray:
    """Ice over a part of the image: a generated texture, since photographs of frost are not shipped.

    Crystals are ridges, where random fields at doubling resolutions cross their middle; they are thick where coarse
    clouds are, and of a bluish white.
    """
    height, width = x.shape[:2]
    crystals, weight, cells = np.zeros((height, width), np.float32), 1.0, 4
    while cells <= 2 * max(height, width):
        field = cv2.resize(rng.uniform(-1, 1, (cells, cells)).astype(np.float32), (width, height), None, 0, 0, 2)
        crystals += weight * (1 - np.abs(field).clip(0, 1)) ** 6
        cells, weight = 2 * cells, weight * 0.8
    crystals /= max(float(np.quantile(crystals, 0.99)), 1e-6)
    ice = np.clip((0.25 + 0.75 * crystals) * (0.3 + plasma(height, width, rng, 3.0)), 0, 1)[..., None]
    return keep * x + amount * ice * np.float32([0.85, 0.93, 1.0])


def snow(
    x: np.ndarray,
    rng: np.random.Generator,
    scale: float,
    mean: float,
    deviation: float,
    zoom: float,
    threshold: float,
    radius: float,
    sigma: float,
    keep: float,
) -> np.ndarray:
    """Flakes that fall obliquely, in two directions, over a whitened image.

    Flakes are normal noise, enlarged, of which what is above a threshold stays and is blurred by motion.
    """
    layer = rng.normal(mean, deviation, x.shape[:2]).astype(np.float32)
    layer = zoom_into(layer, max(1.0, zoom * scale) if scale < 1 else zoom)
    layer[layer < threshold] = 0
    kernel = streak(radius * scale, sigma * scale, rng.uniform(45, 135))
    layer = cv2.filter2D(layer.clip(0, 1), -1, kernel, borderType=cv2.BORDER_REFLECT_101)[..., None]
    grey = (x @ np.float32([0.299, 0.587, 0.114]))[..., None]
    white = keep * x + (1 - keep) * np.maximum(x, grey * 1.5 + 0.5)
    return white + layer + layer[::-1, ::-1]
