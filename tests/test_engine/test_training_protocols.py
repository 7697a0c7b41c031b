"""Protocols that a training runs on its own encoder give what the command gives for its checkpoint."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from mmengine import MMLogger
from mmengine.hooks import Hook
from mmengine.registry import DefaultScope

from mmmim.apis.downstream import apply_pretrained
from mmmim.cli import test as command
from mmmim.config.read import load_config
from mmmim.engine.hooks import ProbeHook
from mmmim.engine.hooks.probe_hook import protocols_of, table
from mmmim.engine.protocols import fits, protocol_config, run_protocol
from mmmim.utils import InputError
from tests.paths import ROOT
from tests.processes import run_group
from tests.runs import assert_same, assert_same_training, load, log_of, names, pretraining, rows_of, start
from tests.shrink import write_images

#: Every protocol of FashionScenes and its videos that trains no head.
FITTED = sorted(
    path.stem for path in (ROOT / 'configs/eval').glob('*_fashion.py') if fits(load_config(f'eval/{path.stem}'))
)
#: Images, which are sorted by class, or their number: a few.
FEW = {'cls': ([*range(0, 9000, 450)], [*range(0, 2000, 100)]), 'seg': (40, 20), 'vos': (None, 2)}
#: Of what the number depends on in place of choices that take long.
QUICKER = {'cls_knn': 'k=[1, 10]', 'cls_logreg': 'max_iter=10', 'seg_logreg': 'max_iter=10, c=[0.1, 10.0]'}


def write_protocol(folder, name):
    """``configs/eval/<name>.py`` on a few images, as a file of this name."""
    fit, tested = FEW.get(name[:3], (None, 4))
    lines = [f"_base_ = '{ROOT}/configs/eval/{name}.py'", f'test_dataloader = dict(dataset=dict(indices={tested}))']
    if fit is not None:
        lines.append(f'fit_dataloader = dict(dataset=dict(indices={fit}))')
    if options := QUICKER.get(name.removesuffix('_fashion')):
        lines.append(f'test_cfg = dict(probe=dict({options}))')
    if name.startswith('discovery_dinoseg'):  # an encoder without CLS
        lines.append("test_cfg = dict(probe=dict(attention='mean'))")
    path = Path(folder, f'{name}.py')
    path.write_text('\n'.join(lines) + '\n')
    return str(path)


@pytest.fixture(scope='module')
def folder(tmp_path_factory, fashion_scenes):
    folder = tmp_path_factory.mktemp('protocols')
    (folder / 'data').mkdir()
    (folder / 'data/fashion_scenes').symlink_to(fashion_scenes)
    write_images(folder / 'images')
    for name in FITTED:
        write_protocol(folder, name)
    return folder


@pytest.fixture(autouse=True)
def there(folder, monkeypatch):
    monkeypatch.chdir(folder)


def make(folder, work_dir, iterations, protocols, interval=1, weights='both', **changes):
    cfg = pretraining('capi/small', folder / 'images', work_dir, train_cfg__max_iters=iterations, **changes)
    cfg.model.backbone.drop_path_rate = 0.5
    cfg.default_hooks.checkpoint.update(interval=1, max_keep_ckpts=9)
    cfg.default_hooks.probe.update(
        protocols=[f'{name}.py' for name in protocols], protocol_interval=interval, protocol_weights=weights
    )
    return cfg


def table_of(work_dir):
    return json.loads((work_dir / 'probes.json').read_text())


def scores_of(row, weights, protocol):
    prefix = f'{weights}_{protocol}/'
    return {key.removeprefix(prefix): value for key, value in row.items() if key.startswith(prefix)}


def asked(checkpoint, protocol, weights, tmp_path):
    """What ``mmmim test`` says."""
    tmp_path.mkdir(parents=True)
    out, words = tmp_path / 'metrics.json', ['--work-dir', str(tmp_path / 'command')]
    if protocol.startswith(('cls', 'seg')):
        words += ['--cfg-options', f'test_cfg.cache.folder={tmp_path}/cache']
    command.main([f'{protocol}.py', '--pretrained', str(checkpoint), '--weights', weights, '--out', str(out), *words])
    metrics = json.loads(out.read_text())
    # The same random weights every time are not tested while a model trains.
    return {key: value for key, value in metrics.items() if not key.startswith('random/')}


def test_every_fitted_protocol_gives_the_number_of_the_command(folder, tmp_path):
    assert len(FITTED) >= 10
    runner = start(make(folder, tmp_path / 'run', 2, FITTED, interval=9, weights='auto'))
    rows = table_of(tmp_path / 'run')
    assert [row['iter'] for row in rows] == [0, 2]
    assert protocols_of(rows[1]) == FITTED
    for protocol in FITTED:
        found = scores_of(rows[1], 'teacher', protocol)
        seconds = found.pop('seconds')
        assert seconds > 0
        assert found == asked(tmp_path / 'run/iter_2.pth', protocol, 'auto', tmp_path / protocol)
        assert table(rows, protocol) in log_of(runner)
        assert f'<caption>{protocol}. ' in (tmp_path / 'run/report.html').read_text()
        assert scores_of(rows[0], 'student', protocol).keys() == {*found, 'seconds'}  # random weights
    logged = [row for row in rows_of(runner) if 'probe/teacher_cls_nn_fashion/leave_one_out/k_1/accuracy/top1' in row]
    assert [row['step'] for row in logged] == [0, 2]
    assert not any('seconds' in key for key in logged[0])
    assert names(runner.log_dir, 'protocols_*') == []


def test_training_is_the_same_with_and_without_and_resumed(folder, tmp_path):
    protocols = ['cls_nn_fashion', 'discovery_lost_fashion']
    start(make(folder, tmp_path / 'whole', 3, protocols))
    start(make(folder, tmp_path / 'without', 3, []))
    start(make(folder, tmp_path / 'resumed', 3, protocols, resume=True, load_from=str(tmp_path / 'whole/iter_2.pth')))
    whole = load(tmp_path / 'whole/iter_3.pth')
    for other in ('without', 'resumed'):
        assert_same_training(whole, load(tmp_path / other / 'iter_3.pth'))
    rows, resumed = (
        [{key: value for key, value in row.items() if 'seconds' not in key} for row in table_of(tmp_path / name)]
        for name in ('whole', 'resumed')
    )
    assert [row['iter'] for row in rows] == [0, 1, 2, 3]
    assert resumed == rows[2:]
    for name, weights in (('student', 'student'), ('teacher', 'ema')):
        expected = asked(tmp_path / 'whole/iter_1.pth', protocols[0], weights, tmp_path / weights)
        assert scores_of(rows[1], name, protocols[0]) == expected


def generators():
    """States of all generators of random numbers."""
    return torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002


def test_a_process_is_as_it_was_before(folder, tmp_path):
    cfg = protocol_config('cls_nn_fashion.py')
    cfg.work_dir, cfg.test_cfg.cache.folder = str(tmp_path / 'run'), str(tmp_path / 'cache')
    cfg.model.backbone.encoder = dict(type='mmmim.ViT', img_size=32, patch_size=8, embed_dim=16, depth=1, num_heads=2)
    apply_pretrained(cfg, 'random')
    DefaultScope.get_instance('outside', scope_name='mmengine')
    logger = MMLogger.get_instance('outside')
    before = generators()
    text = cfg.pretty_text
    assert run_protocol(cfg).metrics
    assert cfg.pretty_text == text
    cfg.test_dataloader.dataset.indices = [0, 1]
    with pytest.raises(InputError, match='of one class'):
        run_protocol(cfg)
    assert_same(before, generators())
    assert MMLogger.get_current_instance() is logger
    assert DefaultScope.get_current_instance().scope_name == 'mmengine'


class Broken(Hook):
    """The protocols cannot be run after the first step."""

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        probe = next(hook for hook in runner.hooks if isinstance(hook, ProbeHook))
        probe.protocols.configs['cls_nn_fashion'].test_dataloader.dataset.indices = [0, 1]


def test_what_cannot_be_run(folder, tmp_path):
    with pytest.raises(InputError, match=r'seg_linear_fashion trains a head.*mmmim train .*seg_linear_fashion'):
        ProbeHook(10, protocols=['seg_linear_fashion'])
    with pytest.raises(InputError, match='no protocol cls_knn_fashoin: the nearest are cls_knn_fashion'):
        ProbeHook(10, protocols=['cls_knn_fashoin'])
    with pytest.raises(InputError, match='have one name'):
        ProbeHook(10, protocols=['cls_knn_fashion', 'cls_knn_fashion.py'])
    with pytest.raises(InputError, match='protocol_weights must be'):
        ProbeHook(10, protocol_weights='teacher')
    cfg = make(folder, tmp_path / 'start', 2, ['cls_nn_fashion'])
    Path('one_class.py').write_text("_base_ = './cls_nn_fashion.py'\ntest_dataloader = dict(dataset=dict(indices=4))\n")
    cfg.default_hooks.probe.protocols = ['one_class.py']
    with pytest.raises(InputError, match='are of one class'):
        start(cfg)
    # Once a training runs, it goes on.
    runner = start(make(folder, tmp_path / 'later', 2, ['cls_nn_fashion'], interval=2), Broken())
    assert 'Protocols at iteration 2 were left out: ' in log_of(runner)
    assert names(tmp_path / 'later') == ['iter_1.pth', 'iter_2.pth']


def worker(folder, tmp_path, options):
    torch.set_num_threads(1)
    cfg = make(folder, tmp_path / 'run', 1, ['cls_nn_fashion', 'seg_knn_fashion', 'discovery_lost_fashion'])
    cfg.launcher = 'pytorch'
    cfg.merge_from_dict(options)
    start(cfg)
    dist.destroy_process_group()


@pytest.mark.parametrize('options', [{}, {'strategy.type': 'mmmim.FSDP2Strategy'}])
def test_of_several_processes(folder, tmp_path, options):
    run_group(lambda: worker(folder, tmp_path, options), tmp_path / 'log', 2)
    rows = table_of(tmp_path / 'run')
    assert [row['iter'] for row in rows] == [0, 1]
    for protocol in protocols_of(rows[1]):
        for name, weights in (('student', 'student'), ('teacher', 'ema')):
            found = scores_of(rows[1], name, protocol)
            found.pop('seconds')
            expected = asked(tmp_path / 'run/iter_1.pth', protocol, weights, tmp_path / protocol / weights)
            assert found == pytest.approx(expected)
