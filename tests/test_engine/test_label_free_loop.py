"""Evaluations without labels: every config on tiny data, images of different sizes, scores, reports, errors."""

import json
from pathlib import Path

import numpy as np
import pytest
from mmengine import Config
from mmengine.hooks import Hook
from PIL import Image

from mmmim.apis.downstream import apply_pretrained
from mmmim.engine import Runner
from mmmim.engine.config_check import check_config
from mmmim.evaluation.label_free.boxes import box_iou
from mmmim.evaluation.label_free.clusters import PatchTree, spread
from mmmim.evaluation.label_free.discovery import lost, tokencut
from mmmim.evaluation.label_free.scores import matched_iou
from mmmim.utils import InputError
from tests.boxes import COCO, SIZES, VOC, write_coco, write_voc
from tests.paths import ROOT
from tests.runs import log_of
from tests.segmentation import tiny_encoder, write_data
from tests.toys import mae_config, save_model

NAMES = sorted(path.stem for kind in ('discovery', 'cluster') for path in (ROOT / 'configs/eval').glob(f'{kind}_*.py'))


class KeepSamples(Hook):
    def after_test_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        runner.samples += zip(data_batch['inputs'], outputs, strict=True)


@pytest.fixture(scope='module')
def root(tmp_path_factory, fashion_scenes):
    folder = tmp_path_factory.mktemp('objects')
    write_data(folder / 'data', fashion_scenes)
    write_voc(folder / VOC)
    write_voc(folder / 'voc12')
    for path in (folder / 'voc12').glob('*/*'):  # beside the images of segmentation
        target = folder / VOC.replace('2007', '2012') / path.relative_to(folder / 'voc12')
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(target)
    write_coco(folder / COCO)
    return folder


@pytest.fixture(autouse=True)
def at_root(root, monkeypatch):
    monkeypatch.chdir(root)


def config(name, work_dir, pretrained=None, **changes):
    cfg = Config.fromfile(ROOT / f'configs/eval/{name}.py')
    if pretrained is None:
        cfg.model.backbone.encoder = tiny_encoder(8, 32, depth=2)
    apply_pretrained(cfg, pretrained or 'random')
    cfg.test_dataloader.update(num_workers=0, batch_size=3, persistent_workers=False)
    if 'fashion' in name:
        cfg.test_dataloader.dataset.indices = 4
    elif 'cluster' in name:
        cfg.model.resize = 32
    elif 'dinoseg' in name:
        cfg.test_cfg.probe.head = 1
    cfg.work_dir, cfg.experiment_name = str(work_dir), f'{name}_{work_dir.name}'
    cfg.merge_from_dict({key.replace('__', '.'): value for key, value in changes.items()})
    return cfg


def run(name, work_dir, *args, **changes):
    cfg = config(name, work_dir, *args, **changes)
    check_config(cfg)
    runner = Runner.from_cfg(cfg)
    runner.register_hook(KeepSamples())
    runner.samples = []
    return runner, runner.test()


@pytest.mark.parametrize('name', NAMES)
def test_every_config(name, tmp_path):
    runner, scores = run(name, tmp_path)
    images = {'fashion': 4, 'voc2007': 3, 'coco20k': 2, 'ade20k': 2}
    expected = 2 if name == 'cluster_voc2012' else 3 if 'voc2012' in name else images[name.rpartition('_')[2]]
    kind = 'clusters' if 'cluster' in name else 'discovery'
    assert scores[f'{kind}/images'] == expected
    assert all(0 <= value <= 100 for key, value in scores.items() if not key.startswith('dropped/'))
    assert len(runner.samples) == expected  # random weights are not tested twice
    picture = np.asarray(Image.open(Path(runner.log_dir, 'found.png')))
    assert picture[..., :3].std() > 20


def test_images_of_different_sizes_one_at_a_time(tmp_path):
    """Boxes of padded and of resized images are those of the functions, in pixels of the file."""
    for resize in (None, 24):
        runner, scores = run('discovery_tokencut_voc2007', tmp_path / str(resize), model__resize=resize)
        found = []
        for image, sample in runner.samples:
            size = SIZES[Path(sample.img_path).stem]
            assert tuple(image.shape[-2:]) == size == sample.ori_shape
            scale = 1 if resize is None else max(resize, round(size[0] * resize / min(size))) / size[0]
            read = runner.model.read(image, 'keys')
            mask = tokencut(read.values, read.grid).mask
            rows, columns = np.nonzero(mask)
            box = sample.found.box
            assert box[0] == pytest.approx(columns.min() * 8 / scale, rel=0.05)
            assert box[1] == pytest.approx(rows.min() * 8 / scale, rel=0.05)
            assert box[2] <= size[1]
            assert box[3] <= size[0]
            found.append(box_iou(box, sample.gt_bboxes).max() >= 0.5)
        assert scores == {'discovery/CorLoc': pytest.approx(100 * np.mean(found)), 'discovery/images': 3}


def test_clusters_and_their_scores(tmp_path):
    runner, scores = run('cluster_voc2012', tmp_path, test_cfg__probe__clusters=[2, 'classes'])
    best = []
    for image, sample in runner.samples:
        labels = sample.gt_sem_seg.data[0].numpy()
        read = runner.model.read(image, 'patches')
        cut = PatchTree(read.values, read.grid).cut(2)
        pixels = spread(cut, read.cell, labels.shape)
        best.append(matched_iou(pixels, labels, 255))
        classes = len(set(np.unique(labels)) - {255})
        assert len(np.unique(sample.found.labels['classes'])) == classes
    assert scores['clusters/mIoU_2'] == pytest.approx(100 * np.mean(best))


def test_random_weights_beside(tmp_path):
    """The encoder of a checkpoint is scored, then the same one with weights of the seed; both are in the reports."""
    path = save_model(tmp_path / 'a.pth', mae_config())
    runner, scores = run('discovery_lost_fashion', tmp_path / 'a', path, test_cfg__seed=1)
    assert list(scores) == [f'{name}discovery/{key}' for name in ('', 'random/') for key in ('CorLoc', 'images')]
    encoders = [sample.encoder for _, sample in runner.samples]
    assert encoders == ['pretrained'] * 4 + ['random'] * 4
    given, beside = runner.samples[:4], runner.samples[4:]
    values = [[sample.found.patches.values for _, sample in part] for part in (given, beside)]
    assert not any(np.allclose(a, b) for a, b in zip(*values, strict=True))
    read = runner.model.read(given[0][0], 'keys')
    assert np.array_equal(given[0][1].found.patches.values, lost(read.values, read.grid).values)
    folder = Path(runner.log_dir)
    record = json.loads((folder / 'label_free.json').read_text())
    assert record['method'] == 'LOST'
    assert record['options'] == {'type': 'mmmim.LOST', 'features': 'keys', 'k': 100}
    assert record['model']['backbone']['checkpoint'] == str(path)
    assert set(record['scores']) == {'pretrained', 'random'}
    table = (folder / 'label_free.md').read_text().splitlines()
    assert [line.split()[1] for line in table if '--' not in line] == ['encoder', 'pretrained', 'random']
    assert table[2] in log_of(runner)
    again, _ = run('discovery_lost_fashion', tmp_path / 'b', path, test_cfg__seed=1)
    for (_, one), (_, other) in zip(runner.samples, again.samples, strict=True):
        assert np.array_equal(one.found.patches.values, other.found.patches.values)
    alone, _ = run('discovery_lost_fashion', tmp_path / 'c', path, test_cfg__random=False)
    assert len(alone.samples) == 4


def test_an_encoder_of_another_library(tmp_path):
    encoder = {
        'type': 'mmmim.TimmEncoder',
        'name': 'vit_tiny_patch16_224',
        'embed_dim': 24,
        'depth': 2,
        'num_heads': 2,
        'img_size': 32,
    }
    cfg = config('discovery_dinoseg_voc2007', tmp_path, model__backbone__encoder=encoder)
    runner = Runner.from_cfg(cfg)
    scores = runner.test()
    assert scores['discovery/images'] == 3


def resize(cfg):
    cfg.test_dataloader.dataset.pipeline.insert(1, {'type': 'mmpretrain.Resize', 'scale': (32, 24)})


def forget_label_maps(cfg):
    del cfg.test_dataloader.dataset.pipeline[1]


def forget_boxes(cfg):
    cfg.test_dataloader.dataset.pipeline[1].meta_keys = ['img_path']


def without_cls(cfg):
    cfg.model.backbone.encoder.num_cls_tokens = 0


def seventh_head(cfg):
    cfg.test_cfg.probe.head = 7


def fit_a_probe(cfg):
    cfg.test_cfg.probe = {'type': 'mmmim.KNNProbe'}


def extract(cfg):
    cfg.model.type = 'mmmim.FrozenFeatures'
    del cfg.model['fit']


@pytest.mark.parametrize(
    ('name', 'change', 'message'),
    [
        ('discovery_dinoseg_fashion', without_cls, 'has no CLS token'),
        ('discovery_dinoseg_fashion', seventh_head, r'probe\.head=7: the encoder has 2 heads'),
        ('discovery_lost_fashion', fit_a_probe, 'not KNNProbe: that is of mmmim.FitTestLoop'),
        ('discovery_lost_fashion', extract, "tests model.type='mmmim.FrozenPatches', not FrozenFeatures"),
        ('discovery_lost_voc2007', resize, 'makes 24 x 32 pixels of 48 x 64'),
        ('discovery_lost_voc2007', forget_boxes, 'needs the boxes of every image'),
        ('cluster_ade20k', forget_label_maps, 'a label map of 48 x 80 pixels, as the image has, and there is none'),
    ],
)
def test_errors(name, change, message, tmp_path):
    cfg = config(name, tmp_path)
    change(cfg)
    with pytest.raises(InputError, match=message):
        Runner.from_cfg(cfg).test()


def test_a_probe_that_is_fitted_finds_nothing_without_labels(tmp_path):
    """And the other way round."""
    cfg = config('discovery_lost_fashion', tmp_path)
    cfg.fit_dataloader = cfg.test_dataloader
    cfg.test_cfg = {'type': 'mmmim.FitTestLoop', 'probe': cfg.test_cfg.probe}
    with pytest.raises(InputError, match=r'not LOST: that is of mmmim\.LabelFreeTestLoop'):
        Runner.from_cfg(cfg).test()
