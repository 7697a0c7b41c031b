import gzip
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmmim.datasets import FashionScenes, fashion_scenes
from mmmim.datasets import fashion_scenes_generator as generator
from mmmim.datasets.fashion_scenes import CHECKSUMS, class_folder, write_fashion_scenes
from mmmim.datasets.fashion_scenes_generator import EMBEDDED, FILES, SPLITS, SUBSETS, checksum, generate, split_items
from mmmim.datasets.idx import read_idx
from mmmim.registry import DATASETS
from mmmim.utils import InputError

PIPELINE = [{'type': 'mmmim.LoadImage'}, {'type': 'mmpretrain.PackInputs'}]


def idx(array):
    return bytes((0, 0, 8, array.ndim)) + np.array(array.shape, '>u4').tobytes() + array.tobytes()


@pytest.fixture
def source(tmp_path):
    """A small Fashion-MNIST of 30 and 20 images, half of its files compressed."""
    folder = tmp_path / 'fashion_mnist'
    folder.mkdir()
    rng = np.random.RandomState(0)
    for part, number in (('train', 30), ('test', 20)):
        images = rng.randint(0, 256, (number, 28, 28)).astype(np.uint8)
        labels = np.arange(number, dtype=np.uint8) % 10
        (folder / f'{FILES[part][0]}.gz').write_bytes(gzip.compress(idx(images)))
        (folder / FILES[part][1]).write_bytes(idx(labels))
    return folder


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


def test_checksum_sees_every_array_and_not_their_type():
    scenes = generate('multi', 'val')
    sums = {checksum(scenes), checksum(scenes._replace(classes=scenes.classes.astype(np.int32)))}
    for name, array in scenes._asdict().items():
        changed = array.copy()
        changed.flat[-1] ^= 1
        sums.add(checksum(scenes._replace(**{name: changed})))
    assert len(sums) == 4


def test_files_hold_what_was_generated(small, tmp_path, monkeypatch):
    def refuse(*args):
        raise OSError('not supported')

    def png(path):
        return np.asarray(Image.open(path))

    for subset in SUBSETS:
        folder = write_fashion_scenes(tmp_path / 'new' / 'data', subset)
        assert folder == tmp_path / 'new' / 'data' / subset
        for split, ade20k in (('train', 'training'), ('val', 'validation'), ('test', 'test')):
            for i, (image, label_map, label) in enumerate(zip(*generate(subset, split, small), strict=True)):
                name = f'{i:05d}.png'
                np.testing.assert_array_equal(png(folder / split / class_folder(subset, label) / name), image)
                np.testing.assert_array_equal(png(folder / 'images' / ade20k / name), image)
                np.testing.assert_array_equal(png(folder / 'annotations' / ade20k / name), label_map)
            assert len(list((folder / split).glob('*/*'))) == i + 1
        monkeypatch.setattr(os, 'link', refuse)  # the second is on a disk without hard links
    assert sorted(os.listdir(tmp_path / 'new' / 'data')) == ['multi', 'single']


@pytest.mark.parametrize('subset', SUBSETS)
def test_dataset(small, tmp_path, subset, monkeypatch):
    config = {'type': 'mmmim.FashionScenes', 'data_root': str(tmp_path / 'a'), 'subset': subset, 'pipeline': PIPELINE}
    dataset = DATASETS.build(config)
    scenes = generate(subset, 'train', small)
    labels = sorted(set(scenes.classes.tolist()))
    assert tuple(dataset.metainfo['classes']) == tuple(class_folder(subset, label) for label in labels)
    assert len(dataset) == len(scenes.classes)
    for i in range(len(dataset)):
        sample, info = dataset[i], dataset.get_data_info(i)
        number = int(Path(info['img_path']).stem)
        np.testing.assert_array_equal(sample['inputs'].permute(1, 2, 0)[..., [2, 1, 0]], scenes.images[number])
        np.testing.assert_array_equal(np.asarray(Image.open(info['seg_map_path'])), scenes.label_maps[number])
        assert labels[info['gt_label']] == scenes.classes[number]
    monkeypatch.setattr(fashion_scenes, 'generate', None)  # it is written once
    assert 'gt_label' not in DATASETS.build(dict(config, split='val', with_label=False)).get_data_info(0)


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


def test_the_slower_writer_discards_its_own(small, tmp_path, monkeypatch):
    rename, root = os.rename, tmp_path / 'data'

    def lose(source, target):
        monkeypatch.setattr(os, 'rename', rename)
        write_fashion_scenes(root, 'single')
        (root / 'single' / 'winner').touch()
        rename(source, target)

    monkeypatch.setattr(os, 'rename', lose)
    write_fashion_scenes(root, 'single')
    assert (root / 'single' / 'winner').exists()
    assert os.listdir(root) == ['single']


def test_a_crash_leaves_nothing(small, tmp_path, monkeypatch):
    monkeypatch.setattr(fashion_scenes, 'checksum', lambda scenes: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_fashion_scenes(tmp_path / 'data', 'single')
    assert os.listdir(tmp_path / 'data') == []


@pytest.mark.parametrize('content', [None, 'not json', '[]', '{"version": 1}', '{"images": {"train": "1"}}'])
def test_foreign_or_incomplete_folder(tmp_path, content):
    (tmp_path / 'single').mkdir()
    if content:
        (tmp_path / 'single' / 'meta.json').write_text(content)
    with pytest.raises(InputError, match=r'single is not a complete FashionScenes folder: delete it'):
        FashionScenes(str(tmp_path))


def test_other_folders_and_names_are_refused(small, tmp_path):
    folder = write_fashion_scenes(tmp_path / 'a', 'single')
    next((folder / 'train').glob('*/*.png')).unlink()
    with pytest.raises(InputError, match=r'train holds 19 images instead of 20: delete .*single'):
        FashionScenes(str(tmp_path / 'a'))
    assert len(FashionScenes(str(tmp_path / 'a'), split='val', indices=3)) == 3
    meta = json.loads((folder / 'meta.json').read_text())
    (folder / 'meta.json').write_text(json.dumps({**meta, 'version': 0}))
    with pytest.raises(InputError, match='of version 0, this release reads single of version 1: delete it'):
        FashionScenes(str(tmp_path / 'a'))
    for wrong in ({'subset': 'double'}, {'split': 'training'}):
        with pytest.raises(InputError, match=f'FashionScenes has no {next(iter(wrong))}'):
            FashionScenes(str(tmp_path / 'b'), **wrong)
    (tmp_path / 'file').touch()
    with pytest.raises(InputError, match=r'cannot write FashionScenes to .*set data_root'):
        write_fashion_scenes(tmp_path / 'file' / 'data', 'single')
    assert not (tmp_path / 'b').exists()


def test_difference_from_the_reference_is_reported(small, tmp_path, monkeypatch):
    logged = []
    monkeypatch.setattr(fashion_scenes, 'print_log', lambda text, *args, **kwargs: logged.append(text))
    sums = {split: checksum(generate('single', split, small)) for split in SPLITS}
    write_fashion_scenes(tmp_path / 'a', 'single')
    assert any('differs from the reference data' in text for text in logged)
    assert json.loads((tmp_path / 'a' / 'single' / 'meta.json').read_text())['checksums'] == sums
    logged.clear()
    monkeypatch.setitem(CHECKSUMS, 'single', sums)
    write_fashion_scenes(tmp_path / 'b', 'single')
    assert ['Writing FashionScenes' in text for text in logged] == [True]


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
