"""Lists of few-shot learning, splits without them, and a few images of each class."""

import json
from pathlib import Path

import pytest
import torch

from mmmim.datasets import CoOpSplit
from mmmim.datasets.classification import coop
from mmmim.datasets.few_shot import few_shot
from mmmim.datasets.label_spaces import label_spaces
from mmmim.registry import DATASETS
from mmmim.utils import InputError
from tests.test_datasets.image_level import PIPELINE, build, config, images, labels, paths
from tests.test_datasets.layouts import LAYOUTS, picture, text


@pytest.fixture(autouse=True)
def at_root(tmp_path, monkeypatch):
    """The data lie where the configs look for them."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    'content',
    [
        'no JSON',
        '[]',
        '[' * 100_000,
        {'train': [], 'val': []},
        {'train': [['a.jpg', '0', 'a']], 'val': [], 'test': []},
        {'train': [['a.jpg', True, 'a']], 'val': [], 'test': []},
        {'train': [['a.jpg', 0]], 'val': [], 'test': []},
        {'train': [['a.jpg', 0, 'a']], 'val': [['b.jpg', 0, 'b']], 'test': []},
        {'train': [['a.jpg', 1, 'a']], 'val': [], 'test': []},
    ],
    ids=lambda content: str(content)[:30],
)
def test_lists_of_coop_that_are_none(content):
    LAYOUTS['dtd_coop'].write(Path('data'))
    text(
        Path('data/dtd/split_zhou_DescribableTextures.json'),
        content if isinstance(content, str) else json.dumps(content),
    )
    with pytest.raises(InputError, match=r'[Ll]ist of CoOp'):
        build('dtd_coop', 'train')


@pytest.mark.parametrize('name', ['caltech101', 'dtd', 'flowers102', 'pets', 'cars', 'sun397'])
def test_without_a_list_all_images_are_divided(name, monkeypatch):
    LAYOUTS[name].write(Path('data'))
    monkeypatch.setattr(coop, 'SHARES', (0, 0))  # there are too few to be divided
    test = build(f'{name}_coop', 'val')
    official = [build(name, part) for part in ('train', 'val')]
    assert sorted(paths(test)) == sorted(path for part in official for path in paths(part))
    if name not in ('caltech101', 'dtd'):  # whose classes are folders here
        assert sorted(images(test)) == sorted(image for part in official for image in images(part))
        assert test.metainfo['classes'] == official[0].metainfo['classes']
    (space,) = label_spaces('test', test)
    assert 'split_zhou_' in space.note
    assert 'not comparable' in space.note


def test_the_shares_of_a_split_without_a_list():
    for i in range(20):
        picture(Path(f'data/ucf101/UCF-101-midframes/{"Biking" if i % 2 else "Archery"}/{i}.jpg'))
    parts = [build('ucf101_coop', 'train', split=split) for split in ('train', 'val', 'test')]
    assert [labels(part) for part in parts] == [[0] * n + [1] * n for n in (5, 2, 3)]
    assert len({path for part in parts for path in paths(part)}) == 20
    train = paths(parts[0])
    assert paths(build('ucf101_coop', 'train')) == train
    assert paths(build('ucf101_coop', 'train', seed=2)) != train


def test_classes_that_caltech101_leaves_out():
    for folder in ('BACKGROUND_Google', 'Faces', 'Faces_easy', 'ant'):
        for i in range(4):
            picture(Path(f'data/caltech-101/101_ObjectCategories/{folder}/{i}.jpg'))
    train = build('caltech101_coop', 'train')
    assert train.metainfo['classes'] == ('Faces', 'ant')
    assert labels(train) == [0, 0, 1, 1]


def test_the_pool_of_a_split_must_have_its_files():
    Path('data/dtd').mkdir(parents=True)
    options = {k: v for k, v in config('dtd_coop').train_set.items() if k != 'type'}
    with pytest.raises(InputError, match=r'no image folder data/dtd/images.*dataset_prepare\.md#few-shot-lists'):
        CoOpSplit(**options)


@pytest.mark.parametrize('name', ['cifar10', 'imagenet', 'dtd', 'dtd_coop', 'clevr_count', 'places205'])
def test_few_images_of_each_class_of_any_data_set(name):
    LAYOUTS[name].write(Path('data'))
    whole = build(name, 'train')
    options = {'type': 'mmmim.FewShot', 'dataset': {**config(name).train_set, 'pipeline': PIPELINE}}
    chosen = DATASETS.build({**options, 'shots': 1, 'seed': 3})
    places = few_shot(labels(whole), 1, 3)
    assert sorted(labels(chosen)) == sorted(set(labels(whole)))
    for i, place in enumerate(places):
        assert torch.equal(chosen[i]['inputs'], whole[place]['inputs'])
        assert chosen.get_data_info(i)['img_path'] == whole.get_data_info(place)['img_path']
    assert chosen.metainfo == whole.metainfo
    most = max(map(labels(whole).count, labels(whole)))
    assert len(DATASETS.build({**options, 'shots': most})) == len(whole)
    with pytest.raises(InputError, match=f'shots={most + 1}, and no class of .* more than {most} images'):
        DATASETS.build({**options, 'shots': most + 1})
    assert len(whole) > len(chosen) or len(set(labels(whole))) == len(whole)


def test_few_images_need_one_class_each():
    LAYOUTS['objectnet'].write(Path('data'))
    objects = config('objectnet').val_set
    unlabelled = {'type': 'mmmim.ImageFolder', 'data_root': 'data/imagenet'}
    for dataset, shots, words in (
        (objects, 1, r'\[409, 530\]'),
        (unlabelled, 1, 'has None'),
        (unlabelled, 0, 'shots must be'),
    ):
        with pytest.raises(InputError, match=words):
            DATASETS.build({'type': 'mmmim.FewShot', 'dataset': dataset, 'shots': shots})
