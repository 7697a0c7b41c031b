"""Recordings of a wrong implementation: a function or constant of a reference is replaced, and mmmim must differ.

The mistakes are those that are easy to make and small in their effect, which the tolerances have to tell apart.
"""

import pytest
import torch
import torch.nn.functional as F

from tests import reference_capi as capi
from tests import reference_common as common
from tests import reference_latent_mim as latent_mim
from tests.reference_recordings import RUNS


@pytest.fixture(scope='module')
def replayed(tmp_path_factory):
    """A small recording of each kind, and what mmmim makes of it."""
    made = {}
    for name, run in RUNS.items():
        fixture = run.whole(tmp_path_factory.mktemp(name))
        made[name] = fixture, run.method.replay(fixture)
    return made


def as_(value):
    """Another function, or number, whatever the right one is."""
    return lambda _: value


def momentum(of):
    """The average with another momentum."""
    return lambda f: lambda w, m, *parts: f(w, of(m), *parts)


def decayed(part, value):
    return lambda rule: lambda name, *weight: value if part in name else rule(name, *weight)


def factor(suffix, place, value):
    """Another factor of the rate (0) or of the decay (1)."""

    def wrong(factors):
        def changed(name, student):
            right = list(factors(name, student))
            right[place] = value if name.endswith(suffix) else right[place]
            return right

        return changed

    return wrong


def scaled(number):
    return lambda f: lambda *args, **options: number * f(*args, **options)


def normed(f):
    return lambda *args: F.layer_norm(out := f(*args), out.shape[-1:])


def whole_square(count, seen):
    return capi.border_coordinates(count, seen.dtype).expand(len(seen), -1, -1)


def all_positions(logits, temperature):
    return capi.sinkhorn_knopp((logits.detach() / temperature).flatten(0, 1)).reshape(logits.shape)


def teacher_first(update):
    def changed(w, gradients, state, step, options, rates):
        common.average(w, rates[2], 'student.', 'teacher.')
        update(w, gradients, state, step, options, (*rates[:2], 1.0))

    return changed


def innermost(make):
    def changed(w, c, z, contexts, targets):
        x = make(w, c, z, contexts, targets).unflatten(0, (len(targets), len(contexts), -1))
        return x.transpose(1, 2).flatten(0, 2)

    return changed


def raw_values(decode):
    """Cues made of the latents after positions are added to them."""

    def changed(w, c, z_vis, visible, target, cues=True):
        queries, *rest = decode(w, c, z_vis, visible, target, cues)
        positions = w['decoder.pos_embed.pos_embeds'][None, 1:]
        asked, seen = (common.take(positions, index) for index in (target, visible))
        moved = latent_mim.nearness(asked, seen) @ seen if cues else 0
        return torch.cat([queries[:, :1], queries[:, 1:] + moved], 1), *rest

    return changed


def average_before(train):
    """The teacher moves before the step that it should move after."""

    def changed(w, c, images, orders, target_orders, momenta, variant):
        common.average(w, float(momenta[0]))
        return train(w, c, images, orders, target_orders, [*momenta[1:], 1.0], variant)

    return changed


def tanh_gelu(x):
    return F.gelu(x, approximate='tanh')


FINAL, PARAM = 'traj.final_norm', 'traj/final_param_norm'
# By kind: what is replaced, by what, and a quantity that must then differ.
MISTAKES = {
    'capi': [
        ('register_coordinates', as_(whole_square), 'student_visible'),
        ('rotate', lambda f: lambda x, angle: f(x, -angle), 'teacher_patches'),
        ('NORM_EPS', as_(1e-6), 'eval_registers'),
        ('context_of', as_(lambda tokens, where, n: (tokens[:, n:], where[:, n:])), 'predictions'),
        ('sinkhorn_knopp', lambda f: lambda x: f(x.T).T, 'assignments'),
        ('sinkhorn_knopp', lambda f: lambda x: f(x, iterations=2), 'targets'),
        ('assign', as_(all_positions), 'assignments'),
        ('average', momentum(lambda m: 0.9), f'{FINAL}.teacher.mask_token'),
        ('update', teacher_first, f'{FINAL}.teacher.mask_token'),
        ('factors', factor('patch_embed.bias', 1, 1.0), f'{FINAL}.student.patch_embed.bias'),
        ('factors', factor('patch_embed.weight', 0, 1.0), f'{FINAL}.student.patch_embed.weight'),
        ('factors', factor('mask_token', 1, 0.0), f'{FINAL}.student.mask_token'),
        ('clustering_decay', as_(lambda name, o: 0.5 * ('bias' not in name)), f'{FINAL}.clustering.layer.bias'),
    ],
    'ijepa': [
        ('EPS', as_(1e-5), 'eps.encoder_block0'),
        ('TARGET_EPS', as_(1e-6), 'eps.target_norm'),
        ('gelu', as_(tanh_gelu), 'target_full'),
        ('predictor_input', innermost, 'predictor_input'),
        ('compare', as_(F.mse_loss), 'loss'),
        ('average', momentum(lambda m: 1 - m), 'traj.0.total_norm.target_encoder'),
        ('is_decayed', decayed('token', False), f'{FINAL}.predictor.mask_token'),
        ('is_decayed', decayed('norm', True), f'{FINAL}.encoder.norm.weight'),
        ('first_step', as_(lambda: 0), 'sched.wd'),
        ('momentum_at', lambda f: lambda s, i: f({**s, 'epochs': s['epochs'] * 1.01}, i), 'sched.ema'),
        ('largest', as_(lambda grid: grid - 2), 'draw.g14.sizes'),
        ('positions_of', lambda f: lambda *args: f(*args) + 1, 'draw.g14.0.pred'),
        ('enough', as_(lambda patches, least: len(patches) >= least), 'draw.crowded.2.enc'),
        ('PATIENCE', as_(5), 'draw.crowded.0.enc'),
        ('context', lambda f: lambda size, targets, c: f(size, targets[::-1], c), 'draw.crowded.0.enc'),
        ('cut_to', as_(lambda contexts, least: [patches[-least:] for patches in contexts]), 'draw.g14.0.enc'),
    ],
    'latent_mim': [
        ('corner', lambda f: lambda i, offset, *size: f(i, 0, *size), 'patches_all'),
        ('PROJECTOR_EPS', as_(1e-4), 'z_vis'),
        ('project', lambda f: lambda *args: common.gelu(f(*args)), 'z_trg'),
        ('nearness', lambda f: lambda asked, seen: f(asked * 12**0.5, seen), 'dec_query_init'),
        ('decode', raw_values, 'dec_query_init'),
        ('standardise_predictions', as_(lambda p: p), 'loss_patch_disc'),
        ('discriminate', scaled(0.5), 'loss_variant/no_pred_standardise'),
        ('constrain', lambda f: lambda x, *a: torch.stack([f(y[None], *a) for y in x]).mean(), 'loss_sim_vis'),
        ('train', lambda f: lambda *a: f(*a[:4], [1.0, *a[4][:-1]], a[5]), 'traj/final_target_cls_token'),
        ('BETAS', as_((0.5, 0.95)), 'traj/final_encoder_cls_token'),
        ('is_decayed', decayed('token', False), f'{PARAM}/decoder.mask_token'),
        ('is_decayed', decayed('decoder.embed.weight', True), f'{PARAM}/decoder.embed.weight'),
        ('is_decayed', decayed('head.norm', True), f'{PARAM}/encoder.head.norm1.weight'),
        ('rate', lambda f: lambda epoch: 2.4e-3 * epoch / 40 if epoch < 40 else f(epoch), 'sched/lr'),
        ('gamma_at', lambda f: lambda p: f(1 - p), 'sched/sim_target'),
    ],
    'pilamim': [
        ('number_kept', as_(lambda total, ratio: round(total * (1 - ratio))), 'z_vis'),
        ('EPS', as_(1e-4), 'enc_pre_norm'),
        ('decode', normed, 'pred_latent'),
        ('targets_of', normed, 'target_full_shuffled'),
        ('divisor', as_(lambda mask, ratio: mask.mean()), 'released/loss_latent'),
        ('variant_targets', as_(lambda variant, shuffled, back: shuffled), 'aligned/target_latent'),
        ('variant_targets', as_(lambda variant, shuffled, back: common.take(shuffled, back)), 'traj/released/loss'),
        ('train', average_before, 'traj/released/final_target_cls'),
        ('is_decayed', decayed('bias', False), 'traj/aligned/final_param_norm/decoder.head.bias'),
        ('is_decayed', decayed('token', False), 'traj/aligned/final_param_norm/target_decoder.mask_token'),
        ('factor', lambda f: lambda e, n, w: f(max(e - w, 0), n - w, 0), 'sched/probe_lr'),
        ('BATCH_NORM_EPS', as_(1e-2), 'probe/logits_eval'),
        ('first_buffer', as_(torch.zeros_like), 'lars/w'),
        ('trust_ratio', lambda f: lambda v, g: f(v, g) if v.any() else 0.0, 'lars/b'),
    ],
    'semantic_mim_beit': [
        ('source_of', as_(lambda before, after, m, n: torch.cat([before[:, :n], m], 1)), 'cross_kv/0'),
        ('norm_source', as_(lambda w, name, kv: kv), 'cross_out/0'),
        ('scaled', as_(lambda w, name, x: x), 'self_out/0'),
        ('EPS', as_(1e-3), 'self_out/0'),
        ('queries', as_(lambda w, m: w['backbone.mask_token'].expand(*m.shape, -1)), 'baseline/feat_mask'),
        ('number_masked', lambda f: lambda c: f(c) - 1, 'mask'),
        ('rescale', as_(lambda kind, index: (2 * index + 1) ** 0.5), 'init/extra_layers_proj_std'),
    ],
    'semantic_mim_maskfeat': [
        ('source_of', as_(lambda before, after, m, n: torch.cat([after, m], 1)), 'cross_out/0'),
        ('direction', lambda f: lambda x, y: f(y, x), 'hog'),
        ('gaussian', as_(lambda side: torch.ones(side, side)), 'hog'),
        ('unit', as_(lambda h: h / h.norm(dim=(1, 2), keepdim=True)), 'hog'),
    ],
}


@pytest.mark.parametrize(('run', 'name', 'wrong', 'differs'), [(run, *case) for run in RUNS for case in MISTAKES[run]])
def test_a_recording_with_a_mistake_fails(run, name, wrong, differs, replayed, monkeypatch, tmp_path):
    fixture, computed = replayed[run]
    RUNS[run].mistaken(monkeypatch, name, wrong)
    made = RUNS[run].whole(tmp_path) if differs.startswith('init/') else RUNS[run].remade(fixture)
    assert differs in {row.name for row in RUNS[run].method.rows(made, computed) if row.failed}


def test_a_recording_made_anew_does_not_fail(replayed):
    for name, (fixture, computed) in replayed.items():
        assert RUNS[name].failures(RUNS[name].remade(fixture), computed) == set()
