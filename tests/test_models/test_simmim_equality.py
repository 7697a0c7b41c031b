"""SimMIM's masks, decoder and loss are mmpretrain's, whose encoder is a Swin Transformer."""

import pytest
import torch

from mmmim.datasets.masking import UniformMasking
from mmmim.models import PickPredicted, PixelTarget, RegressionHead
from mmmim.registry import MODELS
from mmmim.structures import Context
from tests.toys import generator


@pytest.mark.parametrize(('grid', 'patch', 'unit', 'ratio'), [((4, 4), 8, 2, 0.6), ((6, 9), 4, 3, 0.5)])
def test_predictions_loss_and_gradients(grid, patch, unit, ratio):
    torch.manual_seed(0)
    images, width, dim = 3, 3 * patch**2, 10
    decoder = MODELS.build(dict(type='mmpretrain.SimMIMLinearDecoder', in_channels=dim, encoder_stride=patch))
    loss = dict(type='mmpretrain.PixelReconstructionLoss', criterion='L1', channel=3)
    head = MODELS.build(dict(type='mmpretrain.SimMIMHead', _scope_='mmpretrain', patch_size=patch, loss=loss))
    neck, target, ours = PickPredicted(dim, width), PixelTarget(patch, normalize=False), RegressionHead('l1')
    # Rows of theirs are colour, row and column; ours have the colour last.
    order = torch.arange(width).view(3, -1).T.flatten()
    weight, bias = decoder.decoder[0].weight, decoder.decoder[0].bias
    with torch.no_grad():
        neck.proj.weight.copy_(weight.flatten(1)[order])
        neck.proj.bias.copy_(bias[order])

    pixels = torch.randn(images, 3, grid[0] * patch, grid[1] * patch)
    mask = UniformMasking(mask_ratio=ratio, unit=unit)(images, grid, generator())
    tokens = torch.randn(images, grid[0] * grid[1], dim, requires_grad=True)
    theirs = decoder(tokens.transpose(1, 2).unflatten(2, grid))
    hidden = torch.zeros(images, grid[0] * grid[1]).scatter_(1, mask.flat_predict(), 1.0).view(-1, *grid)
    their_loss = head.loss(theirs, pixels, hidden)

    context = Context(tokens, tokens[:, :0], grid, positions=lambda index: index)
    prediction, wanted = neck(context, mask), target(pixels, mask, None, None)
    found = ours.loss(prediction, wanted, context)['loss']
    every = mask.of_all.visible.unsqueeze(1)
    whole = neck(context, type(mask)(mask.visible, every, mask.image_index, grid)).patches
    torch.testing.assert_close(target.images(whole, grid), theirs)
    torch.testing.assert_close(found, their_loss)

    expected = torch.autograd.grad(their_loss, [tokens, weight, bias])
    gradients = torch.autograd.grad(found, [tokens, neck.proj.weight, neck.proj.bias])
    expected = (expected[0], expected[1].flatten(1)[order], expected[2][order])
    for one, other in zip(gradients, expected, strict=True):
        torch.testing.assert_close(one, other)
