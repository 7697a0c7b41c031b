"""Recordings of Latent MIM, the given one and others by an independent implementation, replayed by mmmim."""

import copy
import json
import runpy

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mmmim.converters.latent_mim import mmmim_names
from mmmim.engine.optim_constructor import parameter_groups
from mmmim.parity import Fixture, check, latent_mim
from mmmim.utils import InputError
from tests import reference_latent_mim as reference
from tests.paths import ROOT

RECORDED = ROOT / 'tests/data/latentmim_tiny.npz'
SMALL = dict(grid=3, patch=4, gap=2, dim=16, heads=2, depth=1, ddim=12, dheads=3, ddepth=1, mlp_dim=20, num_vis=3)
# wd: far more than anybody trains with, so that a wrong parameter group shows in the final norms
SMALL |= dict(batch=2, steps=2, wd=2.0, momenta=[0.5, 0.7], sim_targets=[0.7, 0.4])
SIZES = {
    'grid2': dict(grid=2, num_vis=1, patch=8, batch=3),
    'grid4_gap0': dict(grid=4, gap=0, num_vis=5),
    'grid5_gap1': dict(grid=5, gap=1, num_vis=10),
    'grid6_gap8_patch16': dict(grid=6, gap=8, patch=16, num_vis=4, batch=1),
    'gap4': dict(gap=4, ddepth=3),
    'one_head': dict(dim=20, heads=1, ddim=8, dheads=1),
    'many_heads': dict(dim=24, heads=6, ddim=40, dheads=10),
    'decoder_of_the_same_width': dict(dim=16, ddim=16, dheads=4),
    'wide_decoder': dict(dim=8, heads=1, ddim=48, dheads=4, mlp_dim=16),
    'deep': dict(dim=24, depth=4, ddepth=4, mlp_dim=32),
    'deep_encoder': dict(dim=24, depth=3, ddepth=2, mlp_dim=32),
    'wide_projector': dict(mlp_dim=100, tau=1.0),
    'low_temperature': dict(tau=0.07),
    'no_constraint': dict(sim_coeff=0.0),
    'strong_constraint': dict(sim_coeff=2.0, sim_trg=0.1, sim_targets=[-0.2, 0.9]),
    'one_visible_patch': dict(num_vis=1),
    # A seed at which no gradient of the decoder's last norm is as small as its rounding, which AdamW makes a step of.
    'three_targets': dict(num_vis=6, seed=2),
    'one_image': dict(batch=1),
    'five_images': dict(batch=5),
    'one_step': dict(steps=1, momenta=[0.5], sim_targets=[0.5]),
    'five_steps': dict(steps=5, momenta=[0.0, 0.5, 1.0, 0.3, 0.9], sim_targets=None, lr=3e-4),
    'usual_decay': dict(wd=0.05, lr=3e-3),
}


def recording(tmp_path, defaults=SMALL, **changes):
    return Fixture.load(reference.record(tmp_path / 'recording.npz', **{**defaults, **changes}))


def failures(fixture):
    """Names of the quantities in which mmmim's replay differs; every recorded quantity has been compared."""
    rows, _ = check(latent_mim, fixture)
    assert {row.name for row in rows} == set(outputs(fixture))
    assert all(row.error is not None for row in rows)
    return {row.name for row in rows if row.failed}


def outputs(fixture):
    """Recorded quantities by name, with the array that each is in and its place there."""
    places = {}
    for name, array in fixture.arrays.items():
        parameters = {'grad_norm': 'grad_norm_names', 'traj/final_param_norm': 'param_names'}.get(name)
        if parameters:
            places |= {f'{name}/{parameter}': (name, i) for i, parameter in enumerate(fixture.settings[parameters])}
        elif not latent_mim.is_input(name):
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
    inputs = {'images', 'eval/images', 'sched/epoch'}
    inputs |= {f'traj/{name}' for name in ('row_offset', 'col_offset', 'noise', 'momentum', 'sim_target')}
    left = {name for name in set(arrays) - inputs if not name.startswith(('sd/', 'draw/', 'init/'))}
    assert set(computed) == left
    largest = arrays['grad_norm'].max()
    for name, value in computed.items():
        expected = arrays[name].astype(np.float64)
        assert value.shape == expected.shape
        error = np.abs(value - expected)
        if name == 'traj/final_param_norm':  # AdamW turns the rounding of the zero gradient of keys' biases into steps
            keys = [n.endswith(('qkv.bias', 'kv_proj.bias')) for n in settings['param_names']]
            assert (error / expected <= np.where(keys, 1e-2, 1e-5)).all()
        else:
            scale = largest if name.startswith('grad') else np.abs(expected).max()
            assert error.max() <= 1e-5 * scale, name


def test_a_recording_has_the_layout_of_the_recorded_run(recorded, tmp_path):
    made = recording(tmp_path, {name: recorded.settings['config'][name] for name in reference.TOY})
    layout = {name: (value.shape, value.dtype) for name, value in recorded.arrays.items()}
    assert {name: (value.shape, value.dtype) for name, value in made.arrays.items()} == layout
    for name in ('config', 'grad_norm_names', 'param_names', 'weight_decay_groups'):
        assert made.settings[name] == recorded.settings[name]
    for name in ('traj/momentum', 'traj/sim_target', 'sched/epoch', 'init/target_equals_encoder'):
        np.testing.assert_allclose(made.arrays[name], recorded.arrays[name], rtol=1e-12)
    for name in (n for n in recorded.arrays if n.endswith('pos_embeds')):
        np.testing.assert_allclose(made.arrays[name], recorded.arrays[name], rtol=0, atol=3e-7)
    online, target = (made.arrays[f'sd/{side}.embed.proj.weight'] for side in ('encoder', 'target_encoder'))
    assert np.abs(online - target).max() > 0.1 * np.abs(online).max()


# ------------------------------------------------------------------------------------------------ what mmmim must equal


def test_the_recorded_run(recorded):
    assert failures(recorded) == set()


@pytest.mark.parametrize('size', SIZES)
def test_sizes(size, tmp_path):
    made = recording(tmp_path, **SIZES[size])
    assert failures(made) == set()
    assert ('loss_sim_pred' in made.arrays) == (size != 'no_constraint')


@pytest.mark.parametrize('seed', range(2, 4))
def test_seeds(seed, tmp_path):
    assert failures(recording(tmp_path, seed=seed)) == set()


def test_two_targets(tmp_path):
    """Two standardised values are plus and minus the same number: the loss is a step function of predictions."""
    failed = failures(recording(tmp_path, num_vis=7))
    assert {name for name in failed if not name.startswith(('grad', 'traj/'))} == set()


def test_touching_patches_need_no_offsets(tmp_path):
    made = recording(tmp_path, gap=0)
    names = [name for name in made.arrays if name.endswith('_offset')]
    assert len(names) == 4
    assert all(not made.arrays[name].any() for name in names)
    arrays = {name: value for name, value in made.arrays.items() if name not in names}
    assert failures(Fixture(arrays, made.settings)) == set()


def test_parts_of_a_recording(small):
    """Recordings may lack whole parts."""
    for parts in (('eval/', 'grad', 'init/'), ('sched/', 'traj/', 'variant/')):
        arrays = {name: value for name, value in small.arrays.items() if not name.startswith(parts)}
        names = {'grad_norm_names' if 'grad' in parts else 'param_names'}
        settings = {name: value for name, value in small.settings.items() if name not in names}
        assert failures(Fixture(arrays, settings)) == set()
        assert len(arrays) < len(small.arrays)


def test_parameter_groups_are_the_recorded_ones(recorded):
    model = latent_mim.build_model(recorded)
    parameters = dict(model.named_parameters())
    groups = parameter_groups(model, 1e-3, 0.05, latent_mim.RULES)
    decayed = {id(p): group['weight_decay'] for group in groups for p in group['params']}
    for kind, decay in (('decay', 0.05), ('no_decay', 0.0)):
        for key in recorded.settings['weight_decay_groups'][kind]:
            for name in mmmim_names(key):
                assert decayed.pop(id(parameters[name])) == decay, key
    assert decayed == {}


# ----------------------------------------------------------------------------------------------- what must not be equal


@pytest.fixture(scope='module')
def replayed(small):
    """What mmmim makes of it, computed once."""
    return latent_mim.replay(small)


def test_every_quantity_is_compared(small, replayed, monkeypatch):
    """Ten tolerances off at its largest entry, every quantity is refused, and no other."""
    monkeypatch.setattr(latent_mim, 'replay', lambda fixture: replayed)
    rows, _ = check(latent_mim, small)
    floor, places = latent_mim.floor(small), outputs(small)
    assert len(rows) > 150
    for row in rows:
        name, index = places[row.name]
        array = small.arrays[name].astype(np.float64)
        scale = max(np.abs(array.flat[index]), floor(row.name)) or 1.0
        array.flat[index] += 10 * row.tolerance * scale
        changed = Fixture({**small.arrays, name: array}, small.settings)
        assert {r.name for r in check(latent_mim, changed)[0] if r.failed} == {row.name}


def colour_first(cut):
    return lambda *args: cut(*args).unflatten(-1, (-1, 3)).transpose(-1, -2).flatten(-2)


def raw_values(decode):
    """Cues made of the latents after positions are added to them."""

    def changed(w, c, z_vis, visible, target, cues=True):
        queries, source, *rest = decode(w, c, z_vis, visible, target, cues)
        table = w['decoder.pos_embed.pos_embeds']
        asked, seen = (torch.stack([table[1:][row] for row in index]) for index in (target, visible))
        moved = reference.nearness(asked, seen) @ seen if cues else 0
        return torch.cat([queries[:, :1], queries[:, 1:] + moved], 1), source, *rest

    return changed


def cross_attention_first(_):
    def block(w, name, x, source, heads):
        own = reference.layer_norm(w, f'{name}.norm2q', x, 1e-6)
        other = reference.layer_norm(w, f'{name}.norm2kv', source, 1e-6)
        x = x + reference.cross_attention(w, f'{name}.cross_attn', own, other, heads)
        x = x + reference.self_attention(
            w, f'{name}.self_attn', reference.layer_norm(w, f'{name}.norm1', x, 1e-6), heads
        )
        return x + reference.mlp(w, f'{name}.mlp', reference.layer_norm(w, f'{name}.norm3', x, 1e-6))

    return block


def one_more_projection_gelu(project):
    return lambda w, name, x: reference.gelu(project(w, name, x))


def all_seen(targets_of):
    def changed(w, c, patches, visible, target, full=False):
        normed, projected = targets_of(w, c, patches, visible, target, full=True)
        return normed[:, : 1 + target.shape[1]], projected

    return changed


def over_the_batch(_):
    return lambda p: (p - p.mean((0, 1))) / (p.flatten(0, 1).std(0) + 1e-4)


def negatives_of_the_batch(_):
    def discriminate(pred, target, tau, standardise=True):
        pred = reference.standardise_predictions(pred) if standardise else pred
        logits = reference.unit(pred.flatten(0, 1)) @ reference.unit(target.flatten(0, 1)).T / tau
        return 2 * tau * F.cross_entropy(logits, torch.arange(len(logits)))

    return discriminate


def without_diagonal(_):
    def similarity(x):
        n = x.shape[1]
        pairs = reference.unit(x) @ reference.unit(x).transpose(1, 2)
        return ((pairs.sum((1, 2)) - n) / max(n * (n - 1), 1)).mean()

    return similarity


def per_image(constrain):
    return lambda x, *args: torch.stack([constrain(tokens[None], *args) for tokens in x]).mean()


def decayed_where(part, value):
    return lambda rule: lambda name, weight: value if part in name else rule(name, weight)


def warm_up_from_zero(rate):
    return lambda epoch: 2.4e-3 * epoch / 40 if epoch < 40 else rate(epoch)


NORM = 'traj/final_param_norm'
# name of the function or constant in the reference, what to make of it, a quantity that must differ, one that must not
MISTAKES = {
    'offset_ignored': ('corner', lambda f: lambda i, offset, *size: f(i, 0, *size), 'patches_all', 'eval/projected'),
    'offset_of_the_gap': (
        'corner',
        lambda f: lambda i, offset, patch, gap: f(i, gap - offset, patch, gap),
        'patches_all',
        'eval/projected',
    ),
    'colour_first': ('cut', colour_first, 'patches_all', 'vis_idx'),
    'most_noise_is_visible': ('divide', lambda f: lambda noise, number: f(-noise, number), 'vis_idx', 'patches_all'),
    'block_eps': ('BLOCK_EPS', lambda _: 1e-4, 'enc_pre_norm', 'patches_all'),
    'projector_eps': ('PROJECTOR_EPS', lambda _: 1e-4, 'z_vis', 'enc_post_norm'),
    'gelu_by_tanh': ('gelu', lambda _: lambda x: F.gelu(x, approximate='tanh'), 'enc_pre_norm', 'patches_all'),
    'gelu_after_the_projector': ('project', one_more_projection_gelu, 'z_trg', 'trg_post_norm'),
    'scale_of_attention': ('attend', lambda f: lambda q, k, v, heads: f(1.1 * q, k, v, heads), 'enc_pre_norm', None),
    'scale_of_cues': (
        'nearness',
        lambda f: lambda asked, seen: f(asked * 12**0.5, seen),
        'dec_query_init',
        'variant/no_cues/pred',
    ),
    'values_with_positions': ('decode', raw_values, 'dec_query_init', 'pred'),
    'cross_attention_first': ('decoder_block', cross_attention_first, 'dec_block0_out', 'dec_query_init'),
    'targets_see_all': ('targets_of', all_seen, 'z_trg', 'variant/full_target/z_trg'),
    'not_standardised': (
        'standardise_predictions',
        lambda _: lambda p: p,
        'loss_patch_disc',
        'loss_variant/no_pred_standardise',
    ),
    'standardised_over_the_batch': ('standardise_predictions', over_the_batch, 'loss_patch_disc', 'pred'),
    'negatives_of_the_batch': ('discriminate', negatives_of_the_batch, 'loss_patch_disc', 'loss_sim_pred'),
    'factor_of_the_paper': (
        'discriminate',
        lambda f: lambda *args, **options: f(*args, **options) / 2,
        'loss_variant/no_pred_standardise',
        'pred',
    ),
    'similarity_without_diagonal': ('similarity', without_diagonal, 'avg_sim_trg', 'loss_patch_disc'),
    'similarity_per_image': ('constrain', per_image, 'loss_sim_vis', 'avg_sim_vis'),
    'biased_variance': (
        'norm_l2',
        lambda _: lambda pred, target: (pred - F.layer_norm(target, target.shape[-1:], eps=1e-6)).square().mean(),
        'loss_variant/norm_l2',
        'loss_total',
    ),
    'no_average': ('average', lambda _: lambda *args: None, 'traj/final_target_cls_token', 'loss_total'),
    'momentum_swapped': (
        'average',
        lambda f: lambda w, momentum: f(w, 1 - momentum),
        'traj/final_target_cls_token',
        'loss_total',
    ),
    'betas': ('BETAS', lambda _: (0.5, 0.95), 'traj/final_encoder_cls_token', 'loss_total'),
    'tokens_not_decayed': (
        'is_decayed',
        decayed_where('token', False),
        f'{NORM}/decoder.mask_token',
        f'{NORM}/decoder.head.weight',
    ),
    'embedding_decayed': (
        'is_decayed',
        decayed_where('embed.proj.weight', True),
        f'{NORM}/encoder.embed.proj.weight',
        f'{NORM}/decoder.head.weight',
    ),
    'decoder_embedding_decayed': (
        'is_decayed',
        decayed_where('decoder.embed.weight', True),
        f'{NORM}/decoder.embed.weight',
        f'{NORM}/decoder.mask_token',
    ),
    'projector_norms_decayed': (
        'is_decayed',
        decayed_where('head.norm', True),
        f'{NORM}/encoder.head.norm1.weight',
        f'{NORM}/decoder.mask_token',
    ),
    'warm_up_from_zero': ('rate', warm_up_from_zero, 'sched/lr', 'sched/momentum'),
    'momentum_schedule': ('momentum_at', lambda f: lambda p: f(p / 2), 'sched/momentum', 'sched/lr'),
    'similarity_schedule': ('gamma_at', lambda f: lambda p: f(1 - p), 'sched/sim_target', 'sched/lr'),
}


@pytest.mark.parametrize('mistake', MISTAKES)
def test_a_recording_with_a_mistake_fails(mistake, small, replayed, monkeypatch):
    name, wrong, differs, equal = MISTAKES[mistake]
    monkeypatch.setattr(reference, name, wrong(getattr(reference, name)))
    monkeypatch.setattr(latent_mim, 'replay', lambda fixture: replayed)
    failed = failures(Fixture(small.arrays | reference.replay(small.arrays, small.settings), small.settings))
    assert differs in failed
    assert equal is None or equal not in failed


def test_the_teacher_moves_before_the_targets_are_made(tmp_path, monkeypatch):
    """It would not show in the losses of the first step, were the weights of both equal."""
    average, adamw, momenta = reference.average, reference.adamw, []

    def after(w, *args):
        adamw(w, *args)
        average(w, momenta.pop())

    monkeypatch.setattr(reference, 'average', lambda w, momentum: momenta.append(momentum))
    monkeypatch.setattr(reference, 'adamw', after)
    failed = failures(recording(tmp_path))
    assert {'traj/loss', 'traj/final_target_cls_token'} <= failed
    assert 'loss_total' not in failed


# -------------------------------------------------------------------------------------- recordings that cannot be used


@pytest.mark.parametrize(
    ('array', 'named'),
    [
        ('images', 'images'),
        ('draw/noise', 'draw/noise'),
        ('draw/row_offset', 'draw/row_offset'),
        ('draw/col_offset', 'draw/col_offset'),
        ('traj/noise', 'traj/noise'),
        ('traj/col_offset', 'traj/col_offset'),
        ('traj/momentum', 'traj/momentum'),
        ('traj/sim_target', 'traj/sim_target'),
        ('eval/images', 'eval/images'),
        ('sched/epoch', 'sched/epoch'),
        ('grad_norm', 'grad_norm'),
        ('sd/encoder.cls_token', 'backbone.extra_tokens'),
        ('sd/encoder.blocks.0.attn.qkv.bias', 'backbone.blocks.0.attn.q_proj.bias'),
        ('sd/target_encoder.norm.weight', 'teacher.backbone.norm.weight'),
        ('sd/decoder.mask_token', 'branches.latent.neck.mask_token'),
        ('sd/decoder.head.weight', 'branches.latent.neck.proj.weight'),
    ],
)
def test_what_a_recording_lacks_is_named(small, array, named):
    arrays = {name: value for name, value in small.arrays.items() if name != array}
    assert len(arrays) < len(small.arrays)
    with pytest.raises(InputError, match=named):
        failures(Fixture(arrays, small.settings))


@pytest.mark.parametrize(
    'setting',
    [
        *(f'config.{key}' for key in ('grid', 'patch', 'gap', 'heads', 'dheads', 'tau', 'num_vis', 'lr')),
        *('config.sim_coeff', 'config.sim_trg', 'config', 'grad_norm_names', 'param_names'),
    ],
)
def test_settings_that_a_recording_lacks_are_named(small, setting):
    settings = copy.deepcopy(small.settings)
    *path, key = setting.split('.')
    node = settings[path[0]] if path else settings
    del node[key]
    with pytest.raises(InputError, match=f"lacks '{setting}"):
        check(latent_mim, Fixture(small.arrays, settings))


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'dim': 24}, "which have {'dim': 16}"),
        ({'grid': 4}, "'grid': 3"),
        ({'patch': 8}, "'patch': 4"),
        ({'depth': 2, 'ddepth': 3}, "'depth': 1, 'ddepth': 1"),
        ({'ddim': 16, 'dheads': 2}, "'ddim': 12"),
        ({'mlp_dim': 64}, "'mlp_dim': 20"),
        ({'heads': 3}, '3 attention heads do not divide the width 16'),
        ({'dheads': 5}, '5 attention heads do not divide the width 12'),
        ({'gap': 3}, r'images has the shape \(2, 3, 18, 18\): grid \* \(patch \+ gap\) is 21'),
        ({'num_vis': 8}, 'num_vis=8 of 9 patches'),
        ({'num_vis': 0}, 'num_vis=0 of 9 patches'),
    ],
)
def test_settings_that_contradict_the_arrays(small, changes, message):
    settings = {**small.settings, 'config': {**small.settings['config'], **changes}}
    with pytest.raises(InputError, match=message):
        failures(Fixture(small.arrays, settings))


def test_arrays_that_contradict_each_other(small):
    def refused(message, name, change):
        arrays = {**small.arrays, name: change(small.arrays.get(name))}
        with pytest.raises(InputError, match=message):
            check(latent_mim, Fixture(arrays, small.settings))

    refused(r'draw/noise has the shape \(1, 9\), \(2, 9\) was expected', 'draw/noise', lambda a: a[1:])
    refused(r'draw/row_offset has the shape \(2, 9\)', 'draw/row_offset', lambda a: a.reshape(2, 9))
    refused(r'traj/col_offset has the shape \(1, 2, 3, 3\)', 'traj/col_offset', lambda a: a[:1])
    refused('draw/col_offset has offsets outside of 0 to 2', 'draw/col_offset', lambda a: a + 2)
    refused('traj/row_offset has offsets outside', 'traj/row_offset', lambda a: a - 2)
    refused('traj/momentum has 1 steps and traj/sim_target 2', 'traj/momentum', lambda a: a[:1])
    refused(r'grad_norm has the shape \(.*\), and grad_norm_names has .* names', 'grad_norm', lambda a: a[1:])
    refused('param_names', 'traj/final_param_norm', lambda a: a[1:])
    refused(r'not in the layout .* e\.g\. encoder\.gamma', 'sd/encoder.gamma', lambda _: np.zeros(3))


def test_quantities_that_nobody_knows_fail(small):
    arrays = {**small.arrays, 'pred_new': np.zeros(3), 'grad/encoder.gamma': np.zeros(3)}
    rows, _ = check(latent_mim, Fixture(arrays, small.settings))
    assert {(row.name, row.verdict) for row in rows if row.failed} == {
        ('pred_new', 'not computed'),
        ('grad/encoder.gamma', 'not computed'),
    }


# ------------------------------------------------------------------------------------------------- the command line


def tool(monkeypatch, capsys, *args):
    """Exit status and output of the tool, in this process."""
    monkeypatch.setattr('sys.argv', ['check_parity.py', *map(str, args)])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(ROOT / 'tools/analysis_tools/check_parity.py'), run_name='__main__')
    captured = capsys.readouterr()
    return end.value.code, captured.out, captured.err


def test_command_line(recorded, tmp_path, monkeypatch, capsys):
    dump = tmp_path / 'out.npz'
    status, out, err = tool(monkeypatch, capsys, 'latent_mim', RECORDED, '--dump', dump)
    assert status == 0, out + err
    lines = out.splitlines()
    assert lines[0].split() == ['quantity', 'error', 'tolerance', 'verdict']
    assert lines[-2] == '301 of 301 quantities agree'
    with np.load(dump) as dumped:
        names = {name for name in recorded.arrays if not latent_mim.is_input(name)}
        assert set(dumped.files) == names
        for name in names:
            assert dumped[name].shape == recorded.arrays[name].shape
            np.testing.assert_allclose(dumped[name], recorded.arrays[name], rtol=1e-3, atol=1e-4)


def test_status_of_the_command_line(small, tmp_path, monkeypatch, capsys):
    file = tmp_path / 'wrong.npz'
    file.with_suffix('.json').write_text(json.dumps(small.settings))
    np.savez(file, **{**small.arrays, 'loss_patch_disc': small.arrays['loss_patch_disc'] * 1.001})
    status, out, _ = tool(monkeypatch, capsys, 'latent_mim', file)
    assert status == 1
    assert [line.split()[0] for line in out.splitlines() if 'DIFFERS' in line] == ['loss_patch_disc']
    np.savez(file, **{name: value for name, value in small.arrays.items() if name != 'draw/noise'})
    status, _, err = tool(monkeypatch, capsys, 'latent_mim', file)
    assert status == 2
    assert err == "error: The recorded run lacks the array 'draw/noise'.\n"
    status, _, err = tool(monkeypatch, capsys, 'latent', file)
    assert status == 2
    assert 'use one of capi, ' in err
