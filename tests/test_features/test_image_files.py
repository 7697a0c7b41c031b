import numpy as np
import pytest
import torch
from PIL import Image

from mmmim.apis import FeatureExtractor
from mmmim.features.image_files import encode_files
from mmmim.utils import InputError
from tests.toys import DIM, capi_config


@pytest.fixture(scope='module')
def model():
    torch.manual_seed(0)
    return FeatureExtractor(capi_config())


@pytest.fixture
def paths(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(5):
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(tmp_path / f'{i}.png')
    return [str(tmp_path / f'{i}.png') for i in range(5)]


@pytest.mark.parametrize('workers', [0, 2])
def test_features_are_those_of_the_images(model, paths, workers, capsys):
    names = ['pooled', 'top2', 'predicted', 'registers+pooled@0']
    encoded = encode_files(model, paths, names, batch_size=2, workers=workers)
    pixels = torch.stack([torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1) for path in paths])
    expected = model(model.preprocess(pixels), layers=(0, -1))
    assert list(encoded.features) == names
    for name, features in encoded.features.items():
        torch.testing.assert_close(features, expected.pool(name))
    assert (encoded.index, encoded.unreadable, encoded.size) == ([0, 1, 2, 3, 4], [], 16)
    assert '[3/3] batches, ' in capsys.readouterr().out


def test_unreadable_files_are_left_out(model, paths, tmp_path, capsys):
    (tmp_path / '1.png').write_text('no image')
    (tmp_path / '2.png').write_bytes(b'')
    (tmp_path / '3.png').unlink()
    encoded = encode_files(model, paths, batch_size=1)
    assert encoded.index == [0, 4]
    assert [len(features) for features in encoded.features.values()] == [2]
    assert [message.split(': ')[0].rpartition('/')[2] for message in encoded.unreadable] == ['1.png', '2.png', '3.png']
    assert '3 of 5 images left out, for example: cannot read image' in capsys.readouterr().out
    with pytest.raises(InputError, match=r'None of the 3 images can be read, for example: .*1\.png'):
        encode_files(model, paths[1:4])


def test_poolings_and_sizes(model, paths, capsys):
    assert list(encode_files(model, paths).features) == ['pooled']
    with_cls = capi_config()
    with_cls['backbone'] |= {'num_cls_tokens': 1, 'num_registers': 3}
    encoded = encode_files(FeatureExtractor(with_cls), paths)
    assert {name: f.shape for name, f in encoded.features.items()} == {'cls': (5, DIM), 'pooled': (5, DIM)}
    assert encode_files(model, paths, ['all'], size=30).features['all'].shape == (5, 8 * 8 * DIM)
    assert 'does not divide 30: 32 pixels instead' in capsys.readouterr().out


def test_refusals(model, paths):
    for options, message in (
        ({'poolings': ['pooled', 'cls']}, 'has no feature cls: choose from pooled, predicted, registers'),
        ({'poolings': ['mean']}, "There is no feature 'mean'"),
        ({'batch_size': 0}, '--batch-size 0: give 1'),
        ({'workers': -1}, '--workers -1: give 0'),
        ({'size': 0}, 'cannot have'),
    ):
        with pytest.raises(InputError, match=message):
            encode_files(model, paths, **options)
