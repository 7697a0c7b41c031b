"""Corruptions: what each does to an image, of which size soever, and that it depends on the image alone."""

import cv2
import numpy as np
import pytest
from PIL import Image

from mmmim.datasets import LoadImage
from mmmim.datasets.corruptions import FAMILIES, NAMES, SEVERITIES, Corrupt, corrupt
from mmmim.datasets.corruptions.blur_and_weather import disk, glass_blur, streak, zoom_into
from mmmim.utils import InputError


def photograph(height, width=None):
    """Smooth colours with some edges, RGB."""
    rng = np.random.default_rng(3)
    coarse = rng.integers(20, 236, (7, 7, 3)).astype(np.uint8)
    image = np.array(Image.fromarray(coarse).resize((width or height, height), Image.Resampling.BICUBIC))
    image[height // 3 : height // 2, : (width or height) // 2] = (200, 60, 30)
    return image


def run(image, name, severity, seed=0):
    return corrupt(image, name, severity, np.random.default_rng(seed))


def test_the_fifteen():
    assert len(NAMES) == 15
    assert FAMILIES == ('noise', 'blur', 'weather', 'digital')


@pytest.mark.parametrize('name', NAMES)
@pytest.mark.parametrize('size', [(32, 32), (17, 40), (224, 224)])
def test_any_size(name, size):
    image = photograph(*size)
    before = image.copy()
    errors = []
    for severity in SEVERITIES:
        found = run(image, name, severity)
        assert (found.shape, found.dtype) == (image.shape, np.uint8)
        errors.append(np.abs(found.astype(float) - image).mean())
    assert (image == before).all()
    assert 0.5 < min(errors) <= max(errors) < 130
    # The first two severities of the elastic one are of another kind; frost darkens as well as it lightens.
    if name not in ('elastic_transform', 'frost'):
        assert errors[4] > errors[0]


@pytest.mark.parametrize('name', NAMES)
def test_what_is_random_is_seeded(name):
    image = photograph(48)
    random = name not in ('defocus_blur', 'zoom_blur', 'brightness', 'contrast', 'pixelate', 'jpeg_compression')
    assert (run(image, name, 3, 5) == run(image, name, 3, 5)).all()
    assert (run(image, name, 3, 5) != run(image, name, 3, 6)).any() == random


def test_noise_has_the_deviations_of_the_paper():
    grey = np.full((256, 256, 3), 128, np.uint8)
    for severity, deviation in zip(SEVERITIES, (0.08, 0.12, 0.18, 0.26, 0.38), strict=True):
        found = run(grey, 'gaussian_noise', severity).astype(float) / 255
        clipped = np.clip(np.random.default_rng(1).normal(128 / 255, deviation, 10**6), 0, 1)
        assert found.std() == pytest.approx(clipped.std(), rel=0.02)
    for severity, photons in zip(SEVERITIES, (60, 25, 12, 5, 3), strict=True):
        found = run(np.full((256, 256, 3), 51, np.uint8), 'shot_noise', severity).astype(float) / 255
        assert found.var() == pytest.approx(0.2 / photons, rel=0.05)
    found = run(grey, 'impulse_noise', 4)
    assert (found == 0).mean() == pytest.approx(0.085, abs=0.003)
    assert (found == 255).mean() == pytest.approx(0.085, abs=0.003)


def test_brightness_is_the_value_of_hsv():
    image = photograph(64)
    hsv = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2HSV)
    hsv[..., 2] = (hsv[..., 2] + 0.3).clip(0, 1)
    expected = 255 * cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
    assert np.abs(run(image, 'brightness', 3) - expected).max() < 1


def test_contrast_and_pixelate():
    image = photograph(64)
    mean = image.mean((0, 1))
    assert np.abs(run(image, 'contrast', 3) - (mean + 0.2 * (image - mean))).max() < 1
    squares = run(photograph(80), 'pixelate', 5)
    assert len(np.unique(squares.reshape(-1, 3), axis=0)) <= 400


def test_kernels():
    for radius in (0.3, 3.0, 10.0):
        kernel = disk(radius, 0.5)
        assert kernel.sum() == pytest.approx(1, abs=1e-5)
        np.testing.assert_allclose(kernel, kernel[::-1].T, atol=1e-6)
    wide = disk(10.0, 0.1)
    rows, columns = np.mgrid[: len(wide), : len(wide)] - len(wide) // 2
    distance = np.hypot(rows, columns)
    np.testing.assert_allclose(wide[distance < 8.5], 1 / (np.pi * 100), rtol=0.02)
    assert wide[distance > 11.5].max() < 1e-6
    horizontal = streak(10, 3, 0)
    assert horizontal.sum() == pytest.approx(1, abs=1e-5)
    middle = len(horizontal) // 2
    assert horizontal[middle].sum() == pytest.approx(1, abs=1e-5)
    assert horizontal[middle, middle] > horizontal[middle, middle + 4] > horizontal[middle, middle + 8]
    np.testing.assert_allclose(streak(10, 3, 90), horizontal.T, atol=1e-4)


def test_glass_only_moves_pixels():
    x = np.arange(40 * 40 * 3, dtype=np.float32).reshape(40, 40, 3)
    found = glass_blur(x, np.random.default_rng(0), 1.0, 0.0, 3, 2)
    assert (np.sort(found[..., 0].ravel()) == x[..., 0].ravel()).all()
    moved = (found != x).any(2).mean()
    assert 0.5 < moved < 1
    few = glass_blur(x, np.random.default_rng(0), 0.1, 0.0, 3, 1)
    assert 0.1 < (few != x).any(2).mean() < moved


def test_zoom_keeps_the_centre():
    x = np.zeros((33, 33, 3), np.float32)
    x[16, 16] = 1
    found = zoom_into(x, 1.3)
    assert found[16, 16, 0] == pytest.approx(1)
    assert found.sum() > 1.5 * x.sum()


def test_a_transform_of_a_pipeline(tmp_path):
    """Colours come as BGR; what is random depends on folder and file alone."""
    found = {}
    for place in ('here/a/1.png', 'there/a/1.png', 'here/a/2.png'):
        path = tmp_path / place
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(photograph(32)).save(path)
        results = LoadImage().transform({'img_path': str(path), 'sample_idx': 0})
        found[place] = Corrupt('snow', 2).transform(dict(results))['img']
        assert (Corrupt().transform(dict(results))['img'] == results['img']).all()
        assert (Corrupt('snow', 2, seed=1).transform(dict(results))['img'] != found[place]).any()
        bright = Corrupt('brightness', 1).transform(dict(results))['img'][..., ::-1]
        assert (bright == run(photograph(32), 'brightness', 1)).all()
    assert (found['here/a/1.png'] == found['there/a/1.png']).all()
    assert (found['here/a/1.png'] != found['here/a/2.png']).any()
    in_memory = [{'img': photograph(32), 'sample_idx': i} for i in (0, 1)]
    first, second = (Corrupt('fog', 5).transform(results)['img'] for results in in_memory)
    assert (first != second).any()


@pytest.mark.parametrize(
    ('call', 'message'),
    [
        (lambda: Corrupt('rain'), "no corruption 'rain': use one of gaussian_noise"),
        (lambda: Corrupt('fog', 6), 'severities 1 to 5, not 6'),
        (lambda: run(np.zeros((8, 8), np.uint8), 'fog', 1), r'not of uint8 \[8, 8\]'),
    ],
)
def test_refusals(call, message):
    with pytest.raises(InputError, match=message):
        call()
