"""bfloat16 and float16: what stays fp32, and the loss scale of float16."""

import sys

import pytest
import torch
from torch import nn

from mmmim.engine import OptimWrapper
from mmmim.models import PrototypeHead
from mmmim.models.layers import norm
from mmmim.registry import MODELS
from tests.runs import assert_same, start
from tests.test_engine.toy_training import toy_config
from tests.toys import batch, capi_config, optim_wrapper

# The functions of the same names hide these modules in their package.
CLUSTERING = sys.modules['mmmim.models.functional.online_clustering']
CROSS_ENTROPY = sys.modules['mmmim.models.functional.cross_entropy']


def build():
    torch.manual_seed(0)
    model = MODELS.build(capi_config(micro_batch_size=4))
    model.init_weights()
    return model.train()


@pytest.mark.parametrize(('dtype', 'tolerance'), [('bfloat16', 3e-2), ('float16', 5e-3)])
def test_losses_sinkhorn_and_norms_are_fp32_and_near_those_of_fp32(dtype, tolerance, monkeypatch):
    entered, half = {}, []

    def watch(owner, name, key, argument=0):
        function = getattr(owner, name)

        def watched(*args, **kwargs):
            entered.setdefault(key, set()).add(args[argument].dtype)
            return function(*args, **kwargs)

        monkeypatch.setattr(owner, name, watched)

    model = build()
    expected = model.train_step(batch(8), optim_wrapper(model))
    watch(CLUSTERING, 'sinkhorn_knopp_', 'sinkhorn')
    watch(CLUSTERING, 'cross_entropy_gradient_', 'clustering loss')
    watch(CROSS_ENTROPY, 'cross_entropy_gradient_', 'loss')
    watch(norm._RMSNorm, 'apply', 'norm')
    model = build()
    for layer in (model.backbone.blocks[0].mlp.fc1, model.teacher.backbone.blocks[0].mlp.fc1):
        layer.register_forward_hook(lambda module, args, out: half.append(out.dtype))
    wrapper = optim_wrapper(model, dtype=dtype, loss_scale=256.0)
    losses = model.train_step(batch(8), wrapper)
    assert entered == {key: {torch.float32} for key in ('sinkhorn', 'clustering loss', 'loss', 'norm')}
    assert set(half) == {getattr(torch, dtype)}  # or nothing was tested
    assert losses['skipped'] == 0
    # For the log; a tensor, like every value of a step.
    assert losses.get('loss_scale') == (256 if dtype == 'float16' else None)
    for key in ('loss_capi', 'loss_capi_clustering'):
        torch.testing.assert_close(losses[key], expected[key], rtol=tolerance, atol=0)
    # Temperatures multiply the rounding of logits by up to 17 in the gradient of the clustering.
    torch.testing.assert_close(losses['grad_norm'], expected['grad_norm'], rtol=0.15, atol=0)
    assert all(p.dtype == torch.float32 for p in model.parameters())
    assert all(v.dtype == torch.float32 for s in wrapper.optimizer.state.values() for v in s.values())


def test_the_head_normalises_float16_features_with_a_larger_eps():
    """1e-12 is zero in float16, and a feature of zeros would become NaN."""
    head, features = PrototypeHead(8, 16).half(), torch.zeros(3, 8, dtype=torch.float16)
    features[1:] = torch.tensor([[6e-8], [1.0]])  # the smallest number; its norm of 1.7e-7 is below eps
    with torch.no_grad():
        zeros, tiny, ones = head(features)
    assert zeros.eq(0).all()
    assert 0.05 < tiny.norm() / ones.norm() < 0.3  # divided by 1e-6 instead of its norm, it is no unit vector


def test_float16_takes_the_steps_of_fp32_with_any_scale():
    """Gradients are unscaled before the norm is taken and before clipping."""
    results = []
    for options in ({'dtype': None}, *({'dtype': 'float16', 'loss_scale': scale} for scale in (1.0, 2.0**12))):
        parameter = nn.Parameter(torch.tensor([1.0, 2.0]))
        wrapper = OptimWrapper(torch.optim.SGD([parameter], lr=0.1, fused=True), clip_norm=1.0, **options)
        for part in (1.0, 3.0):  # two micro-batches
            wrapper.backward(part * (parameter * torch.tensor([3.0, 4.0])).sum())
        wrapper.step()
        results.append((wrapper.step_info['grad_norm'], wrapper.skipped, parameter.detach()))
    assert results[0][0] == 20
    for other in results[1:]:
        torch.testing.assert_close(other, results[0])


def test_the_scale_halves_with_a_skipped_step_and_doubles_after_an_interval():
    parameter = nn.Parameter(torch.ones(2))
    wrapper = OptimWrapper(torch.optim.AdamW([parameter], fused=True), 'float16', loss_scale=1024.0, growth_interval=2)
    scales, skipped = [], []
    for factor in (1.0, float('inf'), 1.0, 1.0, float('nan'), 1.0):
        before = parameter.detach().clone()
        wrapper.backward((parameter * factor).sum())
        wrapper.step()
        wrapper.zero_grad()
        scales.append(wrapper.step_info['loss_scale'].item())
        skipped.append(wrapper.step_info['skipped'].item())
        assert torch.equal(parameter, before) == bool(skipped[-1])
    assert skipped == [0, 1, 0, 0, 1, 0]
    assert scales == [1024, 1024, 512, 512, 1024, 512]


def test_resuming_float16_is_exact(tmp_path):
    optimizer = dict(type='mmengine.AdamW', lr=0.01, fused=True)
    wrapper = dict(type='mmmim.OptimWrapper', optimizer=optimizer, dtype='float16', loss_scale=4.0, growth_interval=3)
    ends = []
    for name, load_from in (('whole', None), ('rest', str(tmp_path / 'whole/iter_10.pth'))):
        cfg = toy_config(tmp_path / name, resume=load_from is not None, load_from=load_from)
        cfg.optim_wrapper = wrapper
        cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
        runner = start(cfg)
        ends.append((runner.optim_wrapper.state_dict()['loss_scaler'], runner.model.state_dict()))
    assert_same(*ends)
    scaler = ends[0][0]
    assert (scaler['scale'], scaler['_growth_tracker']) == (4.0 * 2**6, 2)  # doubled by 18 of 20 steps


def test_a_checkpoint_of_another_precision_can_be_resumed():
    model = build()
    wrappers = {dtype: optim_wrapper(model, dtype=dtype, loss_scale=256.0) for dtype in (None, 'float16')}
    for one, other in ((None, 'float16'), ('float16', None)):
        model.train_step(batch(4), wrappers[one])
        wrappers[other].load_state_dict(wrappers[one].state_dict())
        assert len(wrappers[other].optimizer.state) == len(wrappers[one].optimizer.state)
    assert wrappers['float16'].scaler.get_scale() == 256
