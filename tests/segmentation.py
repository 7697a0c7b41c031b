"""Tiny data sets of segmentation in their usual folders, and configs of configs/eval shrunk to them."""

from pathlib import Path
from typing import Any

import numpy as np
from mmengine import Config
from PIL import Image

from mmmim.apis.downstream import apply_pretrained
from tests.paths import ROOT

ADE, VOC = 'ade/ADEChallengeData2016', 'VOCdevkit/VOC2012'
#: Side of the crops, and of what label maps are resized to.
SIDE, LABELS = 64, 20


def write_pair(image: Path, labels: Path, values: Any, size: tuple[int, int] = (48, 80)) -> None:
    """An image whose left and right halves have two labels of ``values`` and a brightness of their own.

    Above and below them are the two labels that are not ignored: 255, or 0 where there is no 255.
    """
    rng = np.random.default_rng(len(str(image)))
    left = np.arange(size[1]) < size[1] // 2
    pixels = rng.integers(0, 60, (*size, 3)) + np.where(left, 150, 30)[None, :, None]
    label_map = np.where(left, *rng.choice(values, 2, replace=False))[None].repeat(size[0], 0)
    counted = [value for value in values if value != (255 if 255 in values else 0)]
    label_map[:8], label_map[-8:] = counted[0], counted[-1]
    for path, array in ((image, pixels), (labels, label_map)):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(array.astype(np.uint8)).save(path)


def write_data(folder: Path, fashion_scenes: Path) -> None:
    """ADE20K, VOC 2012 with SBD and Cityscapes of two or three images per list, and a link to FashionScenes."""
    for split in ('training', 'validation'):
        for i in range(2):
            path = f'{split}/{i}'
            root = folder / ADE
            write_pair(root / f'images/{path}.jpg', root / f'annotations/{path}.png', [0, 1, 150])
    for name, labels in (('train', 'SegmentationClass'), ('aug', 'SegmentationClassAug'), ('val', 'SegmentationClass')):
        root = folder / VOC
        for i in range(2):
            write_pair(root / f'JPEGImages/{name}{i}.jpg', root / f'{labels}/{name}{i}.png', [0, 20, 255])
        lists = root / 'ImageSets/Segmentation'
        lists.mkdir(parents=True, exist_ok=True)
        (lists / f'{name}.txt').write_text(f'{name}0\n{name}1\n')
    for split in ('train', 'val'):
        for i in range(2):
            path, root = f'{split}/town/town_{i}', folder / 'cityscapes'
            images, labels = (
                root / f'leftImg8bit/{path}_leftImg8bit.png',
                root / f'gtFine/{path}_gtFine_labelTrainIds.png',
            )
            write_pair(images, labels, [0, 18, 255])
    (folder / 'fashion_scenes').symlink_to(fashion_scenes)


def tiny_encoder(patch_size: int = 16, img_size: int = 64, depth: int = 6) -> dict:
    """A ViT of width 16."""
    options = {'img_size': img_size, 'patch_size': patch_size, 'embed_dim': 16, 'depth': depth, 'num_heads': 2}
    return {'type': 'mmmim.ViT', **options}


def shrink_segmentation(name: str, work_dir: Path, **encoder: int) -> Config:
    """``configs/eval/<name>.py`` for two iterations of a tiny encoder of random weights, in crops of 64 pixels."""
    cfg = Config.fromfile(ROOT / f'configs/eval/{name}.py')
    embedded = name.endswith('fashion')
    cfg.model.backbone.encoder = tiny_encoder(**({'patch_size': 4, 'img_size': 32} if embedded else {}) | encoder)
    apply_pretrained(cfg, 'random')
    train = cfg.train_dataloader.dataset.dataset
    sets = [*train.get('datasets', [train]), cfg.val_dataloader.dataset, cfg.test_dataloader.dataset]
    for transform in [] if embedded else [transform for each in sets for transform in each.pipeline]:
        if transform.type == 'mmmim.ResizeLabelMap':
            transform.scale = LABELS
        elif 'scale' in transform:
            keep = transform.get('keep_ratio')
            transform.scale = (2 * SIDE, SIDE) if keep else SIDE if keep is None else (SIDE, SIDE)
        elif 'crop_size' in transform:
            transform.crop_size = (SIDE, SIDE)
    if embedded:
        for each in sets:
            each.indices = 6
    else:
        cfg.model.data_preprocessor.size = (SIDE, SIDE)
    if cfg.model.test_cfg.mode == 'slide':
        cfg.model.test_cfg.update(crop_size=(SIDE, SIDE), stride=(43, 43))
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        loader.num_workers = 0
    cfg.global_batch_size = 2
    cfg.optim_wrapper.dtype = None
    cfg.train_cfg.update(max_iters=2, val_interval=2)
    if 'warmup' in cfg.param_scheduler:
        cfg.param_scheduler.warmup.update(start_factor=1.0, end=1)
        cfg.param_scheduler.decay.begin = 0
    cfg.default_hooks.logger.interval = 1
    cfg.custom_hooks = [hook for hook in cfg.custom_hooks if hook.type != 'mmmim.CurvesHook']
    cfg.work_dir, cfg.experiment_name = str(work_dir), f'{name}_{work_dir.name}'
    return cfg
