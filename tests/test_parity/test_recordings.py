"""Recordings of all methods, the given ones and small ones by independent implementations, replayed by mmmim."""

import json
import re
import runpy

import numpy as np
import pytest
from mmengine.config import Config

from mmmim.converters import crossmae as crossmae_converter
from mmmim.converters import ijepa as ijepa_converter
from mmmim.converters import latent_mim as latent_mim_converter
from mmmim.engine.optim_constructor import parameter_groups
from mmmim.parity import Fixture, check, compare, crossmae, ijepa, latent_mim
from mmmim.utils import InputError
from tests.paths import ROOT
from tests.reference_recordings import RUNS, changed

EVERY = pytest.mark.parametrize('run', RUNS.values(), ids=list(RUNS))
# AdamW turns the rounding of the zero gradient of keys' biases into steps.
KEY_BIASES = ('qkv.bias', 'kv_proj.bias')


@pytest.fixture(scope='module')
def small(tmp_path_factory):
    """A small recording of each kind."""
    return {name: run.record(tmp_path_factory.mktemp(name)) for name, run in RUNS.items()}


# ------------------------------------------------------------------------------- the references are to be trusted


@EVERY
def test_the_reference_is_the_recorded_run(run):
    """No tolerance of mmmim is in this test."""
    given = run.given()
    computed = run.reference.replay(given.arrays, given.settings)
    left = set(given.arrays) - set(computed)
    assert all(run.method.is_input(name) or name.startswith(run.only_given) for name in left)
    assert set(computed) <= set(given.arrays)
    recorded, computed = (run.method.split(given, arrays) for arrays in (given.arrays, computed))
    gradients = max((float(v) for name, v in recorded.items() if name.startswith('grad_norm/')), default=0.0)
    for name in set(recorded) & set(computed) - {name for name in recorded if run.method.is_input(name)}:
        value, expected = np.asarray(computed[name]), recorded[name].astype(np.float64)
        assert value.shape == expected.shape
        scale = max(np.abs(expected).max(initial=0.0), gradients if name.startswith('grad') else 0.0)
        # A single-precision computation of rounding-sensitive assignments and trajectories is less exact.
        tolerance = 1e-4 if re.match(r'traj\.|assignments|targets', name) else 1e-5
        tolerance = 1e-2 if name.startswith('traj') and name.endswith(KEY_BIASES) else tolerance
        assert np.abs(value - expected).max(initial=0.0) <= tolerance * scale, name


@EVERY
def test_a_recording_of_the_reference_has_the_layout_of_the_given_one(run, tmp_path):
    given = run.given()
    toy = run.reference.TOY.get(run.fixed.get('kind'), run.reference.TOY)
    config = given.settings.get('config', given.settings)
    made = run.as_given(tmp_path, seed=given.settings['seed'], **{key: config[key] for key in toy})
    shared = {name: value for name, value in given.arrays.items() if not name.startswith(run.only_given)}
    one, other = ({n: (v.shape, v.dtype.kind) for n, v in arrays.items()} for arrays in (made.arrays, shared))
    assert one == other
    for key in ('param_names', 'grad_norm_names'):
        assert sorted(made.settings.get(key, [])) == sorted(given.settings.get(key, []))
    for name in shared:  # what depends on no weights; masks of I-JEPA are those of a seed
        if re.search('masks_|pos_embed$|pos_embeds$', name) and run.name in ('ijepa', 'latent_mim'):
            np.testing.assert_allclose(made.arrays[name], given.arrays[name], rtol=1e-6, atol=3e-7)


# ------------------------------------------------------------------------------------------------ what must be equal


@EVERY
def test_the_recorded_run(run):
    assert run.failures(run.given()) == set()


#: What a recording may lack.
PARTS = {
    'capi': ('gradnorm', 'traj.'),
    'crossmae': ('grad/', 'steps/'),
    'ijepa': ('eps.', 'grad', 'pos_table', 'sched.', 'traj.', 'draw.'),
    'latent_mim': ('eval/', 'grad', 'init/', 'sched/', 'traj/', 'variant/'),
    'pilamim': ('probe/', 'aligned/grad', 'traj/', 'init/', 'sched/', 'lars/', 'released/'),
    'semantic_mim_beit': ('eval/', 'grad'),
    'semantic_mim_maskfeat': ('hog', 'init/', 'baseline/', 'grad/'),
}


@pytest.mark.parametrize('name', PARTS)
def test_parts_of_a_recording(name):
    given = RUNS[name].given()
    for parts in (PARTS[name], PARTS[name][::2]):
        arrays = {key: value for key, value in given.arrays.items() if not key.startswith(parts)}
        assert len(arrays) < len(given.arrays)
        assert RUNS[name].failures(Fixture(arrays, given.settings)) == set()


@pytest.mark.parametrize(
    ('name', 'replay', 'converter', 'recipe'),
    [
        ('crossmae', crossmae, crossmae_converter, 'crossmae/vitb16.py'),
        ('ijepa', ijepa, ijepa_converter, 'ijepa/vitb16.py'),
        ('latent_mim', latent_mim, latent_mim_converter, 'latent_mim/vitb16.py'),
    ],
)
def test_parameter_groups_are_the_recorded_ones_and_the_recipes(name, replay, converter, recipe):
    given = RUNS[name].given()
    groups = given.settings.get('weight_decay_groups') or given.settings['optimiser']['weight_decay_groups']
    model = replay.build_model(given)
    parameters = dict(model.named_parameters())
    made = parameter_groups(model, 1e-3, 0.05, replay.RULES)
    decayed = {id(p): group['weight_decay'] for group in made for p in group['params']}
    if 'decay' in groups:
        recorded = {key: kind == 'decay' for kind, keys in groups.items() for key in keys}
    else:
        recorded = {k: group['weight_decay'] == 'decayed' for k, group in groups.items() if group['requires_grad']}
    for key, is_decayed in recorded.items():
        for parameter in converter.mmmim_names(key):
            assert decayed.pop(id(parameters[parameter])) == (0.05 if is_decayed else 0.0), key
    assert decayed == {}
    assert Config.fromfile(ROOT / 'configs' / recipe).optim_wrapper.paramwise_cfg.rules == replay.RULES


# ------------------------------------------------------------------------------------------- what must not be equal


@EVERY
def test_every_quantity_is_compared(run):
    """Ten tolerances off at its largest entry it is refused, indices of patches by one; so is what nobody knows."""
    fixture, method = run.given(), run.method
    replayed = method.split(fixture, method.replay(fixture))
    floor = method.floor(fixture)
    new = {'something_new', 'traj.something', 'grad/encoder.gamma'}
    rows = method.rows(Fixture(fixture.arrays | dict.fromkeys(new, np.zeros(3)), fixture.settings), {})
    assert {row.name for row in rows if row.verdict == 'not computed'} >= new
    assert len(run.quantities(fixture)) > 70
    for name, array in run.quantities(fixture).items():
        if (tolerance := method.tolerance(name)) is None:
            continue
        moved = np.array(array, dtype=np.float64)
        largest = np.abs(moved).argmax()
        scale = max(np.abs(moved.flat[largest]), floor(name)) or 1.0
        moved.flat[largest] += 1 if array.dtype.kind == 'i' else 10 * tolerance * scale
        for value, verdict in ((array, 'ok'), (moved, 'DIFFERS')):
            (row,) = compare({name: value}, replayed, method.is_input, method.tolerance, floor)
            assert row.verdict == verdict, name


def test_shapes_and_numbers_that_are_not_finite_fail():
    recorded = {'shape': np.ones(3), 'nan': np.ones(2)}
    rows = compare(recorded, {'shape': np.ones(2), 'nan': np.array([1, np.nan])}, lambda n: False, lambda n: 1.0)
    assert [row.verdict for row in rows] == ['shape (2,), recorded (3,)', 'DIFFERS']


# -------------------------------------------------------------------------------------- recordings that cannot be used

#: By kind: arrays that are left out, each of which the message names.
LACKING = {
    'capi': 'visible_indices traj.0.lr',
    'ijepa': 'masks_enc.0 traj.1.masks_pred.0 traj.losses draw.relax.0.pred eps.encoder_in sched.lr',
    'crossmae': 'images visible predicted',
    'latent_mim': 'draw/noise draw/row_offset traj/momentum eval/images sched/epoch grad_norm',
    'pilamim': 'draw/tgt_forward traj/enc_forward probe/linear_bias lars/grad_w sched/epoch',
    'semantic_mim_beit': 'draw/permutation target_logits',
}
#: By kind: an array or (from a slash on) a setting, what becomes of it (None: it is left out), and the message.
WRONG = {
    'capi': [
        ('sd.teacher.registers', None, 'teacher.backbone.extra_tokens'),
        ('visible_indices', lambda a: a[1:], 'visible_indices'),
        ('predict_indices', lambda a: a + 999, 'beyond'),
        ('predict_indices', lambda a: a[::-1].copy(), 'must be ordered by image'),
        ('images', lambda a: a[..., :-1], 'patch size 8 does not divide'),
        ('/enc', 5, "'enc': 2"),
        ('/optimiser/student/rope_lr_factor', 1.0, 'rope_lr_factor must be 0'),
        ('/optimiser/clustering/eps', 1e-6, 'betas and eps must agree'),
        ('/drop_path', 0.2, 'drop_path'),
    ],
    'ijepa': [
        ('sd.target_encoder.norm.weight', None, 'teacher.backbone.norm.weight'),
        ('images', lambda a: a[..., :-1], r'images has the shape .* images of \(20, 20\) pixels'),
        ('masks_enc.1', lambda a: a[:, :-1], 'masks_enc.1 has the shape'),
        ('masks_pred.0', lambda a: a + 25, 'masks_pred.0 has indices outside of the 5 x 5 grid'),
        ('sd.encoder.pos_embed', lambda a: a[:, ::-1].copy(), 'encoder.pos_embed differs by'),
        ('/config/heads', None, "lacks 'config.heads'"),
        ('/config/heads', 3, '3 attention heads do not divide the width 16'),
        ('/config/depth', 7, "weights, which have {'depth': 1}"),
        ('/config/min_keep', None, 'lacks min_keep, settings of the masks'),
        ('/optimiser/lr', 'cosine', r"'cosine'; a number, a\*\(t\+1\) or a\+b\*t was expected"),
        ('/arrays/masks_enc.0', None, r"lacks arrays\['masks_enc.0'\].doc"),
        ('/arrays/masks_enc.0/doc', 'drawn', "does not say of masks_enc.0 .*'drawn'"),
        ('/arrays/draw.g14.sizes/doc', 'sizes', r'does not say of draw.g14.\* which grid'),
    ],
    'crossmae': [
        ('param/dec_norms.1.weight', None, r'branches\.pixels\.neck\.context_norms\.1\.weight'),
        ('param/wfm.linear.weight', lambda a: a[:, :2], 'mixes 2 states of an encoder of 2 blocks, not 3'),
        (
            'param/norm.weight',
            lambda _: np.zeros(12),
            r'not in the layout of the CrossMAE authors .* e\.g\. norm\.weight',
        ),
        ('images', lambda a: a[0], r'images has the shape \(2, 3, 8, 12\): \[steps, B, C, H, W\]'),
        ('images', lambda a: a[..., :-1], r'images of \(8, 11\) pixels are no whole number of patches of 4'),
        ('images', lambda a: a[..., :-4], r'positions of 6 patches, not of a 2 x 2 grid'),
        ('visible', lambda a: a[1:], r'visible has the shape \(3, 2, 3\)'),
        ('predicted', lambda a: a + 3, 'must hold different patches of the 2 x 3 grid'),
        ('/config/decoder_width', 24, "which have {'decoder_width': 16}"),
        ('/config/layer_norm_eps', None, r"lacks 'config\.layer_norm_eps'"),
    ],
    'latent_mim': [
        ('sd/decoder.head.weight', None, 'branches.latent.neck.proj.weight'),
        ('sd/encoder.gamma', lambda _: np.zeros(3), r'not in the layout .* e\.g\. encoder\.gamma'),
        ('draw/noise', lambda a: a[1:], r'draw/noise has the shape \(1, 9\), \(2, 9\) was expected'),
        ('draw/col_offset', lambda a: a + 2, 'draw/col_offset has offsets outside of 0 to 2'),
        ('traj/row_offset', lambda a: a - 2, 'traj/row_offset has offsets outside'),
        ('traj/momentum', lambda a: a[:1], 'traj/momentum has 1 steps and traj/sim_target 2'),
        ('/grad_norm_names', ['a'], 'grad_norm has the shape .*, and grad_norm_names has 1 names'),
        ('/config/mlp_dim', 64, "'mlp_dim': 20"),
        ('/config/gap', 3, r'images has the shape \(2, 3, 18, 18\): grid \* \(patch \+ gap\) is 21'),
        ('/config/num_vis', 8, 'num_vis=8 of 9 patches'),
        ('/config/num_vis', 0, 'num_vis=0 of 9 patches'),
    ],
    'pilamim': [
        ('draw/enc_forward', lambda a: a[:1], r'draw/enc_forward has the shape \(1, 9\), \(2, 9\) was expected'),
        ('draw/enc_forward', lambda a: a // 2, 'draw/enc_forward is no permutation of 9 patches'),
        ('images', lambda a: a[..., :8], r'images has the shape \(2, 3, 12, 8\)'),
        ('/config/pdim', 16, "which have {'pdim': 12}"),
        ('/config/mask_ratio', 0.95, 'mask_ratio=0.95 of 9 patches leaves 0 visible'),
        ('/param_names', ['a'], 'param_names has 1 names'),
    ],
    'semantic_mim_beit': [
        ('sd/backbone.extra_layers.1.gamma_2', None, 'neck.blocks.1.scale2.weight'),
        ('draw/permutation', lambda a: a // 2, 'permutation of 9 patches'),
        ('images', lambda a: a[..., :-1], r'images has the shape \(2, 3, 12, 11\)'),
        ('/kind', 'maskfeat', "kind='maskfeat', the recorded weights are 'beit'"),
        ('/config/vocab', 7, "'vocab': 6"),
        ('/config/mask_ratio', 1.0, 'masks 9 of 9 patches'),
        ('/config/mask_ratio', 0.0, 'masks 0 of 9 patches'),
    ],
}
for kind, names in LACKING.items():
    WRONG[kind] += [(name, None, name) for name in names.split()]


@pytest.mark.parametrize(
    ('name', 'what', 'change', 'message'), [(name, *case) for name, cases in WRONG.items() for case in cases]
)
def test_recordings_that_cannot_be_used_are_refused_by_name(name, what, change, message, small):
    fixture = RUNS[name].given() if what.removeprefix('/arrays/').startswith(RUNS[name].only_given) else small[name]
    arrays, settings = dict(fixture.arrays), fixture.settings
    if what.startswith('/'):
        settings = changed(settings, what[1:], change)
    elif change is None:
        del arrays[what]
    else:
        arrays[what] = change(arrays.get(what))
    with pytest.raises(InputError, match=message):
        check(RUNS[name].method, Fixture(arrays, settings))


def test_files_that_cannot_be_used(tmp_path):
    with pytest.raises(InputError, match='does not exist'):
        Fixture.load(tmp_path / 'none.npz')
    (tmp_path / 'bad.npz').write_bytes(b'PK nonsense')
    for sidecar, message in (('{}', r'not a readable \.npz'), ('{', 'is not JSON'), ('[]', 'no table of settings')):
        (tmp_path / 'bad.json').write_text(sidecar)
        with pytest.raises(InputError, match=message):
            Fixture.load(tmp_path / 'bad.npz')


# ------------------------------------------------------------------------------------------------- the command line


def tool(monkeypatch, capsys, *args):
    """Exit status and output of the tool, in this process."""
    monkeypatch.setattr('sys.argv', ['check_parity.py', *map(str, args)])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(ROOT / 'tools/analysis_tools/check_parity.py'), run_name='__main__')
    captured = capsys.readouterr()
    return end.value.code, captured.out, captured.err


def test_the_command(small, tmp_path, monkeypatch, capsys):
    run, dump = RUNS['latent_mim'], tmp_path / 'out.npz'
    status, out, err = tool(monkeypatch, capsys, run.name, ROOT / f'tests/data/{run.file}.npz', '--dump', dump)
    assert status == 0, out + err
    lines = out.splitlines()
    assert lines[0].split() == ['quantity', 'error', 'tolerance', 'verdict']
    assert lines[-2] == '301 of 301 quantities agree'
    recorded = {name: v for name, v in run.given().arrays.items() if not run.method.is_input(name)}
    with np.load(dump) as dumped:
        assert set(dumped.files) == set(recorded)
        for name, value in recorded.items():
            np.testing.assert_allclose(dumped[name], value, rtol=1e-3, atol=1e-4)
    fixture, file = small['latent_mim'], tmp_path / 'wrong.npz'
    file.with_suffix('.json').write_text(json.dumps(fixture.settings))
    np.savez(file, **{**fixture.arrays, 'loss_patch_disc': fixture.arrays['loss_patch_disc'] * 1.001})
    status, out, _ = tool(monkeypatch, capsys, 'latent_mim', file)
    assert status == 1
    assert [line.split()[0] for line in out.splitlines() if 'DIFFERS' in line] == ['loss_patch_disc']
    np.savez(file, **{name: value for name, value in fixture.arrays.items() if name != 'draw/noise'})
    status, _, err = tool(monkeypatch, capsys, 'latent_mim', file)
    assert (status, err) == (2, "error: The recorded run lacks the array 'draw/noise'.\n")
    status, _, err = tool(monkeypatch, capsys, 'latent', file)
    assert status == 2
    assert 'use one of capi, ' in err
