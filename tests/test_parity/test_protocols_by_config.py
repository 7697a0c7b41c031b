"""Recorded probes, trained by the configs of their protocols: models, optimisers and schedules as they are run."""

import numpy as np
import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmpretrain.structures import DataSample
from torch import nn

from mmmim.features.names import FeatureName
from mmmim.parity import Fixture
from mmmim.registry import MODELS, PARAM_SCHEDULERS
from tests.classification import load
from tests.paths import ROOT


@MODELS.register_module(force=True)
class RecordedFeatures(nn.Module):
    """In the place of an encoder: images are features, the global one first, padded to the width of the patches."""

    def __init__(self, out_type, dim, global_dim):
        super().__init__()
        self.features = [FeatureName.of(name) for name in out_type]
        self.feature_dims = tuple(sum(global_dim if p.name == 'cls' else dim for p in f.parts) for f in self.features)
        self.out_indices, self.global_dim = (0,), global_dim

    def forward(self, tokens):
        one, patches = tokens[:, 0, : self.global_dim], tokens[:, 1:]
        found = {'cls': one, 'pooled': patches.mean(dim=1), 'patches': patches}
        found['cls+pooled'] = torch.cat([one, found['pooled']], dim=1)
        return tuple(found[feature.text] for feature in self.features)


class Training:
    """A training by a config of configs/eval, whose encoder and images are recorded.

    Args:
        name: Name of the config.
        fixture: The recording.
        total: Iterations of the whole schedule.
        optimizer: Changes of the optimiser.
        schedule: Changes of the schedule.
        dims: Width of the patches, and of the global feature.
        model: Changes of the model.
    """

    def __init__(self, name, fixture, total, optimizer, schedule, dims, model):
        cfg = load(name)
        cfg.model.backbone = {'type': 'RecordedFeatures', 'dim': dims[0], 'global_dim': dims[1]}
        cfg.model.data_preprocessor = {'type': 'mmengine.BaseDataPreprocessor'}
        cfg.model.head.num_classes = fixture.settings['settings']['classes']
        cfg.merge_from_dict({'model': model, 'optim_wrapper': {'optimizer': optimizer}})
        cfg.param_scheduler.schedule.update(schedule)
        self.model = MODELS.build(cfg.model).train()
        self.optim = build_optim_wrapper(self.model, cfg.optim_wrapper)
        given = {'optimizer': self.optim.optimizer, 'end': total}
        self.schedule = PARAM_SCHEDULERS.build(cfg.param_scheduler, default_args=given)

    def step(self, tokens, labels):
        """Loss and rate of a step."""
        rate = self.optim.optimizer.param_groups[0]['lr']
        logs = self.model.train_step(batch(tokens, labels), self.optim)
        self.schedule.step()
        return logs['loss'].item(), rate


def batch(tokens, labels):
    return {
        'inputs': torch.from_numpy(tokens),
        'data_samples': [DataSample().set_gt_label(int(label)) for label in labels],
    }


def close(value, expected, tolerance):
    value = value.detach().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)
    assert value.shape == expected.shape
    assert np.abs(value - expected).max() <= tolerance * np.abs(expected).max()


def vectors(x):
    """Features ``[steps, B, D]`` as tokens, the global feature alone."""
    return x[:, :, None]


LARS = {
    'mae_linprobe_lars': ('cls_linear_mae', {'wd0': 0.0, 'wd5e-4': 5e-4}),
    'pilamim_linprobe_lars': ('cls_linear_pilamim', {'bias': 0.0, 'zerobias': 0.0}),
}


@pytest.mark.parametrize(('name', 'variant'), [(name, variant) for name, (_, each) in LARS.items() for variant in each])
def test_linear_probes_by_lars(name, variant):
    fixture = Fixture.load(ROOT / f'tests/data/{name}.npz')
    arrays, settings, (config, decays) = fixture.arrays, fixture.settings['settings'], LARS[name]
    epochs = settings.get('epochs', settings.get('total_epochs'))
    if config == 'cls_linear_mae':
        schedule = {'warmup_ratio': settings['warmup_epochs'] / epochs}
    else:
        schedule = {'epochs': epochs, 'warmup_epochs': settings['warmup_epochs']}
    optimizer = {'lr': settings['lr'], 'weight_decay': decays[variant]}
    total, dims = epochs * settings['iterations_per_epoch'], (settings['dim'],) * 2
    training = Training(config, fixture, total, optimizer, schedule, dims, {})
    probe = training.model.head.probes['cls']
    bias = np.zeros_like(arrays['init.bias']) if variant == 'zerobias' else arrays['init.bias']
    weights = {'weight': arrays['init.weight'], 'bias': bias}
    probe.linear.load_state_dict({key: torch.from_numpy(value) for key, value in weights.items()})
    tokens, steps = vectors(arrays['in.x']), len(arrays['out.lr'])
    logs = [training.step(tokens[i], arrays['in.labels'][i]) for i in range(steps)]
    tolerance = fixture.settings['tolerance']['value']
    close([rate for _, rate in logs], arrays['out.lr'], 1e-12)
    names = {'weight': probe.linear.weight, 'linbias': probe.linear.bias, 'bias': probe.linear.bias}
    names |= {'bn_mean': probe.norm.running_mean, 'bn_var': probe.norm.running_var, 'loss': [loss for loss, _ in logs]}
    with torch.no_grad():
        names['eval_logits'] = training.model.eval()(torch.from_numpy(tokens[-1]))[:, 0]
    compared = {key: value for key, value in names.items() if f'out.{variant}.{key}' in arrays}
    assert len(compared) >= 4
    for key, value in compared.items():
        close(value, arrays[f'out.{variant}.{key}'], tolerance)


def test_sweep_of_capi():
    fixture = Fixture.load(ROOT / 'tests/data/capi_probe.npz')
    arrays, settings = fixture.arrays, fixture.settings['settings']
    patches = arrays['in.featmap'].reshape(*arrays['in.labels'].shape, -1, arrays['in.featmap'].shape[-1])
    width = arrays['in.global'].shape[-1]
    one = np.pad(arrays['in.global'], ((0, 0), (0, 0), (0, patches.shape[-1] - width)))
    tokens = np.concatenate([one[:, :, None], patches], axis=2)
    head = {'rates': settings['learning_rates'], 'decays': settings['weight_decays']}
    training = Training(
        'cls_sweep',
        fixture,
        settings['n_iters'],
        {'lr': settings['batch'] * settings['world_size'] / 256},
        {'warmup_ratio': settings['warmup_iters'] / settings['n_iters']},
        (patches.shape[-1], width),
        {'head': head},
    )
    for source, probe in training.model.head.probes.items():
        for name, parameter in probe.named_parameters():
            kept = f'linear.{name}' if name in ('weight', 'bias') else name
            parameter.data.copy_(torch.from_numpy(arrays[f'init.{source}.{kept}']))
    logs = [training.step(tokens[i], arrays['in.labels'][i]) for i in range(settings['steps_run'])]
    close([loss for loss, _ in logs], arrays['out.loss'], 1e-5)
    base = settings['batch'] / 256
    close([rate / base for _, rate in logs], arrays['sched.all'][: settings['steps_run']], 1e-12)
    with torch.no_grad():
        logits = training.model.eval()(torch.from_numpy(tokens[settings['steps_run']]))
    close(logits.transpose(1, 2), arrays['out.logits_after'], 1e-5)
    assert [setting['lr'] for setting in training.model.head.settings] == pytest.approx(arrays['heads.lr'].tolist())
    assert [setting['weight_decay'] for setting in training.model.head.settings] == arrays['heads.wd'].tolist()


def test_the_lars_of_timm_is_not_that_of_the_recording():
    """With its adaptation biases are scaled as well, without it weights are not: only the weights of one agree."""
    lars = pytest.importorskip('timm.optim.lars').Lars
    arrays = Fixture.load(ROOT / 'tests/data/mae_linprobe_lars.npz').arrays
    agree = {}
    for adapt in (True, False):
        linear, norm = nn.Linear(24, 7), nn.BatchNorm1d(24, eps=1e-6, affine=False)
        for name, parameter in linear.named_parameters():
            parameter.data = torch.from_numpy(arrays[f'init.{name}'].copy())
        optimizer = lars(linear.parameters(), lr=1.0, momentum=0.9, trust_coeff=1e-3, always_adapt=adapt)
        for i, rate in enumerate(arrays['out.lr'].tolist()):
            optimizer.param_groups[0]['lr'] = rate
            optimizer.zero_grad()
            logits = linear(norm(torch.from_numpy(arrays['in.x'][i])))
            nn.functional.cross_entropy(logits, torch.from_numpy(arrays['in.labels'][i])).backward()
            optimizer.step()
        for name, parameter in linear.named_parameters():
            error = np.abs(parameter.detach().numpy() - arrays[f'out.wd0.{name}']).max()
            agree[adapt, name] = error <= 1e-2 * np.abs(arrays[f'out.wd0.{name}']).max()
    assert not agree[True, 'bias']
    assert not agree[False, 'weight']
