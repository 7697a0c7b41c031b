"""Depths and surface normals of NYUv2's layout, against scikit-learn and loops."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from PIL import Image
from sklearn.linear_model import Ridge
from sklearn.neighbors import KNeighborsRegressor

from mmmim.engine import Runner
from mmmim.registry import DATASETS
from mmmim.utils import InputError
from tests.fitted import fitted_config
from tests.nyu import write_nyu

ROWS, COLUMNS, PATCH, TRAIN = 3, 4, 16, 8


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_nyu(tmp_path / 'data/nyu', train=TRAIN)
    return tmp_path


def run(name, folder, **changes):
    """A config with images of 48 x 64 pixels and patches of 16, and its scores."""
    cfg = fitted_config(name, folder, **{'test_cfg.held_out': 0.25, **changes})
    cfg.model.backbone.encoder.patch_size = PATCH
    for loader in (cfg.fit_dataloader, cfg.test_dataloader):
        loader.dataset.pipeline[1].scale = (PATCH * COLUMNS, PATCH * ROWS)
    cfg.test_cfg.cache.dtype = 'float32'
    runner = Runner.from_cfg(cfg)
    return runner, runner.test()


def patches(runner, loader):
    """Features ``[n, N, D]``, maps ``[n, H, W, C]``, and the means ``[n, N, C]`` of the known pixels of patches."""
    dataset = DATASETS.build(runner.cfg[loader].dataset)
    samples = [dataset[i] for i in range(len(dataset))]
    features = np.stack([runner.model.extract([s['inputs']])[0][-1][0].numpy() for s in samples]).astype(np.float64)
    maps = np.stack([s['data_samples'].gt_map for s in samples])
    height, width = (side // count for side, count in zip(maps.shape[1:3], (ROWS, COLUMNS), strict=True))
    means = []
    for image in maps:
        for i in range(ROWS):
            for j in range(COLUMNS):
                cell = image[i * height : (i + 1) * height, j * width : (j + 1) * width].reshape(-1, image.shape[2])
                known = cell[np.isfinite(cell).all(1)]
                means.append(known.mean(0) if 2 * len(known) >= len(cell) else np.full(image.shape[2], np.nan))
    return features, maps, np.array(means).reshape(len(maps), ROWS * COLUMNS, -1)


def expected(runner, model):
    """True maps and what a model of scikit-learn predicts, with the procedure written out."""
    features, _, means = patches(runner, 'fit_dataloader')
    asked, maps, _ = patches(runner, 'test_dataloader')
    kept = np.sort(np.random.default_rng(0).permutation(TRAIN)[2:])
    centre, spread = features[kept].mean((0, 1)), features[kept].std((0, 1))
    x, y = ((features - centre) / spread).reshape(-1, features.shape[2]), means.reshape(-1, means.shape[2])
    known = np.isfinite(y).all(1)
    found = model(known.sum()).fit(x[known], y[known]).predict(((asked - centre) / spread).reshape(-1, x.shape[1]))
    low = torch.from_numpy(found.reshape(len(maps), ROWS, COLUMNS, -1)).permute(0, 3, 1, 2)
    up = torch.nn.functional.interpolate(low, maps.shape[1:3], mode='bilinear', align_corners=False)
    return maps, up.permute(0, 2, 3, 1).numpy()


RIDGE = ({'test_cfg.probe.alpha': [0.01]}, lambda m: Ridge(alpha=0.01 * m, solver='svd'))
KNN = ({'test_cfg.probe.k': [3], 'test_cfg.probe.distance': ['l2']}, lambda _: KNeighborsRegressor(3))


@pytest.mark.parametrize(('kind', 'probe'), [('linear', RIDGE), ('knn', KNN)])
def test_depths_are_those_of_scikit_learn(kind, probe, folder):
    runner, scores = run(f'depth_{kind}_nyuv2', folder, **probe[0])
    maps, found = expected(runner, probe[1])
    per_image = []
    for true, predicted in zip(maps[:, 45:471, 41:601, 0], found[:, 45:471, 41:601, 0].clip(1e-3, 10), strict=True):
        known = true < 10  # NaN is not
        y, x = true[known].astype(float), predicted[known]
        ratio = np.maximum(x / y, y / x)
        deltas = [100 * (ratio < 1.25**i).mean() for i in (1, 2, 3)]
        per_image.append([((x - y) ** 2).mean() ** 0.5, (abs(x - y) / y).mean(), *deltas])
    names = ('rmse', 'abs_rel', 'delta1', 'delta2', 'delta3')
    for name, value in zip(names, np.mean(per_image, axis=0), strict=True):
        assert scores[f'depth/{name}'] == pytest.approx(value, rel=1e-3), name
    assert 20 < scores['depth/delta1'] < 99.9


@pytest.mark.parametrize(('kind', 'probe'), [('linear', RIDGE), ('knn', KNN)])
def test_normals_are_those_of_scikit_learn(kind, probe, folder):
    runner, scores = run(f'normals_{kind}_nyuv2', folder, **probe[0])
    maps, found = expected(runner, probe[1])
    true, predicted = (each[:, 45:471, 41:601].reshape(-1, 3).astype(float) for each in (maps, found))
    known = np.isfinite(true).all(1)
    unit = predicted[known] / np.linalg.norm(predicted[known], axis=1, keepdims=True)
    angle = np.degrees(np.arccos((unit * true[known]).sum(1).clip(-1, 1)))
    assert scores['normals/mean'] == pytest.approx(angle.mean(), rel=1e-3)
    assert scores['normals/median'] == pytest.approx(np.median(angle), abs=0.02)
    for limit in (11.25, 22.5, 30):
        assert scores[f'normals/below_{limit:g}'] == pytest.approx(100 * (angle < limit).mean(), abs=0.2)
    assert 1 < scores['normals/median'] < 60


def test_a_setting_is_chosen_by_the_smallest_error(folder):
    runner, _ = run('depth_linear_nyuv2', folder)
    (record,) = json.loads(Path(runner.log_dir, 'probe.json').read_text())
    errors = [row['rmse'] for row in record['grid']]
    assert len(set(errors)) == 9
    assert record['setting']['alpha'] == record['grid'][int(np.argmin(errors))]['alpha']
    picture = np.asarray(Image.open(Path(runner.log_dir, 'maps.png')))
    assert picture[..., :3].std() > 20


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'test_cfg.choose_by': 'mIoU'}, "choose_by='mIoU' is no score of mmmim.RidgeProbe: use 'rmse' or 'angle'"),
        ({'test_cfg.choose_by': 'angle'}, "choose_by='angle' is no score of these data, which have rmse"),
        ({'model.features': 'pooled'}, "predicted from model.features='patches', not from 'pooled'"),
        ({'fit_dataloader.dataset.data_root': 'nowhere'}, r'nowhere/images/train is missing.*#nyuv2-depth'),
        ({'fit_dataloader.dataset.normals': True}, r'data/nyu/normals/train is missing'),
        ({'fit_dataloader.dataset.pipeline.3.algorithm_keys': ()}, r'fit_dataloader: the pipeline gives no gt_map'),
    ],
)
def test_refusals(changes, message, folder):
    with pytest.raises(InputError, match=message):
        run('depth_linear_nyuv2', folder, **changes)


def test_probes_of_labels_are_not_for_depths(folder):
    with pytest.raises(InputError, match=r'no score of mmmim\.KNNProbe'):
        run('depth_linear_nyuv2', folder, **{'test_cfg.probe': {'type': 'mmmim.KNNProbe', '_delete_': True}})


def worker(rank, folder):
    torch.set_num_threads(1)
    os.environ['LOCAL_RANK'] = str(rank)
    os.chdir(folder)
    dist.init_process_group('gloo', init_method=f'file://{folder}/store', rank=rank, world_size=2)
    runner, scores = run('depth_linear_nyuv2', Path(folder), **{'launcher': 'pytorch', 'randomness.seed': 3})
    torch.save((scores, runner.test_loop.records[0]['grid']), f'{folder}/{rank}.pth')
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_find_what_one_finds(folder):
    (folder / 'two').mkdir()
    (folder / 'two/data').symlink_to(folder / 'data')
    mp.spawn(worker, (str(folder / 'two'),), nprocs=2)
    runner, scores = run('depth_linear_nyuv2', folder, **{'randomness.seed': 3})
    for rank in range(2):
        found, grid = torch.load(folder / f'two/{rank}.pth', weights_only=False)
        assert found == pytest.approx(scores, rel=1e-5)
        for one, two in zip(runner.test_loop.records[0]['grid'], grid, strict=True):
            assert one == pytest.approx(two, rel=1e-5)
