"""The parts of I-JEPA that parity does not reach: initial weights, and steps with several contexts per image."""

import math

import pytest
import torch
from torch import nn

from mmmim.models import SelfAttentionPredictor, ViT
from mmmim.models.layers import PatchEmbed
from mmmim.registry import MODELS
from mmmim.utils import InputError
from tests.toys import optim_wrapper, random_mask

SCHEMES = ('trunc_normal', 'trunc_normal_rescaled')


def encoder(init):
    return ViT(32, 8, 192, 3, 3, num_cls_tokens=0, init=init)


def predictor(init):
    return SelfAttentionPredictor(192, 96, 3, 3, out_dim=192, grid=(4, 4), init=init)


def branch_ends(model):
    """The last layer of both branches of every block, with the number of the block, from 1."""
    return {layer: number for number, block in enumerate(model.blocks, 1) for layer in (block.attn.proj, block.mlp.fc2)}


@pytest.mark.parametrize('build', [encoder, predictor])
@pytest.mark.parametrize('init', SCHEMES)
def test_initial_weights(build, init):
    torch.manual_seed(0)
    model = build(init)
    ends = branch_ends(model)
    layers = [layer for layer in model.modules() if isinstance(layer, nn.Linear | PatchEmbed)]
    assert len(layers) == 3 * 6 + (1 if build is encoder else 2)
    for layer in layers:
        std = 0.02 / math.sqrt(2 * ends[layer]) if layer in ends and init.endswith('rescaled') else 0.02
        weight = layer.weight.double()
        assert weight.std().item() == pytest.approx(std, rel=0.03)
        assert abs(weight.mean().item()) < 5 * std / math.sqrt(weight.numel())
        # Normal, not uniform: the tails are there.
        assert 3.5 * std < weight.abs().max().item() < 6 * std
        assert not layer.bias.any()
    for layer in model.modules():
        if isinstance(layer, nn.LayerNorm):
            assert torch.equal(layer.weight, torch.ones_like(layer.weight))
            assert not layer.bias.any()
    if build is predictor:
        assert model.mask_token.std().item() == pytest.approx(0.02, rel=0.25)


@pytest.mark.parametrize('build', [encoder, predictor])
def test_rescaling_divides_by_the_root_of_twice_the_number_of_the_block(build):
    models = []
    for init in SCHEMES:
        torch.manual_seed(0)
        models.append(build(init))
    plain, rescaled = models
    ends = branch_ends(plain)
    for (name, one), other in zip(plain.named_modules(), rescaled.modules(), strict=True):
        if isinstance(one, nn.Linear | PatchEmbed):
            factor = math.sqrt(2 * ends[one]) if one in ends else 1.0
            torch.testing.assert_close(other.weight * factor, one.weight, msg=name)
    assert [ends[block.mlp.fc2] for block in plain.blocks] == [1, 2, 3]


def test_unknown_schemes_are_refused():
    with pytest.raises(InputError, match=r'init must be one of .*trunc_normal, trunc_normal_rescaled, got'):
        encoder('trunc')


# ------------------------------------------------------------------------------------------------------------- steps


def algorithm(**options):
    torch.manual_seed(0)
    neck = dict(context_dim=16, embed_dim=8, depth=1, num_heads=2, out_dim=16, grid=(4, 4), init='trunc_normal')
    backbone = dict(img_size=16, patch_size=4, embed_dim=16, depth=2, num_heads=2, num_cls_tokens=0)
    return MODELS.build(
        {
            'type': 'mmmim.MaskedImageModeling',
            'backbone': {'type': 'mmmim.ViT', 'init': 'trunc_normal', **backbone},
            'branches': {
                'latent': {
                    'target_generator': {'type': 'mmmim.LatentTarget', 'in_dim': 16, 'normalize': 'layer'},
                    'neck': {'type': 'mmmim.SelfAttentionPredictor', **neck},
                    'head': {'type': 'mmmim.RegressionHead', 'loss': 'huber'},
                }
            },
            'teacher': ['backbone'],
            **options,
        }
    ).train()


def test_the_teacher_starts_as_the_student_and_gets_no_gradient():
    model = algorithm()
    for one, other in zip(model.backbone.parameters(), model.teacher.backbone.parameters(), strict=True):
        assert torch.equal(one, other)
        assert one.requires_grad
        assert not other.requires_grad


@pytest.mark.parametrize('size', [1, 2, 3])
def test_micro_batches_of_several_contexts_and_blocks_are_the_whole_batch(size):
    images = torch.randint(0, 256, (5, 3, 16, 16), dtype=torch.uint8)
    mask = random_mask(5, visible=5, predict=4, blocks=2, per_image=3)
    results = []
    for micro_batch_size in (None, size):
        model = algorithm(micro_batch_size=micro_batch_size)
        losses = model.train_step({'inputs': images, 'mask': mask}, optim_wrapper(model))
        results.append((losses['loss'], losses['grad_norm']))
    torch.testing.assert_close(results[0], results[1])
