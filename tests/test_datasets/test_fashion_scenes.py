import gzip

import numpy as np
import pytest

from mmmim.datasets import FashionScenes, fashion_scenes
from mmmim.datasets import fashion_scenes_generator as generator
from mmmim.datasets.fashion_scenes import CHECKSUMS, write_fashion_scenes
from mmmim.datasets.fashion_scenes_generator import EMBEDDED, FILES, generate, split_items
from mmmim.datasets.idx import read_idx
from mmmim.datasets.scenes_generator import SPLITS, SUBSETS, checksum
from mmmim.utils import InputError
from tests.idx_files import idx, write_fashion_mnist


@pytest.fixture
def source(tmp_path):
    """A small Fashion-MNIST of 30 and 20 images, half of its files compressed."""
    folder = tmp_path / 'fashion_mnist'
    folder.mkdir()
    return write_fashion_mnist(folder, train=30, test=20)


@pytest.fixture
def small(source, monkeypatch):
    """The small source in the place of the part that is brought along, and few collages."""
    monkeypatch.setattr(fashion_scenes, 'EMBEDDED', source)
    monkeypatch.setattr(generator, 'NUM_COLLAGES', {'train': 30, 'val': 6, 'test': 8})
    # A tenth of three images per class is none.
    monkeypatch.setattr(generator, 'split_items', lambda source, split: generator.read_items(source, 'test'))
    return source


@pytest.mark.parametrize('split', SPLITS)
@pytest.mark.parametrize('subset', SUBSETS)
def test_pixels_and_labels_are_frozen(subset, split):
    assert checksum(generate(subset, split)) == CHECKSUMS[subset][split]


def test_what_is_brought_along():
    assert 'Zalando SE' in (EMBEDDED / 'LICENSE').read_text()
    assert sum(path.stat().st_size for path in EMBEDDED.iterdir()) < 6e6
    splits = {split: split_items(EMBEDDED, split) for split in SPLITS}
    for split, per_class in (('train', 900), ('val', 100), ('test', 200)):
        assert np.bincount(splits[split].classes).tolist() == [per_class] * 10
    seen = {split: {image.tobytes() for image in items.images} for split, items in splits.items()}
    assert not seen['train'] & seen['val']
    assert not (seen['train'] | seen['val']) & seen['test']


def test_labels_are_where_garments_are():
    scenes = generate('single', 'val')
    foreground = scenes.label_maps > 1
    np.testing.assert_array_equal(foreground, scenes.images[..., 0] > 8)
    assert 0.3 < foreground.mean() < 0.4
    classes = scenes.label_maps.max((1, 2)) - 2
    np.testing.assert_array_equal(classes, scenes.classes)

    collages = generate('multi', 'val')
    kinds = [len(set(labels[labels > 1])) for labels in collages.label_maps.reshape(500, -1)]
    assert (np.array(kinds) <= collages.classes).all()
    assert np.corrcoef(kinds, collages.classes)[0, 1] > 0.8


def test_the_whole_of_fashion_mnist_lies_elsewhere(small, source, tmp_path):
    write_fashion_scenes(tmp_path / 'a', 'single')
    assert len(FashionScenes(str(tmp_path / 'b'), split='test', source=str(source))) == 20
    with pytest.raises(InputError, match='from the part of Fashion-MNIST and the whole is asked for: set data_root'):
        FashionScenes(str(tmp_path / 'a'), source=str(source))
    with pytest.raises(InputError, match='from the whole of Fashion-MNIST and the part is asked for: set data_root'):
        FashionScenes(str(tmp_path / 'b'))
    (source / FILES['test'][1]).unlink()
    with pytest.raises(InputError, match=r'holds no t10k-labels-idx1-ubyte.gz: put Fashion-MNIST'):
        FashionScenes(str(tmp_path / 'c'), source=str(source))
    (source / FILES['test'][1]).write_bytes(idx(np.zeros(20, np.uint8)))
    with pytest.raises(InputError, match=r'are not Fashion-MNIST: images of 28 x 28 pixels in ten classes'):
        FashionScenes(str(tmp_path / 'c'), source=str(source))


@pytest.mark.parametrize(
    ('content', 'words'),
    [
        (b'', 'no IDX file of bytes with 1'),
        (bytes((0, 0, 13, 1)), 'no IDX file of bytes with 1'),
        (bytes((0, 0, 8, 1, 255, 255, 255, 255)), r'announces an array of \[4294967295\]'),
        (bytes((0, 0, 8, 1, 0, 0)), 'cannot read|announces'),
        (bytes((0, 0, 8, 1, 0, 0, 0, 2, 7)), 'is not whole, or holds more'),
        (bytes((0, 0, 8, 1, 0, 0, 0, 2, 7, 7, 7)), 'is not whole, or holds more'),
    ],
)
@pytest.mark.parametrize('name', ['labels', 'labels.gz'])
def test_damaged_idx_files(tmp_path, name, content, words):
    path = tmp_path / name
    path.write_bytes(gzip.compress(content) if name.endswith('gz') else content)
    with pytest.raises(InputError, match=words):
        read_idx(path, ndim=1)
    path.write_bytes(b'\x1f\x8b' + content)
    with pytest.raises(InputError, match=r'cannot read|no IDX file'):
        read_idx(path, ndim=1)


def test_command_lines(small, source, tmp_path, tool):
    printed = tool('dataset_converters/fashion_scenes', '--out', tmp_path / 'x', '--source', source)
    assert f'{tmp_path}/x/single: 32 px; 20 train, 20 val, 20 test images' in printed
    assert f'{tmp_path}/x/multi: 64 px; 30 train, 6 val, 8 test images' in printed
    (tmp_path / 'single').mkdir()
    error = tool('dataset_converters/fashion_scenes', '--out', tmp_path, code=2)
    assert error.startswith(f'error: {tmp_path}/single is not a complete FashionScenes folder')

    tool('misc/cut_fashion_mnist', source, tmp_path / 'cut', '--per-class', 2, 1)
    for part, number in (('train', 20), ('test', 10)):
        cut, whole = (generator.read_items(folder, part) for folder in (tmp_path / 'cut', source))
        np.testing.assert_array_equal(cut.images, whole.images[:number])
        np.testing.assert_array_equal(cut.classes, whole.classes[:number])
