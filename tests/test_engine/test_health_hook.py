"""Reports of healthy training, and warnings of training that was made to collapse."""

import math
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from mmengine import MessageHub
from torch import nn

from mmmim.engine.hooks import HealthHook
from mmmim.engine.hooks.health_hook import _evenly
from mmmim.evaluation.measures.health import mean_pairwise_cosine, positional_share
from mmmim.evaluation.measures.health_rules import diagnose, diagnose_gradients
from mmmim.evaluation.measures.rankme import rankme
from mmmim.models import Head, TargetGenerator
from mmmim.registry import MODELS
from mmmim.structures import Target
from mmmim.structures.patch_mask import gather_patches
from tests.runs import assert_same
from tests.toys import DIM, batch, capi_config, optim_wrapper


@MODELS.register_module(force=True)
class HealthToyTarget(TargetGenerator):
    """Targets of many kinds: tokens of the teacher or the student, pixels, probabilities; the last two are useless."""

    def __init__(self, kind):
        super().__init__()
        self.kind, self.distribution, self.differentiable = kind, kind == 'softmax', kind == 'own_features'

    def forward(self, images, mask, teacher, backbone):
        where = mask.flat_predict()
        if self.kind == 'positions':
            return Target(patches=F.one_hot(where, DIM).float())
        if self.kind == 'uniform':
            return Target(patches=torch.full((*where.shape, DIM), 1 / DIM))
        if self.kind == 'pixels':
            tokens = F.unfold(images, 4, stride=4).transpose(1, 2)[..., :DIM]
        else:
            tokens = (backbone(images) if self.differentiable else teacher.encode()).visible
        patches = gather_patches(tokens, where, mask.image_index)
        return Target(patches=patches.softmax(dim=-1) if self.distribution else patches)


@MODELS.register_module(force=True)
class HealthToyHead(Head):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, DIM)

    def loss(self, prediction, target, context):
        return {'loss': F.smooth_l1_loss(self.linear(prediction.patches), target.patches)}


class Log:
    """In place of a logger and a visualizer."""

    def __init__(self):
        self.infos, self.warnings, self.scalars = [], [], {}
        self.info, self.warning = self.infos.append, self.warnings.append

    def add_scalars(self, values, step):
        assert step not in self.scalars
        self.scalars[step] = values


def train(kind, iterations=12, interval=5, data=batch, change=None, hook=True, wrap=lambda model: model, **options):
    """Train a toy; ``change(runner)`` may interfere before every iteration. ``hook=False``: without reports."""
    torch.manual_seed(0)
    config = capi_config(**options)
    if kind != 'capi':
        generator = {'type': 'mmmim.HealthToyTarget', 'kind': kind}
        branch = {'target_generator': generator, 'head': {'type': 'mmmim.HealthToyHead'}}
        config['branches'] = {'toy': {**config['branches']['capi'], **branch}}
        config['teacher'] = None if kind == 'pixels' else ['backbone']
    model = MODELS.build(config)
    model.init_weights()
    if kind == 'capi':
        model.branches['capi'].target_generator.distribution = True
    log = Log()
    runner = SimpleNamespace(
        model=wrap(model.train()), optim_wrapper=optim_wrapper(model, weight_decay=0.0), logger=log, visualizer=log,
        message_hub=MessageHub('health'), max_iters=iterations, iter=0, hooks=[],
    )  # fmt: skip
    health = HealthHook(interval, images=16)
    health.before_train(runner)
    for runner.iter in range(iterations):
        if change is not None:
            change(runner)
        images = data(24, seed=runner.iter)
        outputs = runner.model.train_step(images, runner.optim_wrapper)
        runner.message_hub.update_scalar('train/grad_norm', outputs['grad_norm'].item())
        if model.teacher is not None:
            model.teacher.update(model, 0.9, runner.optim_wrapper.skipped)
        if hook:
            health.after_train_iter(runner, runner.iter, images)
    return runner


def kinds(runner):
    return [line.split(':')[0] for line in runner.logger.warnings]


@pytest.mark.parametrize('kind', ['capi', 'features', 'own_features', 'pixels', 'softmax'])
def test_healthy_training_is_reported_without_a_warning(kind):
    runner = train(kind)
    assert runner.logger.warnings == []
    assert list(runner.logger.scalars) == [1, 5, 10, 12]  # the first, every fifth, the last
    assert [line.split(']')[0] for line in runner.logger.infos] == [f'Health [{i}/12' for i in (1, 5, 10, 12)]
    parts = ('student',) if kind == 'pixels' else ('student', 'teacher')
    measures = [f'{measure}_{of}' for measure in ('rankme', 'cosine') for of in ('pooled', 'patches')]
    expected = {'iter', *(f'health/{part}_{measure}' for part in parts for measure in measures)}
    name = 'capi' if kind == 'capi' else 'toy'
    if kind != 'own_features':  # those carry gradients and exist in the micro-batch only
        expected.add(f'health/{name}_positional_share')
    if kind in ('capi', 'softmax'):
        expected |= {f'health/{name}_target_entropy', f'health/{name}_prototypes_in_use'}
    for step, values in runner.logger.scalars.items():
        assert set(values) == expected | ({'health/grad_norm'} if step > 1 else set())
        assert all(math.isfinite(value) for value in values.values())


@pytest.mark.parametrize(('blocks', 'per_image', 'micro_batch_size'), [(1, 1, None), (2, 2, 7)])
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


def alter_features(runner, alter, parts=('student', 'teacher')):
    models = {'student': runner.model, 'teacher': runner.model.teacher}
    return [models[part].backbone.norm.register_forward_hook(lambda module, inputs, out: alter(out)) for part in parts]


def nearly_constant(runner):
    alter_features(runner, lambda tokens: 1 + 1e-3 * tokens)


def teacher_is_nan(runner):
    alter_features(runner, lambda tokens: tokens * torch.nan, ['teacher'])


def targets(kind):
    def change(runner):
        generator = runner.model.branches['toy'].target_generator
        generator.kind, generator.distribution = kind, kind == 'uniform'

    return change


def weight(factor):
    def change(runner):
        runner.model.branches['toy'].weight = factor

    return change


@pytest.mark.parametrize(
    ('kind', 'change', 'expected'),
    [
        ('features', nearly_constant, {'Complete collapse', 'Dimensional collapse'}),
        ('features', teacher_is_nan, {'Not finite'}),
        ('softmax', targets('positions'), {'Positional collapse'}),
        ('softmax', targets('uniform'), {'Uniform targets'}),
        ('pixels', weight(0.0), {'Gradients vanished'}),
        ('pixels', weight(100.0), {'Gradients exploded'}),
    ],
)
def test_what_goes_wrong_is_named_once(kind, change, expected):
    runner = train(kind, iterations=21, change=lambda runner: change(runner) if runner.iter == 6 else None)
    assert expected <= set(kinds(runner))
    assert len(kinds(runner)) == len(set(kinds(runner)))  # although several reports crossed it
    if change is teacher_is_nan:
        assert 'health/teacher_rankme_patches' in runner.logger.warnings[0]
        assert 'student' not in runner.logger.warnings[0]
        assert math.isfinite(runner.logger.scalars[10]['health/grad_norm'])  # of the steps that were not skipped


def test_warnings_come_again_after_recovery():
    """Of features that have two directions only, are healthy again, and then not."""
    scale, handles = torch.tensor([1.0, 1.0] + [1e-4] * (DIM - 2)), []

    def change(runner):
        if runner.iter in (6, 16):
            handles.extend(alter_features(runner, lambda tokens: tokens * scale))
        if runner.iter == 11:
            for handle in handles:
                handle.remove()

    assert kinds(train('features', iterations=25, change=change)) == ['Dimensional collapse'] * 2


@pytest.mark.parametrize(
    ('name', 'healthiest', 'fine', 'warned'),
    [
        ('student_rankme_patches', 12.0, 3.1, 2.9),
        ('student_rankme_patches', 1.4, 1.51, 1.4),
        ('teacher_cosine_patches', 0.0, 0.89, 0.91),
        ('teacher_cosine_patches', 0.98, 0.989, 0.991),
        ('capi_positional_share', 0.3, 0.6, 0.7),
        ('capi_positional_share', 1.0, 0.9, 1.0),
        ('capi_prototypes_in_use', 100.0, 11.0, 9.0),
        ('capi_prototypes_in_use', 10.0, 1.6, 1.4),
        ('capi_target_entropy', 0.5, 0.97, 0.99),
    ],
)
def test_diagnose_compares_with_the_healthiest_report(name, healthiest, fine, warned):
    assert diagnose({name: warned}, {}) == {}  # the first report cannot be judged
    assert diagnose({name: fine}, {name: healthiest}) == {}
    (warning,) = diagnose({name: warned}, {name: healthiest}).values()
    assert f'{warned:.4g} ({healthiest:.4g} before)' in warning


def test_diagnose_gradients():
    assert diagnose_gradients(1.0, 0.2) == diagnose_gradients(0.02, 1.0) == {}
    assert [*diagnose_gradients(1.0, 0.1), *diagnose_gradients(0.01, 1.0)] == ['exploded', 'vanished']


def test_training_is_bit_for_bit_that_without_the_hook():
    config = {'backbone': {**capi_config()['backbone'], 'drop_path_rate': 0.3}}
    states = []
    for hook in (True, False):
        runner = train('capi', iterations=7, interval=2, hook=hook, **config)
        states.append((dict(runner.model.state_dict()), torch.get_rng_state()))
        assert runner.model.backbone.training
        assert not runner.model.teacher.backbone.training
        assert len(runner.logger.scalars) == (5 if hook else 0)
    assert_same(*states)


def test_rows_are_spread_evenly():
    rows = torch.arange(10)
    assert _evenly(rows, 4).tolist() == [0, 3, 6, 9]
    # Not the same few positions of a grid of 256 patches in every image.
    assert len((_evenly(torch.arange(256 * 256), 2048) % 256).unique()) > 240


def reports(name, *values_and_images):
    """Numbers of warnings of a hook's reports."""
    hook, hub, numbers = HealthHook(), MessageHub(name), []
    hook._last, hook._warned = None, set()
    for values, images in values_and_images:
        log = Log()
        runner = SimpleNamespace(message_hub=hub, hooks=[], logger=log, visualizer=log, iter=0, max_iters=9)
        hook._report(runner, {f'health/student_{key}': value for key, value in values.items()}, images)
        numbers.append(len(log.warnings))
    return numbers


def test_pooled_features_of_few_images_are_not_judged():
    """The rank of three features is three at most."""
    values = {'rankme_pooled': 1.2, 'rankme_patches': 40.0}
    assert reports('few', (values, 3), (values, 3)) == [0, 0]
    assert reports('many', (values, 16), (values, 16)) == [0, 1]


def test_ranks_of_other_numbers_of_images_do_not_compare():
    """As after resuming on more GPUs, each of which has fewer images; of the second report the cosine is judged."""
    first, second = ({'rankme_pooled': 150.0, 'cosine_patches': 0.1}, {'rankme_pooled': 30.0, 'cosine_patches': 0.95})
    assert reports('resumed', (first, 256), (second, 32), ({'rankme_pooled': 6.0}, 32)) == [0, 1, 1]


def test_other_models_have_no_reports():
    log, hook = Log(), HealthHook()
    runner = SimpleNamespace(model=nn.Linear(2, 2), logger=log, visualizer=log, iter=0, max_iters=1)
    hook.before_train(runner)
    hook.after_train_iter(runner, 0, {})
    assert log.infos == ['No health reports: Linear is not an mmmim.MaskedImageModeling.']
    assert not log.scalars
