"""What only a GPU shows."""

import pytest
import torch

from mmmim.engine import OptimWrapper
from mmmim.registry import MODELS
from tests.toys import batch, capi_config

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device')


def on_gpu(dtype=None, **options):
    torch.manual_seed(0)
    model = MODELS.build(capi_config(**options))
    model.init_weights()
    model = model.cuda().train()
    parameters = [p for p in model.parameters() if p.requires_grad]
    return model, OptimWrapper(torch.optim.AdamW(parameters, lr=1e-3, fused=True), dtype)


@pytest.mark.parametrize('dtype', [None, 'bfloat16'])
def test_the_step_never_waits_for_the_device(dtype):
    model, wrapper = on_gpu(dtype, micro_batch_size=4)
    model.backbone.blocks[0].drop_path = 0.5
    data = batch(8)
    data = {'inputs': data['inputs'].cuda(), 'mask': data['mask'].to('cuda')}
    model.train_step(data, wrapper)  # lazy initialisation may wait
    model.teacher.update(model, 0.9, wrapper.skipped)
    torch.cuda.set_sync_debug_mode('error')
    try:
        model.train_step(data, wrapper)
        model.teacher.update(model, 0.9, wrapper.skipped)
    finally:
        torch.cuda.set_sync_debug_mode('default')


def test_the_gpu_takes_the_steps_of_the_cpu():
    model, wrapper = on_gpu()
    torch.manual_seed(0)
    reference = MODELS.build(capi_config())
    reference.init_weights()
    plain = OptimWrapper(torch.optim.AdamW([p for p in reference.parameters() if p.requires_grad], lr=1e-3, fused=True))
    for step in range(3):
        losses = model.train_step(batch(8, seed=step), wrapper)
        expected = reference.train().train_step(batch(8, seed=step), plain)
        torch.testing.assert_close(losses['loss'].cpu(), expected['loss'], rtol=1e-4, atol=1e-5)
