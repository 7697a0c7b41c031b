"""Recordings of a wrong implementation: a function or constant of a reference is replaced, and mmmim must differ.

The mistakes are those that are easy to make and small in their effect, which the tolerances have to tell apart.
"""

import pytest
import torch.nn.functional as F

from tests import reference_common as common
from tests.reference_recordings import RUNS


@pytest.fixture(scope='module')
def replayed(tmp_path_factory):
    """A small recording of each kind, and what mmmim makes of it."""
    made = {}
    for name, run in RUNS.items():
        fixture = run.record(tmp_path_factory.mktemp(name))
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
        ('NORM_EPS', as_(1e-6), 'eval_registers'),
        ('sinkhorn_knopp', lambda f: lambda x: f(x, iterations=2), 'targets'),
        ('average', momentum(lambda m: 0.9), f'{FINAL}.teacher.mask_token'),
        ('factors', factor('patch_embed.bias', 1, 1.0), f'{FINAL}.student.patch_embed.bias'),
        ('factors', factor('mask_token', 1, 0.0), f'{FINAL}.student.mask_token'),
        ('clustering_decay', as_(lambda name, o: 0.5 * ('bias' not in name)), f'{FINAL}.clustering.layer.bias'),
    ],
    'ijepa': [
        ('gelu', as_(tanh_gelu), 'target_full'),
        ('is_decayed', decayed('norm', True), f'{FINAL}.encoder.norm.weight'),
    ],
    'latent_mim': [
        ('PROJECTOR_EPS', as_(1e-4), 'z_vis'),
        ('nearness', lambda f: lambda asked, seen: f(asked * 12**0.5, seen), 'dec_query_init'),
        ('standardise_predictions', as_(lambda p: p), 'loss_patch_disc'),
        ('train', lambda f: lambda *a: f(*a[:4], [1.0, *a[4][:-1]], a[5]), 'traj/final_target_cls_token'),
        ('is_decayed', decayed('decoder.embed.weight', True), f'{PARAM}/decoder.embed.weight'),
        ('is_decayed', decayed('head.norm', True), f'{PARAM}/encoder.head.norm1.weight'),
    ],
    'pilamim': [
        ('EPS', as_(1e-4), 'enc_pre_norm'),
        ('divisor', as_(lambda mask, ratio: mask.mean()), 'released/loss_latent'),
        ('train', average_before, 'traj/released/final_target_cls'),
        ('is_decayed', decayed('bias', False), 'traj/aligned/final_param_norm/decoder.head.bias'),
    ],
    'semantic_mim_beit': [
        ('norm_source', as_(lambda w, name, kv: kv), 'cross_out/0'),
        ('EPS', as_(1e-3), 'self_out/0'),
    ],
    'semantic_mim_maskfeat': [
        ('unit', as_(lambda h: h / h.norm(dim=(1, 2), keepdim=True)), 'hog'),
    ],
}


@pytest.mark.parametrize(('run', 'name', 'wrong', 'differs'), [(run, *case) for run in RUNS for case in MISTAKES[run]])
def test_a_recording_with_a_mistake_fails(run, name, wrong, differs, replayed, monkeypatch):
    fixture, computed = replayed[run]
    RUNS[run].mistaken(monkeypatch, name, wrong)
    made = RUNS[run].remade(fixture)
    assert differs in {row.name for row in RUNS[run].method.rows(made, computed) if row.failed}


def test_a_recording_made_anew_does_not_fail(replayed):
    for name, (fixture, computed) in replayed.items():
        assert RUNS[name].failures(RUNS[name].remade(fixture), computed) == set()
