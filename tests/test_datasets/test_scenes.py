"""What holds for every generated data set: its files, and whole folders or none."""

import json
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from mmmim.datasets import fashion_scenes, fashion_scenes_generator, scenes
from mmmim.datasets.scenes_generator import SPLITS, SUBSETS, checksum
from mmmim.registry import DATASETS
from mmmim.utils import InputError
from tests.idx_files import write_fashion_mnist

PIPELINE = [{'type': 'mmmim.LoadImage'}, {'type': 'mmpretrain.PackInputs'}]
FEW = {'train': 30, 'val': 6, 'test': 8}


@pytest.fixture
def data(monkeypatch, tmp_path_factory):
    """A data set of a few images per split."""
    source = write_fashion_mnist(tmp_path_factory.mktemp('fashion_mnist'), train=30, test=20)
    monkeypatch.setattr(fashion_scenes, 'EMBEDDED', source)
    monkeypatch.setattr(fashion_scenes_generator, 'NUM_COLLAGES', FEW)
    # A tenth of three images per class is none.
    read_items = fashion_scenes_generator.read_items
    monkeypatch.setattr(fashion_scenes_generator, 'split_items', lambda source, split: read_items(source, 'test'))
    return SimpleNamespace(
        title='FashionScenes',
        module=fashion_scenes,
        write=fashion_scenes.write_fashion_scenes,
        generate=lambda subset, split: fashion_scenes_generator.generate(subset, split, source),
        class_folder=fashion_scenes.class_folder,
        train=20,
    )


def build(data, root, **options):
    return DATASETS.build({'type': f'mmmim.{data.title}', 'data_root': str(root), 'pipeline': PIPELINE, **options})


def test_checksum_sees_every_array_and_not_their_type(data):
    made = data.generate('single', 'val')
    sums = {checksum(made), checksum(made._replace(classes=made.classes.astype(np.int32)))}
    for name, array in made._asdict().items():
        changed = array.copy()
        changed.flat[-1] ^= 1
        sums.add(checksum(made._replace(**{name: changed})))
    assert len(sums) == 4


def test_files_hold_what_was_generated(data, tmp_path, monkeypatch):
    def refuse(*args):
        raise OSError('not supported')

    def png(path):
        return np.asarray(Image.open(path))

    for subset in SUBSETS:
        folder = data.write(tmp_path / 'new' / 'data', subset)
        assert folder == tmp_path / 'new' / 'data' / subset
        for split, ade20k in (('train', 'training'), ('val', 'validation'), ('test', 'test')):
            for i, (image, label_map, label) in enumerate(zip(*data.generate(subset, split), strict=True)):
                name = f'{i:05d}.png'
                np.testing.assert_array_equal(png(folder / split / data.class_folder(subset, label) / name), image)
                np.testing.assert_array_equal(png(folder / 'images' / ade20k / name), image)
                np.testing.assert_array_equal(png(folder / 'annotations' / ade20k / name), label_map)
            assert len(list((folder / split).glob('*/*'))) == i + 1
        monkeypatch.setattr(os, 'link', refuse)  # the second is on a disk without hard links
    assert sorted(os.listdir(tmp_path / 'new' / 'data')) == ['multi', 'single']


@pytest.mark.parametrize(('subset', 'labels'), [('single', list(range(10))), ('multi', [1, 2, 3, 4, 5])])
def test_dataset(data, tmp_path, subset, labels, monkeypatch):
    dataset, made = build(data, tmp_path, subset=subset), data.generate(subset, 'train')
    assert tuple(dataset.metainfo['classes']) == tuple(data.class_folder(subset, label) for label in labels)
    assert len(dataset) == len(made.classes)
    for i in range(len(dataset)):
        sample, info = dataset[i], dataset.get_data_info(i)
        number = int(Path(info['img_path']).stem)
        np.testing.assert_array_equal(sample['inputs'].permute(1, 2, 0)[..., [2, 1, 0]], made.images[number])
        np.testing.assert_array_equal(np.asarray(Image.open(info['seg_map_path'])), made.label_maps[number])
        assert labels[info['gt_label']] == made.classes[number]
    monkeypatch.setattr(data.module, 'generate', None)  # it is written once
    assert 'gt_label' not in build(data, tmp_path, subset=subset, split='val', with_label=False).get_data_info(0)


def test_the_slower_writer_discards_its_own(data, tmp_path, monkeypatch):
    rename = os.rename

    def lose(source, target):
        monkeypatch.setattr(os, 'rename', rename)
        data.write(tmp_path, 'single')
        (tmp_path / 'single' / 'winner').touch()
        rename(source, target)

    monkeypatch.setattr(os, 'rename', lose)
    data.write(tmp_path, 'single')
    assert (tmp_path / 'single' / 'winner').exists()
    assert os.listdir(tmp_path) == ['single']


def test_a_crash_leaves_nothing(data, tmp_path, monkeypatch):
    monkeypatch.setattr(scenes, 'checksum', lambda made: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        data.write(tmp_path, 'single')
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize('content', [None, 'not json', '[]', '{"version": 1}', '{"images": {"train": "1"}}'])
def test_foreign_or_incomplete_folder(data, tmp_path, content):
    (tmp_path / 'single').mkdir()
    if content:
        (tmp_path / 'single' / 'meta.json').write_text(content)
    with pytest.raises(InputError, match=rf'single is not a complete {data.title} folder: delete it'):
        build(data, tmp_path)


def test_other_folders_and_names_are_refused(data, tmp_path):
    folder = data.write(tmp_path / 'a', 'single')
    next((folder / 'train').glob('*/*.png')).unlink()
    with pytest.raises(
        InputError, match=rf'train holds {data.train - 1} images instead of {data.train}: delete .*single'
    ):
        build(data, tmp_path / 'a')
    assert len(build(data, tmp_path / 'a', split='val', indices=3)) == 3
    meta = json.loads((folder / 'meta.json').read_text())
    (folder / 'meta.json').write_text(json.dumps({**meta, 'version': 0}))
    with pytest.raises(InputError, match='of version 0, this release reads single of version 1: delete it'):
        build(data, tmp_path / 'a')
    for wrong in ({'subset': 'double'}, {'split': 'training'}):
        with pytest.raises(InputError, match=f'{data.title} has no {next(iter(wrong))}'):
            build(data, tmp_path / 'b', **wrong)
    (tmp_path / 'file').touch()
    with pytest.raises(InputError, match=rf'cannot write {data.title} to .*set data_root'):
        data.write(tmp_path / 'file' / 'data', 'single')
    assert sorted(os.listdir(tmp_path)) == ['a', 'file']


def test_difference_from_the_reference_is_reported(data, tmp_path, monkeypatch):
    logged = []
    monkeypatch.setattr(scenes, 'print_log', lambda text, *args, **kwargs: logged.append(text))
    sums = {split: checksum(data.generate('single', split)) for split in SPLITS}
    data.write(tmp_path / 'a', 'single')
    assert any('differs from the reference data' in text for text in logged)
    assert json.loads((tmp_path / 'a' / 'single' / 'meta.json').read_text())['checksums'] == sums
    logged.clear()
    monkeypatch.setitem(data.module.CHECKSUMS, 'single', sums)
    data.write(tmp_path / 'b', 'single')
    assert [f'Writing {data.title}' in text for text in logged] == [True]
