"""What images must be before they are normalised, in the extractor and in training."""

import pytest
import torch

from mmmim.apis import FeatureExtractor
from mmmim.models.data_preprocessors import MIMDataPreprocessor, swap_red_and_blue
from mmmim.registry import MODELS
from mmmim.utils import InputError
from tests.registered import ENCODERS

PIXELS = torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
KINDS = ('mmmim.ImageListPreprocessor', 'mmengine.ImgDataPreprocessor')


def extractor(channels=3, mean=None, std=None):
    preprocessor = {'type': 'mmmim.MIMDataPreprocessor'}
    if channels != 3 or mean is not None:
        preprocessor |= {'mean': mean or [120.0] * channels, 'std': std or [60.0] * channels}
    return FeatureExtractor(
        {'backbone': {**ENCODERS['sincos, CLS'], 'in_channels': channels}, 'data_preprocessor': preprocessor}
    )


@pytest.mark.parametrize(
    ('images', 'words'),
    [
        (PIXELS / 255, r'from 0 to 1, as torchvision scales them: give 255 \* images'),
        (PIXELS.float() - 128, 'go from -128 to 127'),
        (PIXELS.int() * 16, r'go from \d+ to 4080'),
        (PIXELS / torch.tensor(0.0), 'NaN or infinite'),
        (PIXELS > 7, 'not torch.bool'),
        (PIXELS.permute(0, 2, 3, 1), r'\[2, 16, 16, 3\], channels last: give images.permute\(0, 3, 1, 2\)'),
        (PIXELS[:, :1], r'with 1 channel\(s\): repeat the grey values, images.expand\(-1, 3, -1, -1\)'),
        (torch.cat([PIXELS, PIXELS[:, :1]], 1), r'with 4 channel\(s\): leave the transparency out, images\[:, :3\]'),
        (PIXELS[0], 'images.unsqueeze'),
        (PIXELS[:0], r'not \[0, 3, 16, 16\]'),
    ],
)
def test_what_is_no_batch_of_images_is_refused_in_a_sentence(images, words):
    with pytest.raises(InputError, match=words) as caught:
        extractor().preprocess(images)
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize(
    'images',
    [
        PIXELS,
        torch.zeros(1, 3, 16, 16),  # black is black in any range
        torch.eye(16, dtype=torch.uint8).expand(1, 3, 16, 16),  # dark, but uint8
        PIXELS.float() / 100,  # dark floats
    ],
)
def test_images_are_normalised_as_before(images):
    model = extractor()
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)))
    assert torch.equal(model.preprocess(images), (images.float() - mean) / std)


def test_the_number_of_channels_is_the_encoders():
    channels = 5
    model = extractor(channels)
    images = torch.randint(0, 256, (2, channels, 16, 16), dtype=torch.uint8)
    assert model(model.preprocess(images)).pooled.shape == (2, 16)
    with pytest.raises(InputError, match=rf'\[B, {channels}, H, W\]'):
        model.preprocess(PIXELS)
    # Models of raw values take them.
    model = extractor(1, [1000.0], [500.0])
    images = torch.rand(2, 1, 16, 16) * 4000 - 100
    assert torch.isfinite(model.preprocess(images)).all()
    with pytest.raises(InputError, match='NaN'):
        model.preprocess(images / 0)
    identity = extractor(3, [0.0] * 3, [1.0] * 3)
    assert torch.equal(identity.preprocess(PIXELS / 255), PIXELS / 255)


@pytest.mark.parametrize(
    ('images', 'words'),
    [
        ((PIXELS - 116.0) / 57, 'look normalised already'),
        (PIXELS / 255, 'look normalised already'),
        (PIXELS.int() * 16, 'are of another depth'),
    ],
)
def test_a_first_batch_of_another_scale_is_refused_in_training(images, words):
    with pytest.raises(InputError, match=rf'{words}.*model.data_preprocessor.mean=\[123.675.*Normalize'):
        MIMDataPreprocessor()({'inputs': images}, training=True)


@pytest.mark.parametrize(
    ('images', 'mean', 'std'),
    [
        *(
            (images, None, None)
            for images in (PIXELS // 200, PIXELS.float(), torch.zeros(2, 3, 4, 4), PIXELS * torch.nan)
        ),
        # Values that mean and std were made for.
        (PIXELS.float() * 16, [2000.0] * 3, [1180.0] * 3),
        ((PIXELS - 116.0) / 57, [0.0] * 3, [1.0] * 3),
        (PIXELS / 255, [0.5], [0.5]),
    ],
)
def test_other_first_batches_are_taken(images, mean, std):
    preprocessor = MIMDataPreprocessor(*([mean, std] if mean else []))
    preprocessor({'inputs': images}, training=True)
    preprocessor({'inputs': PIXELS / 255}, training=True)  # no other batch is looked at


def test_one_grey_channel_is_not_repeated_without_a_word():
    with pytest.raises(InputError, match=r'1 channel\(s\).*mean and std of 3.*in_channels=1'):
        MIMDataPreprocessor()({'inputs': PIXELS[:, :1]})
    for mean, std in (([1.0] * 3, [1.0]), ([1.0], [1.0] * 3)):
        with pytest.raises(InputError, match='one value per channel'):
            MIMDataPreprocessor(mean, std)


def test_red_and_blue_are_swapped_where_there_are_three_channels():
    assert torch.equal(swap_red_and_blue(PIXELS), PIXELS[:, [2, 1, 0]])
    five = torch.rand(2, 5, 4, 4)
    assert torch.equal(swap_red_and_blue(five), five)
    given = MIMDataPreprocessor([1.0, 2, 3, 4, 5], [1.0] * 5)({'inputs': five + 1})['inputs']
    assert torch.allclose(given, five + 1 - torch.arange(1, 6).view(5, 1, 1))


def test_lists_of_images():
    config = {'mean': [1.0, 2.0, 3.0], 'std': [2.0] * 3, 'bgr_to_rgb': True}
    ours, theirs = (MODELS.build({'type': kind, **config}) for kind in KINDS)
    given = ours({'inputs': list(PIXELS)})['inputs']
    assert torch.equal(given, theirs({'inputs': list(PIXELS)})['inputs'])
    with pytest.raises(InputError, match=r'1 channel\(s\).*mean and std of 3'):
        ours({'inputs': [PIXELS[0, :1]]})
