"""Classifiers as they are trained: epochs of endless images, runs that are cut and go on, several processes."""

import json
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist

from mmmim.checkpoints import load_checkpoint_file
from mmmim.engine import EpochsTrainLoop, Runner
from mmmim.engine.hooks import ScoresHook
from mmmim.utils import InputError
from tests.classification import load, shrink_classification, write_classes
from tests.processes import run_group
from tests.runs import At, assert_same_training, log_of, start

EMA = {'type': 'mmengine.EMAHook', 'momentum': 0.3}


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return write_classes(tmp_path_factory.mktemp('classes'))


def config(name, folder, work_dir, epochs=2, ema=False):
    """Two iterations an epoch, a validation after each, checkpoints after every iteration."""
    cfg = shrink_classification(name, folder, work_dir)
    if cfg.train_cfg.type == 'mmmim.EpochsTrainLoop':
        cfg.train_cfg.max_epochs = epochs
    else:
        cfg.train_cfg.update(max_iters=2 * epochs, val_interval=2)
    cfg.default_hooks.checkpoint.update(interval=1, max_keep_ckpts=1)
    if ema:
        cfg.default_hooks.ema = dict(EMA)
    return cfg


class Cut(Exception):
    """Ends a training."""


def cut(runner):
    raise Cut


@pytest.mark.parametrize(
    ('name', 'point'),
    [
        ('cls_linear_mae', {'before_train_iter': (3, cut)}),
        ('cls_linear_latent_mim', {'after_val_iter': (None, cut)}),
        ('cls_linear_dinov2', {'before_train_iter': (3, cut)}),
        ('cls_sweep', {'after_val_iter': (None, cut)}),
        ('cls_fewshot', {'before_train_iter': (1, cut)}),
        ('cls_finetune_semantic_mim_beit', {'before_train_iter': (3, cut)}),
        ('cls_finetune_fashion', {'after_val_iter': (None, cut)}),
    ],
)
def test_a_run_that_was_cut_ends_as_one_that_was_not(name, point, folder, tmp_path):
    """Also within an epoch, and within a validation, which is then repeated; with averaged weights as well."""
    ema = name == 'cls_finetune_fashion'
    start(config(name, folder, tmp_path / 'whole', ema=ema))
    with pytest.raises(Cut):
        start(config(name, folder, tmp_path / 'cut', ema=ema), At(**point))
    cfg = config(name, folder, tmp_path / 'cut', ema=ema)
    cfg.resume = 'auto'
    start(cfg)
    whole, other = (load_checkpoint_file(tmp_path / each / 'iter_4.pth') for each in ('whole', 'cut'))
    assert_same_training(whole, other)
    assert ('ema_state_dict' in whole) == ema
    read = [json.loads((tmp_path / each / 'validations.json').read_text()) for each in ('whole', 'cut')]
    assert read[0] == read[1]
    assert [each['iteration'] for each in read[0]] == [2, 4]


def test_averaged_weights_are_what_is_validated_saved_and_tested(folder, tmp_path):
    runner = Runner.from_cfg(config('cls_finetune_fashion', folder, tmp_path, ema=True))
    start_weights = {key: value.clone() for key, value in runner.model.named_parameters()}
    seen = []
    runner.register_hook(At(before_val_iter=(0, lambda r: seen.append(r.model.head.fc.weight.clone()))))
    runner.train()
    saved = load_checkpoint_file(tmp_path / 'iter_4.pth')
    weight = 'head.fc.weight'
    live, average = saved['ema_state_dict'][f'module.{weight}'], saved['state_dict'][weight]
    torch.testing.assert_close(live, runner.model.state_dict()[weight])
    assert not torch.equal(live, average)
    assert not torch.equal(seen[0], start_weights[weight])
    cfg = config('cls_finetune_fashion', folder, tmp_path / 'test')
    cfg.load_from = str(tmp_path / 'iter_4.pth')
    tested = Runner.from_cfg(cfg)
    scores = tested.test()
    assert torch.equal(tested.model.head.fc.weight, average)
    assert json.loads((tmp_path / 'validations.json').read_text())[-1]['scores'] == scores


def test_the_log_says_last_and_best(folder, tmp_path):
    runner = Runner.from_cfg(config('cls_linear_latent_mim', folder, tmp_path, epochs=3))
    scores = iter([40.0, 70.0, 50.0])
    hook = next(hook for hook in runner.hooks if isinstance(hook, ScoresHook))
    keep = hook.after_val_epoch
    hook.after_val_epoch = lambda r, metrics=None: keep(r, {**metrics, 'accuracy/top1': next(scores)})
    runner.train()
    (row,) = [line for line in log_of(runner).splitlines() if line.startswith('| accuracy/top1 ')]
    assert [cell.strip() for cell in row.split('|')[2:5]] == ['50.00', '70.00', '4']


def test_validations_of_a_file_that_is_none(tmp_path):
    """It is another program's, or damaged: a resumed training starts it anew."""
    loop = SimpleNamespace(val_begin=1, val_interval=2, max_iters=9)
    for content in ('', '{}', '[1]', '[{"iteration": 2, "scores": {"a": "b"}}]'):
        (tmp_path / 'validations.json').write_text(content)
        hook = ScoresHook()
        hook.before_train(SimpleNamespace(work_dir=str(tmp_path), iter=3, train_loop=loop, val_loop=None, max_iters=9))
        assert hook.validations == []


@pytest.mark.parametrize(('images', 'batch', 'length'), [(18, 8, 2), (16, 8, 2), (18, 100, 1), (18, 1, 18)])
def test_epochs_are_whole_batches_of_the_images(images, batch, length):
    dataset = list(range(images))
    loader = torch.utils.data.DataLoader(dataset, batch_size=batch)
    visualizer = SimpleNamespace(dataset_meta=None)
    runner = SimpleNamespace(cfg={'global_batch_size': batch}, world_size=1, visualizer=visualizer)
    loop = EpochsTrainLoop(runner, loader, max_epochs=5, val_interval=2, val_begin=3)
    assert (loop.epoch_length, loop.max_iters) == (length, 5 * length)
    assert (loop.val_begin, loop.val_interval) == (3 * length, 2 * length)


def test_streams_have_no_epochs(tmp_path):
    from mmmim.datasets import WebDatasetStream

    stream = WebDatasetStream.__new__(WebDatasetStream)
    loader = torch.utils.data.DataLoader(stream, batch_size=2)
    with pytest.raises(InputError, match='an epoch of a stream of images never ends'):
        EpochsTrainLoop(SimpleNamespace(cfg={}, world_size=1), loader, max_epochs=5)


def test_schedulers_of_epochs_follow_the_length_of_an_epoch(folder, tmp_path):
    """A warm-up of 20 epochs from 1e-4 of every rate, and a cosine to a rate that is the same for all blocks."""
    cfg = config('cls_finetune_semantic_mim_beit', folder, tmp_path, epochs=100)
    runner = Runner.from_cfg(cfg)
    assert runner.train_loop.epoch_length == 2
    runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    schedulers = runner.build_param_scheduler(runner.param_schedulers)
    groups = runner.optim_wrapper.optimizer.param_groups
    assert len({group['initial_lr'] for group in groups}) == 9
    rates = []
    for _ in range(200):
        rates.append([group['lr'] / group['initial_lr'] for group in groups])
        runner.optim_wrapper.optimizer.step()
        for scheduler in schedulers:
            scheduler.step()
    assert rates[0] == pytest.approx([1e-4] * len(groups))
    assert rates[39] == pytest.approx([1.0] * len(groups))
    middle = [1e-6 + (group['initial_lr'] - 1e-6) / 2 for group in groups]
    assert [r * g['initial_lr'] for r, g in zip(rates[120], groups, strict=True)] == pytest.approx(middle)
    assert all(1e-6 < rate * group['initial_lr'] < 4e-6 for rate, group in zip(rates[-1], groups, strict=True))


@pytest.mark.parametrize('name', ['cls_finetune_mae_vitb16_released', 'cls_finetune_semantic_mim_beit'])
def test_rates_of_blocks_are_those_of_the_recording(name, folder, tmp_path):
    """Of every layer: head and norms 1, blocks by 0.65 each; what decays has more than one axis and is no position."""
    cfg = shrink_classification(name, folder, tmp_path, depth=12)
    runner = Runner.from_cfg(cfg)
    wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    rate = load(name).optim_wrapper.optimizer.lr
    found = {id(p): group for group in wrapper.optimizer.param_groups for p in group['params']}
    for key, parameter in runner.model.named_parameters():
        if not parameter.requires_grad:
            continue
        block = key.partition('.blocks.')[2].partition('.')[0]
        inside = key.startswith('backbone.backbone.') and '.norm.' not in key
        layer = int(block) + 1 if block else 0 if inside else 13
        assert found[id(parameter)]['lr'] == pytest.approx(rate * 0.65 ** (13 - layer)), key
        decays = parameter.ndim > 1 and not any(part in key for part in ('token', 'positions'))
        assert found[id(parameter)]['weight_decay'] == (0.05 if decays else 0.0), key


def worker(folder):
    torch.set_num_threads(1)
    dist.init_process_group('gloo')
    for name in ('cls_linear_semantic_mim', 'cls_sweep', 'cls_linear_mae'):
        cfg = config(name, folder / 'data', folder / f'two_{name}', epochs=1)
        cfg.launcher = 'pytorch'
        start(cfg)
    dist.destroy_process_group()


def test_two_processes_do_what_one_does(tmp_path):
    """The same weights, and accuracies of all images, which two do not divide evenly."""
    write_classes(tmp_path / 'data')
    (tmp_path / 'data/val/class_0/0.png').unlink()
    run_group(lambda: worker(tmp_path), tmp_path / 'log', 2)
    for name in ('cls_linear_semantic_mim', 'cls_sweep'):
        start(config(name, tmp_path / 'data', tmp_path / f'one_{name}', epochs=1))
        one, two = (load_checkpoint_file(tmp_path / f'{each}_{name}/iter_2.pth') for each in ('one', 'two'))
        for key, value in one['state_dict'].items():
            torch.testing.assert_close(two['state_dict'][key], value, rtol=1e-4, atol=2e-4)
        read = [json.loads((tmp_path / f'{each}_{name}/validations.json').read_text()) for each in ('one', 'two')]
        assert read[0][0]['scores'].keys() == read[1][0]['scores'].keys()
        for each in read:
            images = 17 if name == 'cls_linear_semantic_mim' else 5
            for score in each[0]['scores'].values():
                assert score * images / 100 == pytest.approx(round(score * images / 100))
    # Statistics of batch norms are those of the images of a process: all validate with those that are saved.
    cfg = config('cls_linear_mae', tmp_path / 'data', tmp_path / 'tested')
    cfg.load_from = str(tmp_path / 'two_cls_linear_mae/iter_2.pth')
    validated = json.loads((tmp_path / 'two_cls_linear_mae/validations.json').read_text())
    assert Runner.from_cfg(cfg).test() == validated[0]['scores']
