"""Every protocol that trains a classifier builds at full size, and trains and tests at a small one."""

import json

import pytest
import torch

from mmmim.apis.downstream import apply_pretrained
from mmmim.engine import Runner
from mmmim.engine.config_check import check_config
from mmmim.registry import MODELS
from tests.classification import NAMES, load, shrink_classification, write_classes
from tests.runs import names
from tests.test_configs import bare_types

#: Encoders at full size: with a CLS token, proxies, or a predictor that sums images up.
WITH_CLS, WITH_PREDICTOR = 'mae/vitb16', 'capi/vitb14'
#: These run what others run, with other numbers.
ALIKE = ('448', 'released', 'vitl16', 'vith14', 'imagenet100', 'inat2021', 'clevr', 'sweep_fashion', 'fewshot_fashion')
RUN = [pytest.param(name, marks=pytest.mark.slow) if name.endswith(ALIKE) else name for name in NAMES]


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return write_classes(tmp_path_factory.mktemp('classes'))


@pytest.mark.parametrize('name', NAMES)
def test_builds_at_full_size(name):
    cfg = load(name)
    assert bare_types(cfg) == []
    if name.endswith('fashion'):
        cfg.model.backbone.encoder = None
    apply_pretrained(cfg, WITH_PREDICTOR if name.endswith('predicted') else WITH_CLS)
    assert 'pretrained:' not in cfg.dump()
    check_config(cfg)
    with torch.device('meta'):
        built = MODELS.build(cfg.model)
    assert built.head.num_classes == cfg.num_classes
    trained = {key for key, value in built.named_parameters() if value.requires_grad}
    assert any(key.startswith('backbone.') for key in trained) == ('finetune' in name)


@pytest.mark.parametrize('name', RUN)
def test_trains_and_tests(name, folder, tmp_path):
    """Everything that is to be trained moves, and nothing else; the scores are those of all images."""
    runner = Runner.from_cfg(shrink_classification(name, folder, tmp_path))
    before = {key: value.clone() for key, value in runner.model.state_dict().items()}
    trained = {key for key, value in runner.model.named_parameters() if value.requires_grad}
    after = runner.train().state_dict()
    moved = {key for key, value in after.items() if not torch.equal(value, before[key])}
    statistics = {key for key in before if 'running' in key or key.endswith('tracked')}
    still = {key for key in trained if 'query' in key or key.endswith('kv.bias')}
    assert trained - still <= moved <= trained | statistics
    assert any(key.startswith('backbone.') for key in moved) == ('finetune' in name)
    log = {key: buffer.data[0][-1] for key, buffer in runner.message_hub.log_scalars.items()}
    assert 0 < log['train/loss'] < 1000
    (validation,) = json.loads((tmp_path / 'validations.json').read_text())
    assert validation['iteration'] == 2
    assert 'iter_2.pth' in names(tmp_path)
    scores = runner.test()
    assert scores['accuracy/top1'] in [pytest.approx(100 * right / 18) for right in range(19)]
    assert validation['scores'].keys() == {key for key in scores if key.startswith('accuracy/')}
    heads = list(tmp_path.glob('*/heads.json'))
    assert len(heads) == ('sweep' in name or 'attentive' in name)
    if heads:
        rows = json.loads(heads[0].read_text())
        assert len(rows) == 30 * len(runner.model.backbone.features)
        chosen = [row for row in rows if row['chosen']]
        assert {row['source']: row['top1'] for row in chosen} == {
            key.removeprefix('accuracy/'): value for key, value in scores.items() if key != 'accuracy/top1'
        } or len(chosen) == 1
        for row in chosen:
            assert row['val_top1'] == max(r['val_top1'] for r in rows if r['source'] == row['source'])


@pytest.mark.parametrize('name', [name for name in NAMES if not name.endswith((*ALIKE, 'fashion'))])
def test_rates_over_a_whole_training(name, folder, tmp_path):
    """The rate of every group, in iterations of epochs of this data set: its peak, and an end that is low."""
    cfg = shrink_classification(name, folder, tmp_path)
    if cfg.train_cfg.type == 'mmmim.EpochsTrainLoop':
        cfg.train_cfg.max_epochs = load(name).train_cfg.max_epochs
    else:
        cfg.train_cfg.max_iters = 100
    runner = Runner.from_cfg(cfg)
    assert runner.train_loop.max_iters > 90
    runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    schedulers = runner.build_param_scheduler(runner.param_schedulers)
    groups = runner.optim_wrapper.optimizer.param_groups
    rates = []
    for _ in range(runner.max_iters):
        rates.append([group['lr'] / group['initial_lr'] for group in groups])
        runner.optim_wrapper.optimizer.step()
        for scheduler in schedulers:
            scheduler.step()
    assert all(0.95 < max(values) <= 1 + 1e-9 for values in zip(*rates, strict=True))
    assert all(0 <= value < 0.05 for value in rates[-1])
