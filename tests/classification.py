"""Tiny folders of classes, and configs of configs/eval that train a classifier, shrunk to them."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from mmengine import Config
from PIL import Image

from mmmim.apis.downstream import apply_pretrained
from tests.paths import ROOT

#: Trained protocols of whole images.
NAMES = sorted(
    path.stem
    for path in ROOT.glob('configs/eval/cls_*.py')
    if not path.stem.startswith(('cls_knn', 'cls_nn', 'cls_logreg', 'cls_corruptions'))
)
CLASSES, PER_CLASS, SIDE = 3, 6, 32
#: An encoder with a block for every protocol.
ENCODER = {'type': 'mmmim.ViT', 'img_size': SIDE, 'patch_size': 8, 'embed_dim': 64, 'depth': 7, 'num_heads': 2}
_NUMBER = itertools.count()


def load(name: str) -> Config:
    """``configs/eval/<name>.py``."""
    return Config.fromfile(ROOT / f'configs/eval/{name}.py')


def write_classes(folder: Path) -> Path:
    """Folders ``train`` and ``val`` of classes that a shade of grey tells apart."""
    rng = np.random.default_rng(0)
    for split, kind in itertools.product(('train', 'val'), range(CLASSES)):
        path = folder / split / f'class_{kind}'
        path.mkdir(parents=True)
        for i in range(PER_CLASS):
            pixels = rng.integers(0, 60, (40, 48, 3)) + 60 * kind
            Image.fromarray(pixels.astype(np.uint8)).save(path / f'{i}.png')
    return folder


def image_sets(node: Any) -> Iterator[Any]:
    """The data sets inside wrappers, which have a pipeline."""
    if 'pipeline' in node:
        yield node
    else:
        yield from image_sets(node.dataset)


def _shrink_transform(transform: Any) -> None:
    for key, size in (('scale', SIDE + 4 if transform['type'].endswith('ResizeEdge') else SIDE), ('crop_size', SIDE)):
        if key in transform:
            transform[key] = (size, size) if isinstance(transform[key], tuple | list) else size


def shrink_classification(name: str, folder: Path, work_dir: Path, **options: Any) -> Config:
    """``configs/eval/<name>.py`` for two iterations of a tiny encoder of random weights on the classes of a folder.

    Args:
        name: Name of the config.
        folder: What :func:`write_classes` wrote.
        work_dir: Where it trains.
        options: Options of the encoder.
    """
    cfg = load(name)
    if name.endswith('predicted'):
        cfg.model.head.head_dim = 32
        apply_pretrained(cfg, 'capi/small')
    else:
        cfg.model.backbone.encoder = {**ENCODER, **options}
        apply_pretrained(cfg, 'random')
    for key in ('train', 'val', 'test'):
        loader = cfg[f'{key}_dataloader']
        loader.num_workers = 0
        (images,) = image_sets(loader.dataset)
        for transform in images.pipeline:
            _shrink_transform(transform)
        kept = {name: images[name] for name in ('pipeline', 'test_mode') if name in images}
        part = 'val' if key == 'test' or (loader.dataset.get('type') != 'mmmim.Split' and key == 'val') else 'train'
        images.clear()
        images.update(type='mmmim.ImageFolder', data_root=str(folder / part), with_label=True, **kept)
        node = loader.dataset
        while 'dataset' in node:
            if node.get('type') == 'mmmim.FewShot':
                node.shots = PER_CLASS - 1
            node = node.dataset
        # Not half of a pair whose order is that of its classes.
        if key != 'test' and loader.dataset.get('type') == 'mmmim.Split':
            loader.dataset.share = 0.7
    if cfg.train_dataloader.dataset.dataset.type == 'mmmim.Split':
        cfg.train_dataloader.dataset.dataset.share = 0.7
    cfg.model.head.num_classes = CLASSES
    if 'num_classes' in cfg.model.data_preprocessor:
        cfg.model.data_preprocessor.num_classes = CLASSES
    cfg.global_batch_size = 8
    if cfg.train_cfg.type == 'mmmim.EpochsTrainLoop':
        cfg.train_cfg.max_epochs = 1  # of 18 images: two iterations
    else:
        cfg.train_cfg.update(max_iters=2, val_interval=2)
    if cfg.optim_wrapper.type == 'mmmim.OptimWrapper':
        cfg.optim_wrapper.dtype = None
    cfg.default_hooks.logger.interval = 1
    cfg.custom_hooks = [hook for hook in cfg.custom_hooks if hook.type != 'mmmim.CurvesHook']
    cfg.work_dir, cfg.experiment_name = str(work_dir), f'{name}_{next(_NUMBER)}'
    return cfg
