"""CLEVR's labels, and few samples of each class."""

import json

import pytest

from mmmim.datasets import CLEVR
from mmmim.datasets.few_shot import few_shot
from mmmim.utils import InputError
from tests.test_datasets.layouts import picture


def scene(name, *depths):
    return {'image_filename': name, 'objects': [{'pixel_coords': [1, 2, depth]} for depth in depths]}


def test_labels_by_file_name(tmp_path):
    (tmp_path / 'scenes').mkdir()
    picture(tmp_path / 'images/val/a.png')
    scenes = [scene('b.png', 9.0, 8.5, 12.0), scene('a.png', 10.1, 11, 12, 13), scene('c.png', *[7.9] * 10)]
    (tmp_path / 'scenes/CLEVR_val_scenes.json').write_text(json.dumps({'scenes': scenes}))
    for task, labels in (('count', [1, 0, 7]), ('distance', [5, 1, 0])):
        data = CLEVR(str(tmp_path), task, 'val', pipeline=[])
        assert [data.get_data_info(i)['gt_label'] for i in range(3)] == labels
        assert data.get_data_info(0)['img_path'] == str(tmp_path / 'images/val/a.png')
    for task, split, message in (
        ('size', 'val', 'no task'),
        ('count', 'test', 'split='),
        ('count', 'train', 'CLEVR_train_scenes.json is missing'),
    ):
        with pytest.raises(InputError, match=message):
            CLEVR(str(tmp_path), task, split, pipeline=[])
    (tmp_path / 'scenes/CLEVR_val_scenes.json').write_text(json.dumps({'scenes': [scene('a.png', 8.0)]}))
    with pytest.raises(InputError, match='has 1 objects'):
        CLEVR(str(tmp_path), 'count', 'val', pipeline=[])


def test_few_shot():
    labels = [4] * 5 + [2] * 2 + [4] * 3
    chosen = few_shot(labels, 3, seed=1)
    assert [labels[i] for i in chosen] == [4, 4, 4, 2, 2]
    assert len(set(chosen)) == 5
    assert chosen[3:] == [5, 6]
    assert [labels[i] for i in few_shot(labels, 3, 1, repeat=True)] == [4, 4, 4, 2, 2, 2]
    assert chosen != few_shot(labels, 3, seed=2)
