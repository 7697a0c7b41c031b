"""Reports of healthy training, and warnings of training that was made to collapse."""

import json
import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F
from mmengine import Config, MessageHub
from mmengine.model import BaseModule
from torch import nn

from mmmim.engine import DistributedDataParallel, Runner
from mmmim.engine.hooks import HealthHook
from mmmim.engine.hooks.health_hook import _evenly
from mmmim.evaluation.measures.health import mean_pairwise_cosine, positional_share, target_entropy
from mmmim.evaluation.measures.health_rules import diagnose, diagnose_gradients
from mmmim.evaluation.measures.rankme import rankme
from mmmim.registry import MODELS
from mmmim.structures import Target
from mmmim.structures.patch_mask import gather_patches
from mmmim.utils import InputError
from tests.paths import ROOT
from tests.shrink import shrink, write_images
from tests.toys import DIM, batch, capi_config, optim_wrapper


@MODELS.register_module(force=True)
class HealthToyTarget(BaseModule):
    """Targets of many kinds, good and bad.

    ``features``: teacher tokens. ``softmax``: of teacher tokens without balancing, trained to be sharp. ``positions``
    and ``uniform`` say nothing about the image. ``pixels`` need no teacher.
    """

    def __init__(self, kind, num_prototypes=DIM):
        super().__init__()
        self.kind, self.distribution = kind, kind in ('softmax', 'uniform')
        self.differentiable = kind == 'own_features'
        self.linear = nn.Linear(DIM, num_prototypes)

    def forward(self, images, mask, teacher, backbone):
        where = mask.flat_predict()
        if self.kind == 'features':
            patches = gather_patches(teacher.encode(images).visible, where, mask.image_index)
        elif self.kind == 'own_features':
            patches = gather_patches(backbone(images).visible, where, mask.image_index)
        elif self.kind == 'softmax':
            tokens = gather_patches(teacher.encode(images).visible, where, mask.image_index)
            logits = 10 * self.linear(tokens)
            patches = logits.detach().softmax(dim=-1)
            # Assignments that are trained on themselves: the rich get richer.
            loss = -(logits.log_softmax(dim=-1) * patches.square() / patches.square().sum(-1, True)).sum(-1).mean()
            return Target(patches=patches, losses={'loss_own': loss})
        elif self.kind == 'positions':
            patches = F.one_hot(where, DIM).float()
        elif self.kind == 'uniform':
            patches = torch.full((*where.shape, DIM), 1 / DIM)
        else:
            patches = gather_patches(F.unfold(images, 4, stride=4).transpose(1, 2), where, mask.image_index)[..., :DIM]
        return Target(patches=patches)


@MODELS.register_module(force=True)
class HealthToyHead(BaseModule):
    """Regression by a linear layer."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, DIM)

    def loss(self, prediction, target, context):
        return {'loss': F.smooth_l1_loss(self.linear(prediction.patches), target.patches)}


def toy_config(kind, **options):
    config = capi_config(**options)
    if kind != 'capi':
        branch = config['branches'].pop('capi')
        generator = {'type': 'mmmim.HealthToyTarget', 'kind': kind}
        config['branches']['toy'] = {**branch, 'target_generator': generator, 'head': {'type': 'mmmim.HealthToyHead'}}
        config['teacher'] = ['backbone'] if kind != 'pixels' else None
    return config


class Log:
    """In place of a logger and a visualizer."""

    def __init__(self):
        self.infos, self.warnings, self.scalars = [], [], {}

    def info(self, line):
        self.infos.append(line)

    def warning(self, line):
        self.warnings.append(line)

    def add_scalars(self, values, step):
        assert step not in self.scalars
        self.scalars[step] = values


def train(
    kind,
    iterations=21,
    interval=10,
    momentum=0.9,
    lr=1e-3,
    data=batch,
    change=None,
    hook=True,
    wrap=lambda model: model,
    **options,
):
    """Train a toy; ``change(runner)`` may interfere before every iteration. ``hook=False``: without reports."""
    torch.manual_seed(0)
    model = MODELS.build(toy_config(kind, **options))
    model.init_weights()
    if kind == 'capi':
        model.branches['capi'].target_generator.distribution = True
    log = Log()
    runner = SimpleNamespace(
        model=wrap(model.train()),
        optim_wrapper=optim_wrapper(model, lr=lr, weight_decay=0.0),
        message_hub=MessageHub('health'),
        logger=log,
        visualizer=log,
        max_iters=iterations,
        iter=0,
        hooks=[],
    )
    health = HealthHook(interval, images=16)
    health.before_train(runner)
    for runner.iter in range(iterations):
        if change is not None:
            change(runner)
        images = data(24, seed=runner.iter)
        outputs = runner.model.train_step(images, runner.optim_wrapper)
        runner.message_hub.update_scalar('train/grad_norm', outputs['grad_norm'].item())
        if model.teacher is not None:
            model.teacher.update(model, momentum, runner.optim_wrapper.skipped)
        if hook:
            health.after_train_iter(runner, runner.iter, images)
    return runner


def kinds(runner):
    return [line.split(':')[0] for line in runner.logger.warnings]


FEATURES = {
    f'health/{part}_{measure}_{of}'
    for part in ('student', 'teacher')
    for measure in ('rankme', 'cosine')
    for of in ('pooled', 'patches')
}


@pytest.mark.parametrize('kind', ['capi', 'features', 'own_features', 'pixels', 'softmax'])
def test_healthy_training_is_reported_without_a_warning(kind):
    runner = train(kind, iterations=25)
    assert runner.logger.warnings == []
    assert list(runner.logger.scalars) == [1, 10, 20, 25]  # the first, every tenth, the last
    assert [line.split(']')[0] for line in runner.logger.infos] == [f'Health [{i}/25' for i in (1, 10, 20, 25)]
    expected = {'iter'} | FEATURES
    if kind == 'pixels':
        expected = {key for key in expected if 'teacher' not in key}
    name = 'capi' if kind == 'capi' else 'toy'
    if kind != 'own_features':  # those carry gradients and exist in the micro-batch only
        expected.add(f'health/{name}_positional_share')
    if kind in ('capi', 'softmax'):
        expected |= {f'health/{name}_target_entropy', f'health/{name}_prototypes_in_use'}
    for step, values in runner.logger.scalars.items():
        assert set(values) == expected | ({'health/grad_norm'} if step > 1 else set())
        assert all(math.isfinite(value) for value in values.values())


@pytest.mark.parametrize(('blocks', 'per_image', 'micro_batch_size'), [(1, 1, None), (3, 1, 5), (2, 2, 7)])
def test_values_are_those_of_the_models(blocks, per_image, micro_batch_size):
    def data(images, seed):
        return batch(images, seed=seed, blocks=blocks, per_image=per_image)

    runner = train('features', iterations=3, data=data, micro_batch_size=micro_batch_size)
    model, values = runner.model.eval(), runner.logger.scalars[3]
    images, mask = data(24, seed=2).values()
    with torch.no_grad():
        for part, backbone in (('student', model.backbone), ('teacher', model.teacher.backbone)):
            tokens = backbone(images[:16]).visible
            for of, features in (('pooled', tokens.mean(dim=1)), ('patches', tokens.reshape(-1, DIM))):
                assert values[f'health/{part}_rankme_{of}'] == pytest.approx(rankme(features).item(), rel=1e-3)
                cosine = mean_pairwise_cosine(features).item()
                assert values[f'health/{part}_cosine_{of}'] == pytest.approx(cosine, abs=1e-4)
        tokens = model.teacher.backbone(images).visible
    rows = [
        (tokens[mask.image_index[g], p], p) for g, places in enumerate(mask.predict) for p in places.flatten().tolist()
    ]
    share = positional_share(torch.stack([row for row, _ in rows]), torch.tensor([p for _, p in rows]), 16).item()
    assert values['health/toy_positional_share'] == pytest.approx(share, abs=1e-4)
    assert share > 1e-3
    norms = runner.message_hub.get_scalar('train/grad_norm').data[0]
    assert values['health/grad_norm'] == pytest.approx(norms[1:].mean())


def alter_features(runner, alter, teacher_only=False):
    """Change what student and teacher return from now on; gives what undoes it."""
    parts = [runner.model.teacher] if teacher_only else [runner.model, runner.model.teacher]
    return [part.backbone.norm.register_forward_hook(lambda module, inputs, out: alter(out)) for part in parts]


def constant(tokens):
    """Nearly one vector."""
    return 1 + 1e-3 * tokens


def flat(tokens):
    """Two directions of all."""
    return tokens * torch.tensor([1.0, 1.0] + [1e-4] * (DIM - 2))


@pytest.mark.parametrize(
    ('alter', 'expected'),
    [(constant, ['Complete collapse', 'Dimensional collapse']), (flat, ['Dimensional collapse'])],
)
def test_features_that_collapse(alter, expected):
    def change(runner):
        if runner.iter == 12:
            alter_features(runner, alter)

    runner = train('features', iterations=40, change=change)
    assert sorted(kinds(runner)) == expected  # each once, although three reports crossed it


def test_constant_images_are_a_collapse():
    """From the first report on, with which later ones are compared."""
    runner = train('features', data=lambda *a, **k: {**batch(*a, **k), 'inputs': torch.zeros(24, 3, 16, 16)})
    assert {'Dimensional collapse', 'Complete collapse'} <= set(kinds(runner))
    assert 'Look at the images' in ' '.join(runner.logger.warnings)


def test_a_target_without_balancing_collapses_on_few_prototypes():
    runner = train('softmax', iterations=120, lr=1e-2, momentum=0.0, interval=20)
    assert 'Prototype collapse' in kinds(runner)
    values = [report['health/toy_prototypes_in_use'] for report in runner.logger.scalars.values()]
    assert values[0] > 10 * values[-1] or values[-1] < 1.5


@pytest.mark.parametrize(('kind', 'expected'), [('positions', 'Positional collapse'), ('uniform', 'Uniform targets')])
def test_targets_that_turn_useless(kind, expected):
    def change(runner):
        if runner.iter == 5:
            generator = runner.model.branches['toy'].target_generator
            generator.kind, generator.distribution = kind, kind == 'uniform'

    runner = train('softmax', change=change)
    assert expected in kinds(runner)


def test_warnings_come_again_after_recovery():
    handles = []

    def change(runner):
        if runner.iter in (12, 32):
            handles.extend(alter_features(runner, flat))
        if runner.iter == 22:
            for handle in handles:
                handle.remove()

    assert kinds(train('features', iterations=50, change=change)) == ['Dimensional collapse'] * 2


@pytest.mark.parametrize(('factor', 'expected'), [(0.0, 'Gradients vanished'), (100.0, 'Gradients exploded')])
def test_gradients(factor, expected):
    def change(runner):
        if runner.iter == 10:
            runner.model.branches['toy'].weight = factor

    assert expected in kinds(train('pixels', change=change))


def test_values_that_are_not_finite_are_a_warning_and_not_a_crash():
    def change(runner):
        if runner.iter == 12:
            alter_features(runner, lambda tokens: tokens * torch.nan, teacher_only=True)

    runner = train('features', change=change)
    assert kinds(runner) == ['Not finite']
    assert 'health/teacher_rankme_patches' in runner.logger.warnings[0]
    assert 'student' not in runner.logger.warnings[0]
    assert math.isfinite(runner.logger.scalars[20]['health/grad_norm'])  # of the steps that were not skipped


def test_diagnose_compares_with_the_healthiest_report():
    name = 'health/student_rankme_patches'
    assert diagnose({name: 3.0}, {}) == {}  # the first report cannot be judged
    assert diagnose({name: 3.0}, {name: 11.0}) == {}
    (warning,) = diagnose({name: 3.0}, {name: 13.0}).values()
    assert '3 (13 before)' in warning
    assert diagnose({name: 1.4}, {name: 1.4}) != {}
    name = 'health/capi_positional_share'
    assert diagnose({name: 0.6}, {name: 0.3}) == {}
    assert diagnose({name: 0.7}, {name: 0.3}) != {}
    assert diagnose({name: 1.0}, {name: 1.0}) != {}
    assert diagnose_gradients(1.0, 0.2) == diagnose_gradients(0.02, 1.0) == {}


def test_training_is_bit_for_bit_that_without_the_hook():
    config = {'backbone': {**capi_config()['backbone'], 'drop_path_rate': 0.3}}
    results = []
    for hook in (True, False):
        runner = train('capi', iterations=7, interval=2, hook=hook, **config)
        results.append((runner.model.state_dict(), torch.get_rng_state()))
        assert runner.model.backbone.training
        assert not runner.model.teacher.backbone.training
        assert not runner.model.teacher._views
        assert len(runner.logger.scalars) == (5 if hook else 0)
    assert torch.equal(results[0][1], results[1][1])
    for key, value in results[0][0].items():
        assert torch.equal(value, results[1][0][key]), key


def worker(rank, folder):
    def half(images, seed):
        whole, rows = batch(images, seed=seed), slice(rank * images // 2, (rank + 1) * images // 2)
        return {'inputs': whole['inputs'][rows], 'mask': whole['mask'].images(rows.start, rows.stop, images)}

    torch.set_num_threads(1)
    dist.init_process_group('gloo', init_method=f'file://{folder}/store', rank=rank, world_size=2)
    runs = [
        train('capi', iterations=3, interval=2, data=half, wrap=DistributedDataParallel, hook=hook)
        for hook in (True, False)
    ]
    pairs = zip(*(run.model.state_dict().values() for run in runs), strict=True)
    same = all(torch.equal(one, other) for one, other in pairs)
    torch.save({'same': same, 'scalars': runs[0].logger.scalars}, f'{folder}/{rank}.pth')
    dist.destroy_process_group()


def test_two_processes(tmp_path):
    mp.spawn(worker, (str(tmp_path),), nprocs=2)
    first, second = (torch.load(tmp_path / f'{rank}.pth') for rank in range(2))
    assert first['same']
    assert second['same']
    assert list(first['scalars']) == [1, 2, 3]
    assert not second['scalars']
    # The first process has the assignments of its images, which are balanced over the images of both.
    runner, data = train('capi', iterations=3), batch(24, seed=2)
    targets = runner.model.targets(data['inputs'], data['mask'], differentiable=False)['capi'].patches
    for rows, equal in ((targets[:12], True), (targets, False)):
        expected = target_entropy(rows).item()
        assert (first['scalars'][3]['health/capi_target_entropy'] == pytest.approx(expected, rel=1e-4)) is equal


def test_rows_are_spread_evenly():
    rows = torch.arange(10)
    assert _evenly(rows, 10) is rows
    assert _evenly(rows, 4).tolist() == [0, 3, 6, 9]
    # Not the same few positions of a grid of 256 patches in every image.
    assert len((_evenly(torch.arange(256 * 256), 2048) % 256).unique()) > 240


def test_in_a_real_run_and_resumed(tmp_path):
    write_images(tmp_path / 'images', number=20)

    def start(iterations, **options):
        cfg = shrink(Config.fromfile(ROOT / 'configs/capi/digits.py'), tmp_path / 'images', tmp_path / 'work')
        cfg.default_hooks = {key: value for key, value in cfg.default_hooks.items() if key != 'probe'}
        cfg.default_hooks['health'] = {'type': 'mmmim.HealthHook', 'interval': 2}
        cfg.train_cfg.max_iters = iterations
        cfg.experiment_name = f'health-{iterations}'
        cfg.merge_from_dict(options)
        return Runner.from_cfg(cfg)

    runner = start(3)
    runner.train()
    rows = [json.loads(line) for line in (Path(runner.log_dir) / 'vis_data/scalars.json').read_text().splitlines()]
    rows = [row for row in rows if 'health/student_rankme_patches' in row]
    assert [row['iter'] for row in rows] == [row['step'] for row in rows] == [1, 2, 3]
    assert 'health/grad_norm' in rows[1]

    resumed = start(4, resume=True)
    resumed.load_or_resume()
    best = max(row['health/student_rankme_patches'] for row in rows)
    assert resumed.message_hub.get_info('health')[1]['health/student_rankme_patches'] == best
    resumed.train()
    assert resumed.iter == 4


def report(hook, hub, values, images, iteration=0):
    log = Log()
    runner = SimpleNamespace(message_hub=hub, hooks=[], logger=log, visualizer=log, iter=iteration, max_iters=9)
    hook._report(runner, values, images)
    return log.warnings


def test_pooled_features_of_few_images_are_not_judged():
    """The rank of three features is three at most."""
    values = {'health/student_rankme_pooled': 1.2, 'health/student_rankme_patches': 40.0}
    for images, expected in ((3, 0), (16, 1)):
        hook, hub = HealthHook(), MessageHub(f'few-{images}')
        hook._last, hook._warned = None, set()
        report(hook, hub, values, images)
        assert len(report(hook, hub, values, images)) == expected


def test_ranks_of_other_numbers_of_images_do_not_compare():
    """As after resuming on more GPUs, each of which has fewer images."""
    hook, hub = HealthHook(), MessageHub('resumed')
    hook._last, hook._warned = None, set()
    report(hook, hub, {'health/student_rankme_pooled': 150.0, 'health/student_cosine_patches': 0.1}, 256)
    fewer = {'health/student_rankme_pooled': 30.0, 'health/student_cosine_patches': 0.95}
    (warning,) = report(hook, hub, fewer, 32)
    assert warning.startswith('Complete collapse')
    assert len(report(hook, hub, {'health/student_rankme_pooled': 6.0}, 32)) == 1


def test_too_few_images_are_refused():
    with pytest.raises(InputError, match='images must be a whole number of at least 2, not 1'):
        HealthHook(images=1)


def test_models_of_other_kinds_are_left_alone():
    log = Log()
    runner = SimpleNamespace(model=nn.Linear(2, 2), logger=log, visualizer=log, iter=0, max_iters=1)
    hook = HealthHook()
    hook.before_train(runner)
    hook.after_train_iter(runner, 0, {})
    assert log.infos == ['No health reports: Linear is not an mmmim.MaskedImageModeling.']
    assert not log.scalars
