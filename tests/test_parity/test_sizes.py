"""Recordings of other sizes, settings and seeds, made by independent implementations, replayed by mmmim."""

import numpy as np
import pytest

from mmmim.models import ViT
from mmmim.parity import Fixture, check
from mmmim.utils import InputError
from tests import reference_capi, reference_ijepa
from tests.reference_recordings import RUNS, changed

TINY = {'img': 32, 'enc': 1, 'dec': 1, 'predictor_dim': 16, 'registers': 4}
FIVE_STEPS = [(0.0, 0.001, 1.0), (0.001, 0.004, 0.5), (0.01, 0.0, 0.9), (0.002, 0.002, 0.3), (0.0005, 0.001, 0.0)]


def student(**changes):
    return {**TINY, 'optimiser': {'student': changes}}


def both(**changes):
    return {**TINY, 'optimiser': {'student': changes, 'clustering': changes}}


SIZES = {
    'capi': {
        'small': {},
        'one_block_each': TINY,
        'patch14_img56': dict(img=56, patch=14, dim=32, heads=4, enc=2, dec=1, predictor_dim=16, batch=5, seed=2),
        'patch14_16_registers': dict(img=70, patch=14, dim=24, predictor_dim=32, registers=16, enc=1),
        'wide_predictor_12_registers': {**TINY, 'heads': 4, 'predictor_dim': 48, 'registers': 12, 'dec': 3},
        'deep': {**TINY, 'dim': 32, 'predictor_dim': 48, 'enc': 12, 'dec': 6},
        'wide_image': {**TINY, 'img': (24, 56), 'mask_ratio': 0.5, 'prediction_subsampling': 0.4},
        'one_row_of_patches': {**TINY, 'img': (8, 64), 'mask_ratio': 0.5, 'prediction_subsampling': 0.4},
        'one_prediction': {**TINY, 'img': 40, 'prediction_subsampling': 0.07},
        'all_predicted': {**TINY, 'prediction_subsampling': 1.0},
        'one_frequency': {**TINY, 'heads': 4},
        'batch_of_two_many_clusters': {**TINY, 'batch': 2, 'clusters': 200},
        'three_clusters': {**TINY, 'clusters': 3, 'batch': 4},
        'temperatures': {**TINY, 'temperatures': {'student': 0.2, 'teacher': 0.1}},
        'eps': both(eps=1e-3),
        'clustering_not_decayed': {**TINY, 'optimiser': {'clustering': {'weight_decay': 0.0}}},
        'factors': student(norm_weight_wd_factor=0.5, bias_wd_factor=1.0, patch_embed_lr_factor=1.5),
        'five_steps': {**TINY, 'schedule': FIVE_STEPS},
        # A million weights, as every real size has: fp32 norms of them are off by more than the tolerance.
        'large_weights': dict(dim=128, clusters=8192, img=24, prediction_subsampling=1.0),
        # Recorded as registers [1, 0, D], with norms of zero.
        'no_registers': dict(img=70, patch=14, dim=24, registers=0, predictor_dim=32),
    },
    'ijepa': {
        'grid4': dict(grid=4, patch=8, batch=3, pred_mask_scale=[0.2, 0.4]),
        'grid14_patch2': dict(grid=14, patch=2, min_keep=10, pred_mask_scale=[0.15, 0.2]),
        'one_head': dict(dim=20, heads=1, pred_dim=8),
        'deep': dict(dim=24, depth=4, pred_depth=3),
        'one_context': dict(nenc=1),
        'three_contexts': dict(nenc=3, npred=1, batch=1),
        'six_targets': dict(npred=6, enc_mask_scale=[0.9, 1.0]),
        'overlap': dict(allow_overlap=True, enc_mask_scale=[0.3, 0.4]),
        'relaxed': dict(npred=5, min_keep=7, enc_mask_scale=[0.8, 0.9], pred_mask_scale=[0.4, 0.5]),
        'tall_blocks': dict(aspect_ratio=[1.5, 3.0], min_keep=0),
        'five_steps': dict(steps=5, optimiser=dict(lr='1e-3*(t+1)', ema_momentum='0.9+0.02*t, after the step')),
        'constant': dict(optimiser=dict(lr='5e-4', ema_momentum='0.5', betas=[0.8, 0.95], eps=1e-6)),
        'falling_momentum': dict(optimiser=dict(ema_momentum='1.0-0.25*t', weight_decay_decayed=0.05)),
        'schedule': dict(
            schedule=dict(ipe=7, epochs=12, warmup=3, ipe_scale=1.0, start=1e-4, ref=2e-3, wd=(0.01, 0.2))
        ),
        'own_draws': dict(
            draws={'small': (dict(grid=9, patch=4, min_keep=3, nenc=3, npred=1), 2, 50, True)} | reference_ijepa.CROWDED
        ),
    },
    'latent_mim': {
        'grid2': dict(grid=2, num_vis=1, patch=8, batch=3),
        'grid4_gap0': dict(grid=4, gap=0, num_vis=5),
        'grid5_gap1': dict(grid=5, gap=1, num_vis=10),
        'grid6_gap8_patch16': dict(grid=6, gap=8, patch=16, num_vis=4, batch=1),
        'one_head': dict(dim=20, heads=1, ddim=8, dheads=1),
        'wide_decoder': dict(dim=8, heads=1, ddim=48, dheads=4, mlp_dim=16),
        'deep': dict(dim=24, depth=4, ddepth=4, mlp_dim=32),
        'low_temperature': dict(tau=0.07),
        'no_constraint': dict(sim_coeff=0.0),
        'strong_constraint': dict(sim_coeff=2.0, sim_trg=0.1, sim_targets=[-0.2, 0.9]),
        # A seed at which no gradient of the last norm is as small as its rounding, of which AdamW makes a step.
        'three_targets': dict(num_vis=6, seed=2),
        'five_steps': dict(steps=5, momenta=[0.0, 0.5, 1.0, 0.3, 0.9], sim_targets=None, lr=3e-4),
    },
    'pilamim': {
        'whole_number_of_patches': dict(img=16, mask_ratio=0.75),
        'patches25': dict(img=20, mask_ratio=0.7),
        'patches49_patch2': dict(img=14, patch=2, mask_ratio=0.6, batch=3),
        'patch8': dict(img=24, patch=8),
        'one_masked_patch': dict(mask_ratio=0.05),
        'one_head': dict(dim=20, heads=1, pdim=8, ldim=12, dheads=1),
        'wide_decoders': dict(dim=8, heads=1, pdim=48, ldim=32, dheads=4),
        'deep': dict(depth=4, ddepth=3),
        'decoders_of_two_depths': dict(pdepth=1, ldepth=3),
        'five_steps': dict(steps=5, momenta=None, lr=3e-4),
    },
    'semantic_mim_beit': {
        'one_proxy': dict(proxy=1),
        'many_proxies': dict(proxy=9),
        'one_block': dict(depth=1),
        'deep': dict(depth=5, dim=24, heads=3),
        'odd_grid': dict(img=20, mask_ratio=0.4),
        'one_masked': dict(mask_ratio=0.1),
        'one_visible': dict(mask_ratio=0.8),
        'one_image': dict(batch=1),
        'nearly_as_initialised': dict(noise_std=0.01),
    },
    'semantic_mim_maskfeat': {
        'patch16': dict(patch=16),
        'patch32': dict(img=96, patch=32, depth=1),
        'one_proxy': dict(proxy=1, img=48),
        'deep': dict(depth=5, dim=24, heads=3),
        'few_masked': dict(mask_ratio=0.2, batch=3),
        'nearly_as_initialised': dict(noise_std=0.01),
    },
}


@pytest.mark.parametrize(('name', 'size'), [(name, size) for name, sizes in SIZES.items() for size in sizes])
def test_sizes(name, size, tmp_path):
    assert RUNS[name].failures(RUNS[name].record(tmp_path, **SIZES[name][size])) == set()


@pytest.mark.parametrize('seed', [2, 3])
@pytest.mark.parametrize('name', RUNS)
def test_seeds(name, seed, tmp_path):
    assert RUNS[name].failures(RUNS[name].record(tmp_path, seed=seed)) == set()


# ------------------------------------------------------------------------------------------------------------- CAPI


def test_a_recording_without_what_has_no_elements(tmp_path):
    made = RUNS['capi'].record(tmp_path, **SIZES['capi']['no_registers'])
    assert made.arrays['sd.student.registers'].shape == (1, 0, 24)
    arrays = {name: value for name, value in made.arrays.items() if name.split('.')[-1] != 'registers'}
    assert RUNS['capi'].failures(Fixture(arrays, made.settings)) == set()


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (dict(batch=1), 'at least 2 images'),
        (dict(shuffle=True), 'predict_indices must be ordered by image'),
        (dict(img=44), 'patch size 8 does not divide'),
    ],
)
def test_recordings_that_mmmim_cannot_replay(changes, message, tmp_path):
    with pytest.raises(InputError, match=message):
        check(RUNS['capi'].method, RUNS['capi'].record(tmp_path, **changes))


@pytest.mark.parametrize(
    ('path', 'value', 'differs'),
    [
        ('student/weight_decay', 1.9, 'student.mask_token'),
        ('student/norm_weight_wd_factor', 0.5, 'student.encoder.blocks.0.residual1.norm.weight'),
        ('student/bias_wd_factor', 1.0, 'student.patch_embed.bias'),
        ('student/patch_embed_lr_factor', 0.5, 'student.patch_embed.weight'),
        ('clustering/weight_decay', 0.3, 'clustering.layer.bias'),
        ('*/betas', [0.8, 0.95], 'student.mask_token'),
        ('*/betas', [0.9, 0.5], 'student.mask_token'),
        ('*/eps', 1e-3, 'student.decoder.blocks.0.residual1.norm.weight'),
    ],
)
def test_every_setting_is_used(path, value, differs, tmp_path):
    """The recording says otherwise than how it was made."""
    made = RUNS['capi'].record(tmp_path)
    for side in ('student', 'clustering'):
        if path.startswith((side, '*')):
            made.settings = changed(made.settings, f'optimiser/{path.replace("*", side)}', value)
    assert f'traj.final_norm.{differs}' in RUNS['capi'].failures(made)


def test_rotary_table():
    """A replay reads the table from the recording, so that it says nothing about the one mmmim starts with."""
    given = RUNS['capi'].given().arrays
    for name in (n for n in given if n.startswith('sd.') and n.endswith('rope.freqs')):
        np.testing.assert_allclose(given[name], reference_capi.rope_table(given[name].shape[1]), rtol=1e-6)
    for dim, heads in ((64, 1), (96, 2), (16, 4)):
        encoder = ViT(patch_size=8, embed_dim=dim, depth=1, num_heads=heads, positions='rope', num_cls_tokens=0)
        np.testing.assert_allclose(encoder.positions.freqs, reference_capi.rope_table(dim // heads), rtol=1e-6)


# ------------------------------------------------------------------------------------------------------- Latent MIM


def test_two_targets(tmp_path):
    """Two standardised values are plus and minus the same number: the loss is a step function of predictions."""
    failed = RUNS['latent_mim'].failures(RUNS['latent_mim'].record(tmp_path, num_vis=7))
    assert {name for name in failed if not name.startswith(('grad', 'traj/'))} == set()


def test_touching_patches_need_no_offsets(tmp_path):
    made = RUNS['latent_mim'].record(tmp_path, gap=0)
    names = [name for name in made.arrays if name.endswith('_offset')]
    assert len(names) == 4
    assert all(not made.arrays[name].any() for name in names)
    arrays = {name: value for name, value in made.arrays.items() if name not in names}
    assert RUNS['latent_mim'].failures(Fixture(arrays, made.settings)) == set()


# ---------------------------------------------------------------------------------------------------------- PiLaMIM


def test_variants_and_ratios_are_told_apart(tmp_path):
    made = RUNS['pilamim'].record(tmp_path)
    assert made.arrays['mask_latent'].mean() == pytest.approx(7 / 9)
    assert made.settings['config']['mask_ratio'] == 0.7
    aligned, released = (made.group(f'{variant}/') for variant in ('aligned', 'released'))
    assert {n for n in aligned if n.startswith('loss') and aligned[n] != released[n]} == {'loss_latent', 'loss_total'}
    assert np.abs(aligned['target_latent'] - released['target_latent']).max() > 1
