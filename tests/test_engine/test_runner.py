import errno
import os
import re

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from toy_training import toy_config

from mmmim.engine import Runner
from mmmim.engine.batch_size import apply_global_batch_size, check_micro_batches, describe_batch_change
from mmmim.registry import RUNNERS
from mmmim.utils import InputError


def train(work_dir, **changes):
    runner = Runner.from_cfg(toy_config(work_dir, **changes))
    runner.train()
    return runner


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """A finished training of 20 iterations, with checkpoints after 10 and 20."""
    work_dir = tmp_path_factory.mktemp('trained')
    return work_dir, train(work_dir)


def test_checkpoint_loads_without_an_allow_list(trained):
    work_dir, runner = trained
    checkpoint = torch.load(work_dir / 'iter_20.pth', weights_only=True)
    assert torch.serialization.get_unsafe_globals_in_checkpoint(work_dir / 'iter_20.pth') == []
    assert checkpoint['mmmim']['model'] == {'type': 'mmmim.ToyModel', 'width': 3}
    assert checkpoint['mmmim']['config']['train_cfg']['max_iters'] == 20
    assert checkpoint['meta']['iter'] == 20
    assert checkpoint['meta']['dataset_meta'] == {'classes': ('a', 'b'), 'palette': [[0, 0, 0], [0, 0, 0]]}
    assert checkpoint['message_hub']['runtime_info']['keep_ckpt_ids'] == [10, 20]
    for key, value in runner.model.state_dict().items():
        assert torch.equal(checkpoint['state_dict'][key], value)
    assert checkpoint['state_dict']._metadata['norm']['version'] == 2
    assert sorted(name for name in os.listdir(work_dir) if name.endswith('.pth')) == ['iter_10.pth', 'iter_20.pth']


def test_resume_is_exact(trained, tmp_path):
    work_dir, full = trained
    resumed = train(tmp_path, resume=True, load_from=str(work_dir / 'iter_10.pth'))
    assert resumed.iter == 20
    for key, value in full.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[key], value), key
    a, b = (torch.load(folder / 'iter_20.pth', weights_only=True) for folder in (work_dir, tmp_path))
    for key, state in a['optimizer']['state'].items():
        for name, value in state.items():
            assert torch.equal(b['optimizer']['state'][key][name], value)
    assert a['optimizer']['param_groups'] == b['optimizer']['param_groups']
    assert a['param_schedulers'] == b['param_schedulers']
    assert b['message_hub']['runtime_info']['keep_ckpt_ids'] == [20]  # 10 lies in another folder
    assert 'metainfo' not in log_text(resumed)  # the same data set is recognised although it has an array


def log_text(runner):
    with open(os.path.join(runner.log_dir, f'{runner.timestamp}.log')) as file:
        return file.read()


class Killed(Hook):
    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == 12:
            raise KeyboardInterrupt


def test_auto_resume(trained, tmp_path):
    runner = Runner.from_cfg(toy_config(tmp_path, resume='auto'))
    runner.register_hook(Killed())
    with pytest.raises(KeyboardInterrupt):
        runner.train()
    assert 'Nothing to resume' in log_text(runner)
    runner = train(tmp_path, resume='auto')
    assert 'iter_10.pth at epoch 0, iteration 10' in log_text(runner)
    assert 'The config differs' not in log_text(runner)
    assert runner.iter == 20
    for key, value in trained[1].model.state_dict().items():
        assert torch.equal(runner.model.state_dict()[key], value), key


def test_changed_settings_are_reported(trained, tmp_path):
    runner = Runner.from_cfg(toy_config(tmp_path, train_cfg__max_iters=30))
    runner.resume(str(trained[0] / 'iter_10.pth'))
    assert re.search(r'The config differs from .*iter_10\.pth.*: train_cfg\.max_iters: 20 -> 30\.', log_text(runner))


def test_a_finished_training_says_so(trained, tmp_path):
    runner = Runner.from_cfg(toy_config(tmp_path))
    runner.resume(str(trained[0] / 'iter_20.pth'))
    assert 'This training is finished' in log_text(runner)


def test_long_listings_go_to_the_log_file_only(tmp_path, capsys):
    runner = Runner.from_cfg(toy_config(tmp_path))
    runner.logger.info('a line')
    shown = capsys.readouterr()
    shown = shown.out + shown.err
    assert 'a line' in shown
    assert 'Hooks will be executed' not in shown
    assert 'Hooks will be executed' in log_text(runner)
    assert 'System environment' in log_text(runner)


def test_auto_resume_falls_back_on_load_from(trained, tmp_path):
    cfg = toy_config(tmp_path, resume='auto', load_from=str(trained[0] / 'iter_20.pth'))
    runner = Runner.from_cfg(cfg)
    runner.load_or_resume()
    assert runner.iter == 0
    assert torch.equal(runner.model.out.weight, trained[1].model.out.weight)


def test_weights_alone_cannot_be_resumed(trained, tmp_path):
    torch.save({'state_dict': trained[1].model.state_dict()}, tmp_path / 'weights.pth')
    runner = Runner.from_cfg(toy_config(tmp_path))
    runner.load_checkpoint(str(tmp_path / 'weights.pth'))
    with pytest.raises(InputError, match=r'holds no meta, message_hub, optimizer.*load_from'):
        runner.resume(str(tmp_path / 'weights.pth'))


def test_another_optimizer_cannot_be_resumed(trained, tmp_path):
    cfg = toy_config(tmp_path, resume=True, load_from=str(trained[0] / 'iter_10.pth'))
    cfg.optim_wrapper.optimizer.weight_decay = 0.1
    cfg.optim_wrapper.paramwise_cfg = {'norm_decay_mult': 0.0}
    with pytest.raises(InputError, match='optimiser or schedulers differ'):
        Runner.from_cfg(cfg).train()


def test_wrong_model(trained, tmp_path):
    runner = Runner.from_cfg(toy_config(tmp_path, model__width=5))
    with pytest.raises(InputError, match=r'iter_20\.pth does not fit ToyModel.*body\.weight: \[3, 3\].*\[5, 3\]'):
        runner.load_checkpoint(str(trained[0] / 'iter_20.pth'))


def test_loading_calls_hooks_and_strips_prefixes(trained, tmp_path):
    seen = []

    class Seen(Hook):
        def after_load_checkpoint(self, runner, checkpoint):
            seen.append(sorted(checkpoint))

    runner = Runner.from_cfg(toy_config(tmp_path))
    runner.register_hook(Seen())
    state = trained[1].model.state_dict()
    torch.save({f'module.{key}': value for key, value in state.items()}, tmp_path / 'a.pth')
    runner.load_checkpoint(str(tmp_path / 'a.pth'))
    assert torch.equal(runner.model.out.weight, state['out.weight'])
    assert len(seen) == 1
    del state['out.weight']
    torch.save({'state_dict': state}, tmp_path / 'b.pth')
    with pytest.raises(InputError, match=r'1 missing \(out\.weight\)'):
        runner.load_checkpoint(str(tmp_path / 'b.pth'))
    runner.load_checkpoint(str(tmp_path / 'b.pth'), strict=False)


def test_trust_checkpoint(trained, tmp_path):
    class Anything:
        pass

    globals()['Anything'] = Anything
    Anything.__qualname__ = 'Anything'
    torch.save({'state_dict': trained[1].model.state_dict(), 'extra': Anything()}, tmp_path / 'a.pth')
    with pytest.raises(InputError, match='trust_checkpoint=True'):
        Runner.from_cfg(toy_config(tmp_path)).load_checkpoint(str(tmp_path / 'a.pth'))
    Runner.from_cfg(toy_config(tmp_path, trust_checkpoint=True)).load_checkpoint(str(tmp_path / 'a.pth'))


def test_failed_save_loses_nothing(tmp_path, monkeypatch):
    """With max_keep_ckpts=1, the second save fails: the first checkpoint is there and resumes."""
    real, calls = torch.save, []

    def full(obj, file, *args, **kwargs):
        calls.append(file)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, 'No space left on device')
        real(obj, file, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(torch, 'save', full)
        with pytest.raises(InputError, match=r'iter_20\.pth could not be written: no space left'):
            train(tmp_path, default_hooks__checkpoint__max_keep_ckpts=1)
    assert [name for name in os.listdir(tmp_path) if '.pth' in name] == ['iter_10.pth']
    runner = train(tmp_path, resume=True, default_hooks__checkpoint__max_keep_ckpts=1)
    assert runner.iter == 20
    assert [name for name in os.listdir(tmp_path) if '.pth' in name] == ['iter_20.pth']
    assert (tmp_path / 'last_checkpoint').read_text() == str(tmp_path / 'iter_20.pth')


def test_best_checkpoint_survives_a_failed_save(tmp_path, monkeypatch):
    hook = {'interval': -1, 'save_last': False, 'save_best': 'error', 'rule': 'less'}
    real, calls = torch.save, []

    def full(obj, file, *args, **kwargs):
        calls.append(file.name)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, 'No space left on device')
        real(obj, file, *args, **kwargs)

    def best():
        return [name for name in os.listdir(tmp_path) if '.pth' in name]

    with monkeypatch.context() as patch:
        patch.setattr(torch, 'save', full)
        with pytest.raises(InputError, match=r'best_error_iter_20\.pth could not be written'):
            train(tmp_path, default_hooks__checkpoint=hook)
    assert best() == ['best_error_iter_10.pth']
    train(tmp_path / 'again', default_hooks__checkpoint=hook)
    assert [name for name in os.listdir(tmp_path / 'again') if '.pth' in name] == ['best_error_iter_20.pth']


def test_unknown_objects_stay_out_of_the_checkpoint(tmp_path):
    class Adds(Hook):
        def before_save_checkpoint(self, runner, checkpoint):
            checkpoint['meta']['odd'] = object()
            checkpoint['mine'] = {'ok': 1}

    runner = Runner.from_cfg(toy_config(tmp_path, train_cfg__max_iters=2))
    runner.register_hook(Adds())
    runner.train()
    checkpoint = torch.load(tmp_path / 'iter_2.pth', weights_only=True)
    assert 'odd' not in checkpoint['meta']
    assert checkpoint['mine'] == {'ok': 1}
    assert log_text(runner).count('leave out meta.odd (object)') == 1


def test_data_preprocessor_is_part_of_the_saved_model(tmp_path):
    cfg = toy_config(tmp_path, train_cfg__max_iters=1)
    cfg.data_preprocessor = {'type': 'mmengine.BaseDataPreprocessor'}
    Runner.from_cfg(cfg).train()
    saved = torch.load(tmp_path / 'iter_1.pth', weights_only=True)['mmmim']['model']
    assert saved['data_preprocessor'] == {'type': 'mmengine.BaseDataPreprocessor'}


def test_remote_backends_are_refused(tmp_path):
    runner = Runner.from_cfg(toy_config(tmp_path))
    with pytest.raises(InputError, match='local folders'):
        runner.save_checkpoint(str(tmp_path), 'a.pth', backend_args={'backend': 'petrel'})


def test_global_batch_size():
    for total, world_size, sizes in [(24, 3, [8, 8, 8]), (16384, 3, [5462, 5461, 5461]), (5, 5, [1] * 5)]:
        for rank in range(world_size):
            cfg = {'global_batch_size': total, 'train_dataloader': {}}
            apply_global_batch_size(cfg, world_size, rank)
            assert cfg['train_dataloader'] == {'batch_size': sizes[rank]}
        assert sum(sizes) == total
    for changes, world_size, message in [
        ({'global_batch_size': 2}, 3, 'less than an image for each of 3'),
        ({'global_batch_size': '24'}, 3, 'whole number'),
        ({'global_batch_size': 24, 'train_dataloader': {'batch_size': 9}}, 3, 'batch_size is 9: set one'),
    ]:
        with pytest.raises(InputError, match=message):
            apply_global_batch_size({'train_dataloader': {}, **changes}, world_size)
    cfg = {'global_batch_size': None, 'train_dataloader': {'batch_size': 9}}
    apply_global_batch_size(cfg, 2)
    assert cfg['train_dataloader'] == {'batch_size': 9}


def test_sampler_learns_of_a_batch_that_does_not_divide():
    for total, sampler, expected in [
        (11, 'mmmim.PositionSampler', {'global_batch_size': 11}),
        (12, 'mmmim.PositionSampler', {}),
        (11, 'mmengine.InfiniteSampler', {}),
    ]:
        cfg = {'global_batch_size': total, 'train_dataloader': {'sampler': {'type': sampler}}}
        apply_global_batch_size(cfg, 2)
        assert cfg['train_dataloader']['sampler'] == {'type': sampler, **expected}


def test_numbers_of_micro_batches():
    # 12 = 6 : 6; 11 = 6 : 5, in pieces of 4 two each, in pieces of 5 two and one.
    for total, micro_batch_size in [(12, 5), (11, 4), (11, 6), (11, None), (None, 5)]:
        check_micro_batches(total, micro_batch_size, 2)
    with pytest.raises(InputError, match=r'2 and 1 micro-batches of 5.*micro_batch_size=6'):
        check_micro_batches(11, 5, 2)
    for total in range(3, 40):
        for micro_batch_size in range(1, 15):
            sizes = [total // 3 + (rank < total % 3) for rank in range(3)]
            if len({-(-size // micro_batch_size) for size in sizes}) == 1:
                check_micro_batches(total, micro_batch_size, 3)
            else:
                with pytest.raises(InputError):
                    check_micro_batches(total, micro_batch_size, 3)


def test_what_another_number_of_processes_changes():
    def batch(world_size, images):
        return {'world_size': world_size, 'global_batch_size': images}

    assert describe_batch_change(batch(2, 16), batch(2, 16), 5) == (False, '')
    changed, words = describe_batch_change(batch(2, 16), batch(8, 16), 5)
    assert not changed
    assert 'Resumed on 8 process(es), saved on 2: the batch stays 16 images' in words
    changed, words = describe_batch_change(batch(2, 16), batch(8, 64), 5)
    assert changed
    assert 'has 64 images on 8 process(es) from here on; it had 16 on 2' in words
    assert 'at image 320 instead of 80' in words
    assert 'global_batch_size=16, train_dataloader.batch_size=None' in words


def test_resuming_with_another_batch_size_is_reported(trained, tmp_path):
    work_dir, _ = trained
    options = dict(resume=True, load_from=str(work_dir / 'iter_10.pth'), train_cfg__max_iters=11)
    assert 'A step has' not in log_text(train(tmp_path / 'same', **options))
    text = log_text(train(tmp_path / 'other', train_dataloader__batch_size=4, **options))
    assert 'A step has 4 images on 1 process(es) from here on; it had 8 on 1.' in text


def test_global_batch_size_of_a_runner(tmp_path):
    cfg = toy_config(tmp_path, global_batch_size=16)
    cfg.train_dataloader.batch_size = None
    runner = RUNNERS.build(Config({**cfg, 'runner_type': 'mmmim.Runner'}))
    assert isinstance(runner, Runner)
    assert runner.train_loop.dataloader.batch_size == 16


def test_launcher_without_torchrun(tmp_path):
    with pytest.raises(InputError, match='needs torchrun'):
        Runner.from_cfg(toy_config(tmp_path, launcher='pytorch'))


def test_more_processes_than_gpus(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 2)
    address = {'MASTER_ADDR': 'localhost', 'MASTER_PORT': '29500', 'WORLD_SIZE': '4'}
    for key, value in {'RANK': '2', 'LOCAL_RANK': '2', 'LOCAL_WORLD_SIZE': '4', **address}.items():
        monkeypatch.setenv(key, value)
    with pytest.raises(InputError, match=r'4 processes were started.*2 GPU'):
        Runner.from_cfg(toy_config(tmp_path, launcher='pytorch'))


def test_a_warm_up_longer_than_the_training(tmp_path):
    schedulers = [{'type': 'mmengine.PolyLR', 'by_epoch': False, 'begin': 30, 'end': 20}]
    with pytest.raises(InputError, match=r'param_scheduler: .*begin=30.*needs a shorter warm-up'):
        train(tmp_path, param_scheduler=schedulers)
