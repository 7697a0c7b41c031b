"""SimMIM is mmpretrain's, whose encoder is a Swin Transformer: tokens, predictions, loss, gradients and steps."""

import pytest
import torch

from mmmim.converters.simmim import LAYOUT, convert_checkpoint
from mmmim.datasets.masking import UniformMasking
from mmmim.models import PickPredicted, PixelTarget, RegressionHead
from mmmim.registry import MODELS
from mmmim.structures import Context
from tests.registered import scrambled
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


ARCH = dict(embed_dims=8, depths=[1, 2, 2], num_heads=[1, 2, 2])
WINDOW, SIDE, STRIDE = 3, 48, 16  # 12, 6 and 3 tokens along a side in three stages


def theirs_and_ours():
    """mmpretrain's model with random weights everywhere, and ours with the same."""
    torch.manual_seed(0)
    loss = dict(type='PixelReconstructionLoss', criterion='L1', channel=3)
    windows = dict(block_cfgs=dict(window_size=WINDOW))
    theirs = scrambled(
        MODELS.build(
            dict(
                type='mmpretrain.SimMIM',
                _scope_='mmpretrain',
                backbone=dict(
                    type='SimMIMSwinTransformer',
                    arch=ARCH,
                    img_size=SIDE,
                    stage_cfgs=windows,
                    out_indices=(2,),
                    drop_path_rate=0.0,
                ),
                neck=dict(type='SimMIMLinearDecoder', in_channels=32, encoder_stride=STRIDE),
                head=dict(type='SimMIMHead', patch_size=4, loss=loss),
            )
        ),
        std=0.1,
    )
    converted = convert_checkpoint({'state_dict': dict(theirs.state_dict())}, 'mmpretrain')
    preprocessor = {'type': 'mmmim.MIMDataPreprocessor', 'mean': [0.0] * 3, 'std': [1.0] * 3, 'bgr_to_rgb': False}
    config = converted['mmmim']['model']
    config['backbone'].update(mean=preprocessor['mean'], std=preprocessor['std'])
    ours = MODELS.build({**config, 'data_preprocessor': preprocessor})
    ours.load_state_dict(converted['state_dict'])
    return theirs.train(), ours.train()


def batch(seed):
    """Images, our masks and theirs, which are of tokens of the stem."""
    images = torch.randn(2, 3, SIDE, SIDE, generator=generator(seed))
    mask = UniformMasking(num_visible=3)(2, (3, 3), generator(seed))
    hidden = torch.zeros(2, 9).scatter_(1, mask.flat_predict(), 1.0).view(2, 3, 3)
    return images, mask, hidden.repeat_interleave(4, 1).repeat_interleave(4, 2)


def their_loss_of(theirs, images, hidden):
    (latent,) = theirs.backbone(images, hidden)
    return theirs.head.loss(theirs.neck(latent), images, hidden)


def under_our_names(table):
    return LAYOUT.convert({key: value for key, value in table.items() if 'position_index' not in key})


def test_the_whole_with_a_swin_transformer():
    theirs, ours = theirs_and_ours()
    images, mask, hidden = batch(0)
    (latent,) = theirs.backbone(images, hidden)
    context = ours.backbone(images, mask)
    torch.testing.assert_close(context.visible, latent.flatten(2).transpose(1, 2))
    (plain,) = theirs.backbone(images, None)
    assert torch.equal(ours.backbone(images).visible, plain.flatten(2).transpose(1, 2))
    assert not torch.allclose(plain, latent, atol=1e-2)

    their_loss = their_loss_of(theirs, images, hidden)
    loss = ours.loss(images, mask, ours.targets(images, mask))['loss_pixels']
    torch.testing.assert_close(loss, their_loss)
    their_loss.backward()
    loss.backward()
    expected = under_our_names({key: p.grad for key, p in theirs.named_parameters()})
    assert expected.keys() == dict(ours.named_parameters()).keys()
    for key, parameter in ours.named_parameters():
        torch.testing.assert_close(
            parameter.grad, expected[key], rtol=1e-4, atol=1e-6, msg=lambda m, k=key: f'{k}: {m}'
        )


def test_three_optimiser_steps():
    theirs, ours = theirs_and_ours()
    their_optimiser = torch.optim.SGD(theirs.parameters(), lr=0.1, momentum=0.9)
    our_optimiser = torch.optim.SGD(ours.parameters(), lr=0.1, momentum=0.9)
    start = {key: value.clone() for key, value in ours.named_parameters()}
    for step in range(3):
        images, mask, hidden = batch(step)
        losses = []
        for optimiser, loss in (
            (their_optimiser, their_loss_of(theirs, images, hidden)),
            (our_optimiser, ours.loss(images, mask, ours.targets(images, mask))['loss_pixels']),
        ):
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(loss.detach())
        torch.testing.assert_close(losses[1], losses[0])
    expected = under_our_names(dict(theirs.named_parameters()))
    for key, value in ours.named_parameters():
        torch.testing.assert_close(value, expected[key], rtol=1e-4, atol=1e-5, msg=lambda m, k=key: f'{k}: {m}')
        assert not torch.equal(value, start[key])
