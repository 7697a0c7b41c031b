"""Recordings of SemanticMIM, the given ones and others by an independent implementation, replayed by mmmim.

The file of MaskFeat is kept without the attention of the last block, half of its size; that of BEiT has it.
"""

import copy
import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mmmim.parity import Fixture, check, semantic_mim
from mmmim.utils import InputError
from tests import reference_semantic_mim as reference
from tests.paths import ROOT

NOT_KEPT = {'beit': set(), 'maskfeat': {'eval/attn_last'}}
RECORDED = {kind: ROOT / f'tests/data/semanticmim_{kind}_tiny.npz' for kind in ('beit', 'maskfeat')}
SMALL = {
    'beit': dict(img=12, patch=4, dim=16, heads=2, depth=2, proxy=2, vocab=6),
    'maskfeat': dict(img=32, patch=8, dim=16, heads=2, depth=2, proxy=2),
}
SIZES = {
    'beit': {
        'one_proxy': dict(proxy=1),
        'many_proxies': dict(proxy=9),
        'one_block': dict(depth=1),
        'deep': dict(depth=5, dim=24, heads=3),
        'one_head': dict(heads=1),
        'odd_grid': dict(img=20, mask_ratio=0.4),
        'one_masked': dict(mask_ratio=0.1),
        'one_visible': dict(mask_ratio=0.8),
        'one_image': dict(batch=1),
        'three_images': dict(batch=3, vocab=50),
        'other_weights': dict(seed=2),
        'nearly_as_initialised': dict(noise_std=0.01),
    },
    'maskfeat': {
        'patch16': dict(patch=16),
        'patch32': dict(img=96, patch=32, depth=1),
        'one_proxy': dict(proxy=1, img=48),
        'deep': dict(depth=5, dim=24, heads=3),
        'few_masked': dict(mask_ratio=0.2, batch=3),
        'other_weights': dict(seed=2),
        'nearly_as_initialised': dict(noise_std=0.01),
    },
}


def recording(tmp_path, kind, **changes):
    return Fixture.load(reference.record(tmp_path / 'recording.npz', kind, **{**SMALL[kind], **changes}))


def failures(fixture):
    """Names of the quantities in which mmmim's replay differs; every recorded quantity has been compared."""
    rows, _ = check(semantic_mim, fixture)
    assert {row.name for row in rows} == set(outputs(fixture))
    assert all(row.error is not None for row in rows)
    return {row.name for row in rows if row.failed}


def outputs(fixture):
    """Recorded quantities by name, with the array that each is in and its place there."""
    places = {}
    for name, array in fixture.arrays.items():
        if name == 'grad_norm':
            places |= {f'grad_norm/{p}': (name, i) for i, p in enumerate(fixture.settings['param_names'])}
        elif not semantic_mim.is_input(name):
            places[name] = (name, np.abs(array).argmax())
    return places


@pytest.fixture(scope='module', params=RECORDED)
def recorded(request):
    return Fixture.load(RECORDED[request.param])


@pytest.fixture(scope='module')
def small(tmp_path_factory):
    """A small recording of each flavour."""
    return {kind: recording(tmp_path_factory.mktemp(kind), kind) for kind in SMALL}


# ------------------------------------------------------------------------------- the reference itself is to be trusted


@pytest.mark.parametrize(
    ('kind', 'dtype'), [('beit', torch.float32), ('beit', torch.float64), ('maskfeat', torch.float64)]
)
def test_the_reference_is_the_recorded_run(kind, dtype):
    """Nothing of mmmim is in this test, the tolerances included."""
    with np.load(RECORDED[kind]) as file:
        arrays = dict(file)
    settings = json.loads(RECORDED[kind].with_suffix('.json').read_text())
    computed = reference.replay(arrays, settings, dtype)
    inputs = {'images', 'images_uint8', 'target_logits', 'draw/permutation'}
    outputs = {name for name in set(arrays) - inputs if not name.startswith(('sd/', 'init/'))}
    assert set(computed) == outputs | NOT_KEPT[kind]
    for name in outputs:
        value = computed[name]
        expected = arrays[name].astype(np.float64)
        assert value.shape == expected.shape
        assert np.abs(value - expected).max() <= 5e-6 * np.abs(expected).max(), name


def test_a_recording_has_the_layout_of_the_recorded_run(recorded, tmp_path):
    made = recording(tmp_path, recorded.settings['kind'], **recorded.settings['config'])
    layout = {name: (value.shape, value.dtype) for name, value in recorded.arrays.items()}
    kept = set(made.arrays) - NOT_KEPT[recorded.settings['kind']]
    assert {name: (made.arrays[name].shape, made.arrays[name].dtype) for name in kept} == layout
    assert made.settings['config'] == recorded.settings['config']
    assert set(made.settings['param_names']) == set(recorded.settings['param_names'])


# ------------------------------------------------------------------------------------------------ what mmmim must equal


def test_the_recorded_runs(recorded):
    assert failures(recorded) == set()


@pytest.mark.parametrize(('kind', 'size'), [(kind, size) for kind, sizes in SIZES.items() for size in sizes])
def test_sizes(kind, size, tmp_path):
    assert failures(recording(tmp_path, kind, **SIZES[kind][size])) == set()


def test_parts_of_a_recording(small):
    """Recordings may lack whole parts."""
    for kind, lacking in (('beit', ('eval/', 'grad')), ('maskfeat', ('hog', 'init/', 'baseline/', 'grad/'))):
        arrays = {name: value for name, value in small[kind].arrays.items() if not name.startswith(lacking)}
        assert len(arrays) < len(small[kind].arrays)
        assert failures(Fixture(arrays, small[kind].settings)) == set()


# ----------------------------------------------------------------------------------------------- what must not be equal


@pytest.fixture(scope='module')
def replayed(small):
    """What mmmim makes of them, computed once."""
    return {kind: semantic_mim.replay(fixture) for kind, fixture in small.items()}


@pytest.mark.parametrize('kind', SMALL)
def test_every_quantity_is_compared(kind, small, replayed, monkeypatch):
    """Ten tolerances off at its largest entry, every quantity is refused, and no other."""
    fixture = small[kind]
    monkeypatch.setattr(semantic_mim, 'replay', lambda _: replayed[kind])
    rows, _ = check(semantic_mim, fixture)
    floor, places = semantic_mim.floor(fixture), outputs(fixture)
    assert len(rows) > 70
    for row in rows:
        name, index = places[row.name]
        array = fixture.arrays[name].astype(np.float64)
        array.flat[index] += 10 * row.tolerance * max(np.abs(array.flat[index]), floor(row.name))
        changed = Fixture({**fixture.arrays, name: array}, fixture.settings)
        assert {r.name for r in check(semantic_mim, changed)[0] if r.failed} == {row.name}


def proxies_of_before(_):
    return lambda before, after, masks, number: torch.cat([before[:, :number], masks], dim=1)


def images_too(_):
    return lambda before, after, masks, number: torch.cat([after, masks], dim=1)


def proxies_only(_):
    return lambda before, after, masks, number: after[:, :number]


def values_without_bias(projections):
    def changed(w, name, q, kv):
        q, k, v = projections(w, name, q, kv)
        return q, k, v - w[f'{name}.v_bias']

    return changed


def proxies_without_rows(_):
    return lambda w, batch: w['backbone.cls_token'].expand(batch, -1, -1)


def one_row_off(cell_positions):
    return lambda w: cell_positions(w).roll(1, 0)


def masks_without_positions(_):
    return lambda w, masked: w['backbone.mask_token'].expand(*masked.shape, -1)


#: Flavour, what is replaced and how, a quantity that then differs and one that does not.
MISTAKES = {
    'proxies_of_before': ('beit', 'source_of', proxies_of_before, 'cross_kv/0', 'self_out/1'),
    'images_are_seen': ('maskfeat', 'source_of', images_too, 'cross_out/0', 'self_out/1'),
    'proxies_only': ('beit', 'source_of', proxies_only, 'cross_out/0', 'mask_in'),
    'source_not_normed': ('beit', 'norm_source', lambda _: lambda w, name, kv: kv, 'cross_out/0', 'tokens_in'),
    'source_has_another_norm': (
        'maskfeat',
        'norm_source',
        lambda _: lambda w, name, kv: reference.layer_norm(w, f'{name}.ln2', kv),
        'cross_out/0',
        'tokens_in',
    ),
    'values_without_bias': ('beit', 'projections', values_without_bias, 'self_out/0', 'mask_in'),
    'no_layer_scale': ('beit', 'scaled', lambda _: lambda w, name, x: x, 'self_out/0', 'tokens_in'),
    'eps': ('beit', 'EPS', lambda _: 1e-3, 'self_out/0', 'tokens_in'),
    'gelu_by_tanh': ('maskfeat', 'gelu', lambda _: lambda x: F.gelu(x, approximate='tanh'), 'self_out/0', 'tokens_in'),
    'scale_of_attention': (
        'beit',
        'attention_weights',
        lambda f: lambda q, k, heads: f(1.1 * q, k, heads),
        'eval/attn_last',
        'tokens_in',
    ),
    'proxies_without_positions': ('beit', 'proxies', proxies_without_rows, 'tokens_in', 'mask_in'),
    'positions_one_off': ('maskfeat', 'cell_positions', one_row_off, 'mask_in', 'hog'),
    'masks_without_positions': ('beit', 'queries', masks_without_positions, 'baseline/feat_mask', 'tokens_in'),
    'masks_rounded_down': (
        'beit',
        'number_masked',
        lambda f: lambda c: f({**c, 'mask_ratio': (f(c) - 1) / (c['img'] // c['patch']) ** 2}),
        'mask',
        'eval/layer1',
    ),
    'nine_bins_of_a_turn': (
        'maskfeat',
        'direction',
        lambda _: lambda x, y: torch.floor((torch.atan2(x, y) / np.pi + 1) / 2 * 8.999).long(),
        'hog',
        'pred',
    ),
    'axes_swapped': ('maskfeat', 'direction', lambda f: lambda x, y: f(y, x), 'hog', 'pred'),
    'no_gaussian': ('maskfeat', 'gaussian', lambda _: lambda side: torch.ones(side, side), 'hog', 'pred'),
    'colours_normed_together': (
        'maskfeat',
        'unit',
        lambda _: lambda h: h / h.norm(dim=(1, 2), keepdim=True),
        'hog',
        'pred',
    ),
    'absolute_error': ('maskfeat', 'squared_error', lambda _: lambda p, t: (p - t).abs().mean(), 'loss', 'pred'),
    'sum_of_images': ('beit', 'cross_entropy', lambda f: lambda *args: 2 * f(*args), 'loss', 'logits'),
    'no_rescaling': ('beit', 'rescale', lambda _: lambda kind, index: 1.0, 'init/layers_proj_std', None),
    'rescaled_from_zero': (
        'beit',
        'rescale',
        lambda _: lambda kind, index: (2 * index + 1) ** 0.5,
        'init/extra_layers_proj_std',
        None,
    ),
}


@pytest.mark.parametrize('mistake', MISTAKES)
def test_a_recording_with_a_mistake_fails(mistake, small, replayed, monkeypatch, tmp_path):
    kind, name, wrong, differs, equal = MISTAKES[mistake]
    monkeypatch.setattr(reference, name, wrong(getattr(reference, name)))
    monkeypatch.setattr(semantic_mim, 'replay', lambda _: replayed[kind])
    if differs.startswith('init/'):
        made = recording(tmp_path, kind)
    else:
        made = Fixture(
            small[kind].arrays | reference.replay(small[kind].arrays, small[kind].settings), small[kind].settings
        )
    failed = {row.name for row in check(semantic_mim, made)[0] if row.failed}
    assert differs in failed
    assert equal is None or equal not in failed


# -------------------------------------------------------------------------------------- recordings that cannot be used


@pytest.mark.parametrize(
    ('kind', 'array', 'named'),
    [
        ('beit', 'images', 'images'),
        ('maskfeat', 'images_uint8', 'images'),
        ('beit', 'draw/permutation', 'draw/permutation'),
        ('beit', 'target_logits', 'target_logits'),
        ('beit', 'sd/backbone.mask_token', 'branches.semantic.neck.mask_token'),
        ('beit', 'sd/backbone.ln1.weight', 'branches.semantic.neck.norm.weight'),
        ('beit', 'sd/backbone.extra_layers.1.gamma_2', 'neck.blocks.1.scale2.weight'),
        ('maskfeat', 'sd/backbone.layers.0.attn.kv.bias', 'backbone.blocks.0.attn.k_proj.bias'),
        ('maskfeat', 'sd/neck.fc.weight', 'neck.proj.weight'),
    ],
)
def test_what_a_recording_lacks_is_named(kind, array, named, small):
    arrays = {name: value for name, value in small[kind].arrays.items() if name != array}
    assert len(arrays) < len(small[kind].arrays)
    with pytest.raises(InputError, match=named):
        check(semantic_mim, Fixture(arrays, small[kind].settings))


@pytest.mark.parametrize('setting', ['kind', 'config', 'config.heads', 'config.mask_ratio', 'param_names'])
def test_settings_that_a_recording_lacks_are_named(setting, small):
    settings = copy.deepcopy(small['beit'].settings)
    *path, key = setting.split('.')
    del (settings[path[0]] if path else settings)[key]
    with pytest.raises(InputError, match=f"lacks '{setting}"):
        check(semantic_mim, Fixture(small['beit'].arrays, settings))


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'kind': 'maskfeat'}, "kind='maskfeat', the recorded weights are 'beit'"),
        ({'dim': 24}, "which have {'dim': 16}"),
        ({'img': 16, 'patch': 8}, "'img': 12, 'patch': 4"),
        ({'depth': 3}, "'depth': 2"),
        ({'proxy': 3}, "'proxy': 2"),
        ({'vocab': 7}, "'vocab': 6"),
        ({'heads': 3}, '3 attention heads do not divide the width 16'),
        ({'mask_ratio': 1.0}, 'masks 9 of 9 patches'),
        ({'mask_ratio': 0.0}, 'masks 0 of 9 patches'),
    ],
)
def test_settings_that_contradict_the_arrays(changes, message, small):
    settings = small['beit'].settings
    kind = changes.get('kind', 'beit')
    changed = {**settings, 'kind': kind, 'config': {**settings['config'], **changes}}
    with pytest.raises(InputError, match=message):
        check(semantic_mim, Fixture(small['beit'].arrays, changed))


def test_arrays_that_contradict_each_other(small):
    def refused(message, name, change):
        arrays = {**small['beit'].arrays, name: change(small['beit'].arrays.get(name))}
        with pytest.raises(InputError, match=message):
            check(semantic_mim, Fixture(arrays, small['beit'].settings))

    refused('permutation of 9 patches', 'draw/permutation', lambda a: a[:1])
    refused('permutation of 9 patches', 'draw/permutation', lambda a: a // 2)
    refused(r'images has the shape \(2, 3, 12, 11\)', 'images', lambda a: a[..., :-1])
    refused(r'grad_norm has the shape \(.*\), and param_names has .* names', 'grad_norm', lambda a: a[1:])
    refused(r'not in the layout .* e\.g\. backbone\.gamma', 'sd/backbone.gamma', lambda _: np.zeros(3))


def test_quantities_that_nobody_knows_fail(small):
    arrays = {**small['beit'].arrays, 'self_out/2': np.zeros(3), 'grad/gamma': np.zeros(3)}
    rows, _ = check(semantic_mim, Fixture(arrays, small['beit'].settings))
    assert {(row.name, row.verdict) for row in rows if row.failed} == {
        ('self_out/2', 'not computed'),
        ('grad/gamma', 'not computed'),
    }
