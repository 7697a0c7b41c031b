import numpy as np
import pytest
import torch

import mmmim
from mmmim.converters.capi import convert_checkpoint
from mmmim.utils import InputError
from tests.test_converters.samples import capi, recorded


@pytest.mark.parametrize('head', [True, False])
def test_converted_weights_give_the_recorded_features(head, tmp_path):
    torch.save(convert_checkpoint(capi(head), 'file.pth'), tmp_path / 'mmmim.pth')
    arrays = recorded('capi')
    features = mmmim.get_model(tmp_path / 'mmmim.pth')(torch.from_numpy(arrays['images']))
    for ours, name in (
        (features.predicted, 'eval_global'),
        (features.extra[0], 'eval_registers'),
        (features.patches[0].unflatten(1, features.grid), 'eval_featmap'),
    ):
        np.testing.assert_allclose(ours.numpy(), arrays[name], atol=1e-5 * np.abs(arrays[name]).max())


def test_what_does_not_fit_is_refused_by_name():
    weights = capi()
    no_predictor = {k: v for k, v in weights.items() if 'decoder' not in k and 'mask_token' not in k}
    no_layer = {k: v for k, v in weights.items() if k != 'backbone.decoder.blocks.0.residual2.fn.fc1.weight'}
    narrow = {'backbone.encoder.blocks.1.residual1.fn.proj.weight': torch.ones(48, 47)}
    turned = {'backbone.encoder.blocks.1.residual1.fn.rope.freqs': torch.ones(2, 12)}
    for message, file in (
        (r'blocks\.0\.mlp\.fc1\.weight', no_layer),
        (r'blocks\.1\.attn\.proj\.weight', weights | narrow),
        (r'lack .*mask_token.*: not a CAPI encoder with predictor', no_predictor),
        ('rotary table of another layer', weights | turned),
    ):
        with pytest.raises(InputError, match=message):
            convert_checkpoint(file, 'file.pth')


def test_a_model_without_registers():
    weights = capi() | {'backbone.registers': torch.empty(1, 0, 48)}
    assert convert_checkpoint(weights, 'file.pth')['mmmim']['model']['backbone']['num_registers'] == 0
