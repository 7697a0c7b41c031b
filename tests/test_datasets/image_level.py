"""Data sets of configs/_base_/datasets/cls_*.py, as the tests build them."""

from mmengine import Config

from mmmim.registry import DATASETS
from tests.paths import ROOT

BASE = ROOT / 'configs/_base_'
CONFIGS = {path.stem.removeprefix('cls_'): path for path in (BASE / 'datasets').glob('cls_*.py')}
del CONFIGS['fashion']  # written on first use
PIPELINE = [{'type': 'mmmim.LoadImage'}, {'type': 'mmpretrain.PackInputs'}]


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
