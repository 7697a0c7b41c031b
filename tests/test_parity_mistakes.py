"""Recordings of a wrong implementation: a function or constant of a reference is replaced, and mmmim must differ."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests import reference_capi as capi
from tests import reference_common as common
from tests import reference_ijepa as ijepa
from tests import reference_latent_mim as latent_mim
from tests import reference_pilamim as pilamim
from tests.reference_recordings import RUNS


@pytest.fixture(scope='module')
def replayed(tmp_path_factory):
    """A small recording of each kind, and what mmmim makes of it."""
    made = {}
    for name, run in RUNS.items():
        fixture = run.whole(tmp_path_factory.mktemp(name))
        made[name] = fixture, run.method.replay(fixture)
    return made


def constant(value):
    return lambda _: value


def instead(function):
    """The same as another function."""
    return lambda _: function


def tanh_gelu(_):
    return lambda x: F.gelu(x, approximate='tanh')


def other_momentum(of):
    """The average with another momentum."""
    return lambda f: lambda w, momentum, *parts: f(w, of(momentum), *parts)


def decayed_where(part, value):
    return lambda rule: lambda name, *weight: value if part in name else rule(name, *weight)


def factor_where(suffix, place, value):
    """Another factor of the rate (0) or of the decay (1)."""

    def wrong(factors):
        def changed(name, student):
            right = list(factors(name, student))
            right[place] = value if name.endswith(suffix) else right[place]
            return right

        return changed

    return wrong


def without_registers(context, where, count):
    return context[:, count:], where[:, count:]


def neighbours_turn(x, angle):
    turned = torch.stack([-x[..., 1::2], x[..., ::2]], -1).flatten(-2)
    return x * angle.cos() + turned * angle.sin()


def prototypes_first(logits):
    matrix = (logits - logits.amax(0, keepdim=True) + 50).exp()
    for _ in range(3):
        matrix = matrix / matrix.sum(1, keepdim=True)
        matrix = matrix / matrix.sum(0, keepdim=True)
    return matrix


def all_positions_together(logits, temperature):
    return capi.sinkhorn_knopp((logits.detach() / temperature).flatten(0, 1)).reshape(logits.shape)


def teacher_first(update):
    def changed(w, gradients, state, step, options, rates):
        common.average(w, rates[2], 'student.', 'teacher.')
        update(w, gradients, state, step, options, (*rates[:2], 1.0))

    return changed


CAPI = {
    'registers_not_scaled': (
        'register_coordinates',
        instead(lambda count, seen: capi.border_coordinates(count, seen.dtype).expand(len(seen), -1, -1)),
        'student_visible',
    ),
    'rope_pairs': ('rotate', instead(neighbours_turn), 'teacher_patches'),
    'rope_direction': ('rotate', lambda f: lambda x, angle: f(x, -angle), 'teacher_patches'),
    'norm_eps': ('NORM_EPS', constant(1e-6), 'eval_registers'),
    'context_without_registers': ('context_of', instead(without_registers), 'predictions'),
    'prototypes_first': ('sinkhorn_knopp', instead(prototypes_first), 'assignments'),
    'two_iterations': ('sinkhorn_knopp', lambda f: lambda x: f(x, iterations=2), 'targets'),
    'standard_sinkhorn': ('assign', instead(all_positions_together), 'assignments'),
    'momentum_constant': ('average', other_momentum(lambda m: 0.9), 'traj.final_norm.teacher.mask_token'),
    'teacher_first': ('update', teacher_first, 'traj.final_norm.teacher.mask_token'),
    'bias_decayed': ('factors', factor_where('patch_embed.bias', 1, 1.0), 'traj.final_norm.student.patch_embed.bias'),
    'patch_rate': ('factors', factor_where('embed.weight', 0, 1.0), 'traj.final_norm.student.patch_embed.weight'),
    'token_not_decayed': ('factors', factor_where('mask_token', 1, 0.0), 'traj.final_norm.student.mask_token'),
    'gain_not_decayed': ('factors', factor_where('_g', 1, 0.0), 'traj.final_norm.student_head.last_layer.weight_g'),
    'clustering_bias': (
        'clustering_decay',
        lambda f: lambda name, options: 0.0 if name.endswith('bias') else f(name, options),
        'traj.final_norm.clustering.layer.bias',
    ),
}


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


def one_number(c, call):
    u = torch.rand(1, generator=torch.Generator().manual_seed(call)).item()
    scales = [(c['pred_mask_scale'], c['aspect_ratio']), (c['enc_mask_scale'], [1.0, 1.0])]
    return tuple(ijepa.block_size(u, u, *pair, c['grid']) for pair in scales)


def rounded_up(u, v, scale, aspect, grid):
    patches = grid * grid * (scale[0] + u * (scale[1] - scale[0]))
    ratio = aspect[0] + v * (aspect[1] - aspect[0])
    return tuple(min(math.ceil(math.sqrt(x)), grid - 1) for x in (patches * ratio, patches / ratio))


IJEPA = {
    'axes': ('position_table', lambda f: lambda grid, dim: f(grid, dim).flip(1), 'pos_table.grid14.dim16'),
    'eps': ('EPS', constant(1e-5), 'eps.encoder_block0'),
    'eps_of_targets': ('TARGET_EPS', constant(1e-6), 'eps.target_norm'),
    'gelu': ('gelu', tanh_gelu, 'target_full'),
    'heads': ('attend', lambda f: lambda q, k, v, heads: f(q, k, v, heads // 2), 'eps.predictor_block0'),
    'targets_do_not_see_all': ('encode', of_visible, 'target_full'),
    'contexts_innermost': ('predictor_input', contexts_innermost, 'predictor_input'),
    'squared_error': ('compare', instead(F.mse_loss), 'loss'),
    'no_average': ('average', other_momentum(lambda m: 1.0), 'traj.final.target_encoder.norm.weight'),
    'momentum_swapped': ('average', other_momentum(lambda m: 1 - m), 'traj.0.total_norm.target_encoder'),
    'token': ('is_decayed', decayed_where('token', False), 'traj.final_norm.predictor.mask_token'),
    'patch': ('is_decayed', decayed_where('patch_', False), 'traj.final_norm.encoder.patch_embed.proj.weight'),
    'norms_decayed': ('is_decayed', decayed_where('norm', True), 'traj.final_norm.encoder.norm.weight'),
    'rate_before_it_is_advanced': ('first_step', instead(lambda: 0), 'sched.lr'),
    'decay_before_it_is_advanced': ('first_step', instead(lambda: 0), 'sched.wd'),
    'shorter_schedule': ('total', lambda f: lambda s: f({**s, 'ipe_scale': 1.0}), 'sched.lr'),
    'longer_momentum': ('momentum_at', lambda f: lambda s, i: f({**s, 'epochs': s['epochs'] * 1.01}, i), 'sched.ema'),
    'smaller_field': ('largest', instead(lambda grid: grid - 2), 'draw.g14.sizes'),
    'last_places_too': ('positions_of', lambda f: lambda *args: f(*args) + 1, 'draw.g14.0.pred'),
    'sides_rounded_up': ('block_size', instead(rounded_up), 'draw.g16.sizes'),
    'one_number_for_both': ('sizes', instead(one_number), 'draw.wide.sizes'),
    'min_keep_is_enough': ('enough', instead(lambda patches, least: len(patches) >= least), 'draw.crowded.2.enc'),
    'patience': ('PATIENCE', constant(5), 'draw.crowded.0.enc'),
    'first_targets_ignored': ('context', lambda f: lambda size, t, c: f(size, t[::-1], c), 'draw.crowded.0.enc'),
    'cut_from_the_top': ('cut_to', instead(lambda sets, least: [x[-least:] for x in sets]), 'draw.g14.0.enc'),
}


def raw_values(decode):
    """Cues made of the latents after positions are added to them."""

    def changed(w, c, z_vis, visible, target, cues=True):
        queries, *rest = decode(w, c, z_vis, visible, target, cues)
        positions = w['decoder.pos_embed.pos_embeds'][None, 1:]
        asked, seen = (common.take(positions, index) for index in (target, visible))
        moved = latent_mim.nearness(asked, seen) @ seen if cues else 0
        return torch.cat([queries[:, :1], queries[:, 1:] + moved], 1), *rest

    return changed


def cross_attention_first(w, name, x, source, heads):
    own, other = (
        common.layer_norm(w, f'{name}.norm2{kind}', tokens, 1e-6) for kind, tokens in (('q', x), ('kv', source))
    )
    x = x + latent_mim.cross_attention(w, f'{name}.cross_attn', own, other, heads)
    x = x + common.self_attention(w, f'{name}.self_attn', common.layer_norm(w, f'{name}.norm1', x, 1e-6), heads)
    return x + common.mlp(w, f'{name}.mlp', common.layer_norm(w, f'{name}.norm3', x, 1e-6))


def all_seen(targets_of):
    def changed(w, c, patches, visible, target, full=False):
        normed, projected = targets_of(w, c, patches, visible, target, full=True)
        return normed[:, : 1 + target.shape[1]], projected

    return changed


def without_diagonal(x):
    n, pairs = x.shape[1], common.unit(x) @ common.unit(x).transpose(1, 2)
    return ((pairs.sum((1, 2)) - n) / max(n * (n - 1), 1)).mean()


def per_image(constrain):
    return lambda x, *args: torch.stack([constrain(tokens[None], *args) for tokens in x]).mean()


def average_after(train):
    """The teacher moves after the step that it should move before."""
    return lambda w, c, images, draws, momenta, gammas: train(w, c, images, draws, [1.0, *momenta[:-1]], gammas)


LATENT_MIM = {
    'offset_ignored': ('corner', lambda f: lambda i, offset, *size: f(i, 0, *size), 'patches_all'),
    'most_noise_is_visible': ('divide', lambda f: lambda noise, number: f(-noise, number), 'vis_idx'),
    'block_eps': ('BLOCK_EPS', constant(1e-4), 'enc_pre_norm'),
    'projector_eps': ('PROJECTOR_EPS', constant(1e-4), 'z_vis'),
    'gelu_after_the_projector': ('project', lambda f: lambda *args: common.gelu(f(*args)), 'z_trg'),
    'scale_of_cues': ('nearness', lambda f: lambda asked, seen: f(asked * 12**0.5, seen), 'dec_query_init'),
    'values_with_positions': ('decode', raw_values, 'dec_query_init'),
    'cross_attention_first': ('decoder_block', instead(cross_attention_first), 'dec_block0_out'),
    'targets_see_all': ('targets_of', all_seen, 'z_trg'),
    'not_standardised': ('standardise_predictions', instead(lambda p: p), 'loss_patch_disc'),
    'factor_of_the_paper': ('discriminate', lambda f: lambda *args, **kw: f(*args, **kw) / 2, 'loss_patch_disc'),
    'similarity_without_diagonal': ('similarity', instead(without_diagonal), 'avg_sim_trg'),
    'similarity_per_image': ('constrain', per_image, 'loss_sim_vis'),
    'average_after_the_step': ('train', average_after, 'traj/final_target_cls_token'),
    'momentum_swapped': ('average', other_momentum(lambda m: 1 - m), 'traj/final_target_cls_token'),
    'betas': ('BETAS', constant((0.5, 0.95)), 'traj/final_encoder_cls_token'),
    'token': ('is_decayed', decayed_where('token', False), 'traj/final_param_norm/decoder.mask_token'),
    'patch': ('is_decayed', decayed_where('embed.proj', True), 'traj/final_param_norm/encoder.embed.proj.weight'),
    'embed': ('is_decayed', decayed_where('decoder.embed', True), 'traj/final_param_norm/decoder.embed.weight'),
    'projector': ('is_decayed', decayed_where('head.norm', True), 'traj/final_param_norm/encoder.head.norm1.weight'),
    'warm_up_from_zero': ('rate', lambda f: lambda e: 2.4e-3 * e / 40 if e < 40 else f(e), 'sched/lr'),
    'momentum_schedule': ('momentum_at', lambda f: lambda p: f(p / 2), 'sched/momentum'),
    'similarity_schedule': ('gamma_at', lambda f: lambda p: f(1 - p), 'sched/sim_target'),
}


def colour_last(patch):
    return [(channel, y, x) for y in range(patch) for x in range(patch) for channel in range(3)]


def in_order_of_places(w, side, c, images, order, kept):
    """Positions of the places in the permuted sequence instead of those of the patches."""
    positions = w[f'{side}.pos_embedding'][:, 0]
    x = pilamim.located({**w, f'{side}.pos_embedding': 0 * w[f'{side}.pos_embedding']}, side, images, c['patch'])
    x = common.take(x, order[:, :kept]) + positions[:kept]
    x = torch.cat([w[f'{side}.cls_token'].expand(len(x), -1, -1), x], 1)
    x = pilamim.transformer(w, side, x, c['heads'])
    return x, common.layer_norm(w, f'{side}.layer_norm', x, 1e-5)


def normed(f):
    return lambda *args: F.layer_norm(out := f(*args), out.shape[-1:])


def average_before(train):
    """The teacher moves before the step that it should move after."""

    def changed(w, c, images, orders, target_orders, momenta, variant):
        common.average(w, float(momenta[0]))
        return train(w, c, images, orders, target_orders, [*momenta[1:], 1.0], variant)

    return changed


PILAMIM = {
    'colour_last': ('pixels_of', instead(colour_last), 'patch_pixels_order_check'),
    'rounded_number': ('number_kept', instead(lambda total, ratio: round(total * (1 - ratio))), 'z_vis'),
    'others_masked': ('hidden', lambda f: lambda *args: 1 - f(*args), 'mask_img'),
    'eps': ('EPS', constant(1e-4), 'enc_pre_norm'),
    'positions_of_places': ('encode', instead(in_order_of_places), 'z_vis'),
    'norm_at_the_end': ('decode', normed, 'pred_latent'),
    'normed_targets': ('targets_of', normed, 'target_full_shuffled'),
    'realised_ratio': ('divisor', instead(lambda mask, ratio: mask.mean()), 'aligned/loss_pixel'),
    'cls_summed': ('cls_loss', lambda f: lambda *args: 2 * f(*args), 'aligned/loss_cls'),
    'always_scrambled': ('variant_targets', instead(lambda name, shuffled, back: shuffled), 'aligned/target_latent'),
    'never_scrambled': (
        'variant_targets',
        instead(lambda name, shuffled, back: common.take(shuffled, back)),
        'traj/released/loss',
    ),
    'average_before_the_step': ('train', average_before, 'traj/released/final_target_cls'),
    'momentum_swapped': ('average', other_momentum(lambda m: 1 - m), 'traj/aligned/final_target_cls'),
    'betas': ('BETAS', constant((0.5, 0.95)), 'traj/aligned/final_param_norm/encoder.layer_norm.bias'),
    'biases': ('is_decayed', decayed_where('bias', False), 'traj/aligned/final_param_norm/decoder.head.bias'),
    'norms': ('is_decayed', decayed_where('norm', False), 'traj/aligned/final_param_norm/encoder.layer_norm.weight'),
    'tokens': ('is_decayed', decayed_where('token', False), 'traj/aligned/final_param_norm/target_decoder.mask_token'),
    'cosine_after_the_warm_up': ('factor', lambda f: lambda e, n, w: f(max(e - w, 0), n - w, 0), 'sched/lr'),
    'batch_norm_eps': ('BATCH_NORM_EPS', constant(1e-2), 'probe/logits_eval'),
    'batch_norm_momentum': ('BATCH_NORM_MOMENTUM', constant(0.2), 'probe/bn_running_mean'),
    'ordinary_first_step': ('first_buffer', instead(torch.zeros_like), 'lars/w'),
    'bias_without_ratio': ('trust_ratio', lambda f: lambda v, g: f(v, g) if v.ndim > 1 else 1.0, 'lars/b'),
    'ratio_of_zeros': ('trust_ratio', lambda f: lambda v, g: f(v, g) if v.any() else 0.0, 'lars/b'),
}


def values_without_bias(projections):
    def changed(w, name, q, kv):
        q, k, v = projections(w, name, q, kv)
        return q, k, v - w[f'{name}.v_bias']

    return changed


def tokens_alone(w, masked):
    return w['backbone.mask_token'].expand(*masked.shape, -1)


def half_turns(x, y):
    return torch.floor((torch.atan2(x, y) / np.pi + 1) / 2 * 8.999).long()


BEIT = {
    'proxies_of_before': ('source_of', instead(lambda a, b, m, n: torch.cat([a[:, :n], m], 1)), 'cross_kv/0'),
    'proxies_only': ('source_of', instead(lambda a, b, m, n: b[:, :n]), 'cross_out/0'),
    'source_not_normed': ('norm_source', instead(lambda w, name, kv: kv), 'cross_out/0'),
    'values_without_bias': ('projections', values_without_bias, 'self_out/0'),
    'no_layer_scale': ('scaled', instead(lambda w, name, x: x), 'self_out/0'),
    'eps': ('EPS', constant(1e-3), 'self_out/0'),
    'scale_of_attention': ('attention', lambda f: lambda q, k, heads: f(1.1 * q, k, heads), 'eval/attn_last'),
    'masks_without_positions': ('queries', instead(tokens_alone), 'baseline/feat_mask'),
    'masks_rounded_down': ('number_masked', lambda f: lambda c: f(c) - 1, 'mask'),
    'sum_of_images': ('cross_entropy', lambda f: lambda *args: 2 * f(*args), 'loss'),
    'no_rescaling': ('rescale', instead(lambda kind, index: 1.0), 'init/layers_proj_std'),
    'rescaled_from_zero': ('rescale', instead(lambda kind, i: (2 * i + 1) ** 0.5), 'init/extra_layers_proj_std'),
}
MASKFEAT = {
    'images_are_seen': ('source_of', instead(lambda a, b, m, n: torch.cat([b, m], 1)), 'cross_out/0'),
    'gelu': ('gelu', tanh_gelu, 'self_out/0'),
    'positions_one_off': ('cell_positions', lambda f: lambda w: f(w).roll(1, 0), 'mask_in'),
    'nine_bins_of_a_turn': ('direction', instead(half_turns), 'hog'),
    'axes_swapped': ('direction', lambda f: lambda x, y: f(y, x), 'hog'),
    'no_gaussian': ('gaussian', instead(lambda side: torch.ones(side, side)), 'hog'),
    'colours_together': ('unit', instead(lambda h: h / h.norm(dim=(1, 2), keepdim=True)), 'hog'),
    'absolute_error': ('squared_error', instead(lambda p, t: (p - t).abs().mean()), 'loss'),
}
MISTAKES = dict(zip(RUNS, (CAPI, IJEPA, LATENT_MIM, PILAMIM, BEIT, MASKFEAT), strict=True))


@pytest.mark.parametrize(('run', 'mistake'), [(run, mistake) for run in MISTAKES for mistake in MISTAKES[run]])
def test_a_recording_with_a_mistake_fails(run, mistake, replayed, monkeypatch, tmp_path):
    name, wrong, differs = MISTAKES[run][mistake]
    fixture, computed = replayed[run]
    RUNS[run].mistaken(monkeypatch, name, wrong)
    made = RUNS[run].whole(tmp_path) if differs.startswith('init/') else RUNS[run].remade(fixture)
    assert differs in {row.name for row in RUNS[run].method.rows(made, computed) if row.failed}


def test_a_recording_made_anew_does_not_fail(replayed):
    for name, (fixture, computed) in replayed.items():
        assert RUNS[name].failures(RUNS[name].remade(fixture), computed) == set()
