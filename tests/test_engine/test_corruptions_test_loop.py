"""A trained head under corruptions: every number from predictions, the mean corruption error from its definition."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from mmpretrain.structures import DataSample
from PIL import Image

from mmmim.apis.downstream import apply_pretrained
from mmmim.datasets.corruptions import NAMES, corrupt
from mmmim.engine import Runner
from mmmim.evaluation.measures.calibration import Calibration, expected_calibration_error
from mmmim.registry import MODELS
from mmmim.utils import InputError
from tests.classification import ENCODER, load

NAMED = ['fog', 'jpeg_compression']


@pytest.fixture
def folder(tmp_path, monkeypatch, fashion_scenes):
    (tmp_path / 'data').mkdir()
    (tmp_path / 'data/fashion_scenes').symlink_to(fashion_scenes)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(folder, name='run', seed=0, corruptions=NAMED, **changes):
    cfg = load('cls_corruptions_fashion')
    cfg.model.backbone.encoder = ENCODER
    apply_pretrained(cfg, 'random')
    cfg.model.head.std = 1.0  # sure of something
    cfg.test_dataloader.dataset.indices = list(range(0, 2000, 100))
    cfg.test_cfg.update(corruptions=corruptions, severities=[1, 5])
    cfg.work_dir, cfg.experiment_name, cfg.randomness = str(folder / name), f'{name}_{folder.name}', {'seed': seed}
    cfg.merge_from_dict(changes)
    runner = Runner.from_cfg(cfg)
    return runner, runner.test()


def plain(runner, name=None, severity=1):
    """Top-1 in percent, NLL, confidences and hits, image by image."""
    dataset = runner.test_dataloader.dataset
    found = []
    for i in range(len(dataset)):
        info = dataset.get_data_info(i)
        image = np.array(Image.open(info['img_path']).convert('RGB'))
        if name is not None:
            transform = next(t for t in dataset.pipeline.transforms if type(t).__name__ == 'Corrupt')
            transform.set(name, severity)
            image = transform.transform({'img': image[..., ::-1], 'img_path': info['img_path']})['img'][..., ::-1]
            transform.set(None)
        data = runner.model.data_preprocessor({'inputs': [torch.from_numpy(image[..., ::-1].copy()).permute(2, 0, 1)]})
        with torch.no_grad():
            probabilities = runner.model(data['inputs'])[0, 0].double().softmax(0)
        found.append(
            (
                probabilities.max().item(),
                probabilities.argmax().item() == info['gt_label'],
                -probabilities[info['gt_label']].log().item(),
            )
        )
    confidence, right, nll = map(np.array, zip(*found, strict=True))
    return 100 * right.mean(), nll.mean(), confidence, right


def test_scores_are_those_of_single_images(folder):
    runner, scores = run(folder)
    record = json.loads(Path(runner.log_dir, 'corruptions.json').read_text())
    assert record['images'] == 20
    for entry, expected in (
        (record['clean'], plain(runner)),
        (record['corrupted']['fog']['5'], plain(runner, 'fog', 5)),
        (record['corrupted']['jpeg_compression']['1'], plain(runner, 'jpeg_compression', 1)),
    ):
        top1, nll, confidence, right = expected
        assert entry['top1'] == pytest.approx(top1)
        assert entry['nll'] == pytest.approx(nll, rel=1e-4)
        assert entry['ece'] == pytest.approx(100 * expected_calibration_error(confidence, right), rel=1e-4)
    assert record['corrupted']['fog']['5']['nll'] != record['clean']['nll']
    assert scores['clean/top1'] == record['clean']['top1']
    mean = np.mean([row['top1'] for by in record['corrupted'].values() for row in by.values()])
    assert scores['corrupted/top1'] == pytest.approx(mean)
    assert scores['mean_error'] == pytest.approx(100 - mean)
    assert 'mCE' not in scores
    assert '| jpeg_compression |' in Path(runner.log_dir, 'corruptions.md').read_text()
    for name in ('corruptions.png', 'corruptions_0.png'):
        assert np.asarray(Image.open(Path(runner.log_dir, name)))[..., :3].std() > 20


def test_the_mean_corruption_error_is_relative_to_a_baseline(folder):
    first, _ = run(folder, 'first', seed=1)
    path = Path(first.log_dir, 'corruptions.json')
    base = json.loads(path.read_text())
    same = run(folder, 'same', seed=1, **{'test_cfg.baseline': str(path)})[1]
    assert same['mCE'] == pytest.approx(100)
    runner, scores = run(folder, 'other', seed=2, **{'test_cfg.baseline': str(path)})
    own = json.loads(Path(runner.log_dir, 'corruptions.json').read_text())
    ratios, relative = [], []
    for name in NAMED:
        e, b = ([100 - row['top1'] for row in each['corrupted'][name].values()] for each in (own, base))
        ratios.append(sum(e) / sum(b))
        gains = [sum(each) - 2 * (100 - r['clean']['top1']) for each, r in ((e, own), (b, base))]
        relative.append(gains[0] / gains[1] if gains[1] else np.nan)
    assert scores['mCE'] == pytest.approx(100 * np.mean(ratios))
    assert scores['relative_mCE'] == pytest.approx(100 * np.mean(relative), nan_ok=True)


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('{}', r"no record of corruptions \(KeyError: 'images'\)"),
        ('[1]', 'no record of corruptions'),
        ('no', 'cannot be read'),
        (lambda record: {**record, 'images': 7}, 'is of images 7 and this test of 20'),
        (lambda record: {**record, 'clean': {'top1': 'x'}}, 'no record of corruptions'),
    ],
)
def test_other_baselines_are_refused(text, message, folder):
    path = folder / 'base.json'
    if callable(text):
        runner, _ = run(folder, 'first')
        text = json.dumps(text(json.loads(Path(runner.log_dir, 'corruptions.json').read_text())))
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        run(folder, **{'test_cfg.baseline': str(path)})


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'corruptions': ['rain']}, "no corruption 'rain'"),
        ({'test_evaluator': [{'type': 'mmmim.HeadAccuracy'}]}, 'needs dict.*Calibration'),
        ({'test_dataloader.dataset.pipeline.1.name': 'fog'}, r"needs one dict\(type='mmmim.Corrupt'\) without a name"),
    ],
)
def test_refusals(changes, message, folder):
    with pytest.raises(InputError, match=message):
        run(folder, **changes)


def sample(label, **fields):
    found = DataSample().set_gt_label(label)
    for name, value in fields.items():
        found.set_field(value, name)
    return found.to_dict()


def test_calibration_by_hand():
    """Of ten images at 0.75 six are right, of ten at 0.55 all: gaps of 0.15 and 0.45."""
    metric = Calibration(bins=15)
    for share, hits in ((0.75, 6), (0.55, 10)):
        for i in range(10):
            scores = torch.tensor([share, 1 - share])
            metric.process(None, [sample(0 if i < hits else 1, pred_score=scores)])
    found = metric.compute_metrics(metric.results)
    assert found['top1'] == 80
    assert found['ece'] == pytest.approx(100 * (0.15 + 0.45) / 2, abs=1e-4)
    nll = -(6 * np.log(0.75) + 4 * np.log(0.25) + 10 * np.log(0.55)) / 20
    assert found['nll'] == pytest.approx(nll, rel=1e-6)


def test_a_perfectly_calibrated_classifier():
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.1, 1, 400_000)
    right = rng.random(len(confidence)) < confidence
    assert expected_calibration_error(confidence, right) < 0.003
    assert expected_calibration_error(confidence, np.zeros(len(confidence))) == pytest.approx(confidence.mean())


def test_heads_are_named_where_there_are_several():
    heads = [('a', {}), ('b', {}), ('b', {})]
    scores = torch.tensor([[9.0, 0.0], [0.0, 9.0], [0.0, 9.0]])
    for head, label in (('a', 0), (1, 1), (2, 1)):
        metric = Calibration(head=head)
        metric.process(None, [sample(label, head_scores=scores, heads=heads)])
        assert metric.results[0][1]
    for head in (None, 'b', 'c', 3):
        with pytest.raises(InputError, match='the model has 3 heads on a, b: name one'):
            Calibration(head=head).process(None, [sample(0, head_scores=scores, heads=heads)])


def test_the_configs_name_all_corruptions():
    for name in ('cls_corruptions_fashion', 'cls_corruptions_imagenet'):
        cfg = load(name)
        assert tuple(cfg.test_cfg.corruptions) == NAMES
        assert cfg.test_dataloader.dataset.pipeline[-2].type == 'mmmim.Corrupt'
    assert MODELS.get('mmmim.ProbeClassifier') is not None
    assert corrupt(np.zeros((8, 8, 3), np.uint8), NAMES[0], 1, np.random.default_rng(0)).any()
