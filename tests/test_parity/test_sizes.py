"""Recordings of other sizes, settings and seeds, made by independent implementations, replayed by mmmim."""

import numpy as np
import pytest

from mmmim.models import ViT
from mmmim.parity import Fixture
from tests import reference_capi, reference_ijepa
from tests.reference_recordings import RUNS

TINY = {'img': 32, 'enc': 1, 'dec': 1, 'predictor_dim': 16, 'registers': 4}
FIVE = [0.0, 0.5, 1.0, 0.3, 0.9]
FIVE_STEPS = [(0.0, 0.001, 1.0), (0.001, 0.004, 0.5), (0.01, 0.0, 0.9), (0.002, 0.002, 0.3), (0.0005, 0.001, 0.0)]
BOTH = {'betas': [0.8, 0.9], 'eps': 1e-3}
STUDENT = {'weight_decay': 1.9, 'norm_weight_wd_factor': 0.5, 'bias_wd_factor': 1.0, 'patch_embed_lr_factor': 1.5}

SIZES = {
    'capi': {
        'patch14': dict(img=70, patch=14, dim=24, predictor_dim=32, registers=16, enc=1, dec=3, batch=5, seed=2),
        'wide_image': {**TINY, 'img': (24, 56), 'mask_ratio': 0.5, 'prediction_subsampling': 1.0, 'clusters': 3},
        'one_row_of_patches_one_prediction': {**TINY, 'img': (8, 64), 'mask_ratio': 0.5, 'heads': 4, 'batch': 2},
        'temperatures': {**TINY, 'temperatures': {'student': 0.2, 'teacher': 0.1}, 'schedule': FIVE_STEPS},
        'optimiser': {**TINY, 'optimiser': {'student': STUDENT | BOTH, 'clustering': {'weight_decay': 0.0} | BOTH}},
        # A million weights, as every real size has: fp32 norms of them are off by more than the tolerance.
        'large_weights': dict(dim=128, clusters=8192, img=24, prediction_subsampling=1.0),
    },
    'crossmae': {
        'some_states': dict(depth=3, feature_maps=[0, 2], decoder_depth=3, seed=2),
        'no_embedded_input': dict(patch_embedding_is_a_feature_map=False, normalised_pixels=False, kept_mask_ratio=0.5),
        'one_state': dict(
            feature_maps=[1],
            patch_embedding_is_a_feature_map=False,
            decoder_width=8,
            mlp_ratio=2,
            layer_norm_eps=1e-3,
            image=[4, 36],
        ),
        'optimiser': dict(optimiser=BOTH | dict(lr=1e-4, weight_decay=3.0), steps=5, image=16, batch=3),
    },
    'ijepa': {
        'three_contexts': dict(grid=7, patch=2, dim=24, depth=2, pred_depth=3, nenc=3, npred=1, batch=1, seed=2),
        'one_head': dict(dim=20, heads=1, pred_dim=8, nenc=1, steps=5, optimiser=dict(lr='1e-3*(t+1)')),
        'overlap': dict(allow_overlap=True, enc_mask_scale=[0.3, 0.4], optimiser=dict(ema_momentum='1.0-0.25*t')),
        'relaxed': dict(npred=5, min_keep=7, enc_mask_scale=[0.8, 0.9], pred_mask_scale=[0.4, 0.5]),
        'tall_blocks': dict(
            aspect_ratio=[1.5, 3.0],
            min_keep=0,
            optimiser=dict(lr='5e-4', ema_momentum='0.5', betas=[0.8, 0.95], eps=1e-6, weight_decay_decayed=0.05),
        ),
        # Contexts that have to give up target blocks; those of the given recording never do.
        'crowded': dict(grid=10, min_keep=11, npred=12, nenc=1, batch=12, traj_batch=6, patch=2, seed=3)
        | {key: reference_ijepa.TOY[key] for key in ('enc_mask_scale', 'pred_mask_scale')},
    },
    'latent_mim': {
        'grid2': dict(grid=2, num_vis=1, patch=8, batch=3, seed=2),
        'wide_decoder': dict(grid=5, gap=9, num_vis=10, dim=8, heads=1, ddim=48, dheads=4, mlp_dim=16, tau=0.07),
        'deep': dict(dim=24, depth=3, ddepth=2, mlp_dim=32, sim_coeff=2.0, sim_trg=0.1, sim_targets=[-0.2, 0.9]),
        'no_constraint': dict(sim_coeff=0.0, steps=5, momenta=FIVE, sim_targets=FIVE, lr=3e-4),
    },
    'pilamim': {
        'whole_number_of_patches': dict(img=16, mask_ratio=0.75, steps=5, momenta=FIVE, lr=3e-4, seed=2),
        'one_masked_patch': dict(img=14, patch=2, mask_ratio=0.02, dim=20, heads=1, pdim=8, ldim=12, dheads=1),
        'decoders_of_two_depths': dict(pdepth=1, ldepth=3, depth=2, pdim=48, ldim=32, dheads=4, batch=3),
    },
    'semantic_mim_beit': {
        'many_proxies': dict(proxy=9, depth=3, dim=24, heads=3, img=20, mask_ratio=0.4, seed=2),
        'one_of_all': dict(proxy=1, depth=1, batch=1, mask_ratio=0.8),
        'nearly_as_initialised': dict(noise_std=0.01, mask_ratio=0.1),
    },
    'semantic_mim_maskfeat': {
        'patch16': dict(patch=16, proxy=1, mask_ratio=0.2, batch=3, depth=3, dim=24, heads=3),
        'patch32': dict(img=96, patch=32, depth=1, noise_std=0.01, seed=2),
    },
}


@pytest.mark.parametrize(('name', 'size'), [(name, size) for name, sizes in SIZES.items() for size in sizes])
def test_sizes(name, size, tmp_path):
    assert RUNS[name].failures(RUNS[name].record(tmp_path, **SIZES[name][size])) == set()


def test_a_recording_without_what_has_no_elements(tmp_path):
    """Registers are recorded as [1, 0, D], with norms of zero, or not at all."""
    made = RUNS['capi'].record(tmp_path, **{**TINY, 'registers': 0})
    assert made.arrays['sd.student.registers'].shape == (1, 0, 16)
    arrays = {name: value for name, value in made.arrays.items() if name.split('.')[-1] != 'registers'}
    for recorded in (made.arrays, arrays):
        assert RUNS['capi'].failures(Fixture(recorded, made.settings)) == set()


def test_rotary_table():
    """A replay reads the table from the recording, so that it says nothing about the one mmmim starts with."""
    given = RUNS['capi'].given().arrays
    for name in (n for n in given if n.startswith('sd.') and n.endswith('rope.freqs')):
        np.testing.assert_allclose(given[name], reference_capi.rope_table(given[name].shape[1]), rtol=1e-6)
    for dim, heads in ((64, 1), (96, 2), (16, 4)):
        encoder = ViT(patch_size=8, embed_dim=dim, depth=1, num_heads=heads, positions='rope', num_cls_tokens=0)
        np.testing.assert_allclose(encoder.positions.freqs, reference_capi.rope_table(dim // heads), rtol=1e-6)


def test_latent_mim_with_few_targets_and_touching_patches(tmp_path):
    """Two standardised values are plus and minus the same number: the loss is a step function of predictions."""
    made = RUNS['latent_mim'].record(tmp_path, num_vis=7, gap=0)
    names = [name for name in made.arrays if name.endswith('_offset')]
    assert len(names) == 4
    assert all(not made.arrays[name].any() for name in names)
    arrays = {name: value for name, value in made.arrays.items() if name not in names}
    failed = RUNS['latent_mim'].failures(Fixture(arrays, made.settings))
    assert {name for name in failed if not name.startswith(('grad', 'traj/'))} == set()
