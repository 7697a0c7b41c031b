"""Tests of the parts and of the config: what they compute, and that every parameter learns."""

import math
import sys
from pathlib import Path

import pytest
import torch

from mmmim.config.read import load_config
from mmmim.registry import MASKINGS, MODELS
from mmmim.structures import Prediction, Target
from mmmim.utils import InputError

PACKAGE = 'projects.example_project'
# The folder in which Python finds the package.
sys.path.insert(0, str(Path(__file__).resolve().parents[PACKAGE.count('.') + 1]))
CONFIG = load_config(str(Path(__file__).parent / 'configs/small.py'))  # imports the modules


def masking(rows):
    return MASKINGS.build(dict(type='mmmim.RowMasking', visible_rows=rows))


def test_rows_are_whole_and_drawn_uniformly():
    grid, rng = (5, 3), torch.Generator().manual_seed(0)
    mask = masking(2)(2000, grid, rng)
    assert (mask.visible.shape, mask.predict.shape, mask.grid) == ((2000, 6), (2000, 1, 9), grid)
    assert torch.equal(mask.image_index, torch.arange(2000))
    everything = torch.cat([mask.visible, mask.flat_predict()], dim=1)
    assert torch.equal(everything.sort(dim=1).values, torch.arange(15).expand(2000, -1))
    rows = mask.visible.view(2000, 2, 3) // 3
    assert (rows == rows[..., :1]).all()
    assert (rows[:, 0] < rows[:, 1]).all()
    # Five standard deviations of a share of 0.4.
    shares = rows[..., 0].flatten().bincount(minlength=5) / 2000
    assert (shares - 0.4).abs().max() < 5 * math.sqrt(0.4 * 0.6 / 2000)
    again = masking(2)(2000, grid, torch.Generator().manual_seed(0))
    assert torch.equal(mask.visible, again.visible)


@pytest.mark.parametrize('rows', [0, 5])
def test_rows_that_leave_nothing_are_refused(rows):
    with pytest.raises(InputError, match=f'visible_rows={rows}: must be from 1 to 4'):
        masking(rows)(1, (5, 3), torch.Generator())


def test_cosine_distance():
    head = MODELS.build(dict(type='mmmim.CosineHead', weight=0.5))
    target = torch.tensor([[[1.0, 0.0], [0.0, 2.0], [3.0, 0.0]]])
    predicted = torch.tensor([[[5.0, 0.0], [1.0, 1.0], [-1.0, 0.0]]], dtype=torch.bfloat16, requires_grad=True)
    (loss,) = head.loss(Prediction(predicted), Target(target), None).values()
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(0.5 * (0 + (1 - math.sqrt(0.5)) + 2) / 3)
    loss.backward()
    assert predicted.grad[0, 1].abs().sum() > 0


def test_every_parameter_of_the_config_learns():
    torch.manual_seed(0)
    model = MODELS.build(CONFIG.model)
    model.init_weights()
    backbone = model.backbone
    size = [side * backbone.patch_size for side in backbone.grid]
    images = torch.randn(4, backbone.in_channels, *size)
    mask = MASKINGS.build(CONFIG.masking)(4, backbone.grid, torch.Generator().manual_seed(0))
    losses = model.loss(images, mask, model.targets(images, mask))
    sum(losses.values()).backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name
