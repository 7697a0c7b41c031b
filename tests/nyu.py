"""Rooms of one plane each in NYUv2's layout, whose depths and normals are known."""

from pathlib import Path

import numpy as np
from PIL import Image

HEIGHT, WIDTH = 480, 640
CAMERA = (518.8579, 519.4696, 325.5824, 253.7362)
#: Planes n X = d of unit normals towards the camera.
PLANES = [((0.0, 0.0, -1.0), -2.0), ((0.6, 0.0, -0.8), -2.5), ((0.0, -0.8, -0.6), -1.5), ((-0.36, 0.48, -0.8), -3.0)]


def rays(height=HEIGHT, width=WIDTH, camera=CAMERA):
    """Points of the rays of pixels at depth 1, ``[H, W, 3]``."""
    fx, fy, cx, cy = camera
    rows, columns = np.mgrid[:height, :width]
    return np.stack([(columns - cx) / fx, (rows - cy) / fy, np.ones((height, width))], axis=2)


def depth_of(normal, distance, **size):
    """Depths of a plane, NaN where it is not in front of the camera."""
    slope = rays(**size) @ np.array(normal)
    depth = np.divide(distance, slope, out=np.full(slope.shape, np.nan), where=slope < -1e-3)
    return np.where(depth > 0, depth, np.nan)


def write_nyu(folder: Path, train=8, test=4, normals=False) -> None:
    """Images of two planes, whose colour and brightness tell a little of them; a stripe has no depth."""
    rng = np.random.default_rng(0)
    for split, number in (('train', train), ('test', test)):
        for i in range(number):
            first, second = rng.permutation(len(PLANES))[:2]
            left = (np.arange(WIDTH) < rng.integers(200, 440))[None, :, None]
            surfaces = [plane(which, rng) for which in (first, second)]
            depth, image, normal = (np.where(left, *pair) for pair in zip(*surfaces, strict=True))
            image = (image + rng.normal(0, 20, image.shape)).clip(0, 255).astype(np.uint8)
            depth[:, 300:310] = np.nan
            millimetres = np.nan_to_num(1000 * depth[..., 0]).clip(0, 65535).round().astype(np.uint16)
            files = {'images': Image.fromarray(image), 'annotations': Image.fromarray(millimetres)}
            if normals:
                files['normals'] = Image.fromarray(((normal + 1) * 127.5).round().astype(np.uint8))
            for kind, file in files.items():
                path = folder / kind / split / f'room_{i}.{"jpg" if kind == "images" else "png"}'
                path.parent.mkdir(parents=True, exist_ok=True)
                file.save(path, **({'quality': 95} if kind == 'images' else {}))


def plane(which, rng):
    """Depths ``[H, W, 1]``, colours and normals ``[H, W, 3]`` of a plane that is a little turned and moved."""
    normal, distance = PLANES[which]
    normal = np.array(normal) + rng.normal(0, 0.05, 3)
    normal /= np.linalg.norm(normal)
    depth = depth_of(normal, distance * rng.uniform(0.8, 1.2))[..., None]
    shade = 200 * np.exp(-np.nan_to_num(depth, nan=9.0) / 6) * rng.uniform(0.8, 1.2)
    return (
        depth,
        shade * np.array([1, 0.7 + 0.1 * which, 1 - 0.1 * which]),
        np.broadcast_to(normal, (*depth.shape[:2], 3)),
    )
