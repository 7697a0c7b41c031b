"""Checkpoints of a runner: what they hold, how they resume, and what is refused; and the sizes of batches."""

import errno
import itertools
import re
from contextlib import nullcontext

import pytest
import torch
from mmengine.hooks import Hook

from mmmim.engine import Runner
from mmmim.engine.batch_size import apply_global_batch_size, check_micro_batches, describe_batch_change
from mmmim.utils import InputError
from tests.runs import At, assert_same, assert_same_training, load, log_of, names, start
from tests.test_engine.toy_training import toy_config


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """A finished training of 20 iterations, with checkpoints after 10 and 20."""
    work_dir = tmp_path_factory.mktemp('trained')
    return work_dir, start(toy_config(work_dir))


def fresh(folder, **changes):
    return Runner.from_cfg(toy_config(folder, **changes))


class Anything:
    """An object that is no plain data."""


def test_checkpoint_loads_without_an_allow_list(trained):
    work_dir, runner = trained
    checkpoint = load(work_dir / 'iter_20.pth')
    assert torch.serialization.get_unsafe_globals_in_checkpoint(work_dir / 'iter_20.pth') == []
    assert checkpoint['mmmim']['model'] == {'type': 'mmmim.ToyModel', 'width': 3}
    assert checkpoint['mmmim']['config']['train_cfg']['max_iters'] == 20
    assert checkpoint['meta']['iter'] == 20
    assert checkpoint['meta']['dataset_meta'] == {'classes': ('a', 'b'), 'palette': [[0, 0, 0], [0, 0, 0]]}
    assert checkpoint['message_hub']['runtime_info']['keep_ckpt_ids'] == [10, 20]
    assert_same(runner.model.state_dict(), checkpoint['state_dict'])
    assert checkpoint['state_dict']._metadata['norm']['version'] == 2
    assert names(work_dir) == ['iter_10.pth', 'iter_20.pth']


def stop(runner):
    raise KeyboardInterrupt


def test_auto_resume(trained, tmp_path):
    """Of a folder without a checkpoint `load_from`, or nothing; then the newest checkpoint, whatever `load_from` is."""
    load_from = str(trained[0] / 'iter_20.pth')
    runner = fresh(tmp_path, resume='auto', load_from=load_from)
    runner.load_or_resume()
    assert runner.iter == 0
    assert torch.equal(runner.model.out.weight, trained[1].model.out.weight)
    runner = fresh(tmp_path, resume='auto')
    runner.register_hook(At(before_train_iter=(12, stop)))
    with pytest.raises(KeyboardInterrupt):
        runner.train()
    assert 'Nothing to resume' in log_of(runner)
    runner = start(toy_config(tmp_path, resume='auto', load_from=load_from))
    assert 'iter_10.pth at epoch 0, iteration 10' in log_of(runner)
    assert 'The config differs' not in log_of(runner)
    assert_same_training(load(load_from), load(tmp_path / 'iter_20.pth'))


def test_what_is_said_of_a_resumed_training(trained, tmp_path, capsys):
    """Long listings go to the log file only."""
    runner = fresh(tmp_path, train_cfg__max_iters=30)
    runner.resume(str(trained[0] / 'iter_10.pth'))
    assert re.search(r'The config differs from .*iter_10\.pth.*: train_cfg\.max_iters: 20 -> 30\.', log_of(runner))
    assert 'A step has' not in log_of(runner)
    runner = fresh(tmp_path, train_dataloader__batch_size=4)
    runner.resume(str(trained[0] / 'iter_20.pth'))
    assert 'This training is finished' in log_of(runner)
    assert 'A step has 4 images on 1 process(es) from here on; it had 8 on 1.' in log_of(runner)
    shown = ''.join(capsys.readouterr())
    assert 'This training is finished' in shown
    for listing in ('Hooks will be executed', 'System environment'):
        assert listing in log_of(runner)
        assert listing not in shown


def test_what_cannot_be_loaded_or_resumed(trained, tmp_path):
    work_dir, first = trained
    weights = str(tmp_path / 'weights.pth')
    torch.save({'state_dict': first.model.state_dict()}, weights)
    runner = fresh(tmp_path)
    runner.load_checkpoint(weights)
    with pytest.raises(InputError, match=r'holds no meta, message_hub, optimizer.*load_from'):
        runner.resume(weights)
    with pytest.raises(InputError, match=r'iter_20\.pth does not fit ToyModel.*body\.weight: \[3, 3\].*\[5, 3\]'):
        fresh(tmp_path, model__width=5).load_checkpoint(str(work_dir / 'iter_20.pth'))
    cfg = toy_config(tmp_path, resume=True, load_from=str(work_dir / 'iter_10.pth'))
    cfg.optim_wrapper.optimizer.weight_decay = 0.1
    cfg.optim_wrapper.paramwise_cfg = {'norm_decay_mult': 0.0}
    with pytest.raises(InputError, match='optimiser or schedulers differ'):
        Runner.from_cfg(cfg).train()


def test_loading_calls_hooks_strips_prefixes_and_is_strict(trained, tmp_path):
    seen, file = [], str(tmp_path / 'a.pth')

    class Seen(Hook):
        def after_load_checkpoint(self, runner, checkpoint):
            seen.append(checkpoint)

    runner, state = fresh(tmp_path), trained[1].model.state_dict()
    runner.register_hook(Seen())
    torch.save({f'module.{key}': value for key, value in state.items()}, file)
    runner.load_checkpoint(file)
    assert torch.equal(runner.model.out.weight, state['out.weight'])
    assert len(seen) == 1
    torch.save({'state_dict': state, 'extra': Anything()}, file)
    with pytest.raises(InputError, match='trust_checkpoint=True'):
        runner.load_checkpoint(file)
    fresh(tmp_path, trust_checkpoint=True).load_checkpoint(file)
    del state['out.weight']
    torch.save({'state_dict': state}, file)
    with pytest.raises(InputError, match=r'1 missing \(out\.weight\)'):
        runner.load_checkpoint(file)
    runner.load_checkpoint(file, strict=False)


@pytest.fixture
def second_save_fails(monkeypatch):
    """The disk is full when the second checkpoint is written; gives what ends that."""
    real, calls = torch.save, []

    def full(obj, file, *args, **kwargs):
        calls.append(file)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, 'No space left on device')
        real(obj, file, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(torch, 'save', full)
        yield


def test_failed_save_loses_nothing(tmp_path, second_save_fails):
    """With max_keep_ckpts=1: the first checkpoint is there and resumes."""
    keep = {'default_hooks__checkpoint__max_keep_ckpts': 1}
    with pytest.raises(InputError, match=r'iter_20\.pth could not be written: no space left'):
        start(toy_config(tmp_path, **keep))
    assert names(tmp_path, '*.pth*') == ['iter_10.pth']
    assert start(toy_config(tmp_path, resume=True, **keep)).iter == 20
    assert names(tmp_path, '*.pth*') == ['iter_20.pth']
    assert (tmp_path / 'last_checkpoint').read_text() == str(tmp_path / 'iter_20.pth')


def test_best_checkpoint_survives_a_failed_save(tmp_path, second_save_fails):
    hook = {'interval': -1, 'save_last': False, 'save_best': 'error', 'rule': 'less'}
    with pytest.raises(InputError, match=r'best_error_iter_20\.pth could not be written'):
        start(toy_config(tmp_path, default_hooks__checkpoint=hook))
    assert names(tmp_path, '*.pth*') == ['best_error_iter_10.pth']
    start(toy_config(tmp_path / 'again', default_hooks__checkpoint=hook))
    assert names(tmp_path / 'again', '*.pth*') == ['best_error_iter_20.pth']


def test_what_a_checkpoint_takes_along(tmp_path):
    """Not objects that are no plain data, which is said once; the preprocessor of the model, wherever it is set."""

    class Adds(Hook):
        def before_save_checkpoint(self, runner, checkpoint):
            checkpoint['meta']['odd'] = object()
            checkpoint['mine'] = {'ok': 1}

    cfg = toy_config(tmp_path, train_cfg__max_iters=2, default_hooks__checkpoint__interval=1)
    cfg.data_preprocessor = {'type': 'mmengine.BaseDataPreprocessor'}
    runner = start(cfg, Adds())
    checkpoint = load(tmp_path / 'iter_2.pth')
    assert 'odd' not in checkpoint['meta']
    assert checkpoint['mine'] == {'ok': 1}
    assert checkpoint['mmmim']['model']['data_preprocessor'] == {'type': 'mmengine.BaseDataPreprocessor'}
    assert log_of(runner).count('leave out meta.odd (object)') == 1
    with pytest.raises(InputError, match='local folders'):
        runner.save_checkpoint(str(tmp_path), 'a.pth', backend_args={'backend': 'petrel'})


def test_a_warm_up_longer_than_the_training(tmp_path):
    schedulers = [{'type': 'mmengine.PolyLR', 'by_epoch': False, 'begin': 30, 'end': 20}]
    with pytest.raises(InputError, match=r'param_scheduler: .*begin=30.*needs a shorter warm-up'):
        start(toy_config(tmp_path, param_scheduler=schedulers))


# Batches --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(('total', 'sizes'), [(24, [8, 8, 8]), (16384, [5462, 5461, 5461]), (5, [1] * 5)])
def test_global_batch_size(total, sizes):
    for rank, size in enumerate(sizes):
        cfg = {'global_batch_size': total, 'train_dataloader': {}}
        apply_global_batch_size(cfg, len(sizes), rank)
        assert cfg['train_dataloader'] == {'batch_size': size}


def test_wrong_global_batch_sizes():
    for changes, message in [
        ({'global_batch_size': 2}, 'less than an image for each of 3'),
        ({'global_batch_size': '24'}, 'whole number'),
        ({'global_batch_size': 24, 'train_dataloader': {'batch_size': 9}}, 'batch_size is 9: set one'),
    ]:
        with pytest.raises(InputError, match=message):
            apply_global_batch_size({'train_dataloader': {}, **changes}, 3)


def test_numbers_of_micro_batches():
    with pytest.raises(InputError, match=r'2 and 1 micro-batches of 5.*micro_batch_size=6'):
        check_micro_batches(11, 5, 2)
    for options in [(11, None, 2), (None, 5, 2)]:
        check_micro_batches(*options)
    for total, micro_batch_size in itertools.product(range(3, 20), range(1, 8)):
        sizes = [total // 3 + (rank < total % 3) for rank in range(3)]
        same = len({-(-size // micro_batch_size) for size in sizes}) == 1
        with nullcontext() if same else pytest.raises(InputError):
            check_micro_batches(total, micro_batch_size, 3)


def test_what_another_number_of_processes_changes():
    def change(world_size, batch):
        sizes = [{'world_size': number, 'global_batch_size': size} for number, size in ((2, 16), (world_size, batch))]
        return describe_batch_change(*sizes, 5)

    assert not any(change(2, 16))
    found, words = change(8, 16)
    assert not found
    assert 'Resumed on 8 process(es), saved on 2: the batch stays 16 images' in words
    found, words = change(8, 64)
    assert found
    assert 'has 64 images on 8 process(es) from here on; it had 16 on 2' in words
    assert 'at image 320 instead of 80' in words
    assert 'global_batch_size=16, train_dataloader.batch_size=None' in words
