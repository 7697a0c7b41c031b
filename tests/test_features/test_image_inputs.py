"""Images as users have them: one after the other the same as a batch that torchvision prepares."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from mmmim.apis import FeatureExtractor
from mmmim.features.image_files import encode_files
from mmmim.utils import InputError
from tests.toys import capi_config

RNG = np.random.default_rng(0)
COLOURS = RNG.integers(0, 256, (20, 30, 3), dtype=np.uint8)
GREY = COLOURS[..., 0]


@pytest.fixture(scope='module')
def model():
    torch.manual_seed(0)
    return FeatureExtractor(capi_config())


def grey_model():
    config = capi_config()
    config['backbone']['in_channels'] = 1
    config['data_preprocessor'] |= {'mean': [10.0], 'std': [100.0]}
    return FeatureExtractor({'backbone': config['backbone'], 'data_preprocessor': config['data_preprocessor']})


def square(image, size=16):
    """What torchvision makes of an image."""
    resize = v2.Resize(size, v2.InterpolationMode.BICUBIC, antialias=True)
    return v2.PILToTensor()(v2.CenterCrop(size)(resize(image.convert('RGB')))).float()


@pytest.mark.parametrize(
    ('image', 'same'),
    [
        (Image.fromarray(COLOURS), Image.fromarray(COLOURS)),
        (Image.fromarray(COLOURS).convert('CMYK'), Image.fromarray(COLOURS).convert('CMYK')),
        (Image.fromarray(np.dstack([COLOURS, GREY])), Image.fromarray(COLOURS)),
        (COLOURS, Image.fromarray(COLOURS)),
        (GREY, Image.fromarray(GREY)),
        (COLOURS[..., :1], Image.fromarray(GREY)),
        ([torch.from_numpy(COLOURS).permute(2, 0, 1)], Image.fromarray(COLOURS)),
    ],
    ids=['PIL', 'PIL CMYK', 'PIL RGBA', 'array', 'grey array', 'one channel', 'tensor in a list'],
)
def test_one_image(model, image, same):
    for size in (16, 12):
        options = {} if size == 16 else {'size': size}
        found = model.preprocess(image, **options)
        assert torch.equal(found, square(same, size)[None])  # the mean of this model is 0, its std 1
        assert torch.equal(model(image, **options).pooled, model(found).pooled)


def test_files_lists_and_batches(model, tmp_path):
    turned = Image.fromarray(COLOURS)
    exif = turned.getexif()
    exif[0x0112] = 6  # stands on its side
    turned.save(tmp_path / 'turned.png', exif=exif)
    Image.fromarray(COLOURS).save(tmp_path / 'a.png')
    paths = [tmp_path / 'turned.png', str(tmp_path / 'a.png')]
    expected = torch.stack([square(Image.fromarray(np.rot90(COLOURS, -1))), square(Image.fromarray(COLOURS))])
    with Image.open(paths[0]) as opened:
        assert torch.equal(model.preprocess([*paths, opened, COLOURS]), expected[[0, 1, 0, 1]])
        assert opened.getexif()[0x0112] == 6  # the image of the user is as it was
    assert torch.equal(model.preprocess(paths[0]), expected[:1])
    features = model(paths, layers=(0, 1))
    assert [layer.patches.shape for layer in features] == [(2, 16, 16)] * 2
    of_files = encode_files(model, list(map(str, paths)), ['pooled']).features['pooled']
    torch.testing.assert_close(features.pooled, of_files)
    batch = torch.from_numpy(np.stack([COLOURS, COLOURS])).permute(0, 3, 1, 2)
    assert model.preprocess(batch).shape == batch.shape  # a batch keeps its size
    assert torch.equal(model.preprocess(batch, size=16), expected[[1, 1]])
    small = batch[..., :20, :28]
    assert torch.equal(model(small).pooled, model(model.preprocess(small)).pooled)
    assert torch.equal(model(small.int()).pooled, model(small).pooled)


def test_models_of_other_channels(tmp_path):
    model = grey_model()
    Image.fromarray(COLOURS).save(tmp_path / 'a.png')
    of_file = model.preprocess(tmp_path / 'a.png')
    assert of_file.shape == (1, 1, 16, 16)
    assert torch.equal(model.preprocess([COLOURS, Image.fromarray(COLOURS)]), of_file.expand(2, -1, -1, -1))


@pytest.mark.parametrize(
    ('images', 'words'),
    [
        ([], 'The list of images is empty'),
        (COLOURS / 255, r'images is an array \[20, 30, 3\] of float64: an array must be of uint8.*astype\(np.uint8\)'),
        (COLOURS.astype(np.int64), 'an array must be of uint8, values from 0 to 255.$'),
        (COLOURS.transpose(2, 0, 1), r'the channels of an array are last: give array.transpose\(1, 2, 0\)'),
        (np.stack([COLOURS, COLOURS]), r'give a list of them, list\(array\)'),
        (np.dstack([COLOURS, GREY]), r'it has 4 channels, and the encoder takes 3.*array\[..., :3\]'),
        (np.zeros((0, 3, 3), np.uint8), 'an array is one image'),
        ([COLOURS, 3], r'images\[1\] is a int: give the path of a file, a PIL image, an array'),
        ([torch.zeros(1, 3, 16, 16)], r'images\[0\] is a tensor \[1, 3, 16, 16\].*one image, \[C, H, W\]'),
        ([torch.zeros(4, 9, 9, dtype=torch.uint8)], r'it has 4 channel\(s\), and the encoder takes 3'),
        ('none.png', 'cannot read image none.png: no such file'),
        ({'a': 1}, 'images is a dict'),
        (None, 'images is a NoneType'),
    ],
)
def test_what_is_no_image_is_refused_in_a_sentence(model, images, words):
    for take in (model, model.preprocess):
        with pytest.raises(InputError, match=words) as caught:
            take(images)
        assert '\n' not in str(caught.value)


def test_sizes_that_are_refused(model):
    with pytest.raises(InputError, match='size=17: the patch size 4 does not divide it, give 16'):
        model(COLOURS, size=17)
    with pytest.raises(InputError, match='taken for normalised: give size to extractor'):
        model(torch.zeros(1, 3, 16, 16), size=8)
