import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from mmengine import Config
from mmengine.hooks import Hook
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, jaccard_score
from sklearn.preprocessing import StandardScaler

from mmmim.apis.downstream import apply_pretrained
from mmmim.engine import Runner
from mmmim.engine.fit_test_loop import FitTestLoop
from mmmim.registry import DATASETS, HOOKS
from mmmim.utils import InputError
from tests.fitted import TEST, TRAIN, fitted_config, write_ade20k
from tests.paths import ROOT
from tests.segmentation import write_data

FITTED = sorted(
    path.stem for path in (ROOT / 'configs/eval').glob('*_*_*.py') if '_knn_' in path.stem or '_logreg_' in path.stem
)


@HOOKS.register_module(force=True)
class KeepOutputs(Hook):
    """Label maps and predictions of the test images."""

    def before_test(self, runner):
        runner.outputs = []

    def after_test_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        assert len(outputs) == len(data_batch['inputs'])
        runner.outputs += [(x.gt_sem_seg.data[0].numpy(), x.pred_sem_seg.data[0].numpy()) for x in outputs]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_ade20k(tmp_path)
    return tmp_path


def run(name, folder, **changes):
    cfg = fitted_config(name, folder, **changes)
    cfg.custom_hooks = [dict(type='mmmim.KeepOutputs')]
    runner = Runner.from_cfg(cfg)
    return runner, runner.test()


def tiles(maps, side=8):
    """``[n, H, W]`` to the pixels of patches, ``[n * N, side**2]``."""
    n, height, width = maps.shape
    cut = maps.reshape(n, height // side, side, width // side, side).transpose(0, 1, 3, 2, 4)
    return cut.reshape(-1, side**2)


def naive(runner, dataset):
    """Patch features, rounded as by the cache, and labels as in the files, image by image."""
    samples = [dataset[i] for i in range(len(dataset))]
    features = [runner.model.extract([sample['inputs']])[0][-1][0].numpy() for sample in samples]
    labels = np.stack([sample['data_samples'].gt_sem_seg.data[0].numpy() for sample in samples])
    return np.concatenate(features).astype(np.float16).astype(np.float64), tiles(in_files(labels))


def in_files(labels):
    """What ADE20K's files have: 0 where a label is ignored."""
    return np.where(labels == 255, 0, labels + 1)


def majority(labels):
    return np.array([np.bincount(row).argmax() for row in labels])


def standardized(runner):
    """Training patches whose majority label counts, their labels, and test patches."""
    train, labels = naive(runner, DATASETS.build(runner.cfg.fit_dataloader.dataset))
    test, _ = naive(runner, runner.test_dataloader.dataset)
    keep = majority(labels) != 0
    assert 0 < keep.sum() < len(keep)
    scale = StandardScaler().fit(train[keep])
    return scale.transform(train[keep]), labels[keep], scale.transform(test)


@pytest.mark.parametrize(('distance', 'k'), [('cosine', 5), ('l2', 3)])
def test_knn_is_that_of_a_plain_loop(distance, k, folder):
    changes = {'test_cfg.probe.k': [k], 'test_cfg.probe.distance': [distance]}
    runner, metrics = run('seg_knn_ade20k', folder, **changes)
    train, labels, test = standardized(runner)
    expected = []
    for query in test:
        if distance == 'l2':
            order = np.argsort(((train - query) ** 2).sum(1))
        else:
            order = np.argsort(-(train @ query) / np.linalg.norm(train, axis=1))
        near = labels[order[:k]]
        expected.append([np.bincount(near[:, pixel]).argmax() for pixel in range(64)])
    predicted = np.stack([pair[1] for pair in runner.outputs])
    assert len(predicted) == TEST
    assert (tiles(in_files(predicted)) == np.array(expected)).all()
    assert (predicted == 255).any()  # labels that are ignored vote
    check_scores(runner, metrics)


def test_products_in_bfloat16_find_nearly_the_same(folder):
    labels = {}
    for dtype in ('float32', 'bfloat16'):
        runner, _ = run('seg_knn_ade20k', folder, **{'test_cfg.probe.k': [5], 'test_cfg.probe.dtype': dtype})
        assert runner.test_loop.probe.dtype == getattr(torch, dtype)
        labels[dtype] = np.stack([pair[1] for pair in runner.outputs])
    assert (labels['bfloat16'] == labels['float32']).mean() > 0.8


def check_scores(runner, metrics):
    """mIoU is scikit-learn's on pixels whose label counts; mmsegmentation leaves predictions of ignored labels out."""
    true, predicted = (np.stack(maps).ravel() for maps in zip(*runner.outputs, strict=True))
    valid = true != 255
    assert metrics['capi/mIoU'] == pytest.approx(100 * jaccard_score(true[valid], predicted[valid], average='macro'))
    assert metrics['capi/aAcc'] == pytest.approx(100 * accuracy_score(true[valid], predicted[valid]))
    labels = sorted(({*true[valid]} | {*predicted[valid]}) - {255})
    without = 100 * jaccard_score(true[valid], predicted[valid], average='macro', labels=labels)
    assert metrics['mmseg/mIoU'] == pytest.approx(without, abs=0.01)
    assert metrics['mmseg/aAcc'] == pytest.approx(metrics['capi/aAcc'], abs=0.01)


def test_ignored_labels_that_are_predicted_are_a_class_of_capi(folder):
    runner, metrics = run('seg_knn_ade20k', folder, **{'test_cfg.probe.k': [1], 'test_cfg.probe.distance': ['l2']})
    check_scores(runner, metrics)
    true, predicted = (np.stack(maps) for maps in zip(*runner.outputs, strict=True))
    assert ((predicted == 255) & (true != 255)).any()
    assert metrics['capi/mIoU'] < metrics['mmseg/mIoU'] - 0.5


def test_logistic_regression_is_that_of_scikit_learn(folder):
    runner, metrics = run('seg_logreg_ade20k', folder, **{'test_cfg.probe.c': [0.01]})
    train, labels, test = standardized(runner)
    model = LogisticRegression(C=0.01, max_iter=5000, tol=1e-9).fit(train, majority(labels))
    expected = model.predict(test)
    predicted = tiles(in_files(np.stack([pair[1] for pair in runner.outputs])))
    assert (predicted == predicted[:, :1]).all()
    assert (predicted[:, 0] == expected).mean() > 0.98
    check_scores(runner, metrics)


def test_the_best_setting_of_the_grid_is_fitted_on_all_images(folder):
    grid = {'test_cfg.probe.k': [1, 30], 'test_cfg.probe.distance': ['l2'], 'test_cfg.held_out': 0.3}
    runner, metrics = run('seg_knn_ade20k', folder, **grid)
    (record,) = json.loads(Path(runner.log_dir, 'probe.json').read_text())
    assert record['layer'] == 2
    assert [row['k'] for row in record['grid']] == [1, 30]
    best = max(record['grid'], key=lambda row: row['mIoU'])
    assert record['setting'] == {'distance': 'l2', 'k': best['k']}
    assert record['scores'] == pytest.approx({k: float(v) for k, v in metrics.items() if 'dropped/' not in k})
    log = Path(runner.log_dir, f'{runner.timestamp}.log').read_text()
    assert f'fitted on 70% of {TRAIN} images' in log
    assert f'| {best["mIoU"]:.2f} | {best["aAcc"]:.2f} | * |' in log
    alone, same = run('seg_knn_ade20k', folder, **{**grid, 'test_cfg.probe.k': [best['k']]})
    assert same == metrics
    assert (np.stack(alone.outputs) == np.stack(runner.outputs)).all()
    assert alone.test_loop.records[0]['grid'] == []
    picture = np.asarray(Image.open(Path(runner.log_dir, 'segmentations.png')))
    assert picture[..., :3].std() > 20


def test_the_choice_is_that_of_the_config(folder, monkeypatch):
    import mmmim.engine.fit_test_loop as module

    grid = {'test_cfg.probe.k': [1, 30], 'test_cfg.probe.distance': ['l2']}
    asked = []

    def told(probe, train, held_out, seed, by, device):
        asked.append((len(train.features), held_out, seed, by))
        rows = [{**setting, 'mIoU': 1.0, 'aAcc': 1.0} for setting in probe.grid]
        return probe.grid[1], rows

    monkeypatch.setattr(module, 'choose', told)
    changes = {'test_cfg.choose_by': 'aAcc', 'test_cfg.held_out': 0.4, 'test_cfg.seed': 5}
    runner, _ = run('seg_knn_ade20k', folder, **grid, **changes)
    assert asked == [(TRAIN, 0.4, 5, 'aAcc')]
    assert runner.test_loop.records[0]['setting'] == {'distance': 'l2', 'k': 30}


def test_standardization_can_be_switched_off(folder):
    grid = {'test_cfg.probe.k': [1], 'test_cfg.probe.distance': ['l2']}
    on, off = (
        run('seg_knn_ade20k', folder, **grid, **{'test_cfg.probe.standardize': value})[0] for value in (True, False)
    )
    assert (np.stack(on.outputs) != np.stack(off.outputs)).any()
    assert on.test_loop.probe.scale is not None
    assert off.test_loop.probe.scale is None


def test_layers_are_tested_each_by_itself(folder):
    grid = {'test_cfg.probe.k': [3], 'test_cfg.probe.distance': ['cosine'], 'model.backbone.out_indices': [0, -1]}
    _, metrics = run('seg_knn_ade20k', folder, **grid)
    for layer in (0, 2):
        alone = run('seg_knn_ade20k', folder, **{**grid, 'model.backbone.out_indices': [layer]})[1]
        prefixed = {key if 'dropped/' in key else f'layer_{layer}/{key}': value for key, value in alone.items()}
        assert prefixed.items() <= metrics.items()
    assert len(metrics) == 10 + 2


@pytest.mark.parametrize('name', [name for name in FITTED if 'ade20k' not in name])
def test_every_config_runs(name, tmp_path, monkeypatch, digit_scenes):
    monkeypatch.chdir(tmp_path)
    write_data(tmp_path / 'data', digit_scenes)
    cfg = fitted_config(name, tmp_path)
    if 'digits' in name:
        cfg.fit_dataloader.dataset.indices, cfg.test_dataloader.dataset.indices = 20, 6
    cfg.test_cfg.held_out = 0.5  # of two images
    probe = cfg.test_cfg.probe
    probe.update(k=[1, 3]) if 'knn' in name else probe.update(max_iter=20)
    metrics = Runner.from_cfg(cfg).test()
    names = ['accuracy/top1'] if name.startswith('cls') else ['capi/mIoU', 'mmseg/mIoU']
    assert all(0 <= metrics[key] <= 100 for key in names)


@pytest.mark.parametrize('name', FITTED)
def test_configs_are_those_of_the_paper_for_any_encoder(name):
    cfg = Config.fromfile(ROOT / f'configs/eval/{name}.py')
    apply_pretrained(cfg, 'capi/vitl14')
    assert 'pretrained:' not in cfg.dump()
    assert 'pipeline' not in cfg
    probe = cfg.test_cfg.probe
    if 'knn' in name:
        assert (probe.k, probe.distance) == ([1, 3, 10, 30], ['cosine', 'l2'])
    else:
        np.testing.assert_allclose(probe.c, np.logspace(-6, 5, 8))
        assert probe.max_iter == (100 if 'digits' in name else 1000)
    assert probe.standardize
    if 'digits' not in name:
        assert cfg.fit_dataloader.dataset.pipeline == cfg.test_dataloader.dataset.pipeline
        resize = cfg.test_dataloader.dataset.pipeline[2]
        assert (resize.scale, resize.keep_ratio, resize.interpolation) == ((224, 224), False, 'bicubic')
    assert FitTestLoop.fits


def test_global_features(tmp_path, monkeypatch, digit_scenes):
    monkeypatch.chdir(tmp_path)
    write_data(tmp_path / 'data', digit_scenes)
    # Images are sorted by class.
    changes = {
        'model.features': 'cls',
        'fit_dataloader.dataset.indices': list(range(0, 10_000, 40)),
        'test_dataloader.dataset.indices': list(range(0, 2000, 50)),
    }
    changes |= {'test_cfg.probe.c': [0.1], 'test_cfg.cache.dtype': 'float32'}
    cfg = fitted_config('cls_logreg_digits', tmp_path, **changes)
    runner = Runner.from_cfg(cfg)
    metrics = runner.test()

    def features(dataset):
        samples = [dataset[i] for i in range(len(dataset))]
        found = [runner.model.extract([sample['inputs']])[0][-1][0, 0].numpy() for sample in samples]
        return np.stack(found), np.array([int(sample['data_samples'].gt_label) for sample in samples])

    x, y = features(DATASETS.build(cfg.fit_dataloader.dataset))
    queries, true = features(runner.test_dataloader.dataset)
    scale = StandardScaler().fit(x)
    model = LogisticRegression(C=0.1, max_iter=5000, tol=1e-9).fit(scale.transform(x), y)
    expected = 100 * accuracy_score(true, model.predict(scale.transform(queries)))
    # Rounding, which is another one on other machines, decides between two classes that are as likely.
    likely = np.sort(model.predict_proba(scale.transform(queries)))
    undecided = int((likely[:, -1] - likely[:, -2] < 1e-3).sum())
    assert undecided <= 2
    assert metrics['accuracy/top1'] == pytest.approx(expected, abs=100 * undecided / len(true) + 0.01)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'test_evaluator': [{'type': 'mmseg.IoUMetric', 'ignore_index': 0}]}, 'ignores label 0 and the data set 255'),
        ({'fit_dataloader': None}, 'needs the images to fit on: fit_dataloader'),
        ({'test_cfg.choose_by': 'mAcc'}, "test_cfg.choose_by must be 'mIoU' or 'aAcc', not 'mAcc'"),
        ({'test_cfg.held_out': 0.99}, r'held_out=0.99 of 10 images leaves none'),
        ({'test_cfg.probe.k': [1, 400]}, r'test_cfg\.probe\.k: 400 neighbours of 144 samples'),
        ({'test_cfg.probe.k': []}, r'probe\.k must be a list, .* at least 1 of them'),
        ({'test_cfg.probe.dtype': 'int8'}, "test_cfg.probe.dtype='int8'"),
        ({'model.features': 'predicted'}, r"does not give a class \(gt_label\), which model\.features='predicted'"),
        ({'model.features': 'everything'}, "no feature 'everything'"),
    ],
)
def test_refusals(changes, message, folder):
    with pytest.raises(InputError, match=message):
        run('seg_knn_ade20k', folder, **changes)


def worker(rank, folder, changes):
    torch.set_num_threads(1)
    os.environ['LOCAL_RANK'] = str(rank)
    os.chdir(folder)
    dist.init_process_group('gloo', init_method=f'file://{folder}/store', rank=rank, world_size=2)
    found = {}
    for name, options in changes.items():
        runner, metrics = run(name, Path(folder), launcher='pytorch', **options)
        found[name] = metrics, runner.test_loop.records[0]['grid']
    torch.save(found, f'{folder}/{rank}.pth')
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_find_what_one_finds(folder):
    changes = {
        'seg_knn_ade20k': {'test_cfg.probe.k': [1, 10], 'test_cfg.held_out': 0.3, 'randomness.seed': 3},
        'seg_logreg_ade20k': {'test_cfg.probe.c': [1e-4, 1e-2], 'test_cfg.held_out': 0.3, 'randomness.seed': 3}
        | {'test_cfg.probe.max_iter': 20},
    }
    mp.spawn(worker, (str(folder), changes), nprocs=2)
    first, second = (torch.load(folder / f'{rank}.pth', weights_only=False) for rank in range(2))
    cached = {path.name for path in (folder / 'cache').iterdir()}
    for name, options in changes.items():
        runner, metrics = run(name, folder, **options)
        assert first[name][0] == second[name][0] == pytest.approx(metrics)
        for one, two in zip(runner.test_loop.records[0]['grid'], first[name][1], strict=True):
            assert one == pytest.approx(two)
    assert {path.name for path in (folder / 'cache').iterdir()} == cached  # the two wrote what one reads
