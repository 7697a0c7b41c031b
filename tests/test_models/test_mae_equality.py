"""MAE is mmpretrain's: tokens, predictions, losses, gradients, optimiser steps and features, from converted weights."""

import pytest
import torch

from mmmim.apis import FeatureExtractor
from mmmim.converters.mae import MMPRETRAIN, convert_checkpoint
from mmmim.engine import OptimWrapper
from mmmim.engine.optim_constructor import parameter_groups
from mmmim.registry import MODELS
from mmmim.structures import PatchMask

RULES = {'no_decay': {'match': r'\.bias$|norm\d?\.weight$', 'decay_mult': 0.0}}

# img, patch, D, depth, heads, mlp ratio, Dp, decoder depth, decoder heads, mask ratio, normalised pixels
SIZES = {
    'odd grid': (20, 4, 32, 2, 2, 3, 24, 2, 3, 0.6, True),
    'one seen': (12, 6, 16, 3, 1, 4, 32, 2, 8, 0.75, False),
}
IMAGES = 3


def theirs_and_ours(name, cls_position=True, dtype=torch.float32):
    """mmpretrain's model with random weights everywhere, and ours with the same."""
    torch.manual_seed(0)
    img, patch, dim, depth, heads, ratio, decoder_dim, decoder_depth, decoder_heads, mask_ratio, normalize = SIZES[name]
    grid = img // patch
    arch = {'embed_dims': dim, 'num_layers': depth, 'num_heads': heads, 'feedforward_channels': ratio * dim}
    neck = dict(num_patches=grid**2, patch_size=patch, embed_dim=dim, decoder_embed_dim=decoder_dim, mlp_ratio=ratio)
    neck |= dict(decoder_depth=decoder_depth, decoder_num_heads=decoder_heads)
    loss = {'type': 'mmpretrain.PixelReconstructionLoss', 'criterion': 'L2'}
    theirs = MODELS.build(
        dict(
            type='mmpretrain.MAE',
            _scope_='mmpretrain',
            backbone=dict(type='mmpretrain.MAEViT', arch=arch, img_size=img, patch_size=patch, mask_ratio=mask_ratio),
            neck=dict(type='mmpretrain.MAEPretrainDecoder', **neck),
            head=dict(type='mmpretrain.MAEPretrainHead', norm_pix=normalize, patch_size=patch, loss=loss),
        )
    )
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        theirs.neck.decoder_pos_embed[:, 0] = 0
        if not cls_position:
            theirs.backbone.pos_embed[:, 0] = 0
    converted = convert_checkpoint({'state_dict': theirs.state_dict()}, 'mmpretrain', heads, decoder_heads, normalize)
    preprocessor = {'type': 'mmmim.MIMDataPreprocessor', 'mean': [0.0] * 3, 'std': [1.0] * 3, 'bgr_to_rgb': False}
    ours = MODELS.build({**converted['mmmim']['model'], 'data_preprocessor': preprocessor})
    ours.load_state_dict(converted['state_dict'])
    return theirs.to(dtype).train(), ours.to(dtype).train()


def same_batch(name, theirs, dtype=torch.float32, seed=0):
    """Images, and one random mask for both models."""
    img, patch, mask_ratio = SIZES[name][0], SIZES[name][1], SIZES[name][9]
    grid = img // patch
    torch.manual_seed(seed)
    images = torch.randn(IMAGES, 3, img, img, dtype=dtype)
    order = torch.rand(IMAGES, grid**2).argsort(dim=1)
    visible, hidden = order.split([int(grid**2 * (1 - mask_ratio)), grid**2 - int(grid**2 * (1 - mask_ratio))], dim=1)

    def random_masking(x, mask_ratio):
        mask = torch.zeros(x.shape[:2], dtype=dtype).scatter(1, hidden, 1.0)
        return x.gather(1, visible.unsqueeze(-1).expand(-1, -1, x.shape[-1])), mask, order.argsort(dim=1)

    theirs.backbone.random_masking = random_masking
    return images, PatchMask(visible, hidden.unsqueeze(1), torch.arange(IMAGES), (grid, grid))


def assert_same(ours, theirs, what, tolerance=1e-5):
    error = (ours - theirs).abs().max() / theirs.abs().max()
    assert error < tolerance, f'{what}: {error:.1e}'


def their_gradients(theirs):
    """Under our names; tables of positions have none."""
    return MMPRETRAIN.convert(
        {k: torch.zeros_like(p) if p.grad is None else p.grad for k, p in theirs.named_parameters()}
    )


@pytest.mark.parametrize('name', SIZES)
def test_tokens_predictions_losses_and_gradients(name):
    theirs, ours = theirs_and_ours(name)
    images, mask = same_batch(name, theirs)
    latent, _, order = theirs.backbone(images)
    their_prediction = theirs.neck(latent, order)
    context = ours.backbone(images, mask)
    branch = ours.branches['pixels']
    assert_same(context.extra, latent[:, :1], 'CLS')
    assert_same(context.visible, latent[:, 1:], 'tokens')
    hidden = mask.flat_predict().unsqueeze(-1).expand(-1, -1, their_prediction.shape[-1])
    assert_same(branch.neck(context, mask).patches, their_prediction.gather(1, hidden), 'predictions')
    targets = ours.targets(images, mask)
    assert_same(targets['pixels'].patches, theirs.head.construct_target(images).gather(1, hidden), 'targets')

    their_loss = theirs.loss(images, [])['loss']
    loss = ours.loss(images, mask, targets)['loss_pixels']
    assert_same(loss, their_loss, 'loss')
    their_loss.backward()
    loss.backward()
    expected = their_gradients(theirs)
    for key, parameter in ours.named_parameters():
        if key.endswith('k_proj.bias'):
            # Softmax takes no notice of it: both are rounding errors of zero.
            scale = expected[key.replace('k_proj', 'q_proj')].abs().max()
            assert max(parameter.grad.abs().max(), expected[key].abs().max()) < 1e-5 * scale
        else:
            assert_same(parameter.grad, expected[key], f'gradient of {key}')


def assert_same_training(theirs_and_ours, under_our_names, monkeypatch):
    """Three optimiser steps of both; of the grid that is odd."""
    # All of it in fp64: AdamW divides by the size of gradients, and makes steps out of rounding errors.
    to_fp32 = torch.Tensor.float
    monkeypatch.setattr(torch.Tensor, 'float', lambda x: x if x.dtype == torch.float64 else to_fp32(x))
    name = 'odd grid'
    theirs, ours = theirs_and_ours(name, cls_position=False, dtype=torch.float64)
    ours.micro_batch_size = 2
    options = {'lr': 1e-3, 'weight_decay': 0.05}
    decayed, others = [], []
    for key, parameter in theirs.named_parameters():
        if parameter.requires_grad:
            (others if key.endswith('.bias') or '.ln' in key else decayed).append(parameter)
    optimizer = torch.optim.AdamW(
        [{'params': decayed}, {'params': others, 'weight_decay': 0.0}], betas=(0.9, 0.95), **options
    )
    groups = parameter_groups(ours, **options, rules=RULES)
    wrapper = OptimWrapper(torch.optim.AdamW(groups, betas=(0.9, 0.95), fused=True))
    start = {key: value.clone() for key, value in ours.state_dict().items()}
    for step in range(3):
        images, mask = same_batch(name, theirs, torch.float64, seed=step)
        their_loss = theirs.loss(images, [])['loss']
        optimizer.zero_grad()
        their_loss.backward()
        optimizer.step()
        loss = ours.train_step({'inputs': images, 'mask': mask}, wrapper)['loss_pixels']
        assert_same(loss, their_loss, f'loss {step}', 1e-9)
    expected = under_our_names(theirs.state_dict())
    for key, value in ours.state_dict().items():
        if key.endswith('positions.weight'):
            assert torch.equal(value, start[key])
        elif key.endswith('k_proj.bias'):
            assert_same(value, expected[key], key)
        else:
            assert_same(value - start[key], expected[key] - start[key], f'change of {key} in three steps', 1e-7)


def test_three_optimiser_steps(monkeypatch):
    assert_same_training(theirs_and_ours, MMPRETRAIN.convert, monkeypatch)


def test_features_of_whole_images():
    theirs, _ = theirs_and_ours('odd grid')
    converted = convert_checkpoint({'state_dict': theirs.state_dict()}, 'mmpretrain', 2, 3)
    extractor = FeatureExtractor(converted['mmmim']['model'], converted['state_dict'])
    images = torch.randn(2, 3, 24, 12)
    with torch.no_grad():
        (tokens,) = theirs.eval().backbone(images, mask=None)
    features = extractor(images)
    assert_same(features.cls, tokens[:, 0], 'CLS')
    assert_same(features.pooled, tokens[:, 1:].mean(1), 'average')
    assert_same(features.patches[0], tokens[:, 1:], 'patches')
