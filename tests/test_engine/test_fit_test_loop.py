import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from mmengine.hooks import Hook
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, jaccard_score
from sklearn.preprocessing import StandardScaler

from mmmim.engine import Runner
from mmmim.evaluation.probes import procedure
from mmmim.registry import DATASETS
from mmmim.utils import InputError
from tests.fitted import TEST, TRAIN, fitted_config, write_ade20k
from tests.paths import ROOT
from tests.runs import log_of
from tests.segmentation import write_data

#: ADE20K's run in the other tests, ImageNet's in those of whole images, and NYUv2's in those of values.
FITTED = sorted(
    path.stem
    for kind in ('knn', 'nn', 'logreg')
    for path in (ROOT / 'configs/eval').glob(f'*_{kind}_*.py')
    if not path.stem.endswith(('ade20k', 'imagenet', 'nyuv2'))
)


class KeepOutputs(Hook):
    def after_test_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        assert len(outputs) == len(data_batch['inputs'])
        runner.outputs += [(x.gt_sem_seg.data[0].numpy(), x.pred_sem_seg.data[0].numpy()) for x in outputs]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_ade20k(tmp_path)
    return tmp_path


def run(name, folder, **changes):
    cfg = fitted_config(name, folder, **{key.replace('__', '.'): value for key, value in changes.items()})
    runner = Runner.from_cfg(cfg)
    runner.register_hook(KeepOutputs())
    #: Label maps and predictions of the test images.
    runner.outputs = []
    return runner, runner.test()


def knn(folder, k, distance='l2', **changes):
    return run('seg_knn_ade20k', folder, test_cfg__probe__k=k, test_cfg__probe__distance=[distance], **changes)


def predictions(runner):
    return np.stack([pair[1] for pair in runner.outputs])


def tiles(maps, side=8):
    """``[n, H, W]`` to the pixels of patches, ``[n * N, side**2]``; as ADE20K's files: 0 where a label is ignored."""
    n, height, width = maps.shape
    cut = maps.reshape(n, height // side, side, width // side, side).transpose(0, 1, 3, 2, 4).reshape(-1, side**2)
    return np.where(cut == 255, 0, cut + 1)


def majority(labels):
    return np.array([np.bincount(row).argmax() for row in labels])


def standardized(runner):
    """Training patches whose majority label counts, their labels, and test patches, image by image.

    Mean and deviation are those of all patches of the nine images that are not held out.
    """
    found = []
    for dataset in (DATASETS.build(runner.cfg.fit_dataloader.dataset), runner.test_dataloader.dataset):
        samples = [dataset[i] for i in range(len(dataset))]
        features = [runner.model.extract([sample['inputs']])[0][-1][0].numpy() for sample in samples]
        labels = np.stack([sample['data_samples'].gt_sem_seg.data[0].numpy() for sample in samples])
        rounded = np.concatenate(features).astype(np.float16)  # as by the cache
        found += [rounded.astype(np.float64), tiles(labels)]
    train, labels, test, _ = found
    keep = majority(labels) != 0
    assert 0 < keep.sum() < len(keep)
    kept = np.sort(np.random.default_rng(0).permutation(TRAIN)[1:])
    scale = StandardScaler().fit(train.reshape(TRAIN, -1, train.shape[1])[kept].reshape(-1, train.shape[1]))
    return scale.transform(train[keep]), labels[keep], scale.transform(test)


def check_scores(runner, metrics):
    """mIoU is scikit-learn's on pixels whose label counts; mmsegmentation leaves predictions of ignored labels out."""
    true, predicted = (np.stack(maps).ravel() for maps in zip(*runner.outputs, strict=True))
    valid = true != 255
    true, predicted = true[valid], predicted[valid]
    assert metrics['capi/mIoU'] == pytest.approx(100 * jaccard_score(true, predicted, average='macro'))
    assert metrics['capi/aAcc'] == pytest.approx(100 * accuracy_score(true, predicted))
    labels = sorted(({*true} | {*predicted}) - {255})
    without = 100 * jaccard_score(true, predicted, average='macro', labels=labels)
    assert metrics['mmseg/mIoU'] == pytest.approx(without, abs=0.01)
    assert metrics['mmseg/aAcc'] == pytest.approx(metrics['capi/aAcc'], abs=0.01)


@pytest.mark.parametrize(('distance', 'k'), [('cosine', 5), ('l2', 3)])
def test_knn_is_that_of_a_plain_loop(distance, k, folder):
    runner, metrics = knn(folder, [k], distance)
    train, labels, test = standardized(runner)
    expected = []
    for query in test:
        if distance == 'l2':
            order = np.argsort(((train - query) ** 2).sum(1))
        else:
            order = np.argsort(-(train @ query) / np.linalg.norm(train, axis=1))
        expected.append(majority(labels[order[:k]].T))
    predicted = predictions(runner)
    assert len(predicted) == TEST
    assert (tiles(predicted) == np.array(expected)).all()
    assert (predicted == 255).any()  # labels that are ignored vote
    check_scores(runner, metrics)
    assert metrics['capi/mIoU'] < metrics['mmseg/mIoU'] - 0.5
    plain, _ = knn(folder, [k], distance, test_cfg__probe__standardize=False)
    assert (predictions(plain) != predicted).any()


def test_logistic_regression_is_that_of_scikit_learn(folder):
    runner, metrics = run('seg_logreg_ade20k', folder, test_cfg__probe__c=[0.01])
    train, labels, test = standardized(runner)
    model = LogisticRegression(C=0.01, max_iter=5000, tol=1e-9).fit(train, majority(labels))
    predicted = tiles(predictions(runner))
    assert (predicted == predicted[:, :1]).all()
    assert (predicted[:, 0] == model.predict(test)).mean() > 0.98
    check_scores(runner, metrics)


def test_the_best_setting_of_the_grid_is_fitted_on_all_images(folder):
    runner, metrics = knn(folder, [1, 30], test_cfg__held_out=0.3)
    (record,) = json.loads(Path(runner.log_dir, 'probe.json').read_text())
    assert record['layer'] == 2
    assert [row['k'] for row in record['grid']] == [1, 30]
    best = max(record['grid'], key=lambda row: row['mIoU'])
    assert record['setting'] == {'distance': 'l2', 'k': best['k']}
    assert record['scores'] == pytest.approx({k: float(v) for k, v in metrics.items() if 'dropped/' not in k})
    log = log_of(runner)
    assert f'fitted on 70% of {TRAIN} images' in log
    assert f'| {best["mIoU"]:.2f} | {best["aAcc"]:.2f} | * |' in log
    alone, same = knn(folder, [best['k']], test_cfg__held_out=0.3)
    assert same == metrics
    assert (predictions(alone) == predictions(runner)).all()
    assert alone.test_loop.records[0]['grid'] == []
    picture = np.asarray(Image.open(Path(runner.log_dir, 'segmentations.png')))
    assert picture[..., :3].std() > 20


def test_the_choice_is_that_of_the_config(folder, monkeypatch):
    asked = []

    def told(probe, fitted, scored, by, device, scale):
        asked.append((list(scored.images), by))
        return 1, [{**setting, 'mIoU': 1.0, 'aAcc': 1.0} for setting in probe.grid]

    monkeypatch.setattr(procedure, 'choose', told)
    runner, _ = knn(folder, [1, 30], test_cfg__choose_by='aAcc', test_cfg__held_out=0.4, test_cfg__seed=5)
    assert asked == [(sorted(np.random.default_rng(5).permutation(TRAIN)[:4]), 'aAcc')]
    assert runner.test_loop.records[0]['setting'] == {'distance': 'l2', 'k': 30}


def test_layers_are_tested_each_by_itself(folder):
    metrics, alone = (knn(folder, [3], model__backbone__out_indices=layers)[1] for layers in ([0, -1], [0]))
    prefixed = {key if 'dropped/' in key else f'layer_0/{key}': value for key, value in alone.items()}
    assert prefixed.items() <= metrics.items()
    assert metrics['layer_2/capi/mIoU'] != metrics['layer_0/capi/mIoU']
    assert len(metrics) == 10 + 2


@pytest.mark.parametrize('name', FITTED)
def test_every_config_runs(name, tmp_path, monkeypatch, fashion_scenes):
    monkeypatch.chdir(tmp_path)
    write_data(tmp_path / 'data', fashion_scenes)
    cfg = fitted_config(name, tmp_path)
    if 'fashion' in name:
        few = list(range(0, 9000, 450)), list(range(0, 2000, 340))  # images are sorted by class
        cfg.fit_dataloader.dataset.indices, cfg.test_dataloader.dataset.indices = few
    cfg.test_cfg.held_out = 0.5  # of two images
    cfg.test_cfg.probe.update({'k': [1, 3]} if 'nn' in name else {'max_iter': 20})
    if name == 'cls_logreg_fashion':
        cfg.model.features = 'cls'
    metrics = Runner.from_cfg(cfg).test()
    names = ['accuracy/top1'] if 'logreg' in name else ['k_1/accuracy/top1', 'k_3/accuracy/top1']
    names = names if name.startswith('cls') else ['capi/mIoU', 'mmseg/mIoU']
    names = [f'leave_one_out/{each}' for each in names] if '_nn_' in name else names
    assert all(0 <= metrics[key] <= 100 for key in names)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'test_evaluator': [{'type': 'mmseg.IoUMetric', 'ignore_index': 0}]}, 'ignores label 0 and the data set 255'),
        ({'fit_dataloader': None}, 'needs the images to fit on: fit_dataloader'),
        ({'test_cfg__held_out': 0.99}, r'held_out=0.99 of 10 images leaves none'),
        ({'test_cfg__probe__k': [1, 400]}, r'test_cfg\.probe\.k: 400 neighbours of 144 samples'),
        ({'model__features': 'pooled'}, r"does not give a class \(gt_label\), which model\.features='pooled'"),
        ({'model__features': 'predicted'}, "'predicted' needs a predictor"),
        ({'model__features': 'pooled@0', 'model__backbone__out_indices': [0, 1]}, 'the same for every block'),
        ({'model__features': 'everything'}, "no feature 'everything'"),
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
        'seg_knn_ade20k': {'test_cfg__probe__k': [1, 10]},
        'seg_logreg_ade20k': {'test_cfg__probe__c': [1e-4, 1e-2], 'test_cfg__probe__max_iter': 20},
    }
    for options in changes.values():
        options |= {'test_cfg__held_out': 0.3, 'randomness__seed': 3}
    mp.spawn(worker, (str(folder), changes), nprocs=2)
    first, second = (torch.load(folder / f'{rank}.pth', weights_only=False) for rank in range(2))
    cached = {path.name for path in (folder / 'cache').iterdir()}
    for name, options in changes.items():
        runner, metrics = run(name, folder, **options)
        assert first[name][0] == second[name][0] == pytest.approx(metrics)
        for one, two in zip(runner.test_loop.records[0]['grid'], first[name][1], strict=True):
            assert one == pytest.approx(two)
    assert {path.name for path in (folder / 'cache').iterdir()} == cached  # the two wrote what one reads
