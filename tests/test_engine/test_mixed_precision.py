"""bfloat16 and float16: what stays fp32, and the loss scale of float16."""

import sys

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

from mmmim.engine import DistributedDataParallel, OptimWrapper, Runner
from mmmim.models import PrototypeHead
from mmmim.models.functional import sinkhorn_knopp_
from mmmim.models.layers import norm
from mmmim.registry import MODELS
from tests.test_engine.toy_training import toy_config
from tests.toys import batch, capi_config

# The functions of the same names hide these modules in their package.
CLUSTERING = sys.modules['mmmim.models.functional.online_clustering']
CROSS_ENTROPY = sys.modules['mmmim.models.functional.cross_entropy']


def build():
    torch.manual_seed(0)
    model = MODELS.build(capi_config(micro_batch_size=4))
    model.init_weights()
    return model.train()


def wrapper_of(model, dtype, **options):
    parameters = [p for p in model.parameters() if p.requires_grad]
    return OptimWrapper(torch.optim.AdamW(parameters, lr=1e-3, fused=True), dtype, **options)


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
    expected = model.train_step(batch(8), wrapper_of(model, None))
    watch(CLUSTERING, 'sinkhorn_knopp_', 'sinkhorn')
    watch(CLUSTERING, '_cross_entropy_gradient_', 'clustering loss')
    watch(CROSS_ENTROPY.F, 'log_softmax', 'loss')
    watch(norm._RMSNorm, 'apply', 'norm')
    model = build()
    for layer in (model.backbone.blocks[0].mlp.fc1, model.teacher.backbone.blocks[0].mlp.fc1):
        layer.register_forward_hook(lambda module, args, out: half.append(out.dtype))
    wrapper = wrapper_of(model, dtype, loss_scale=256.0)
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


def test_sinkhorn_in_fp32_stands_logits_of_float16():
    """The exponent is shifted by 50: sums over the largest batches stay far below the largest fp32 number."""
    torch.manual_seed(0)
    logits = (torch.randn(2, 64, 256) * 10).half().float() / 0.06  # spread over hundreds
    assignments = sinkhorn_knopp_(logits.clone())
    assert torch.isfinite(assignments).all()
    torch.testing.assert_close(assignments.sum(dim=2), torch.ones(2, 64), rtol=1e-3, atol=1e-3)
    assert 16384 * 16384 * torch.tensor(50.0).exp() < torch.finfo(torch.float32).max


def test_the_head_normalises_float16_features_with_a_larger_eps():
    """1e-12 is zero in float16, and a feature of zeros would become NaN."""
    head = PrototypeHead(8, 16).half()
    features = torch.zeros(2, 8, dtype=torch.float16)
    features[1] = 6e-8  # the smallest number; its norm of 1.7e-7 is below eps
    with torch.no_grad():
        logits = head(features)
        assert torch.equal(logits[0], torch.zeros(16, dtype=torch.float16))
        assert torch.isfinite(logits).all()
        # Divided by 1e-6 instead of its norm, the second is no unit vector.
        unit = head(torch.ones(1, 8, dtype=torch.float16))
        assert 0.05 < logits[1].norm() / unit.norm() < 0.3


def test_float16_takes_the_steps_of_fp32_with_any_scale():
    """Gradients are unscaled before the norm is taken and before clipping."""
    results = []
    for options in (
        {'dtype': None},
        {'dtype': 'float16', 'loss_scale': 1.0},
        {'dtype': 'float16', 'loss_scale': 2.0**12},
    ):
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


def test_overflow_of_the_scale_alone_skips_and_recovers():
    model = build()
    wrapper = wrapper_of(model, 'float16', loss_scale=2.0**40)
    skipped = [model.train_step(batch(8), wrapper)['skipped'].item() for _ in range(40)]
    steps = skipped.index(0)
    assert 1 <= steps < 40
    assert not any(skipped[steps:])
    assert all(torch.isfinite(p).all() for p in model.parameters())


def scaled_worker(rank, folder):
    torch.set_num_threads(1)
    dist.init_process_group('gloo', init_method=f'file://{folder}/store', rank=rank, world_size=2)
    model = DistributedDataParallel(nn.Linear(2, 1))
    wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1, fused=True), 'float16', loss_scale=8.0)
    scales = []
    for step in range(3):
        wrapper.backward(model.module(torch.ones(1, 2)).sum())  # not synchronised: gradients of a rank's own
        if step == 0 and rank == 1:
            model.module.weight.grad.fill_(float('inf'))
        wrapper.step()
        wrapper.zero_grad()
        scales.append((wrapper.skipped.item(), wrapper.step_info['loss_scale'].item()))
    torch.save(scales, f'{folder}/{rank}.pth')
    dist.destroy_process_group()


def test_an_overflow_on_one_rank_skips_and_halves_on_all(tmp_path):
    mp.spawn(scaled_worker, (str(tmp_path),), nprocs=2)
    for rank in range(2):
        assert torch.load(tmp_path / f'{rank}.pth') == [(1.0, 8.0), (0.0, 4.0), (0.0, 4.0)]


def test_resuming_float16_is_exact(tmp_path):
    wrapper = dict(
        type='mmmim.OptimWrapper',
        optimizer=dict(type='mmengine.AdamW', lr=0.01, fused=True),
        dtype='float16',
        loss_scale=4.0,
        growth_interval=3,
    )
    runners = []
    for name, resumed in (('whole', None), ('rest', str(tmp_path / 'whole' / 'iter_10.pth'))):
        cfg = toy_config(tmp_path / name, resume=resumed is not None, load_from=resumed)
        cfg.optim_wrapper = wrapper
        cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
        runners.append(Runner.from_cfg(cfg))
        runners[-1].train()
    one, other = runners
    states = [runner.optim_wrapper.state_dict()['loss_scaler'] for runner in runners]
    assert states[0] == states[1]
    assert (states[0]['scale'], states[0]['_growth_tracker']) == (4.0 * 2**6, 2)  # doubled by 18 of 20 steps
    for key, value in one.model.state_dict().items():
        assert torch.equal(value, other.model.state_dict()[key]), key


def test_a_checkpoint_of_another_precision_can_be_resumed():
    model = build()
    wrappers = {dtype: wrapper_of(model, dtype, loss_scale=256.0) for dtype in (None, 'float16')}
    for one, other in ((None, 'float16'), ('float16', None)):
        model.train_step(batch(4), wrappers[one])
        wrappers[other].load_state_dict(wrappers[one].state_dict())
        assert len(wrappers[other].optimizer.state) == len(wrappers[one].optimizer.state)
    assert wrappers['float16'].scaler.get_scale() == 256
