import numpy as np
import pytest
import torch

import mmmim
from mmmim.converters.capi import convert_checkpoint
from mmmim.utils import InputError
from tests.paths import FIXTURE, run_tool


def released(head=True):
    """A file in the layout of the authors' released weights."""
    with np.load(FIXTURE) as arrays:
        student = {k.removeprefix('sd.student.'): v for k, v in arrays.items() if k.startswith('sd.student.')}
        weights = {f'backbone.{key}': torch.from_numpy(value) for key, value in student.items()}
        if head:
            for key in ('weight_g', 'weight_v'):
                weights[f'head.last_layer.{key}'] = torch.from_numpy(arrays[f'sd.student_head.last_layer.{key}'])
    return weights


@pytest.mark.parametrize('head', [True, False])
def test_converted_weights_give_the_recorded_features(tmp_path, head):
    source, target = tmp_path / 'capi.pth', tmp_path / 'mmmim.pth'
    torch.save(released(head), source)
    result = run_tool('model_converters/capi_to_mmmim.py', source, target)
    assert result.returncode == 0, result.stderr
    assert '3 blocks x 48, patch 8, 8 registers' in result.stdout
    extractor = mmmim.get_model(target)
    with np.load(FIXTURE) as arrays:
        features = extractor(torch.from_numpy(arrays['images']))
        for ours, name in (
            (features.predicted, 'eval_global'),
            (features.extra[0], 'eval_registers'),
            (features.patches[0].unflatten(1, features.grid), 'eval_featmap'),
        ):
            np.testing.assert_allclose(ours.numpy(), arrays[name], atol=1e-5 * np.abs(arrays[name]).max())


def test_what_does_not_fit_is_refused_by_name():
    extra = released() | {'backbone.encoder.blocks.0.ls1.gamma': torch.ones(48)}
    with pytest.raises(InputError, match=r'backbone\.encoder\.blocks\.0\.ls1\.gamma'):
        convert_checkpoint(extra, 'file.pth')
    missing = released()
    del missing['backbone.decoder.blocks.0.residual2.fn.fc1.weight']
    with pytest.raises(InputError, match=r'blocks\.0\.mlp\.fc1\.weight'):
        convert_checkpoint(missing, 'file.pth')
    mis_shaped = released()
    mis_shaped['backbone.encoder.blocks.1.residual1.fn.proj.weight'] = torch.ones(48, 47)
    with pytest.raises(InputError, match=r'blocks\.1\.attn\.proj\.weight'):
        convert_checkpoint(mis_shaped, 'file.pth')
    no_predictor = {k: v for k, v in released().items() if 'decoder' not in k and 'mask_token' not in k}
    with pytest.raises(InputError, match=r'mask_token'):
        convert_checkpoint(no_predictor, 'file.pth')
    turned = released()
    turned['backbone.encoder.blocks.1.residual1.fn.rope.freqs'] = torch.ones(2, 12)
    with pytest.raises(InputError, match='rotary table of another layer'):
        convert_checkpoint(turned, 'file.pth')
    with pytest.raises(InputError, match='no flat table of tensors'):
        convert_checkpoint({'epoch': 3}, 'file.pth')


@pytest.mark.parametrize(
    'key', ['student.backbone.registers', 'student_ema.backbone.registers', 'teacher.head.layer.bias']
)
def test_a_shard_of_a_training_checkpoint_is_refused_with_an_explanation(tmp_path, key):
    source = tmp_path / 'rank_0.pth'
    torch.save({key: torch.zeros(3)}, source)
    result = run_tool('model_converters/capi_to_mmmim.py', source, tmp_path / 'out.pth')
    assert result.returncode == 2
    assert 'shard' in result.stderr
    assert 'Traceback' not in result.stderr
    assert not (tmp_path / 'out.pth').exists()
