"""MFF is mmpretrain's: tokens, predictions, losses, gradients and optimiser steps with the same weights."""

import pytest
import torch

from mmmim.converters.mae import MMPRETRAIN, NECK, convert_checkpoint
from mmmim.registry import MODELS
from mmmim.structures import Context
from mmmim.utils import InputError
from tests.registered import ENCODERS, NECKS, build, normalized
from tests.test_models.test_mae_equality import SIZES, assert_same, assert_same_training, same_batch
from tests.toys import random_mask

FUSED = {'odd grid': [0, 1], 'one seen': [0, 2]}


def under_our_names(table, layers):
    """Weights or gradients of mmpretrain's model."""
    own = {f'{NECK}.weights': table['backbone.proj_weights'].flatten()}
    for i in range(len(layers) - 1):
        for kind in ('weight', 'bias'):
            own[f'{NECK}.projections.{i}.{kind}'] = table[f'backbone.proj_layers.{i}.{kind}']
    rest = MMPRETRAIN.convert({key: value for key, value in table.items() if '.proj_' not in key})
    return own | {key.replace(f'{NECK}.', f'{NECK}.neck.'): value for key, value in rest.items()}


def theirs_and_ours(name, cls_position=True, dtype=torch.float32):
    """mmpretrain's model with random weights everywhere, and ours with the same."""
    torch.manual_seed(0)
    img, patch, dim, depth, heads, ratio, decoder_dim, decoder_depth, decoder_heads, mask_ratio, normalize = SIZES[name]
    layers, grid = FUSED[name], img // patch
    arch = {'embed_dims': dim, 'num_layers': depth, 'num_heads': heads, 'feedforward_channels': ratio * dim}
    neck = dict(num_patches=grid**2, patch_size=patch, embed_dim=dim, decoder_embed_dim=decoder_dim, mlp_ratio=ratio)
    neck |= dict(decoder_depth=decoder_depth, decoder_num_heads=decoder_heads)
    backbone = dict(arch=arch, img_size=img, patch_size=patch, mask_ratio=mask_ratio, out_indices=layers)
    loss = {'type': 'mmpretrain.PixelReconstructionLoss', 'criterion': 'L2'}
    theirs = MODELS.build(
        dict(
            type='mmpretrain.MFF',
            _scope_='mmpretrain',
            backbone=dict(type='mmpretrain.MFFViT', **backbone),
            neck=dict(type='mmpretrain.MAEPretrainDecoder', **neck),
            head=dict(type='mmpretrain.MAEPretrainHead', norm_pix=normalize, patch_size=patch, loss=loss),
        )
    )
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        theirs.backbone.proj_weights.add_(torch.randn_like(theirs.backbone.proj_weights))
        theirs.neck.decoder_pos_embed[:, 0] = 0
        if not cls_position:
            theirs.backbone.pos_embed[:, 0] = 0
    table = theirs.state_dict()
    plain = {key: value for key, value in table.items() if '.proj_' not in key}
    config = convert_checkpoint({'state_dict': plain}, 'mmpretrain', heads, decoder_heads, normalize)['mmmim']['model']
    branch = config['branches']['pixels']
    fusion = {'type': 'mmmim.MultiLevelFusion', 'context_dim': dim, 'layers': layers}
    branch['neck'] = {**fusion, 'neck': branch['neck']}
    preprocessor = {'type': 'mmmim.MIMDataPreprocessor', 'mean': [0.0] * 3, 'std': [1.0] * 3, 'bgr_to_rgb': False}
    ours = MODELS.build({**config, 'data_preprocessor': preprocessor})
    ours.load_state_dict(under_our_names(table, layers))
    return theirs.to(dtype).train(), ours.to(dtype).train()


@pytest.mark.parametrize('name', FUSED)
def test_tokens_predictions_losses_and_gradients(name):
    theirs, ours = theirs_and_ours(name)
    images, mask = same_batch(name, theirs)
    latent, _, order, weights = theirs.backbone(images)
    their_prediction = theirs.neck(latent, order)
    neck, seen = ours.branches['pixels'].neck, []
    neck.neck.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    context = ours.backbone(images, mask, layers=neck.layers)
    hidden = mask.flat_predict().unsqueeze(-1).expand(-1, -1, their_prediction.shape[-1])
    assert_same(neck(context, mask).patches, their_prediction.gather(1, hidden), 'predictions')
    assert_same(torch.cat([seen[0].extra, seen[0].visible], dim=1), latent, 'fused tokens')
    assert_same(neck.weights.softmax(0), weights, 'weights')

    their_loss = theirs.loss(images, [])['loss']
    loss = ours.loss(images, mask, ours.targets(images, mask))['loss_pixels']
    assert_same(loss, their_loss, 'loss')
    their_loss.backward()
    loss.backward()
    table = {key: torch.zeros_like(p) if p.grad is None else p.grad for key, p in theirs.named_parameters()}
    expected = under_our_names(table, neck.layers)
    for key, parameter in ours.named_parameters():
        if key.endswith('k_proj.bias'):
            # Softmax takes no notice of it: both are rounding errors of zero.
            scale = expected[key.replace('k_proj', 'q_proj')].abs().max()
            assert max(parameter.grad.abs().max(), expected[key].abs().max()) < 1e-5 * scale
        else:
            assert_same(parameter.grad, expected[key], f'gradient of {key}')


def test_three_optimiser_steps(monkeypatch):
    layers = FUSED['odd grid']
    assert_same_training(theirs_and_ours, lambda table: under_our_names(table, layers), monkeypatch)


def test_encoders_and_necks_that_do_not_fit():
    config = NECKS['fused states'][0]
    with pytest.raises(InputError, match='neck is a InterBlockDecoder, which reads states of the encoder'):
        build({**config, 'neck': NECKS['mixtures of states'][0]})
    mask = random_mask(4)
    context = build(ENCODERS['sincos, CLS'])(normalized(), mask, layers=(0, 1, 2))
    bare = Context(context.visible, context.extra, context.grid, context.positions, context.hidden)
    for name, lacking in (('fused states', 'Context.normed'), ('mixtures of states', 'Context.embedded')):
        with pytest.raises(InputError, match=lacking):
            build(NECKS[name][0])(bare, mask)
