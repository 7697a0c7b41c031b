"""Recordings of I-JEPA, the given one and others by an independent implementation, replayed by mmmim."""

import copy
import json
import math
import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mmmim.converters.ijepa import mmmim_names
from mmmim.engine.optim_constructor import parameter_groups
from mmmim.parity import METHODS, Fixture, check, ijepa
from mmmim.utils import InputError
from tests import reference_ijepa as reference
from tests.paths import ROOT

RECORDED = ROOT / 'tests/data/ijepa_tiny.npz'
SMALL = dict(grid=5, patch=4, dim=16, heads=2, depth=1, pred_dim=12, pred_depth=1, batch=2, traj_batch=2, min_keep=1)
SMALL |= dict(nenc=2, npred=2, enc_mask_scale=[0.5, 0.9], pred_mask_scale=[0.15, 0.3], steps=2, draws={}, noise_std=0.2)
# So that a teacher that moves at the wrong time shows; the usual momentum is that of the recorded run.
SMALL |= dict(optimiser=dict(ema_momentum='0.6+0.1*t'))
# Contexts that have to give up target blocks; those of the recorded run never do.
CROWDED = {'crowded': (dict(grid=10, min_keep=11, npred=12), 6, 800, False)}
SIZES = {
    'grid4': dict(grid=4, patch=8, batch=3, pred_mask_scale=[0.2, 0.4]),
    'grid7': dict(grid=7, patch=2, min_keep=4, pred_mask_scale=[0.2, 0.3]),
    'grid14_patch2': dict(grid=14, patch=2, min_keep=10, pred_mask_scale=[0.15, 0.2]),
    'one_head': dict(dim=20, heads=1, pred_dim=8),
    'many_heads': dict(dim=24, heads=6, pred_dim=48),
    'deep': dict(dim=24, depth=4, pred_depth=3),
    'deep_predictor': dict(pred_depth=5, pred_dim=40),
    'wide_encoder': dict(dim=64, heads=4),
    'one_context': dict(nenc=1),
    'three_contexts': dict(nenc=3, npred=1, batch=1),
    'one_target': dict(npred=1),
    'six_targets': dict(npred=6, enc_mask_scale=[0.9, 1.0]),
    'overlap': dict(allow_overlap=True, enc_mask_scale=[0.3, 0.4]),
    'relaxed': dict(npred=5, min_keep=7, enc_mask_scale=[0.8, 0.9], pred_mask_scale=[0.4, 0.5]),
    'tall_blocks': dict(aspect_ratio=[1.5, 3.0], min_keep=0),
    'five_images': dict(batch=5, traj_batch=1),
    'one_step': dict(steps=1),
    'five_steps': dict(steps=5, optimiser=dict(lr='1e-3*(t+1)', ema_momentum='0.9+0.02*t, after the step')),
    'constant': dict(optimiser=dict(lr='5e-4', ema_momentum='0.5', betas=[0.8, 0.95], eps=1e-6)),
    'falling_momentum': dict(optimiser=dict(ema_momentum='1.0-0.25*t')),
    'usual_decay': dict(optimiser=dict(weight_decay_decayed=0.05)),
    'schedule': dict(schedule=dict(ipe=7, epochs=12, warmup=3, ipe_scale=1.0, start=1e-4, ref=2e-3, wd=(0.01, 0.2))),
    'own_draws': dict(
        draws={
            'small': (dict(grid=9, patch=4, min_keep=3, nenc=3, npred=1), 2, 50, True),
            **CROWDED,
        }
    ),
}


def recording(tmp_path, **changes):
    return Fixture.load(reference.record(tmp_path / 'recording.npz', **{**SMALL, **changes}))


def failures(fixture):
    """Names of the quantities in which mmmim's replay differs; every recorded quantity has been compared."""
    rows, _ = check(ijepa, fixture)
    assert {row.name for row in rows} == {name for name in fixture.arrays if not ijepa.is_input(name)}
    assert all(row.error is not None for row in rows)
    return {row.name for row in rows if row.failed}


@pytest.fixture(scope='module')
def recorded():
    return Fixture.load(RECORDED)


@pytest.fixture(scope='module')
def small(tmp_path_factory):
    return recording(tmp_path_factory.mktemp('small'), draws=reference.DRAWS | CROWDED)


# ------------------------------------------------------------------------------- the reference itself is to be trusted


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_the_reference_is_the_recorded_run(dtype):
    """Nothing of mmmim is in this test, the tolerances included."""
    with np.load(RECORDED) as file:
        arrays = dict(file)
    settings = json.loads(RECORDED.with_suffix('.json').read_text())
    computed = reference.replay(arrays, {**settings, 'steps': 3, 'schedule': reference.SCHEDULE}, dtype)
    inputs = {'images', 'eps.encoder_in', 'eps.predictor_in', *(f'traj.{t}.images' for t in range(3))}
    assert set(computed) == {name for name in arrays if not name.startswith('sd.')} - inputs
    for name, value in computed.items():
        expected = arrays[name]
        assert (value.shape, value.dtype) == (expected.shape, expected.dtype)
        if value.dtype == np.int64:
            assert (value == expected).all(), name
            continue
        error = np.abs(value.astype(np.float64) - expected).max() / np.abs(expected).max()
        # AdamW turns the rounding of the zero gradient of keys' biases into steps.
        assert error <= (1e-3 if name.startswith('traj.') and name.endswith('qkv.bias') else 5e-6), name


def test_a_recording_has_the_layout_of_the_recorded_run(recorded, tmp_path):
    made = Fixture.load(reference.record(tmp_path / 'recording.npz', seed=recorded.settings['seed']))
    layout = {name: (value.shape, value.dtype) for name, value in recorded.arrays.items()}
    assert {name: (value.shape, value.dtype) for name, value in made.arrays.items()} == layout
    assert made.settings['config'] == recorded.settings['config']
    groups = {
        name: {key: group[key] for key in ('weight_decay', 'requires_grad')}
        for name, group in recorded.settings['weight_decay_groups'].items()
    }
    assert made.settings['weight_decay_groups'] == groups
    # Of the same seed, masks are the same; so is what does not depend on weights.
    same = [name for name in made.arrays if re.search('mask(s_|ing)|draw|sched|pos_(table|embed)$', name)]
    assert len(same) > 50
    for name in same:
        np.testing.assert_allclose(made.arrays[name], recorded.arrays[name], rtol=1e-6, atol=3e-7)
    online, target = (made.arrays[f'sd.{part}.patch_embed.proj.weight'] for part in ('encoder', 'target_encoder'))
    assert np.abs(online - target).max() > 0.1 * np.abs(online).max()


# ------------------------------------------------------------------------------------------------ what mmmim must equal


def test_the_recorded_run(recorded):
    assert METHODS['ijepa'] is ijepa
    assert failures(recorded) == set()


@pytest.mark.parametrize('size', SIZES)
def test_sizes(size, tmp_path):
    assert failures(recording(tmp_path, **SIZES[size])) == set()


@pytest.mark.parametrize('seed', range(2, 5))
def test_seeds(seed, tmp_path):
    assert failures(recording(tmp_path, seed=seed)) == set()


def test_parts_of_a_recording(small):
    """Recordings may lack whole parts."""
    for parts in (('eps.', 'grad', 'pos_table'), ('sched.', 'traj.', 'draw.')):
        arrays = {name: value for name, value in small.arrays.items() if not name.startswith(parts)}
        assert failures(Fixture(arrays, small.settings)) == set()
        assert len(arrays) < len(small.arrays)


def test_parameter_groups_are_the_recorded_ones(recorded):
    model = ijepa.build_model(recorded)
    parameters = dict(model.named_parameters())
    groups = parameter_groups(model, 1e-3, 0.04, ijepa.RULES)
    decayed = {id(p): group['weight_decay'] for group in groups for p in group['params']}
    for key, group in recorded.settings['weight_decay_groups'].items():
        for name in mmmim_names(key):
            if group['requires_grad']:
                assert decayed.pop(id(parameters[name])) == (0.04 if group['weight_decay'] == 'decayed' else 0.0), key
            else:
                assert name not in parameters
    assert decayed == {}


# ----------------------------------------------------------------------------------------------- what must not be equal


@pytest.fixture(scope='module')
def replayed(small):
    """What mmmim makes of it, computed once."""
    return ijepa.replay(small)


def test_every_quantity_is_compared(small, replayed, monkeypatch):
    """Ten tolerances off at its largest entry, every quantity is refused, and no other; indices of patches by one."""
    monkeypatch.setattr(ijepa, 'replay', lambda fixture: replayed)
    rows, _ = check(ijepa, small)
    assert len(rows) > 150
    for row in rows:
        array = small.arrays[row.name]
        is_index = array.dtype.kind == 'i'
        array = array.astype(np.float64)
        largest = np.abs(array).argmax()
        scale = np.abs(array.flat[largest]) or 1.0
        array.flat[largest] += 1 if is_index else 10 * row.tolerance * scale
        changed = Fixture({**small.arrays, row.name: array}, small.settings)
        assert {r.name for r in check(ijepa, changed)[0] if r.failed} == {row.name}


def without_positions(make):
    def changed(w, c, z, contexts, targets):
        x = make(w, c, z, contexts, targets)
        bare = w['predictor.mask_token'].expand(len(x), targets[0].shape[1], -1)
        return torch.cat([x[:, : -targets[0].shape[1]], bare], 1)

    return changed


def contexts_innermost(make):
    def changed(w, c, z, contexts, targets):
        x = make(w, c, z, contexts, targets).unflatten(0, (len(targets), len(contexts), -1))
        return x.transpose(1, 2).flatten(0, 2)

    return changed


def of_visible(encode):
    """The target encoder sees less than the whole image."""

    def changed(w, part, c, images, contexts=None):
        if part == 'target_encoder':
            images = images.clone()
            images[:, :, : c['patch']] = 0
        return encode(w, part, c, images, contexts)

    return changed


def average_first(_):
    def update(w, gradients, state, t, options):
        reference.average(w, reference.number_at(options['ema_momentum'], t))
        reference.adamw(w, gradients, state, t + 1, options)

    return update


def decayed_where(part, value):
    return lambda rule: lambda name, weight: value if part in name else rule(name, weight)


def first_targets_ignored(context):
    return lambda size, targets, c: context(size, targets[::-1], c)


def one_number(_):
    def sizes(c, call):
        u = torch.rand(1, generator=torch.Generator().manual_seed(call)).item()
        scales = [(c['pred_mask_scale'], c['aspect_ratio']), (c['enc_mask_scale'], [1.0, 1.0])]
        return tuple(reference.block_size(u, u, *pair, c['grid']) for pair in scales)

    return sizes


def rounded_up(_):
    def block_size(u, v, scale, aspect, grid):
        patches = grid * grid * (scale[0] + u * (scale[1] - scale[0]))
        ratio = aspect[0] + v * (aspect[1] - aspect[0])
        return tuple(min(math.ceil(math.sqrt(x)), grid - 1) for x in (patches * ratio, patches / ratio))

    return block_size


def linear_decay(_):
    return lambda s, n: s['wd'][0] + (s['wd'][1] - s['wd'][0]) * n / reference.total(s)


NORM = 'traj.final_norm'
# name of the function or constant in the reference, what to make of it, a quantity that must differ, one that must not
MISTAKES = {
    'row_first': (
        'position_table',
        lambda f: lambda grid, dim: f(grid, dim).unflatten(0, (grid, grid)).transpose(0, 1).flatten(0, 1),
        'pos_table.grid14.dim16',
        'encoder_context',
    ),
    'eps': ('EPS', lambda _: 1e-5, 'eps.encoder_block0', 'eps.target_norm'),
    'eps_of_the_predictor': ('EPS', lambda _: 1e-5, 'eps.predictor_norm', 'eps.target_norm'),
    'eps_of_targets': ('TARGET_EPS', lambda _: 1e-6, 'eps.target_norm', 'eps.encoder_norm'),
    'gelu_by_tanh': ('gelu', lambda _: lambda x: F.gelu(x, approximate='tanh'), 'target_full', 'eps.encoder_norm'),
    'scale_of_attention': (
        'attention',
        lambda f: lambda w, name, x, heads: f(w, name, 1.1 * x, heads),
        'encoder_context',
        'eps.encoder_norm',
    ),
    'heads': (
        'attention',
        lambda f: lambda w, name, x, heads: f(w, name, x, heads // 2),
        'eps.predictor_block0',
        'eps.encoder_norm',
    ),
    'targets_not_normalised': (
        'targets_of',
        lambda _: lambda c, full, ts: torch.cat([reference.take(full, t) for t in ts for _ in range(c['nenc'])]),
        'target_tokens',
        'target_full',
    ),
    'targets_do_not_see_all': ('encode', of_visible, 'target_full', 'encoder_full'),
    'mask_tokens_without_positions': ('predictor_input', without_positions, 'predictor_input', 'target_tokens'),
    'contexts_innermost': ('predictor_input', contexts_innermost, 'predictor_input', 'encoder_context'),
    'squared_error': ('compare', lambda _: F.mse_loss, 'loss', 'predictions'),
    'absolute_error': ('compare', lambda _: F.l1_loss, 'loss', 'predictions'),
    'no_average': ('average', lambda _: lambda *args: None, 'traj.final.target_encoder.norm.weight', 'loss'),
    'average_before_the_step': ('update', average_first, 'traj.final.target_encoder.norm.weight', 'loss'),
    'momentum_swapped': (
        'average',
        lambda f: lambda w, momentum: f(w, 1 - momentum),
        'traj.0.total_norm.target_encoder',
        'traj.0.total_norm.encoder',
    ),
    'betas': (
        'adamw',
        lambda f: lambda *args: f(*args[:-1], {**args[-1], 'betas': [0.5, 0.95]}),
        'traj.final.encoder.blocks.0.mlp.fc1.bias',
        'loss',
    ),
    'tokens_not_decayed': (
        'is_decayed',
        decayed_where('token', False),
        f'{NORM}.predictor.mask_token',
        f'{NORM}.predictor.predictor_proj.bias',
    ),
    'embedding_not_decayed': (
        'is_decayed',
        decayed_where('patch_embed', False),
        f'{NORM}.encoder.patch_embed.proj.weight',
        f'{NORM}.predictor.predictor_proj.bias',
    ),
    'biases_decayed': (
        'is_decayed',
        decayed_where('proj.bias', True),
        f'{NORM}.predictor.predictor_proj.bias',
        'traj.0.total_norm.target_encoder',
    ),
    'norms_decayed': ('is_decayed', decayed_where('norm', True), f'{NORM}.encoder.norm.weight', 'loss'),
    'rate_before_it_is_advanced': ('first_step', lambda _: lambda: 0, 'sched.lr', 'sched.ema'),
    'decay_before_it_is_advanced': ('first_step', lambda _: lambda: 0, 'sched.wd', 'sched.ema'),
    'linear_decay': ('decay', linear_decay, 'sched.wd', 'sched.lr'),
    'shorter_schedule': (
        'total',
        lambda f: lambda s: f({**s, 'ipe_scale': 1.0}),
        'sched.lr',
        'sched.ema',
    ),
    'momentum_of_another_length': (
        'momentum_at',
        lambda f: lambda s, i: f({**s, 'epochs': s['epochs'] * 62 / 62.5}, i),
        'sched.ema',
        'sched.wd',
    ),
}
# The same of masks.
MASK_MISTAKES = {
    'smaller_field': ('largest', lambda _: lambda grid: grid - 2, 'draw.g14.sizes', 'draw.g14.0.pred'),
    'last_places_too': ('positions_of', lambda f: lambda *args: f(*args) + 1, 'draw.g14.0.pred', 'draw.g14.sizes'),
    'sides_rounded_up': ('block_size', rounded_up, 'draw.g16.sizes', None),
    'aspect_on_its_own': (
        'block_size',
        lambda f: lambda u, v, *args: f(u, v * v, *args),
        'draw.wide.sizes',
        'draw.overlap.0.enc',
    ),
    'one_number_for_both': ('sizes', one_number, 'draw.wide.sizes', 'draw.g14.0.pred'),
    'min_keep_is_enough': (
        'enough',
        lambda _: lambda patches, least: len(patches) >= least,
        'draw.crowded.2.enc',
        None,
    ),
    'patience': ('PATIENCE', lambda _: 5, 'draw.crowded.0.enc', 'draw.g14.0.enc'),
    'first_targets_ignored': ('context', first_targets_ignored, 'draw.crowded.0.enc', 'draw.g14.0.enc'),
    'cut_from_the_top': (
        'cut',
        lambda _: lambda contexts, least: [patches[-least:] for patches in contexts],
        'draw.g14.0.enc',
        'draw.g14.0.pred',
    ),
}


def check_mistake(small, replayed, monkeypatch, made, differs, equal):
    monkeypatch.setattr(ijepa, 'replay', lambda fixture: replayed)
    failed = {row.name for row in check(ijepa, Fixture(small.arrays | made, small.settings))[0] if row.failed}
    assert differs in failed
    assert equal is None or equal not in failed


@pytest.mark.parametrize('mistake', MISTAKES)
def test_a_recording_with_a_mistake_fails(mistake, small, replayed, monkeypatch):
    name, wrong, *names = MISTAKES[mistake]
    monkeypatch.setattr(reference, name, wrong(getattr(reference, name)))
    check_mistake(small, replayed, monkeypatch, reference.replay(small.arrays, small.settings, draws={}), *names)


@pytest.mark.parametrize('mistake', MASK_MISTAKES)
def test_a_recording_with_a_mistake_in_its_masks_fails(mistake, small, replayed, monkeypatch):
    name, wrong, *names = MASK_MISTAKES[mistake]
    monkeypatch.setattr(reference, name, wrong(getattr(reference, name)))
    masks = reference.all_masks(small.settings['config'], small.settings, reference.DRAWS | CROWDED)
    check_mistake(small, replayed, monkeypatch, masks, *names)


# -------------------------------------------------------------------------------------- recordings that cannot be used


@pytest.mark.parametrize(
    ('array', 'named'),
    [
        ('images', 'images'),
        ('masks_enc.0', 'masks_enc.0'),
        ('masks_pred.1', 'masks_pred.1'),
        ('traj.1.masks_pred.0', 'traj.1.masks_pred.0'),
        ('traj.0.images', 'traj.0.images'),
        ('traj.losses', 'traj.losses'),
        ('draw.relax.0.pred', 'draw.relax.0.pred'),
        ('eps.encoder_in', 'eps.encoder_in'),
        ('sched.lr', 'sched.lr'),
        ('sd.encoder.pos_embed', 'backbone.positions.weight'),
        ('sd.encoder.blocks.0.attn.qkv.bias', 'backbone.blocks.0.attn.q_proj.bias'),
        ('sd.target_encoder.norm.weight', 'teacher.backbone.norm.weight'),
        ('sd.predictor.mask_token', 'branches.latent.neck.mask_token'),
        ('sd.predictor.predictor_proj.weight', 'branches.latent.neck.proj.weight'),
    ],
)
def test_what_a_recording_lacks_is_named(small, array, named):
    arrays = {name: value for name, value in small.arrays.items() if name != array}
    assert len(arrays) < len(small.arrays)
    with pytest.raises(InputError, match=named):
        failures(Fixture(arrays, small.settings))


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda s: s['config'].pop('heads'), "lacks 'config.heads'"),
        (lambda s: s['config'].update(heads=3), '3 attention heads do not divide the width 16'),
        (lambda s: s['config'].update(depth=7), "weights, which have {'depth': 1}"),
        (lambda s: s['config'].update(grid=4), "{'grid': 5}"),
        (lambda s: s['config'].pop('min_keep'), 'lacks min_keep, settings of the masks'),
        (lambda s: s['config'].update(npred=3), 'masks_pred.2'),
        (lambda s: s['optimiser'].pop('lr'), "lacks 'optimiser.lr'"),
        (lambda s: s['optimiser'].update(lr='cosine'), r"'cosine'; a number, a\*\(t\+1\) or a\+b\*t was expected"),
        (lambda s: s['arrays'].pop('masks_enc.0'), r"lacks arrays\['masks_enc.0'\].doc"),
        (lambda s: s['arrays']['masks_enc.0'].update(doc='drawn'), "does not say of masks_enc.0 .*'drawn'"),
        (lambda s: s['arrays']['draw.g14.sizes'].update(doc='sizes'), r'does not say of draw.g14.\* which grid'),
        (lambda s: s['arrays']['sched.wd'].update(doc='cosine'), 'does not say of sched.wd'),
    ],
)
def test_settings_that_cannot_be_used_are_named(small, change, message):
    settings = copy.deepcopy(small.settings)
    change(settings)
    with pytest.raises(InputError, match=message):
        failures(Fixture(small.arrays, settings))


@pytest.mark.parametrize(
    ('array', 'change', 'message'),
    [
        ('images', lambda a: a[..., :-1], r'images has the shape .* images of \(20, 20\) pixels'),
        ('masks_enc.0', lambda a: a[:1], 'masks_enc.0 has the shape .* each of 2'),
        ('masks_enc.1', lambda a: a[:, :-1], 'masks_enc.1 has the shape'),
        ('masks_pred.0', lambda a: a + 25, 'masks_pred.0 has indices outside of the 5 x 5 grid'),
        ('sd.encoder.pos_embed', lambda a: a[:, ::-1].copy(), 'encoder.pos_embed differs by'),
    ],
)
def test_arrays_that_cannot_be_used_are_named(small, array, change, message):
    with pytest.raises(InputError, match=message):
        failures(Fixture({**small.arrays, array: change(small.arrays[array])}, small.settings))
