"""Fitted configs of configs/eval on a handful of images, with a tiny encoder of random weights."""

from pathlib import Path

import numpy as np
from mmengine import Config
from PIL import Image

from mmmim.apis.downstream import apply_pretrained
from tests.paths import ROOT
from tests.segmentation import ADE, tiny_encoder

SIDE, PATCH, TRAIN, TEST = 32, 8, 10, 5


def write_ade20k(folder: Path) -> None:
    """Ten images to fit on and five to test; a border of labels, some of them ignored, runs through patches."""
    rng = np.random.default_rng(0)
    for split, number in (('training', TRAIN), ('validation', TEST)):
        for i in range(number):
            size = (40, 40 + 4 * i)
            left, right = rng.choice([0, 1, 2, 150], 2, replace=False)
            side = np.arange(size[1]) < 11 * size[1] // 32
            labels = np.where(side, left, right)[None].repeat(size[0], 0)
            image = 1.2 * labels[..., None] + rng.integers(0, 60, (*size, 3))
            root = folder / 'data' / ADE
            for path, array in (
                (root / f'images/{split}/{i}.jpg', image),
                (root / f'annotations/{split}/{i}.png', labels),
            ):
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(array.astype(np.uint8)).save(path)


def fitted_config(name: str, folder: Path, **changes) -> Config:
    """``configs/eval/<name>.py``, run in ``folder``."""
    cfg = Config.fromfile(ROOT / f'configs/eval/{name}.py')
    cfg.model.backbone.encoder = tiny_encoder(PATCH, SIDE, depth=3)
    apply_pretrained(cfg, 'random')
    for loader in (cfg.fit_dataloader, cfg.test_dataloader):
        loader.num_workers, loader.batch_size = 0, 3
        for transform in loader.dataset.get('pipeline', []):
            if 'scale' in transform and name.startswith('seg'):
                transform.scale = (SIDE, SIDE)
    cfg.test_cfg.cache.folder = str(folder / 'cache')
    cfg.work_dir, cfg.experiment_name = str(folder / 'run'), f'{name}_{folder.name}'
    cfg.merge_from_dict(changes)
    return cfg


def write_classes(folder: Path, per_class: tuple[int, int] = (6, 3), classes: int = 8) -> None:
    """Images of classes that have a colour, and much noise, in class folders of ``train/`` and ``val/``."""
    rng = np.random.default_rng(0)
    colours = rng.integers(80, 176, (classes, 1, 1, 3))
    for split, number in zip(('train', 'val'), per_class, strict=True):
        for label in range(classes):
            for i in range(number):
                coarse = colours[label] + rng.normal(0, 250, (7, 7, 3))
                image = Image.fromarray(coarse.clip(0, 255).astype(np.uint8)).resize(
                    (230, 226), Image.Resampling.NEAREST
                )
                path = folder / split / f'class{label}' / f'{i}.png'
                path.parent.mkdir(parents=True, exist_ok=True)
                image.save(path)
