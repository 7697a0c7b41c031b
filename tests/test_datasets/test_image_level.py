"""Data sets of whole images: each reads its layout, says what is missing, and reads nothing outside of its folder."""

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from mat4py import loadmat, savemat
from mmengine import Config
from mmengine.evaluator import Evaluator
from mmpretrain import datasets as mmpretrain_sets
from mmpretrain.structures import DataSample
from PIL import Image

from mmmim.config.read import load_config
from mmmim.datasets import CIFAR10, CoOpSplit, ImageFolder, ObjectNet
from mmmim.datasets.classification import coop
from mmmim.datasets.classification.imagenet_tests import imagenet_classes
from mmmim.datasets.few_shot import few_shot
from mmmim.datasets.label_spaces import check_agreement, label_spaces
from mmmim.datasets.transforms import LoadImage
from mmmim.engine.config_check import check_config
from mmmim.registry import DATASETS, METRICS
from mmmim.utils import InputError
from tests.paths import ROOT
from tests.test_datasets.layouts import LAYOUTS, SIZE, WNIDS, cifar, picture, python2_batch, text
from tests.test_pages import anchors

BASE = ROOT / 'configs/_base_'
CONFIGS = {path.stem.removeprefix('cls_'): path for path in (BASE / 'datasets').glob('cls_*.py')}
del CONFIGS['fashion_fitted']
PIPELINE = [{'type': 'mmmim.LoadImage'}, {'type': 'mmpretrain.PackInputs'}]
#: Configs whose classes are those of the files, of which the layouts have a few.
OF_FILES = {'imagenet', 'imagenet_1pct', 'imagenet_10pct', 'imagenet100', 'inat2021', 'inat2021_mini', 'places365'}


@pytest.fixture(autouse=True)
def at_root(tmp_path, monkeypatch):
    """The data lie where the configs look for them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv('MMMIM_FOLDER', raising=False)


def config(name):
    return Config.fromfile(CONFIGS[name])


def build(name, part, **changes):
    return DATASETS.build({**config(name)[f'{part}_set'], 'pipeline': PIPELINE, **changes})


def labels(dataset):
    return [dataset.get_data_info(i)['gt_label'] for i in range(len(dataset))]


def images(dataset):
    return list(zip(paths(dataset), labels(dataset), strict=True))


def paths(dataset):
    return [dataset.get_data_info(i)['img_path'] for i in range(len(dataset))]


def test_every_config_has_a_layout():
    assert set(CONFIGS) == set(LAYOUTS)


@pytest.mark.parametrize('name', LAYOUTS)
def test_reads_its_layout(name):
    layout = LAYOUTS[name]
    layout.write(Path('data'))
    cfg = config(name)
    assert {'train_set', 'val_set', 'num_classes'} <= set(cfg)
    train, val = build(name, 'train'), build(name, 'val', test_mode=True)
    assert (labels(train), labels(val)) == (layout.train, layout.val)
    assert (train.test_mode, val.test_mode) == (False, True)
    classes = val.metainfo['classes']
    assert {label: classes[label] for label in layout.classes} == layout.classes
    if name not in OF_FILES and not name.endswith('_coop'):
        assert len(classes) == cfg.num_classes
    if train.metainfo['classes'] == WNIDS[:2]:  # the folder of the tests, not all of ImageNet
        train = build(name, 'train', metainfo={'classes': classes[:2]})
        classes = classes[:2]
    if name not in ('objectnet', *(f'imagenet_{x}' for x in ('a', 'r', 'sketch', 'v2'))):
        assert check_agreement([*label_spaces('train', train), *label_spaces('val', val)]) == []
    for dataset in (train, val):
        sample = dataset[0]
        pixels, frame = sample['inputs'].int(), 1 if name == 'objectnet' and dataset is val else 0
        if 'cifar' in name:
            assert pixels.shape == (3, 32, 32)
            continue
        assert pixels.shape == (3, SIZE[1] - 2 * frame, SIZE[0] - 2 * frame)
        assert set((pixels[2] - pixels[0]).flatten().tolist()) == {50}  # BGR: red is the last
        expected = np.asarray(Image.open(dataset.get_data_info(0)['img_path']))[0, 0, 1]
        assert pixels[1].unique().tolist() == [expected]
        assert sample['data_samples'].gt_label.tolist() == np.atleast_1d(labels(dataset)[0]).tolist()


@pytest.mark.parametrize('name', LAYOUTS)
def test_what_is_missing_is_one_sentence(name):
    layout = LAYOUTS[name]
    if name == 'objectnet' or (name.startswith('imagenet_') and 'pct' not in name):
        LAYOUTS['imagenet'].write(Path('data'))  # what is trained on is there
    with pytest.raises(InputError) as caught:
        build(name, 'val')
    message = str(caught.value)
    assert f'data/{layout.folder}' in message
    assert '\n' not in message
    (section,) = [part.split()[0].rstrip(':.') for part in message.split('docs/en/dataset_prepare.md#')[1:]]
    assert section in anchors(ROOT / 'docs/en/dataset_prepare.md')


@pytest.mark.parametrize(
    ('name', 'file', 'words'),
    [
        ('dtd', 'dtd/imdb/imdb.mat', r'imdb\.mat is missing: data/dtd must hold images/ and imdb/imdb\.mat of dtd-r1'),
        ('cars', 'stanford_cars/devkit', 'annotation file is missing: data/stanford_cars must hold cars_train/, cars'),
        (
            'cifar10',
            'cifar10/cifar-10-batches-py/data_batch_4',
            'data_batch_4 is missing: data/cifar10 must hold cifar',
        ),
        ('places365', 'places365/data_256_standard', r'00000001\.jpg is missing: data/places365 must hold data_256'),
        ('objectnet', 'objectnet-1.0/mappings', 'folder_to_objectnet_label.json is missing'),
        ('imagenet_1pct', 'imagenet/1percent.txt', 'list_file=data/imagenet/1percent.txt cannot be read'),
        ('imagenet_10pct', f'imagenet/train/{WNIDS[0]}', r'1 of the 2 images that .*10percent.txt names are not in'),
    ],
)
def test_parts_that_are_missing(name, file, words):
    LAYOUTS[name].write(Path('data'))
    path = Path('data') / file
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(InputError, match=words):
        build(name, 'val' if name == 'objectnet' else 'train')


def replace_in(path, old, new):
    if path.suffix == '.mat':
        savemat(str(path), json.loads(json.dumps(loadmat(str(path))).replace(old, new)))
    else:
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new, 1))


@pytest.mark.parametrize('up', ['', '../' * 40], ids=['absolute', 'upwards'])
@pytest.mark.parametrize(
    ('name', 'file', 'old'), [(name, *item) for name, layout in LAYOUTS.items() for item in layout.lists.items()]
)
def test_lists_name_nothing_outside_of_the_folder(name, file, old, up, tmp_path):
    """Though there is an image at the place that they name."""
    LAYOUTS[name].write(Path('data'))
    for suffix in ('.jpg', '.png', '.JPEG', '/a.png'):
        picture(tmp_path / f'outside{suffix}')
    replace_in(Path('data') / file, old, up + str(tmp_path / 'outside'))
    with pytest.raises(InputError, match=r'outside|cannot be read as (Food|SUN)'):
        [build(name, part) for part in ('train', 'val')]


def test_a_class_of_sun397_that_is_reached_upwards():
    LAYOUTS['sun397'].write(Path('data'))
    shutil.copytree('data/sun397/SUN397/a/abbey', 'data/sun397/abbey')
    replace_in(Path('data/sun397/Partitions/Training_01.txt'), '/a/abbey/', '/../abbey/')
    with pytest.raises(InputError, match=r'SUN397/\.\./abbey/sun_a\.jpg, which lies outside data/sun397/SUN397'):
        build('sun397', 'train')


@pytest.mark.parametrize(
    ('name', 'file', 'old', 'new'),
    [
        ('places205', 'places205/train_places205.csv', ' 204', ' 205'),
        ('places365', 'places365/places365_train_standard.txt', ' 1', ' -1'),
        ('dtd', 'dtd/imdb/imdb.mat', '[1, 2, 1, 47]', '[1, 48, 1, 47]'),
        ('sun397', 'sun397/Partitions/Training_01.txt', '/a/abbey', '/a/abyss'),
        ('pets', 'oxford_pets/annotations/trainval.txt', ' 37 2 25', ''),
        ('clevr_count', 'clevr/CLEVR_v1.0/scenes/CLEVR_train_scenes.json', '{', '['),
        ('objectnet', 'objectnet-1.0/mappings/objectnet_to_imagenet_1k.json', 'digital', 'sand'),
    ],
)
def test_lists_of_something_else(name, file, old, new):
    LAYOUTS[name].write(Path('data'))
    replace_in(Path('data') / file, old, new)
    with pytest.raises(InputError, match=r'label|cannot be read as'):
        build(name, 'val' if name == 'objectnet' else 'train')


@pytest.mark.parametrize(
    ('name', 'options', 'words'),
    [
        ('dtd', {'split': 'all'}, "DTD: The split must be one of .*'all'"),
        ('cifar10', {'split': 'val'}, "CIFAR10.split must be 'train' or 'test'"),
        ('sun397', {'partition': 11}, 'partition must be a whole number of at least 1 and up to 10'),
        ('imagenet', {'list_file': 'x', 'with_label': False}, 'with_label=True'),
    ],
)
def test_options_without_a_meaning(name, options, words):
    LAYOUTS[name].write(Path('data'))
    with pytest.raises(InputError, match=words):
        build(name, 'train', **options)


def test_partitions_of_sun397():
    LAYOUTS['sun397'].write(Path('data'))
    assert labels(build('sun397', 'train', partition=2)) == [395, 0]
    assert labels(build('sun397', 'val', partition=2)) == [8, 0]


# CIFAR


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


# The lists of few-shot learning


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


# A few images of each class


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
    assert len(DATASETS.build({**options, 'shots': 100})) == len(whole)
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


# Test sets of ImageNet-1k


def test_classes_of_imagenet():
    import timm

    info = Path(timm.__file__).parent / 'data/_info'
    assert list(imagenet_classes()) == (info / 'imagenet_synsets.txt').read_text().split()
    assert list(imagenet_classes()) == sorted(imagenet_classes())


def test_predictions_are_restricted_where_the_benchmark_does():
    restricted = {}
    for name in ('imagenet_a', 'imagenet_r', 'imagenet_sketch', 'imagenet_v2', 'objectnet'):
        LAYOUTS[name].write(Path(name) / 'data')
        root = Path(name) / config(name).val_set.data_root
        restricted[name] = build(name, 'val', data_root=str(root)).metainfo.get('evaluated_classes')
    assert restricted['imagenet_a'] == restricted['imagenet_r'] == LAYOUTS['imagenet_a'].val
    assert [restricted[name] for name in ('imagenet_sketch', 'imagenet_v2', 'objectnet')] == [None] * 3
    objects = ObjectNet('objectnet/data/objectnet-1.0', restricted=True)
    assert objects.metainfo['evaluated_classes'] == [409, 414, 530]


def test_test_sets_with_other_folders():
    LAYOUTS['imagenet_a'].write(Path('data'))
    shutil.move(f'data/imagenet-a/{WNIDS[3]}', 'data/imagenet-a/dogs')
    with pytest.raises(InputError, match=r"imagenet-a has 200 .* must have 200 .* and 'dogs' is none"):
        build('imagenet_a', 'val')
    shutil.rmtree('data/imagenet-a/dogs')
    with pytest.raises(InputError, match=r'has 199 class folders with images and must have 200'):
        build('imagenet_a', 'val')


def scored(samples, **metainfo):
    evaluator = Evaluator([METRICS.build({'type': 'mmmim.AcceptedAccuracy'})])
    evaluator.dataset_meta = metainfo
    evaluator.process(data_samples=samples, data_batch=None)
    return evaluator.evaluate(len(samples))


def sample(scores, *accepted):
    return DataSample().set_pred_score(torch.tensor(scores)).set_gt_label(list(accepted))


def test_accuracy_with_several_labels_and_some_classes():
    samples = [
        sample([0.1, 0.7, 0.2], 0, 1),  # the first of two labels
        sample([0.5, 0.3, 0.2], 2),  # wrong, and right among the classes 1 and 2 ... not
        sample([0.6, 0.1, 0.3], 2),  # right among 1 and 2
        sample([0.2, 0.7, 0.1], -1),  # without a label
    ]
    assert scored(samples) == {'accuracy/top1': pytest.approx(100 / 3)}
    assert scored(samples, evaluated_classes=[1, 2]) == {'accuracy/top1': pytest.approx(200 / 3)}
    single = samples[1:3]
    plain = Evaluator([METRICS.build({'type': 'mmpretrain.Accuracy'})])
    plain.process(data_samples=single, data_batch=None)
    assert scored(single) == plain.evaluate(2)
    votes = [DataSample().set_pred_label(2).set_gt_label([1, 2]), DataSample().set_pred_label(0).set_gt_label([1])]
    assert scored(votes) == {'accuracy/top1': 50}
    with pytest.raises(InputError, match='needs scores of all classes'):
        scored(votes, evaluated_classes=[1, 2])


# How a protocol takes them

PROTOCOL = """
_base_ = ['{base}/datasets/cls_{{{{$MMMIM_DATA:imagenet}}}}.py', '{base}/pipelines/{pipeline}.py']

train_dataloader = dict(
    batch_size=2,
    sampler=dict(type='mmmim.PositionSampler', shuffle=True),
    dataset=dict(
        type='mmmim.SeededDataset', dataset=dict(**_base_.train_set, pipeline=_base_.train_pipeline)
    ),
)
val_dataloader = dict(batch_size=2, dataset=dict(**_base_.val_set, pipeline=_base_.val_pipeline, test_mode=True))
fit_dataloader = dict(batch_size=2, dataset=dict(**_base_.train_set, pipeline=_base_.val_pipeline, test_mode=True))
model = dict(head=dict(num_classes={{{{_base_.num_classes}}}}))
"""


@pytest.mark.parametrize('pipeline', sorted(path.stem for path in (BASE / 'pipelines').glob('*.py')))
@pytest.mark.parametrize('data', ['cifar100', 'objectnet', 'dtd_coop', 'folder', 'flowers102'])
def test_a_protocol_takes_any_data_set(data, pipeline, monkeypatch):
    """One file, whose data set an environment variable names."""
    LAYOUTS[data].write(Path('data'))
    text(Path('protocol.py'), PROTOCOL.format(base=BASE, pipeline=pipeline))
    monkeypatch.setenv('MMMIM_DATA', data)
    cfg = load_config('protocol.py')
    assert cfg.model.head.num_classes == cfg.num_classes
    cfg.pop('model')
    check_config(cfg)
    for key in ('train', 'val', 'fit'):
        dataset = DATASETS.build(cfg[f'{key}_dataloader'].dataset)
        assert dataset[0]['inputs'].shape == (3, 224, 224)
    assert cfg.val_dataloader.dataset.type == config(data).val_set.type


def test_any_folder_of_classes(monkeypatch):
    for split in ('train', 'val'):
        for name in ('x', 'y', 'z', '.hidden'):
            picture(Path(f'photos/{split}/{name}/1.jpg'))
    monkeypatch.setenv('MMMIM_FOLDER', 'photos')
    assert config('folder').num_classes == 3
    assert build('folder', 'val').metainfo['classes'] == ('x', 'y', 'z')


def test_images_in_memory_have_the_channels_that_are_asked_for():
    cifar({'test_batch': [1]}, 'cifar10/cifar-10-batches-py', 'labels')(Path('data'))
    grey = CIFAR10('data/cifar10', split='test', pipeline=[LoadImage(channels=1)])
    with pytest.raises(InputError, match='in memory and have 3 channels'):
        grey[0]


def test_a_list_keeps_the_numbers_of_all_classes():
    LAYOUTS['imagenet'].write(Path('data'))
    text(Path('one.txt'), f'{WNIDS[1]}_0.JPEG')
    part = ImageFolder('data/imagenet/train', with_label=True, list_file='one.txt')
    assert labels(part) == [1]
    assert part.metainfo['classes'] == WNIDS[:2]
    assert check_agreement([*label_spaces('train', part), *label_spaces('val', build('imagenet', 'val'))]) == []


def test_the_pool_of_a_split_must_have_its_files():
    Path('data/dtd').mkdir(parents=True)
    options = {k: v for k, v in config('dtd_coop').train_set.items() if k != 'type'}
    with pytest.raises(InputError, match=r'no image folder data/dtd/images.*dataset_prepare\.md#few-shot-lists'):
        CoOpSplit(**options)
