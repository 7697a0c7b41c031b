"""Data sets of whole images: each reads its layout, says what is missing, and reads nothing outside of its folder."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from mat4py import loadmat, savemat
from PIL import Image

from mmmim.apis.downstream import apply_pretrained
from mmmim.config.read import load_config
from mmmim.datasets.label_spaces import check_agreement, label_spaces
from mmmim.engine import Runner
from mmmim.engine.config_check import check_config
from mmmim.registry import DATASETS
from mmmim.utils import InputError
from tests.paths import ROOT
from tests.segmentation import tiny_encoder
from tests.test_datasets.image_level import BASE, CONFIGS, build, config, labels
from tests.test_datasets.layouts import LAYOUTS, SIZE, WNIDS, picture, text
from tests.test_pages import anchors

#: Configs whose classes are those of the files, of which the layouts have a few.
OF_FILES = {'imagenet', 'imagenet_1pct', 'imagenet_10pct', 'imagenet100', 'inat2021', 'inat2021_mini', 'places365'}


@pytest.fixture(autouse=True)
def at_root(tmp_path, monkeypatch):
    """The data lie where the configs look for them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv('MMMIM_FOLDER', raising=False)


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
    if config(name).val_set.type not in ('mmmim.ObjectNet', 'mmmim.ImageNetTestSet'):
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
fit_dataloader = dict(
    batch_size=2,
    dataset=dict(
        type='mmmim.FewShot',
        shots=1,
        dataset=dict(**_base_.train_set, pipeline=_base_.val_pipeline, test_mode=True),
    ),
)
model = dict(head=dict(num_classes={{{{_base_.num_classes}}}}))
"""


#: Of protocols; one changes the pipeline of a pre-training.
PIPELINES = sorted({path.stem for path in (BASE / 'pipelines').glob('*.py')} - {'second_view'})


@pytest.mark.parametrize('pipeline', PIPELINES)
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
        assert pipeline in ('whole', 'fashion') or dataset[0]['inputs'].shape == (3, 224, 224)
    assert cfg.val_dataloader.dataset.type == config(data).val_set.type
    cfg.fit_dataloader.dataset.shot = 2
    with pytest.raises(InputError, match=r'no option fit_dataloader.dataset.shot \(did you mean shots'):
        check_config(cfg)


def test_a_probe_is_fitted_on_images_in_memory(monkeypatch):
    """And on other ones where the file is another, of which no features are in the cache."""
    monkeypatch.setenv('MMMIM_DATA', 'cifar10')
    folder = Path('data/cifar10/cifar-10-batches-py')
    LAYOUTS['cifar10'].write(Path('data'))
    scores = []
    for run in range(2):
        cfg = load_config('eval/cls_knn_imagenet')
        cfg.test_cfg.probe.k, cfg.fit_dataloader.num_workers, cfg.test_dataloader.num_workers = [1], 0, 0
        cfg.model.backbone.encoder = tiny_encoder(32, 224, depth=1)
        apply_pretrained(cfg, 'random')
        cfg.work_dir, cfg.experiment_name, cfg.test_cfg.cache.folder = 'run', f'cifar_{run}_{Path.cwd().name}', 'cache'
        scores.append(Runner.from_cfg(cfg).test()['k_1/accuracy/top1'])
        # Some images to fit on become those of the test: their classes are found.
        (folder / 'data_batch_1').write_bytes((folder / 'test_batch').read_bytes())
    assert scores[1] == 100
    assert len(list(Path('cache').glob('features*'))) == 3


def test_any_folder_of_classes(monkeypatch):
    for split in ('train', 'val'):
        for name in ('x', 'y', 'z', '.hidden'):
            picture(Path(f'photos/{split}/{name}/1.jpg'))
    monkeypatch.setenv('MMMIM_FOLDER', 'photos')
    assert config('folder').num_classes == 3
    assert build('folder', 'val').metainfo['classes'] == ('x', 'y', 'z')
