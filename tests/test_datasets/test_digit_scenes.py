import json
import os
import runpy
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmmim.datasets import DigitScenes, digit_scenes
from mmmim.datasets import digit_scenes_generator as generator
from mmmim.datasets.digit_scenes import CHECKSUMS, write_digit_scenes
from mmmim.datasets.digit_scenes_generator import SPLITS, SUBSETS, checksum, generate
from mmmim.registry import DATASETS
from mmmim.utils import InputError
from tests.paths import ROOT

PIPELINE = [{'type': 'mmmim.LoadImage'}, {'type': 'mmpretrain.PackInputs'}]


@pytest.fixture
def small(monkeypatch):
    """A few images per split instead of thousands."""
    for subset in SUBSETS:
        for split, n in {'train': 30, 'val': 6, 'test': 8}.items():
            monkeypatch.setitem(generator.NUM_IMAGES[subset], split, n)


@pytest.mark.parametrize('split', SPLITS)
@pytest.mark.parametrize('subset', SUBSETS)
def test_pixels_and_labels_are_frozen(subset, split):
    assert checksum(generate(subset, split)) == CHECKSUMS[subset][split]


def test_checksum_sees_every_array_and_not_their_type(small):
    scenes = generate('single', 'val')
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
        folder = write_digit_scenes(tmp_path / 'new' / 'data', subset)
        assert folder == tmp_path / 'new' / 'data' / subset
        for split, ade20k in (('train', 'training'), ('val', 'validation'), ('test', 'test')):
            for i, (image, label_map, label) in enumerate(zip(*generate(subset, split), strict=True)):
                name = f'{i:05d}.png'
                np.testing.assert_array_equal(png(folder / split / str(label) / name), image)
                np.testing.assert_array_equal(png(folder / 'images' / ade20k / name), image)
                np.testing.assert_array_equal(png(folder / 'annotations' / ade20k / name), label_map)
            assert len(list((folder / split).glob('*/*'))) == i + 1
        monkeypatch.setattr(os, 'link', refuse)  # the second is on a disk without hard links
    assert sorted(os.listdir(tmp_path / 'new' / 'data')) == ['multi', 'single']


@pytest.mark.parametrize(('subset', 'classes'), [('single', tuple('0123456789')), ('multi', tuple('12345'))])
def test_dataset(small, tmp_path, subset, classes, monkeypatch):
    config = {'type': 'mmmim.DigitScenes', 'data_root': str(tmp_path), 'subset': subset, 'pipeline': PIPELINE}
    dataset = DATASETS.build(config)
    scenes = generate(subset, 'train')
    assert tuple(dataset.metainfo['classes']) == classes
    assert len(dataset) == 30
    for i in range(30):
        sample, info = dataset[i], dataset.get_data_info(i)
        number = int(Path(info['img_path']).stem)
        np.testing.assert_array_equal(sample['inputs'].permute(1, 2, 0)[..., [2, 1, 0]], scenes.images[number])
        np.testing.assert_array_equal(np.asarray(Image.open(info['seg_map_path'])), scenes.label_maps[number])
        assert int(classes[info['gt_label']]) == scenes.classes[number]
    monkeypatch.setattr(digit_scenes, 'generate', None)  # it is written once
    assert 'gt_label' not in DATASETS.build(dict(config, split='val', with_label=False)).get_data_info(0)


def test_the_slower_writer_discards_its_own(small, tmp_path, monkeypatch):
    rename = os.rename

    def lose(source, target):
        monkeypatch.setattr(os, 'rename', rename)
        write_digit_scenes(tmp_path, 'single')
        (tmp_path / 'single' / 'winner').touch()
        rename(source, target)

    monkeypatch.setattr(os, 'rename', lose)
    write_digit_scenes(tmp_path, 'single')
    assert (tmp_path / 'single' / 'winner').exists()
    assert os.listdir(tmp_path) == ['single']


def test_a_crash_leaves_nothing(small, tmp_path, monkeypatch):
    monkeypatch.setattr(digit_scenes, 'checksum', lambda scenes: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_digit_scenes(tmp_path, 'single')
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize('content', [None, 'not json', '[]', '{"version": 1}'])
def test_foreign_or_incomplete_folder(tmp_path, content):
    (tmp_path / 'single').mkdir()
    if content:
        (tmp_path / 'single' / 'meta.json').write_text(content)
    with pytest.raises(InputError, match=r'single is not a complete DigitScenes folder: delete it'):
        DigitScenes(str(tmp_path))


def test_other_folders_and_names_are_refused(small, tmp_path):
    folder = write_digit_scenes(tmp_path / 'a', 'single')
    next((folder / 'train').glob('*/*.png')).unlink()
    with pytest.raises(InputError, match=r'train holds 29 images instead of 30: delete .*single'):
        DigitScenes(str(tmp_path / 'a'))
    assert len(DigitScenes(str(tmp_path / 'a'), split='val', indices=3)) == 3
    meta = json.loads((folder / 'meta.json').read_text())
    (folder / 'meta.json').write_text(json.dumps({**meta, 'version': 0}))
    with pytest.raises(InputError, match='of version 0, this release reads single of version 1: delete it'):
        DigitScenes(str(tmp_path / 'a'))
    for wrong in ({'subset': 'double'}, {'split': 'training'}):
        with pytest.raises(InputError, match=f'DigitScenes has no {next(iter(wrong))}'):
            DigitScenes(str(tmp_path / 'b'), **wrong)
    (tmp_path / 'file').touch()
    with pytest.raises(InputError, match=r'cannot write DigitScenes to .*set data_root'):
        write_digit_scenes(tmp_path / 'file' / 'data', 'single')
    assert sorted(os.listdir(tmp_path)) == ['a', 'file']


def test_difference_from_the_reference_is_reported(small, tmp_path, monkeypatch):
    logged = []
    monkeypatch.setattr(digit_scenes, 'print_log', lambda text, *args, **kwargs: logged.append(text))
    sums = {split: checksum(generate('single', split)) for split in SPLITS}
    write_digit_scenes(tmp_path / 'a', 'single')
    assert any('differs from the reference data' in text for text in logged)
    assert json.loads((tmp_path / 'a' / 'single' / 'meta.json').read_text())['checksums'] == sums
    logged.clear()
    monkeypatch.setitem(CHECKSUMS, 'single', sums)
    write_digit_scenes(tmp_path / 'b', 'single')
    assert ['Writing DigitScenes' in text for text in logged] == [True]


def test_command_line(small, tmp_path, monkeypatch, capsys):
    def convert(out):
        monkeypatch.setattr('sys.argv', ['digit_scenes.py', '--out', str(out)])
        runpy.run_path(str(ROOT / 'tools/dataset_converters/digit_scenes.py'), run_name='__main__')

    convert(tmp_path / 'x')
    printed = capsys.readouterr().out
    assert f'{tmp_path}/x/single: 32 px; 30 train, 6 val, 8 test images' in printed
    assert f'{tmp_path}/x/multi: 64 px; 30 train, 6 val, 8 test images' in printed
    (tmp_path / 'single').mkdir()
    with pytest.raises(SystemExit) as caught:
        convert(tmp_path)
    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith(f'error: {tmp_path}/single is not a complete DigitScenes folder')
