"""The pieces of MAE: encoder, positions, decoder, pixels, and their step."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmmim.engine import OptimWrapper
from mmmim.models import PixelTarget, SelfAttentionPredictor, ViT
from mmmim.models.layers import PositionTable, init_weights, patchify, sincos_positions, unpatchify
from mmmim.models.layers.attention import Attention
from mmmim.models.target_generators.pixels import patch_statistics
from mmmim.registry import MODELS
from mmmim.structures import Context, PatchMask
from mmmim.utils import InputError
from tests.toys import DIM, GRID, PATCH, batch, capi_config, optim_wrapper, random_mask

SIZE = (GRID[0] * PATCH, GRID[1] * PATCH)
DECODER_DIM = 8
ENCODER = {'img_size': SIZE, 'patch_size': PATCH, 'embed_dim': DIM, 'depth': 2, 'num_heads': 2}
DECODER = {'context_dim': DIM, 'embed_dim': DECODER_DIM, 'depth': 2, 'num_heads': 2, 'grid': GRID}


def mae_config(**options):
    """An MAE for the images of the toys."""
    return {
        'type': 'mmmim.MaskedImageModeling',
        'data_preprocessor': capi_config()['data_preprocessor'],
        'backbone': {'type': 'mmmim.ViT', **ENCODER},
        'branches': {
            'pixels': {
                'target_generator': {'type': 'mmmim.PixelTarget', 'patch_size': PATCH},
                'neck': {'type': 'mmmim.SelfAttentionPredictor', **DECODER, 'out_dim': 3 * PATCH**2},
                'head': {'type': 'mmmim.RegressionHead'},
            }
        },
        **options,
    }


def build(**options):
    torch.manual_seed(0)
    return MODELS.build(mae_config(**options)).train()


def vit(**options):
    torch.manual_seed(0)
    return ViT(
        **{'img_size': SIZE, 'patch_size': PATCH, 'embed_dim': DIM, 'depth': 2, 'num_heads': 2, **options}
    ).eval()


def decoder(**options):
    torch.manual_seed(0)
    return SelfAttentionPredictor(**DECODER | {'out_dim': 5} | options).eval()


def context_of(mask, extra=1):
    """Random tokens, as an encoder gives them."""
    torch.manual_seed(1)
    masks, visible = mask.visible.shape
    return Context(
        visible=torch.randn(masks, visible, DIM),
        extra=torch.randn(masks, extra, DIM),
        grid=mask.grid,
        positions=lambda index: index,
        num_cls_tokens=extra,
    )


@pytest.mark.parametrize('grid', [(3, 3), (2, 5), (7, 1)])
@pytest.mark.parametrize('dim', [4, 12])
def test_sincos_positions_patch_by_patch(grid, dim):
    quarter = dim // 4
    for row in range(grid[0]):
        for column in range(grid[1]):
            expected = [
                wave(place / 10000 ** (j / quarter))
                for place in (column, row)
                for wave in (math.sin, math.cos)
                for j in range(quarter)
            ]
            actual = sincos_positions(grid, dim)[row * grid[1] + column]
            torch.testing.assert_close(actual, torch.tensor(expected), rtol=0, atol=1e-7)


def test_sincos_positions_of_a_width_that_four_does_not_divide():
    with pytest.raises(InputError, match='embed_dim=18'):
        ViT(embed_dim=18, num_heads=2)


def test_position_table_is_exact_on_its_grid_and_interpolated_off_it():
    table = PositionTable((4, 6), 8)
    assert torch.equal(table.codes((4, 6)), sincos_positions((4, 6), 8))
    assert [name for name, _ in table.named_parameters()] == []
    assert list(table.state_dict()) == ['weight']
    # One that holds the row and the column of each patch: each stays constant along the other.
    rows, columns = torch.meshgrid(torch.arange(4.0), torch.arange(6.0), indexing='ij')
    table.weight = torch.stack([rows, columns], dim=-1).flatten(0, 1)
    row, column = table.codes((8, 12)).view(8, 12, 2).unbind(-1)
    torch.testing.assert_close(row, row[:, :1].expand(8, 12))
    torch.testing.assert_close(column, column[:1].expand(8, 12))
    assert (row[1:] > row[:-1]).all()
    torch.testing.assert_close(row[3:5, 0].mean(), torch.tensor(1.5))
    torch.testing.assert_close(column[0, 5:7].mean(), torch.tensor(2.5))


def test_interpolation_is_as_precise_as_fp32_in_a_bf16_model():
    table = PositionTable((4, 6), 8).bfloat16()
    exact = PositionTable((4, 6), 8)
    exact.weight = table.weight.float()
    assert table.codes((5, 7)).dtype == torch.bfloat16
    assert torch.equal(table.codes((5, 7)), exact.codes((5, 7)).bfloat16())


@pytest.mark.parametrize('learnable', [False, True])
def test_learnable_positions_get_gradients(learnable):
    model = vit(positions='learnable' if learnable else 'sincos')
    names = {name for name, _ in model.named_parameters()}
    assert ('positions.weight' in names) == learnable
    assert 'positions.weight' in model.state_dict()
    for size in (SIZE, (24, 8)):
        model.zero_grad()
        model(torch.randn(2, 3, *size)).visible.square().sum().backward()
        gradient = model.positions.weight.grad
        assert gradient.abs().min() > 0 if learnable else gradient is None


@pytest.mark.parametrize('per_image', [1, 2])
def test_vit_sees_visible_patches_only(per_image):
    model, mask = vit(), random_mask(3, per_image=per_image)
    images = torch.randn(3, 3, *SIZE)
    for i in range(3):
        seen = torch.zeros(16, dtype=torch.bool)
        seen[mask.visible[mask.image_index == i].flatten()] = True
        hidden = images.clone()
        tiles = (~seen).view(1, 4, 1, 4, 1).expand(3, 4, PATCH, 4, PATCH).reshape(3, *SIZE)
        hidden[i][tiles] = 7.0
        assert not torch.equal(hidden, images)
        assert torch.equal(model(hidden, mask).visible, model(images, mask).visible)
        assert torch.equal(model(hidden, mask).extra, model(images, mask).extra)


@pytest.mark.parametrize('extra', [0, 1, 4])
def test_tokens_have_the_positions_of_their_patches(extra):
    """The whole encoder, written out; extra tokens come first and have no position."""
    model, mask, images = (
        vit(num_cls_tokens=min(extra, 1), num_registers=max(extra - 1, 0)),
        random_mask(2),
        torch.randn(2, 3, *SIZE),
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    assert (model.extra_tokens is None) == (extra == 0)
    context = model(images, mask, layers=(0, -1))
    assert context.visible.shape == (2, 6, DIM)
    assert context.extra.shape == (2, extra, DIM)
    table = sincos_positions(GRID, DIM)
    for image in range(2):
        tokens = [] if extra == 0 else list(model.extra_tokens[0])
        for patch in mask.visible[image]:
            row, column = divmod(int(patch), GRID[1])
            pixels = images[image, :, row * PATCH : (row + 1) * PATCH, column * PATCH : (column + 1) * PATCH]
            embedded = (model.patch_embed.weight * pixels).sum((1, 2, 3)) + model.patch_embed.bias
            tokens.append(embedded + table[patch])
        x = torch.stack(tokens).unsqueeze(0)
        for i, block in enumerate(model.blocks):
            x = block(x)
            torch.testing.assert_close(context.hidden[i][image], x[0])
        x = F.layer_norm(x, (DIM,), model.norm.weight, model.norm.bias, 1e-6)[0]
        torch.testing.assert_close(context.extra[image], x[:extra])
        torch.testing.assert_close(context.visible[image], x[extra:])
    assert torch.equal(context.positions(mask.flat_predict()), table[mask.flat_predict()])


def test_whole_images_of_other_sizes():
    model = vit()
    for size in (SIZE, (24, 40), (4, 4)):
        context = model(torch.randn(2, 3, *size), layers=(1,))
        patches = size[0] * size[1] // PATCH**2
        assert context.visible.shape == (2, patches, DIM)
        assert context.grid == (size[0] // PATCH, size[1] // PATCH)
        torch.testing.assert_close(model.norm(context.hidden[0])[:, 1:], context.visible)
    with pytest.raises(InputError, match='no block 2 in an encoder of 2'):
        model(torch.randn(1, 3, *SIZE), layers=(2,))
    with pytest.raises(InputError, match='does not divide an image of 18 x 16'):
        model(torch.randn(1, 3, 18, 16))
    with pytest.raises(InputError, match='does not divide an image of 18 x 18'):
        vit(img_size=18)


def test_stochastic_depth_in_training_only():
    model, images = vit(drop_path_rate=0.5), torch.randn(8, 3, *SIZE)
    expected = vit()(images).visible
    assert torch.equal(model(images).visible, expected)
    assert not torch.allclose(model.train()(images).visible, expected)


def test_predictions_come_in_the_order_they_are_asked_for():
    neck, mask = decoder(), random_mask(3, predict=5)
    expected = neck(context_of(mask), mask).patches
    assert expected.shape == (3, 5, 5)
    order = torch.tensor([3, 1, 4, 0, 2])
    turned = PatchMask(mask.visible, mask.predict[..., order], mask.image_index, GRID)
    torch.testing.assert_close(neck(context_of(mask), turned).patches, expected[:, order])


@pytest.mark.parametrize('extra', [0, 1, 4])
def test_decoder_written_out(extra):
    neck, mask = decoder(), random_mask(1, visible=3, predict=2)
    with torch.no_grad():
        for parameter in neck.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    context, table = context_of(mask, extra), sincos_positions(GRID, DECODER_DIM)
    tokens = [neck.embed(token) for token in context.extra[0]]
    tokens += [neck.embed(token) + table[i] for token, i in zip(context.visible[0], mask.visible[0], strict=True)]
    tokens += [neck.mask_token[0] + table[i] for i in mask.predict[0, 0]]
    x = torch.stack(tokens).unsqueeze(0)
    for block in neck.blocks:
        x = block(x)
    x = F.layer_norm(x, (DECODER_DIM,), neck.norm.weight, neck.norm.bias, 1e-6)
    torch.testing.assert_close(neck(context, mask).patches, neck.proj(x)[:, -2:])


def test_target_blocks_are_decoded_apart():
    neck, mask = decoder(), random_mask(4, predict=3, blocks=3)
    context = context_of(mask)
    together = neck(context, mask).patches
    assert together.shape == (4, 9, 5)
    for i in range(3):
        alone = PatchMask(mask.visible, mask.predict[:, i : i + 1], mask.image_index, GRID)
        torch.testing.assert_close(together[:, 3 * i : 3 * i + 3], neck(context, alone).patches)


def test_only_what_is_predicted_has_mask_tokens():
    neck, mask = decoder(), random_mask(2, predict=10)
    few = PatchMask(mask.visible, mask.predict[..., :4], mask.image_index, GRID)
    lengths = []
    neck.blocks[0].register_forward_pre_hook(lambda block, args: lengths.append(args[0].shape[1]))
    everything, some = neck(context_of(mask), mask).patches, neck(context_of(mask), few).patches
    assert lengths == [1 + 6 + 10, 1 + 6 + 4]
    assert not torch.allclose(everything[:, :4], some)
    none = PatchMask(mask.visible, mask.predict[..., :0], mask.image_index, GRID)
    assert neck(context_of(mask), none).patches.shape == (2, 0, 5)


def test_decoder_on_another_grid():
    neck, mask = decoder(), random_mask(2, visible=10, predict=5, grid=(3, 5))
    before = neck(context_of(mask), mask).patches
    assert before.shape == (2, 5, 5)
    exact = decoder(grid=(3, 5))
    exact.positions.weight.copy_(neck.positions.codes((3, 5)))
    torch.testing.assert_close(before, exact(context_of(mask), mask).patches)


@pytest.mark.parametrize('normalize', [False, True])
@pytest.mark.parametrize('channels', [1, 3])
def test_pixel_targets_pixel_by_pixel(normalize, channels):
    target = PixelTarget(2, normalize, channels)
    images = torch.rand(2, channels, 6, 4)
    mask = random_mask(2, visible=2, predict=2, blocks=2, per_image=2, grid=(3, 2))
    patches = target(images, mask, None, nn.Identity()).patches
    assert patches.shape == (4, 4, target.out_dim)
    for g in range(4):
        for m, patch in enumerate(mask.flat_predict()[g]):
            top, left = 2 * (int(patch) // 2), 2 * (int(patch) % 2)
            values = [
                float(images[g // 2, colour, top + row, left + column])
                for row in range(2)
                for column in range(2)
                for colour in range(channels)
            ]
            if normalize:
                mean = sum(values) / len(values)
                variance = sum((value - mean) ** 2 for value in values) / (len(values) - 1)
                values = [(value - mean) / math.sqrt(variance + 1e-6) for value in values]
            torch.testing.assert_close(patches[g, m], torch.tensor(values), rtol=1e-4, atol=1e-5)


def test_flat_patches_have_finite_targets_and_statistics_undo_the_normalisation():
    target, mask = PixelTarget(PATCH), random_mask(1, predict=10)
    assert not target(torch.full((1, 3, *SIZE), 0.3), mask, None, nn.Identity()).patches.any()
    images = torch.randn(1, 3, *SIZE)
    patches = target.patches(images)
    mean, std = patch_statistics(patches)
    normalised = target(images, mask, None, nn.Identity()).patches[0]
    chosen = mask.predict[0, 0]
    torch.testing.assert_close(normalised * std[0, chosen] + mean[0, chosen], patches[0, chosen])


def test_pixel_targets_are_fp32_under_autocast():
    target, mask, images = PixelTarget(PATCH), random_mask(2), torch.randn(2, 3, *SIZE)
    expected = target(images, mask, None, nn.Identity()).patches
    with torch.autocast('cpu', dtype=torch.bfloat16):
        assert torch.equal(target(images, mask, None, nn.Identity()).patches, expected)
    assert target(images.bfloat16(), mask, None, nn.Identity()).patches.dtype == torch.float32


@pytest.mark.parametrize('channels', [1, 3])
def test_unpatchify_is_the_inverse_of_patchify(channels):
    images = torch.randn(2, channels, 8, 12)
    assert torch.equal(unpatchify(patchify(images, 4), (2, 3), channels), images)


@pytest.mark.parametrize('fused', [False, True])
def test_initialisation_of_linear_layers(fused):
    torch.manual_seed(0)
    module = nn.ModuleDict({'attention': Attention(64, 4, bias=True, qkv_bias=True), 'linear': nn.Linear(64, 32)})
    for parameter in module.parameters():
        nn.init.constant_(parameter, 5.0)
    init_weights(module, 'mae' if fused else 'capi')
    attention = module['attention']
    bounds = {module['linear']: math.sqrt(6 / 96), attention.proj: math.sqrt(6 / 128)}
    for layer in (attention.q_proj, attention.k_proj, attention.v_proj):
        bounds[layer] = math.sqrt(6 / (64 + 3 * 64)) if fused else math.sqrt(6 / 128)
    for layer, bound in bounds.items():
        assert 0.98 * bound < layer.weight.abs().max() <= bound
        assert float(layer.weight.detach().std()) == pytest.approx(bound / math.sqrt(3), rel=0.05)
        assert not layer.bias.any()


@pytest.mark.parametrize(
    ('part', 'key', 'value', 'message'),
    [
        ('neck', 'out_dim', 40, r'target_generator\.out_dim is 48 and model\.branches\.pixels\.neck\.out_dim is 40'),
        (
            'target_generator',
            'patch_size',
            8,
            r'target_generator\.patch_size is 8 and model\.backbone\.patch_size is 4',
        ),
        ('neck', 'grid', (4, 5), r'neck\.grid is \(4, 5\) and model\.backbone\.grid is \(4, 4\)'),
        ('neck', 'context_dim', 20, r'neck\.context_dim is 20 and model\.backbone\.embed_dim is 16'),
    ],
)
def test_sizes_that_contradict_each_other(part, key, value, message):
    config = mae_config()
    config['branches']['pixels'][part][key] = value
    with pytest.raises(InputError, match=message):
        MODELS.build(config)


@pytest.mark.parametrize('options', [{}, {'per_image': 2}, {'blocks': 3, 'predict': 2}])
def test_micro_batches_give_the_step_of_the_whole_batch(options):
    results = []
    for size in (None, 3):
        model = build(micro_batch_size=size)
        wrapper = optim_wrapper(model)
        losses = [model.train_step(batch(8, **options), wrapper)['loss'] for _ in range(3)]
        results.append((losses, model.state_dict()))
    torch.testing.assert_close(results[0][0], results[1][0], rtol=1e-5, atol=1e-6)
    for key, value in results[0][1].items():
        if not key.endswith('k_proj.bias'):  # AdamW makes steps out of the rounding errors of its zero gradient
            torch.testing.assert_close(value, results[1][1][key], rtol=1e-3, atol=1e-5, msg=key)


def test_bf16_autocast_is_finite_and_keeps_the_residual_stream_in_fp32():
    model, data = build(), batch(4)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        context = model.backbone(data['inputs'], data['mask'], layers=(0, 1))
        streams = []
        for block in model.branches['pixels'].neck.blocks:
            block.register_forward_hook(lambda block, args, out: streams.extend([args[0].dtype, out.dtype]))
        prediction = model.branches['pixels'].neck(context, data['mask']).patches
    assert {context.visible.dtype, *(state.dtype for state in context.hidden), *streams} == {torch.float32}
    plain = model.backbone(data['inputs'], data['mask'])
    torch.testing.assert_close(context.visible, plain.visible, rtol=0, atol=0.05)
    assert not torch.equal(context.visible, plain.visible)
    assert prediction.isfinite().all()

    wrapper = OptimWrapper(torch.optim.AdamW(model.parameters(), lr=1e-2, fused=True), 'bfloat16')
    losses = [model.train_step(data, wrapper) for _ in range(15)]
    assert not any(loss['skipped'] for loss in losses)
    assert losses[-1]['loss'].dtype == torch.float32
    assert losses[-1]['loss'] < losses[0]['loss'] - 0.01


def test_a_bf16_model_runs_at_any_size():
    model = build().bfloat16()
    mask = random_mask(2, visible=6, predict=9, grid=(3, 5))
    context = model.backbone(torch.randn(2, 3, 12, 20).bfloat16(), mask)
    prediction = model.branches['pixels'].neck(context, mask).patches
    assert context.visible.dtype == context.extra.dtype == prediction.dtype == torch.bfloat16
    assert prediction.isfinite().all()
