"""Recordings of PiLaMIM, the given one and others by an independent implementation, replayed by mmmim."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mmmim.parity import Fixture, check, pilamim
from mmmim.utils import InputError
from tests import reference_pilamim as reference
from tests.paths import ROOT

RECORDED = ROOT / 'tests/data/pilamim_tiny.npz'
SMALL = dict(img=12, patch=4, dim=16, heads=2, depth=1, pdim=12, ldim=18, ddepth=1, dheads=3, mask_ratio=0.7)
# wd: far more than anybody trains with, so that a wrong parameter group shows in the final norms
SMALL |= dict(batch=2, classes=4, steps=2, wd=2.0, momenta=[0.5, 0.7])
SIZES = {
    'whole_number_of_patches': dict(img=16, mask_ratio=0.75),
    'patches25': dict(img=20, mask_ratio=0.7),
    'patches49_patch2': dict(img=14, patch=2, mask_ratio=0.6, batch=3),
    'patch8': dict(img=24, patch=8),
    'one_visible_patch': dict(mask_ratio=0.85),
    'one_masked_patch': dict(mask_ratio=0.05),
    'one_head': dict(dim=20, heads=1, pdim=8, ldim=12, dheads=1),
    'many_heads': dict(dim=24, heads=6, pdim=40, ldim=20, dheads=10),
    'decoders_of_the_same_width': dict(dim=16, pdim=16, ldim=16, dheads=4),
    'wide_decoders': dict(dim=8, heads=1, pdim=48, ldim=32, dheads=4),
    'deep': dict(depth=4, ddepth=3),
    'decoders_of_two_depths': dict(pdepth=1, ldepth=3),
    'two_images': dict(batch=2),
    'five_images': dict(batch=5),
    'one_step': dict(steps=1, momenta=[0.5]),
    'five_steps': dict(steps=5, momenta=None, lr=3e-4),
    'usual_decay': dict(wd=0.05, lr=3e-3),
    'many_classes': dict(classes=11),
}


def recording(tmp_path, defaults=SMALL, **changes):
    return Fixture.load(reference.record(tmp_path / 'recording.npz', **{**defaults, **changes}))


def failures(fixture):
    """Names of the quantities in which mmmim's replay differs; every recorded quantity has been compared."""
    rows, _ = check(pilamim, fixture)
    assert {row.name for row in rows} == set(outputs(fixture))
    return {row.name for row in rows if row.failed}


def outputs(fixture):
    """Recorded quantities by name, with the array that each is in and its place there."""
    places = {}
    for name, array in fixture.arrays.items():
        if name.endswith(('grad_norm', 'param_norm')):
            places |= {f'{name}/{key}': (name, i) for i, key in enumerate(fixture.settings['param_names'])}
        elif not pilamim.is_input(name):
            places[name] = (name, np.abs(array).argmax())
    return places


@pytest.fixture(scope='module')
def recorded():
    return Fixture.load(RECORDED)


@pytest.fixture(scope='module')
def small(tmp_path_factory):
    return recording(tmp_path_factory.mktemp('small'))


# ------------------------------------------------------------------------------- the reference itself is to be trusted


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_the_reference_is_the_recorded_run(dtype):
    """Nothing of mmmim is in this test, the tolerances included."""
    with np.load(RECORDED) as file:
        arrays = dict(file)
    settings = json.loads(RECORDED.with_suffix('.json').read_text())
    computed = reference.replay(arrays, settings, dtype)
    inputs = {'images', 'sched/epoch', 'traj/momentum', 'lars/w0', 'lars/b0', 'lars/grad_w', 'lars/grad_b'}
    inputs |= {'probe/linear_weight', 'probe/linear_bias', 'init/target_equals_encoder'}
    left = {name for name in set(arrays) - inputs if not name.startswith('sd/') and not name.endswith('_forward')}
    assert set(computed) == left
    for name, value in computed.items():
        expected = arrays[name]
        assert value.shape == expected.shape
        error = np.abs(value.astype(np.float64) - expected)
        if expected.dtype == np.float64:  # one value for each parameter, step or epoch
            assert (error <= 1e-5 * np.abs(expected)).all(), name
        else:
            assert error.max() <= 1e-5 * np.abs(expected).max(), name


def test_a_recording_has_the_layout_of_the_recorded_run(recorded, tmp_path):
    made = recording(tmp_path, {name: recorded.settings['config'][name] for name in reference.TOY})
    layout = {name: (value.shape, value.dtype) for name, value in recorded.arrays.items()}
    assert {name: (value.shape, value.dtype) for name, value in made.arrays.items()} == layout
    for name in ('config', 'param_names'):
        assert made.settings[name] == recorded.settings[name]
    for name in ('traj/momentum', 'sched/epoch', 'sched/lr', 'init/target_equals_encoder', 'patch_pixels_order_check'):
        np.testing.assert_allclose(made.arrays[name], recorded.arrays[name], rtol=1e-12)
    for name in ('norm2.weight', 'norm2.bias', 'attn.qkv.weight', 'mlp.fc2.bias'):
        one, other = (run.arrays[f'sd/decoder.transformer.1.{name}'] for run in (made, recorded))
        assert one.mean() == pytest.approx(other.mean(), abs=0.05)
        assert one.std() == pytest.approx(other.std(), rel=0.4)


# ------------------------------------------------------------------------------------------------ what mmmim must equal


def test_the_recorded_run(recorded):
    assert failures(recorded) == set()


@pytest.mark.parametrize('size', SIZES)
def test_sizes(size, tmp_path):
    assert failures(recording(tmp_path, **SIZES[size])) == set()


@pytest.mark.parametrize('seed', range(2, 4))
def test_seeds(seed, tmp_path):
    assert failures(recording(tmp_path, seed=seed)) == set()


def test_the_nominal_ratio_is_not_the_realised_one(small):
    """The sizes above tell the two apart."""
    assert small.arrays['mask_latent'].mean() == pytest.approx(7 / 9)
    assert small.settings['config']['mask_ratio'] == 0.7


def test_the_variants_differ_in_the_latent_loss_alone(small):
    aligned, released = (small.group(f'{variant}/') for variant in ('aligned', 'released'))
    assert {n for n in aligned if n.startswith('loss') and aligned[n] != released[n]} == {'loss_latent', 'loss_total'}
    assert np.abs(aligned['target_latent'] - released['target_latent']).max() > 1


def test_parts_of_a_recording(small):
    """Recordings may lack whole parts."""
    for parts in (('probe/', 'aligned/grad', 'traj/aligned/', 'init/'), ('sched/', 'traj/', 'lars/', 'released/')):
        arrays = {name: value for name, value in small.arrays.items() if not name.startswith(parts)}
        assert failures(Fixture(arrays, small.settings)) == set()
        assert len(arrays) < len(small.arrays)


# ----------------------------------------------------------------------------------------------- what must not be equal


@pytest.fixture(scope='module')
def replayed(small):
    """What mmmim makes of it, computed once."""
    return pilamim.replay(small)


def test_every_quantity_is_compared(small, replayed, monkeypatch):
    """Ten tolerances off at its largest entry, every quantity is refused, and no other."""
    monkeypatch.setattr(pilamim, 'replay', lambda fixture: replayed)
    rows, _ = check(pilamim, small)
    places = outputs(small)
    assert len(rows) > 250
    for row in rows:
        name, index = places[row.name]
        array = small.arrays[name].astype(np.float64)
        array.flat[index] += 10 * row.tolerance * (np.abs(array.flat[index]) or 1.0)
        changed = Fixture({**small.arrays, name: array}, small.settings)
        assert {r.name for r in check(pilamim, changed)[0] if r.failed} == {row.name}


def colour_last(_):
    return lambda patch: [(channel, y, x) for y in range(patch) for x in range(patch) for channel in range(3)]


def in_order_of_places(embed):
    """Positions of the places in the permuted sequence instead of those of the patches."""

    def changed(w, side, c, images, order, kept):
        table = w[f'{side}.pos_embedding'][:, 0]
        x = embed({**w, f'{side}.pos_embedding': 0 * w[f'{side}.pos_embedding']}, side, images, c['patch'])
        x = reference.take(x, order[:, :kept]) + table[:kept]
        x = torch.cat([w[f'{side}.cls_token'].expand(len(x), -1, -1), x], 1)
        x = reference.transformer(w, side, x, c['heads'])
        return x, reference.layer_norm(w, f'{side}.layer_norm', x)

    return changed


def normed_targets(targets_of):
    def changed(*args):
        target = targets_of(*args)
        return F.layer_norm(target, target.shape[-1:])

    return changed


def normed_at_the_end(decode):
    def changed(*args):
        x = decode(*args)
        return F.layer_norm(x, x.shape[-1:])

    return changed


def without_cls_position(decoder_input):
    def changed(w, name, *args):
        table = w[f'{name}.pos_embedding'].clone()
        table[0] = 0
        return decoder_input({**w, f'{name}.pos_embedding': table}, name, *args)

    return changed


def not_decayed(part):
    return lambda _: lambda name: part not in name


def after_the_warm_up(_):
    def factor(epoch, epochs, warmup):
        if epoch < warmup:
            return (epoch + 1) / warmup
        return 0.5 * (1 + np.cos(np.pi * (epoch - warmup) / (epochs - warmup)))

    return factor


NORM = 'traj/aligned/final_param_norm'
# name of the function or constant in the reference, what to make of it, what must differ, a quantity that must not
MISTAKES = {
    'colour_last': ('pixels_of', colour_last, ('pred_img', 'patch_pixels_order_check'), 'pred_latent'),
    'rounded_number': ('number_kept', lambda _: lambda total, ratio: round(total * (1 - ratio)), 'z_vis', 'target_cls'),
    'others_masked': ('hidden', lambda f: lambda *args: 1 - f(*args), 'mask_img', 'pred_img'),
    'inverse': ('inverse', lambda _: lambda order: order, 'draw/enc_backward', 'z_vis'),
    'eps': ('EPS', lambda _: 1e-4, 'enc_pre_norm', 'mask_latent'),
    'gelu_by_tanh': ('gelu', lambda _: lambda x: F.gelu(x, approximate='tanh'), 'enc_pre_norm', 'mask_latent'),
    'positions_of_places': ('encode', lambda _: in_order_of_places(reference.embed), 'z_vis', 'mask_latent'),
    'cls_without_position': ('decoder_input', without_cls_position, 'latdec_in', 'z_vis'),
    'norm_at_the_end': ('decode', normed_at_the_end, 'pred_latent', 'latdec_in'),
    'normed_targets': ('targets_of', normed_targets, 'target_full_shuffled', 'pred_latent'),
    'realised_ratio': (
        'divisor',
        lambda _: lambda mask, ratio: mask.mean(),
        ('aligned/loss_pixel', 'released/loss_latent'),
        'aligned/loss_cls',
    ),
    'cls_summed': (
        'cls_loss',
        lambda _: lambda pred, target: (pred - target).square().sum(1).mean(),
        'aligned/loss_cls',
        'aligned/loss_latent',
    ),
    'always_scrambled': (
        'variant_targets',
        lambda _: lambda variant, shuffled, back: shuffled,
        'aligned/target_latent',
        'released/target_latent',
    ),
    'never_scrambled': (
        'variant_targets',
        lambda _: lambda variant, shuffled, back: reference.take(shuffled, back),
        'traj/released/loss',
        'traj/aligned/loss',
    ),
    'no_average': ('average', lambda _: lambda *args: None, 'traj/aligned/final_target_cls', 'aligned/loss_total'),
    'momentum_swapped': (
        'average',
        lambda f: lambda w, momentum: f(w, 1 - momentum),
        f'{NORM}/target_encoder.cls_token',
        'aligned/loss_total',
    ),
    'betas': ('BETAS', lambda _: (0.5, 0.95), f'{NORM}/encoder.layer_norm.bias', 'aligned/loss_total'),
    'biases_not_decayed': (
        'is_decayed',
        not_decayed('bias'),
        f'{NORM}/decoder.head.bias',
        f'{NORM}/decoder.head.weight',
    ),
    'norms_not_decayed': (
        'is_decayed',
        not_decayed('norm'),
        f'{NORM}/encoder.layer_norm.weight',
        f'{NORM}/decoder.head.bias',
    ),
    'tokens_not_decayed': (
        'is_decayed',
        not_decayed('token'),
        f'{NORM}/target_decoder.mask_token',
        f'{NORM}/decoder.head.bias',
    ),
    'positions_not_decayed': (
        'is_decayed',
        not_decayed('pos_embedding'),
        f'{NORM}/target_decoder.pos_embedding',
        f'{NORM}/decoder.head.bias',
    ),
    'cosine_after_the_warm_up': ('factor', after_the_warm_up, ('sched/lr', 'sched/probe_lr'), 'lars/w'),
    'batch_norm_eps': ('BATCH_NORM_EPS', lambda _: 1e-2, 'probe/logits_eval', 'probe/bn_running_var'),
    'batch_norm_momentum': ('BATCH_NORM_MOMENTUM', lambda _: 0.2, 'probe/bn_running_mean', 'probe/logits_train'),
    'ordinary_first_step': ('first_buffer', lambda _: torch.zeros_like, 'lars/w', 'sched/lr'),
    'bias_without_ratio': (
        'trust_ratio',
        lambda f: lambda value, gradient: f(value, gradient) if value.ndim > 1 else 1.0,
        'lars/b',
        'lars/w',
    ),
    'ratio_of_zeros': (
        'trust_ratio',
        lambda f: lambda value, gradient: f(value, gradient) if value.any() else 0.0,
        'lars/b',
        'lars/w',
    ),
}


@pytest.mark.parametrize('mistake', MISTAKES)
def test_a_recording_with_a_mistake_fails(mistake, small, replayed, monkeypatch):
    name, wrong, differs, equal = MISTAKES[mistake]
    monkeypatch.setattr(reference, name, wrong(getattr(reference, name)))
    monkeypatch.setattr(pilamim, 'replay', lambda fixture: replayed)
    failed = failures(Fixture(small.arrays | reference.replay(small.arrays, small.settings), small.settings))
    assert ({differs} if isinstance(differs, str) else {*differs}) <= failed
    assert equal not in failed


def test_the_teacher_moves_after_the_step(tmp_path, monkeypatch):
    average, adamw, momenta = reference.average, reference.adamw, [0.7, 0.5]

    def before(w, *args):
        average(w, momenta[-1])
        adamw(w, *args)

    monkeypatch.setattr(reference, 'average', lambda w, momentum: None)
    monkeypatch.setattr(reference, 'adamw', before)
    failed = failures(recording(tmp_path))
    assert {'traj/aligned/final_target_cls', 'traj/released/final_target_cls'} <= failed
    assert 'aligned/loss_total' not in failed


# -------------------------------------------------------------------------------------- recordings that cannot be used


@pytest.mark.parametrize(
    ('array', 'named'),
    [
        ('images', 'images'),
        ('draw/enc_forward', 'draw/enc_forward'),
        ('draw/tgt_forward', 'draw/tgt_forward'),
        ('traj/enc_forward', 'traj/enc_forward'),
        ('traj/momentum', 'traj/momentum'),
        ('probe/linear_bias', 'probe/linear_bias'),
        ('lars/grad_w', 'lars/grad_w'),
        ('sched/epoch', 'sched/epoch'),
        ('sd/encoder.cls_token', 'backbone.extra_tokens'),
        ('sd/encoder.transformer.0.attn.qkv.weight', 'backbone.blocks.0.attn.q_proj.weight'),
        ('sd/target_encoder.layer_norm.weight', 'teacher.backbone.norm.weight'),
        ('sd/decoder.pos_embedding', 'branches.pixels.neck.positions.extra'),
        ('sd/target_decoder.head_latent.weight', 'branches.latent.neck.proj.weight'),
    ],
)
def test_what_a_recording_lacks_is_named(small, array, named):
    arrays = {name: value for name, value in small.arrays.items() if name != array}
    assert len(arrays) < len(small.arrays)
    with pytest.raises(InputError, match=named):
        pilamim.replay(Fixture(arrays, small.settings))


def test_contradictions_are_named(small):
    def refused(message, arrays=None, **config):
        settings = {**small.settings, 'config': {**small.settings['config'], **config}}
        with pytest.raises(InputError, match=message):
            check(pilamim, Fixture(small.arrays | (arrays or {}), settings))

    order = small.arrays['draw/enc_forward']
    refused("which have {'pdim': 12}", pdim=16)
    refused("which have {'img': 12}", img=24)
    refused('mask_ratio=0.95 of 9 patches leaves 0 visible', mask_ratio=0.95)
    refused(r'draw/enc_forward has the shape \(1, 9\), \(2, 9\) was expected', {'draw/enc_forward': order[:1]})
    refused('draw/enc_forward is no permutation of 9 patches', {'draw/enc_forward': order // 2})
    refused(r'images has the shape \(2, 3, 12, 8\)', {'images': small.arrays['images'][..., :8]})
    refused('traj/enc_forward has the shape .* was expected', {'traj/momentum': np.array([0.5])})
    refused('param_names has', {'aligned/grad_norm': np.zeros(3)})
