"""Recordings of other sizes and settings, made by an independent implementation, replayed by mmmim."""

import copy
import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mmmim.models import ViT
from mmmim.parity import Fixture, capi, compare
from mmmim.utils import InputError
from tests import reference_capi as reference
from tests.paths import FIXTURE

SMALL = dict(
    img=40,
    patch=8,
    dim=16,
    heads=2,
    enc=2,
    dec=2,
    predictor_dim=24,
    registers=8,
    clusters=24,
    batch=3,
    mask_ratio=0.65,
    prediction_subsampling=0.25,
    seed=1,
)
TINY = {**SMALL, 'img': 32, 'enc': 1, 'dec': 1, 'predictor_dim': 16, 'registers': 4}
FIVE_STEPS = [(0.0, 0.001, 1.0), (0.001, 0.004, 0.5), (0.01, 0.0, 0.9), (0.002, 0.002, 0.3), (0.0005, 0.001, 0.0)]


def both(**changes):
    return {'student': changes, 'clustering': changes}


def other(**student):
    return dict(optimiser={'student': student})


SIZES = {
    'patch14_img56': dict(img=56, patch=14, dim=32, heads=4, enc=2, registers=8, batch=5, seed=2),
    'patch14_img70_16_registers': dict(img=70, patch=14, dim=24, predictor_dim=32, registers=16, dec=2),
    'wide_predictor_12_registers': dict(heads=4, predictor_dim=48, registers=12, dec=3),
    'one_block_each': {},
    'deep': dict(dim=32, predictor_dim=48, enc=12, dec=6),
    'wide_image': dict(img=(24, 56), mask_ratio=0.5, prediction_subsampling=0.4),
    'tall_image': dict(img=(56, 24), mask_ratio=0.5, prediction_subsampling=0.4),
    'one_row_of_patches': dict(img=(8, 64), mask_ratio=0.5, prediction_subsampling=0.4),
    'one_visible_patch': dict(img=(8, 16), mask_ratio=0.5, prediction_subsampling=1.0),
    'one_prediction': dict(img=40, prediction_subsampling=0.07),
    'all_predicted': dict(prediction_subsampling=1.0),
    'one_frequency': dict(heads=4),
    'batch_of_two_many_clusters': dict(batch=2, clusters=200),
    'three_clusters': dict(clusters=3, batch=4),
    'temperatures': dict(temperatures={'student': 0.2, 'teacher': 0.1}),
    'one_temperature': dict(temperatures={'student': 0.1, 'teacher': 0.1}),
    'betas': dict(optimiser=both(betas=[0.7, 0.99])),
    'eps': dict(optimiser=both(eps=1e-3)),
    'student_not_decayed': other(weight_decay=0.0),
    'clustering_not_decayed': dict(optimiser={'clustering': {'weight_decay': 0.0}}),
    'factors': other(norm_weight_wd_factor=0.5, bias_wd_factor=1.0, patch_embed_lr_factor=1.5),
    'factors_of_zero': other(norm_weight_wd_factor=0.0, patch_embed_lr_factor=0.0),
    'one_step': dict(schedule=[(0.002, 0.001, 0.5)]),
    'five_steps': dict(schedule=FIVE_STEPS),
}


def recording(tmp_path, defaults=TINY, **changes):
    return Fixture.load(reference.record(tmp_path / 'recording.npz', **{**defaults, **changes}))


def failures(fixture):
    """Names of the quantities in which mmmim's replay differs; every recorded quantity has been compared."""
    rows = compare(fixture.arrays, capi.replay(fixture), capi.is_input, capi.tolerance)
    assert {row.name for row in rows} == {name for name in fixture.arrays if not capi.is_input(name)}
    return {row.name for row in rows if row.failed}


# ------------------------------------------------------------------------------- the reference itself is to be trusted


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_the_reference_is_the_recorded_run(dtype):
    """Nothing of mmmim is in this test, the tolerances included."""
    recorded = Fixture.load(FIXTURE)
    computed = reference.replay(recorded.arrays, recorded.settings, dtype)
    inputs = {'images', 'visible_indices', 'predict_indices', 'lr', 'clustering_lr', 'momentum'}
    left = {name for name in recorded.arrays if not name.startswith('sd.') and name.split('.')[-1] not in inputs}
    assert set(computed) == left
    for name, value in computed.items():
        expected = recorded.arrays[name].astype(np.float64)
        assert value.shape == expected.shape
        tolerance = 1e-4 if name.startswith('traj.') else 5e-5 if name in ('assignments', 'targets') else 1e-5
        assert np.abs(value - expected).max() <= tolerance * np.abs(expected).max(), name


def test_a_recording_has_the_layout_of_the_recorded_run(tmp_path):
    recorded = Fixture.load(FIXTURE)
    sizes = {name: recorded.settings[name] for name in SMALL}
    made = Fixture.load(reference.record(tmp_path / 'same.npz', **sizes))
    shapes = {name: (value.shape, value.dtype.kind) for name, value in recorded.arrays.items()}
    assert {name: (value.shape, value.dtype.kind) for name, value in made.arrays.items()} == shapes
    assert set(made.settings) == set(recorded.settings)
    for name in ('optimiser', 'temperatures', 'groups', 'drop_path', *sizes):
        assert made.settings[name] == recorded.settings[name]
    assert set(made.settings['arrays']) == set(recorded.settings['arrays'])
    teacher, student = (made.arrays[f'sd.{side}.patch_embed.weight'] for side in ('teacher', 'student'))
    assert np.abs(teacher - student).max() > 0.1 * np.abs(student).max()


def test_masks_of_the_reference():
    generator = torch.Generator().manual_seed(0)
    for height, width, ratio in ((8, 8, 0.65), (3, 7, 0.5), (7, 3, 0.5), (1, 8, 0.5), (16, 16, 0.9), (5, 5, 0.1)):
        for _ in range(20):
            visible, predicted = reference.random_mask(height, width, ratio, 0.5, generator)
            masked = int(height * width * ratio)
            assert len(set(visible.tolist())) == len(visible) == height * width - masked
            assert len(set(predicted.tolist())) == len(predicted) == int(masked * 0.5)
            assert not set(visible.tolist()) & set(predicted.tolist())
            assert visible.tolist() == sorted(visible.tolist())
            assert max(visible.tolist() + predicted.tolist()) < height * width


# ------------------------------------------------------------------------------------------------ what mmmim must equal


@pytest.mark.parametrize('size', SIZES)
def test_sizes(size, tmp_path):
    assert failures(recording(tmp_path, **SIZES[size])) == set()


@pytest.mark.parametrize('seed', range(2, 6))
def test_seeds(seed, tmp_path):
    assert failures(recording(tmp_path, SMALL, seed=seed)) == set()


def without_registers(tmp_path):
    return recording(tmp_path, img=70, patch=14, dim=24, registers=0, predictor_dim=32)


def test_no_registers(tmp_path):
    """A recording that leaves out what has no elements."""
    made = without_registers(tmp_path)
    assert made.arrays['eval_registers'].size == 0
    arrays = {name: value for name, value in made.arrays.items() if name.split('.')[-1] != 'registers'}
    assert failures(Fixture(arrays, made.settings)) == set()


def test_registers_of_no_elements(tmp_path):
    """A recording that has the registers, [1, 0, D], with norms of zero."""
    made = without_registers(tmp_path)
    assert made.arrays['sd.student.registers'].shape == (1, 0, 24)
    assert failures(made) == set()


def test_norms_of_large_weights(tmp_path):
    """A million weights, as every real size has: float32 norms of them are off by more than the tolerance."""
    assert failures(recording(tmp_path, dim=128, clusters=8192, img=24, prediction_subsampling=1.0)) == set()


def test_rotary_table():
    """A replay reads the table from the recording, so that it says nothing about the one mmmim starts with."""
    recorded = Fixture.load(FIXTURE).arrays
    for name in (n for n in recorded if n.startswith('sd.') and n.endswith('rope.freqs')):
        np.testing.assert_allclose(recorded[name], reference.rope_table(recorded[name].shape[1]), rtol=1e-6)
    for dim, heads in ((64, 1), (96, 2), (16, 4)):
        table = ViT(
            patch_size=8, embed_dim=dim, depth=1, num_heads=heads, positions='rope', num_cls_tokens=0
        ).positions.freqs
        np.testing.assert_allclose(table, reference.rope_table(dim // heads), rtol=1e-6)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (dict(batch=1), 'at least 2 images'),
        (dict(shuffle=True), 'predict_indices must be ordered by image'),
        (other(betas=[0.8, 0.95]), 'betas and eps must agree'),
        (dict(optimiser={'clustering': {'eps': 1e-6}}), 'betas and eps must agree'),
        (dict(img=44), 'patch size 8 does not divide'),
    ],
)
def test_recordings_that_mmmim_cannot_replay(changes, message, tmp_path):
    with pytest.raises(InputError, match=message):
        failures(recording(tmp_path, **changes))


# ----------------------------------------------------------------------------------------------- what must not be equal


def constant_momentum(average):
    return lambda teacher, student, momentum: average(teacher, student, 0.9)


def swapped_momentum(average):
    return lambda teacher, student, momentum: average(teacher, student, 1 - momentum)


def fixed_registers(_):
    return lambda count, seen: reference.border_coordinates(count, seen.dtype).expand(len(seen), -1, -1)


def patch_centres(_):
    def coordinates(height, width, dtype):
        rows, columns = ((torch.arange(n, dtype=dtype) + 0.5) / n for n in (height, width))
        return torch.cartesian_prod(rows, columns)

    return coordinates


def neighbours_turn_together(_):
    def rotate(x, angle):
        turned = torch.stack([-x[..., 1::2], x[..., ::2]], -1).flatten(-2)
        return x * angle.cos() + turned * angle.sin()

    return rotate


def prototypes_first(_):
    def sinkhorn_knopp(logits):
        matrix = (logits - logits.amax(0, keepdim=True) + 50).exp()
        for _ in range(3):
            matrix = matrix / matrix.sum(1, keepdim=True)
            matrix = matrix / matrix.sum(0, keepdim=True)
        return matrix

    return sinkhorn_knopp


def all_positions_together(_):
    def assign(logits, temperature):
        return reference.sinkhorn_knopp((logits.detach() / temperature).flatten(0, 1)).reshape(logits.shape)

    return assign


def factor_where(suffix, lr=None, decay=None):
    def wrong(factors):
        def changed(name, student):
            right = factors(name, student)
            if not name.endswith(suffix):
                return right
            return right[0] if lr is None else lr, right[1] if decay is None else decay

        return changed

    return wrong


# name of the function in the reference, what to make of it, a quantity that must differ, one that must not
MISTAKES = {
    'registers_not_scaled': ('register_coordinates', fixed_registers, 'student_visible', 'teacher_patches'),
    'patch_centres': ('patch_coordinates', patch_centres, 'teacher_patches', None),
    'rope_pairs': ('rotate', neighbours_turn_together, 'teacher_patches', None),
    'rope_direction': ('rotate', lambda f: lambda x, angle: f(x, -angle), 'teacher_patches', None),
    'gelu_by_tanh': ('gelu', lambda f: lambda x: F.gelu(x, approximate='tanh'), 'teacher_patches', None),
    'norm_eps': ('NORM_EPS', lambda _: 1e-6, 'eval_registers', None),
    'prototypes_first': ('sinkhorn_knopp', prototypes_first, 'assignments', 'predictions'),
    'two_iterations': ('sinkhorn_knopp', lambda f: lambda x: f(x, iterations=2), 'targets', 'predictions'),
    'standard_sinkhorn': ('assign', all_positions_together, 'assignments', 'predictions'),
    'one_temperature': (
        'cross_entropy',
        lambda f: lambda targets, logits, temperature: f(targets, logits, 0.06),
        'clustering_loss',
        'targets',
    ),
    'momentum_ignored': (
        'average',
        lambda _: lambda *args: None,
        'traj.final_norm.teacher.mask_token',
        'traj.0.clustering_loss',
    ),
    'momentum_constant': ('average', constant_momentum, 'traj.final_norm.teacher.mask_token', 'traj.1.clustering_loss'),
    'momentum_swapped': ('average', swapped_momentum, 'traj.1.clustering_loss', 'traj.0.clustering_loss'),
    'bias_decayed': (
        'factors',
        factor_where('patch_embed.bias', decay=1.0),
        'traj.final_norm.student.patch_embed.bias',
        'traj.final_norm.student.mask_token',
    ),
    'patch_embed_rate': (
        'factors',
        factor_where('patch_embed.weight', lr=1.0),
        'traj.final_norm.student.patch_embed.weight',
        'traj.0.capi_loss',
    ),
    'norms_fully_decayed': (
        'factors',
        factor_where('norm.weight', decay=1.0),
        'traj.final_norm.student.decoder.blocks.0.residual2.norm.weight',
        'traj.0.capi_loss',
    ),
    'mask_token_not_decayed': (
        'factors',
        factor_where('mask_token', decay=0.0),
        'traj.final_norm.student.mask_token',
        'traj.final_norm.student.registers',
    ),
    'registers_not_decayed': (
        'factors',
        factor_where('registers', decay=0.0),
        'traj.final_norm.student.registers',
        'traj.final_norm.student.mask_token',
    ),
    'gain_not_decayed': (
        'factors',
        factor_where('weight_g', decay=0.0),
        'traj.final_norm.student_head.last_layer.weight_g',
        'traj.final_norm.student.registers',
    ),
}


@pytest.mark.parametrize('mistake', MISTAKES)
def test_a_recording_with_a_mistake_fails(mistake, tmp_path, monkeypatch):
    name, wrong, differs, equal = MISTAKES[mistake]
    monkeypatch.setattr(reference, name, wrong(getattr(reference, name)))
    failed = failures(recording(tmp_path, SMALL))
    assert differs in failed
    assert equal is None or equal not in failed


def test_the_teacher_moves_after_the_step(tmp_path, monkeypatch):
    step = reference.Run.step

    def teacher_first(self, lr, clustering_lr, momentum):
        reference.average(self.teacher, self.student, momentum)
        step(self, lr, clustering_lr, 1.0)

    monkeypatch.setattr(reference.Run, 'step', teacher_first)
    assert 'traj.final_norm.teacher.mask_token' in failures(recording(tmp_path, SMALL))


def test_the_bias_of_the_clustering_head_is_decayed(tmp_path, monkeypatch):
    adamw = reference.Run.adamw

    def without_bias(groups, options):
        if len(groups) == 1:
            weight, bias = groups[0]['params']
            groups = [{**groups[0], 'params': [weight]}, {'params': [bias], 'weight_decay': 0.0}]
        return adamw(groups, options)

    monkeypatch.setattr(reference.Run, 'adamw', staticmethod(without_bias))
    assert failures(recording(tmp_path, SMALL)) == {'traj.final_norm.clustering.layer.bias'}


def test_the_context_has_the_registers(tmp_path, monkeypatch):
    predict = reference.Student.predict

    def without_registers(self, images, context, where, indices, depth=None):
        count = self.registers.shape[1]
        return predict(self, images, context[:, count:], where[:, count:], indices, depth)

    monkeypatch.setattr(reference.Student, 'predict', without_registers)
    failed = failures(recording(tmp_path, SMALL))
    assert {'predictions', 'eval_global'} <= failed
    assert 'student_visible' not in failed


@pytest.fixture(scope='module')
def small(tmp_path_factory):
    return recording(tmp_path_factory.mktemp('small'), SMALL)


@pytest.mark.parametrize(
    ('path', 'value', 'differs'),
    [
        ('optimiser.student.weight_decay', 1.9, 'traj.final_norm.student.mask_token'),
        (
            'optimiser.student.norm_weight_wd_factor',
            0.5,
            'traj.final_norm.student.encoder.blocks.0.residual1.norm.weight',
        ),
        ('optimiser.student.bias_wd_factor', 1.0, 'traj.final_norm.student.patch_embed.bias'),
        ('optimiser.student.patch_embed_lr_factor', 0.5, 'traj.final_norm.student.patch_embed.weight'),
        ('optimiser.clustering.weight_decay', 0.3, 'traj.final_norm.clustering.layer.bias'),
        ('optimiser.*.betas', [0.8, 0.95], 'traj.final_norm.student.mask_token'),
        ('optimiser.*.betas', [0.9, 0.5], 'traj.final_norm.student.mask_token'),
        ('optimiser.*.eps', 1e-3, 'traj.final_norm.student.patch_embed.bias'),
        ('temperatures.student', 0.1, 'capi_loss'),
        ('temperatures.teacher', 0.1, 'assignments'),
        ('optimiser.student.rope_lr_factor', 1.0, None),
        ('drop_path', 0.2, None),
    ],
)
def test_every_setting_is_used(small, path, value, differs):
    """The recording says otherwise than how it was made: mmmim has to differ, or (None) to refuse it."""
    settings = copy.deepcopy(small.settings)
    parts = path.split('.')
    for side in ('student', 'clustering') if '*' in parts else (None,):
        at = settings
        for part in parts[:-1]:
            at = at[side if part == '*' else part]
        at[parts[-1]] = value
    changed = Fixture(small.arrays, json.loads(json.dumps(settings)))
    if differs is None:
        with pytest.raises(InputError, match=parts[-1].split('_')[0]):
            failures(changed)
    else:
        assert differs in failures(changed)
