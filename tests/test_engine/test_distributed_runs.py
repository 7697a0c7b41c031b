"""Trainings that change the number of processes, the wrapper, or both when they are resumed."""

import json

import pytest
import torch
import torch.distributed as dist
from mmengine.hooks import Hook
from torch.utils.data import default_collate

from mmmim.datasets.masking import UniformMasking
from mmmim.engine.replay import replay
from mmmim.registry import FUNCTIONS
from mmmim.structures import PatchMask
from mmmim.utils import InputError
from tests.processes import run_group
from tests.runs import load, log_of, names, pretraining, start
from tests.shrink import write_images
from tests.toys import generator

ITERATIONS, SAVED, BATCH = 4, 2, 11
PARTS = [6, 5]


@FUNCTIONS.register_module(force=True)
def collate_masks_of_samples(samples):
    """A mask from the seed of every sample, so that masks do not depend on how a batch is divided."""
    seeds = [sample['mask_seed'] for sample in samples]
    masks = [UniformMasking(0.65, 0.5)(1, (8, 8), generator(seed)) for seed in seeds]
    return {
        'inputs': default_collate([sample['inputs'] for sample in samples]),
        'mask': PatchMask(
            visible=torch.cat([mask.visible for mask in masks]),
            predict=torch.cat([mask.predict for mask in masks]),
            image_index=torch.arange(len(samples)),
            grid=(8, 8),
        ),
    }


class KeepLosses(Hook):
    """Losses of every iteration, of the images of this process."""

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        runner.losses = getattr(runner, 'losses', {})
        runner.losses[runner.iter] = {key: value.item() for key, value in outputs.items()}


class SpoilImages(Hook):
    """From the second iteration on one value of an image of the second process is NaN."""

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        data_batch['inputs'] = data_batch['inputs'].float()
        if runner.iter and dist.get_rank() == 1:
            data_batch['inputs'][2, 0, 0, 0] = torch.nan


def make(folder, name, launcher='none', resume=None, **options):
    cfg = pretraining('capi/small', folder / 'images', folder / name, train_cfg__max_iters=ITERATIONS)
    cfg.default_hooks.checkpoint.update(interval=SAVED, max_keep_ckpts=2)
    cfg.default_hooks.health.interval = SAVED
    cfg.train_dataloader.collate_fn = dict(type='mmmim.collate_masks_of_samples')
    cfg.global_batch_size = BATCH
    # At rest the gradient of some weights is zero but for rounding, of which Adam makes steps of full size.
    cfg.optim_wrapper.optimizer.eps = 1e-3
    cfg.launcher = launcher
    if resume is not None:
        cfg.resume, cfg.load_from = True, str(folder / resume / f'iter_{SAVED}.pth')
    cfg.merge_from_dict(options)
    return cfg


def train(*args, **options):
    return start(make(*args, **options), KeepLosses())


FSDP = {'strategy.type': 'mmmim.FSDP2Strategy'}


WRONG = [
    {'strategy.type': 'mmengine.DDPStrategy'},
    {'strategy': {'type': 'mmmim.FSDP2Strategy', 'shards': 3}},
    {**FSDP, 'model.micro_batch_size': 5},
    {**FSDP, 'strategy.param_dtype': 'bfloat16'},
]


def worker(folder):
    """Trainings of two processes, and what was said where they end early or do not start."""
    torch.set_num_threads(1)
    dist.init_process_group('gloo')
    losses, ends, errors = {}, [], []
    for name, options in (('ddp', {}), ('fsdp', FSDP)):
        losses[name] = train(folder, name, 'pytorch', **options).losses
        losses[f'{name}_from_one'] = train(folder, f'{name}_from_one', 'pytorch', 'one', **options).losses
        cfg = make(folder, f'{name}_ends', 'pytorch', **options, **{'default_hooks.runtime_info.max_skipped': 3})
        with pytest.raises(InputError) as error:
            start(cfg, SpoilImages())
        ends.append(str(error.value))
    for options in WRONG:
        with pytest.raises(InputError) as error:
            train(folder, f'error{len(errors)}', 'pytorch', **options)
        errors.append(str(error.value))
    torch.save((losses, errors, ends), folder / f'{dist.get_rank()}.pth')
    dist.destroy_process_group()


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp('runs')
    write_images(folder / 'images', number=20)
    one = train(folder, 'one')
    run_group(lambda: worker(folder), folder / 'log', 2)
    return folder, one, [torch.load(folder / f'{rank}.pth') for rank in range(2)]


def same(checkpoint, expected):
    """Weights of student and teacher, and the state of the optimiser, are those of another checkpoint."""
    assert {type(value) for value in checkpoint['state_dict'].values()} == {torch.Tensor}
    assert checkpoint['state_dict']._metadata == expected['state_dict']._metadata
    assert checkpoint['optimizer']['param_groups'] == expected['optimizer']['param_groups']
    for part in (lambda c: c['state_dict'], lambda c: c['optimizer']['state']):
        assert list(part(checkpoint)) == list(part(expected))
        torch.testing.assert_close(dict(part(checkpoint)), dict(part(expected)), rtol=1e-4, atol=1e-5)


def read(folder, name, iteration=ITERATIONS):
    return load(folder / name / f'iter_{iteration}.pth')


@pytest.mark.parametrize('name', ['ddp', 'fsdp', 'ddp_from_one', 'fsdp_from_one'])
def test_two_processes_are_one(runs, name):
    """They see the same images, have the same losses, and save the same file; from the start and when resumed."""
    folder, one, ranks = runs
    losses = [rank[0][name] for rank in ranks]
    assert list(losses[0]) == list(range(SAVED if name.endswith('one') else 0, ITERATIONS))
    for iteration in losses[0]:
        for key, value in one.losses[iteration].items():
            both = [rank[iteration][key] for rank in losses]
            mean = sum(value * number for value, number in zip(both, PARTS, strict=True)) / BATCH
            assert mean == pytest.approx(value, rel=1e-4), (iteration, key)
    same(read(folder, name), read(folder, 'one'))


@pytest.mark.parametrize('name', ['ddp', 'fsdp'])
def test_one_process_resumes_two(runs, name):
    folder, one, _ = runs
    resumed = train(folder, f'one_from_{name}', resume=name)
    assert resumed.losses.keys() == {2, 3}
    for iteration, losses in resumed.losses.items():
        assert losses == pytest.approx(one.losses[iteration], rel=1e-4)
    same(read(folder, f'one_from_{name}'), read(folder, 'one'))
    assert f'Resumed on 1 process(es), saved on 2: the batch stays {BATCH} images' in log_of(resumed)
    meta = read(folder, name)['meta']
    assert (meta['world_size'], meta['global_batch_size']) == (2, BATCH)


def test_what_is_saved_is_one_file_of_the_first_process(runs):
    folder, _, ranks = runs
    assert names(folder / 'fsdp', '*.pth*') == ['iter_2.pth', 'iter_4.pth']
    saved, at_the_end = read(folder, 'fsdp', SAVED), read(folder, 'fsdp')
    assert any((saved['state_dict'][key] != value).any() for key, value in at_the_end['state_dict'].items())
    log = next((folder / 'fsdp').glob('*/*.log')).read_text()
    assert log.count('Health [') == 3
    assert ranks[0][0]['fsdp'] != ranks[1][0]['fsdp']


def test_errors(runs, tmp_path):
    folder, _, ranks = runs
    kind, option, micro_batches, dtype = ranks[0][1]
    assert "strategy.type must be one of 'mmmim.FSDP2Strategy', None, not 'mmengine.DDPStrategy'" in kind
    assert 'mmmim.FSDP2Strategy has no option strategy.shards; it has param_dtype, reduce_every_micro_batch.' in option
    assert 'global_batch_size=11 on 2 processes is 6 images on some and 5 on others' in micro_batches
    assert 'set model.micro_batch_size=6' in micro_batches
    assert "strategy.param_dtype='bfloat16' needs optim_wrapper.dtype='bfloat16'" in dtype
    with pytest.raises(InputError, match=r'start them with tools/dist_train\.sh'):
        train(folder, 'alone', **FSDP)


@pytest.mark.parametrize('name', ['ddp', 'fsdp'])
def test_logged_values_are_means_over_the_images_of_all_processes(runs, name):
    folder, _, ranks = runs
    (path,) = (folder / name).glob('*/vis_data/scalars.json')
    rows = [row for row in map(json.loads, path.read_text().splitlines()) if 'loss' in row]
    assert len(rows) == ITERATIONS
    for row in rows:
        # Lines of the log are means over the last iterations, here over all so far.
        own = [[rank[0][name][i] for i in range(row['iter'])] for rank in ranks]
        for key in ('loss', 'loss_capi', 'loss_capi_clustering'):
            means = [sum(values[key] for values in each) / row['iter'] for each in own]
            mean = sum(number * value for number, value in zip(PARTS, means, strict=True)) / BATCH
            assert row[key] == pytest.approx(mean, rel=1e-9)
            assert row[key] != pytest.approx(means[0], rel=1e-6)
    for iteration in range(ITERATIONS):
        assert ranks[0][0][name][iteration]['grad_norm'] == ranks[1][0][name][iteration]['grad_norm']


@pytest.mark.parametrize('kind', [0, 1], ids=['ddp', 'fsdp'])
def test_lost_steps_end_all_processes_and_the_bad_batch_is_kept(runs, kind):
    """Of NaN in the second process both know; it alone writes its batch."""
    folder, _, ranks = runs
    name = ('ddp_ends', 'fsdp_ends')[kind]
    messages = [rank[2][kind] for rank in ranks]
    assert messages[0] == messages[1]
    assert 'the last 3 steps, up to iteration 4, were lost' in messages[0]
    (path,) = (folder / name).glob('nonfinite*')
    assert path.name == 'nonfinite_iter_4_rank_1.pth'
    assert str(path) in messages[0]
    saved = torch.load(path, weights_only=True)
    assert saved['not_finite']['images'] == [2]
    assert len(saved['batch']['inputs']) == PARTS[1]
    if name == 'ddp_ends':
        found = replay(str(path))
        assert found.report.first == 'data_preprocessor (MIMDataPreprocessor)'
        assert found.report.gradients
    else:  # its weights lie in parts on both
        with pytest.raises(InputError, match='holds no weights: give a checkpoint of the run with --checkpoint'):
            replay(str(path))
        assert replay(str(path), weights=str(folder / name / 'iter_4.pth')).report.bad_losses
