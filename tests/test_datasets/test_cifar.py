"""CIFAR, of whose pickled files nothing is run."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from mmpretrain import datasets as mmpretrain_sets

from mmmim.datasets import CIFAR10
from mmmim.datasets.transforms import LoadImage
from mmmim.utils import InputError
from tests.test_datasets.image_level import build, labels, paths
from tests.test_datasets.layouts import LAYOUTS, cifar, python2_batch


@pytest.fixture(autouse=True)
def at_root(tmp_path, monkeypatch):
    """The data lie where the configs look for them."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(('name', 'split'), [('cifar10', 'train'), ('cifar10', 'test'), ('cifar100', 'train')])
def test_cifar_is_mmpretrains_in_bgr(name, split, monkeypatch):
    LAYOUTS[name].write(Path('data'))
    other = getattr(mmpretrain_sets, name.upper())
    for files in (f'{part}_list' for part in ('train', 'test')):
        monkeypatch.setattr(other, files, [[file, None] for file, _ in getattr(other, files)])  # without checksums
    expected = other(f'data/{name}', split=split, download=False)
    found = build(name, 'train', split=split)
    assert found.metainfo['classes'] == expected.metainfo['classes']
    assert labels(found) == labels(expected)
    for i in range(len(found)):
        image = expected.get_data_info(i)['img']
        np.testing.assert_array_equal(found.get_data_info(i)['img'], image[..., ::-1])
        np.testing.assert_array_equal(found[i]['inputs'], image[..., ::-1].transpose(2, 0, 1))
    assert len(set(paths(found))) == len(found)


def test_cifar_that_python_3_wrote_anew():
    content = {'data': np.arange(2 * 3072).reshape(2, -1).astype(np.uint8), 'labels': [3, 4]}
    for name in ('test_batch', *(f'data_batch_{i}' for i in range(1, 6))):
        path = Path('data/cifar10/cifar-10-batches-py') / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(pickle.dumps(content, protocol=4))
    assert labels(build('cifar10', 'train')) == [3, 4] * 5
    np.testing.assert_array_equal(build('cifar10', 'val')[1]['inputs'].flatten(1).flip(0).flatten(), content['data'][1])


class Command:
    """Pickles as a call of a function."""

    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call


HOSTILE = {
    'a call': pickle.dumps({'data': Command(open, ('ran', 'w')), 'labels': []}, protocol=2),
    'a call of numpy': pickle.dumps({'data': Command(np.fromfile, ('data/secret',))}, protocol=2),
    'a class': pickle.dumps({'data': Path('ran'), 'labels': []}, protocol=2),
    'objects': pickle.dumps({'data': np.array([[None]], object), 'labels': [0]}, protocol=2),
    'other numbers': pickle.dumps({'data': np.zeros((1, 3072), np.int16), 'labels': [0]}, protocol=4),
    'fewer pixels': python2_batch(np.zeros((1, 3072), np.uint8), {'labels': [0]}).replace(
        b'T\0\x0c\0\0', b'T\0\x08\0\0'
    ),
    'no dict': pickle.dumps([1, 2], protocol=2),
    'no pickle': b'no pickle',
    'nothing': b'',
    'a part': python2_batch(np.zeros((2, 3072), np.uint8), {'labels': [0, 0]})[:4000],
}


@pytest.mark.parametrize('content', HOSTILE.values(), ids=HOSTILE)
def test_files_of_cifar_run_nothing(content):
    LAYOUTS['cifar10'].write(Path('data'))
    Path('data/cifar10/cifar-10-batches-py/test_batch').write_bytes(content)
    Path('data/secret').write_bytes(bytes(3072))
    with pytest.raises(InputError, match=r'test_batch is no file of CIFAR|cannot be read as CIFAR-10'):
        CIFAR10('data/cifar10', split='test')
    assert not Path('ran').exists()


def test_images_in_memory_have_the_channels_that_are_asked_for():
    cifar({'test_batch': [1]}, 'cifar10/cifar-10-batches-py', 'labels')(Path('data'))
    grey = CIFAR10('data/cifar10', split='test', pipeline=[LoadImage(channels=1)])
    with pytest.raises(InputError, match='in memory and have 3 channels'):
        grey[0]
