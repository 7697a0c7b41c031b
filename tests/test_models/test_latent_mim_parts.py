"""The parts of Latent MIM against naive versions of themselves."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from mmmim.models import CombinedHead, CrossAttentionDecoder, LatentTarget, PatchDiscriminationHead, PixelTarget, ViT
from mmmim.models import SimilarityConstraint as Constraint
from mmmim.models.functional import mean_similarity, patch_discrimination
from mmmim.models.layers import PatchEmbed, Projector, make_positions, pick_patches, sincos_positions
from mmmim.registry import MODELS
from mmmim.structures import Context, Prediction, Target
from mmmim.utils import InputError
from tests import reference_latent_mim as reference
from tests.toys import optim_wrapper, random_mask

DIM, PATCH, GRID, GAP = 16, 4, (4, 4), 2


def encoder(**options):
    return {
        'type': 'mmmim.ViT',
        'img_size': GRID[0] * PATCH,
        'patch_size': PATCH,
        'embed_dim': DIM,
        'depth': 2,
        'num_heads': 2,
        'positions': 'sincos_stretched',
        'projector_dims': [24, 20],
        'init': 'latent_mim',
        **options,
    }


def config(target=None, similarity=None, **options):
    """A small Latent MIM; arguments of the target generator and of the similarity constraint."""
    heads = {
        'discrimination': {'type': 'mmmim.PatchDiscriminationHead'},
        'similarity': {'type': 'mmmim.SimilarityConstraint', **(similarity or {})},
    }
    neck = {'context_dim': DIM, 'embed_dim': 8, 'depth': 2, 'num_heads': 2, 'grid': GRID}
    return {
        'type': 'mmmim.MaskedImageModeling',
        'data_preprocessor': {'type': 'mmmim.MIMDataPreprocessor', 'mean': [0.0] * 3, 'std': [1.0] * 3},
        'backbone': encoder(),
        'branches': {
            'latent': {
                'target_generator': {
                    'type': 'mmmim.LatentTarget',
                    'in_dim': DIM,
                    'sees': 'predicted',
                    **(target or {}),
                },
                'neck': {'type': 'mmmim.CrossAttentionDecoder', **neck},
                'head': {'type': 'mmmim.CombinedHead', 'heads': heads},
            }
        },
        'teacher': ['backbone'],
        **options,
    }


def build(*args, **options):
    torch.manual_seed(0)
    return MODELS.build(config(*args, **options)).train()


def jittered(images=4, gap=GAP, grid=GRID, seed=0, **mask):
    """Masks with offsets inside the cells, 0 and the gap included."""
    rng = torch.Generator().manual_seed(seed)
    offsets = torch.randint(gap + 1, (images, grid[0] * grid[1], 2), generator=rng)
    return replace(random_mask(images, seed=seed, grid=grid, **mask), offsets=offsets)


def batch(images=4, gap=GAP, grid=GRID, **mask):
    """Images of patches with gaps between, and masks that jitter the patches."""
    sides = [side * (PATCH + gap) for side in grid]
    pixels = torch.randn(images, 3, *sides, generator=torch.Generator().manual_seed(1))
    masks = random_mask(images, grid=grid, **mask) if gap == 0 else jittered(images, gap, grid, **mask)
    return {'inputs': pixels, 'mask': masks}


def top_left(mask, group, patch, gap, gap_of_columns=None):
    """Pixel of the upper left corner of a patch of a mask, and its image."""
    image = mask.image_index[group].item()
    row, column = divmod(patch, mask.grid[1])
    down, right = (0, 0) if mask.offsets is None else mask.offsets[image, patch].tolist()
    return image, row * (PATCH + gap) + down, column * (PATCH + (gap_of_columns or gap)) + right


# ------------------------------------------------------------------------------------------- non-contiguous patches


@pytest.mark.parametrize('grid', [(4, 4), (2, 5)])
@pytest.mark.parametrize(('per_image', 'blocks'), [(1, 1), (3, 1), (2, 2)])
def test_patches_pixel_by_pixel(grid, per_image, blocks):
    gap = 3, 5
    images = torch.randn(3, 3, grid[0] * (PATCH + gap[0]), grid[1] * (PATCH + gap[1]))
    mask = jittered(3, min(gap), grid, visible=3, predict=2, blocks=blocks, per_image=per_image)
    patches = pick_patches(images, PATCH, mask.visible, mask)
    pixels = PixelTarget(PATCH, normalize=False)(images, mask, None, None).patches
    assert patches.shape == (3 * per_image, 3, 3 * PATCH**2)
    assert pixels.shape == (3 * per_image, 2 * blocks, 3 * PATCH**2)
    for g in range(3 * per_image):
        for m, index in enumerate(mask.visible[g].tolist()):
            b, top, left = top_left(mask, g, index, *gap)
            for channel in range(3):
                for y in range(PATCH):
                    for x in range(PATCH):
                        value = images[b, channel, top + y, left + x]
                        assert patches[g, m, channel * PATCH**2 + y * PATCH + x] == value
        for m, index in enumerate(mask.predict[g].flatten().tolist()):
            b, top, left = top_left(mask, g, index, *gap)
            for y in range(PATCH):
                for x in range(PATCH):
                    expected = images[b, :, top + y, left + x]
                    assert torch.equal(pixels[g, m, (y * PATCH + x) * 3 : (y * PATCH + x + 1) * 3], expected)
    embed = PatchEmbed(PATCH, 5)
    torch.testing.assert_close(embed(images, mask), patches @ embed.weight.flatten(1).T + embed.bias)


def test_an_encoder_of_jittered_patches_is_that_of_the_patches_put_together():
    data, model = batch(3, per_image=2), MODELS.build(encoder())
    images, mask = data['inputs'], data['mask']
    touching = torch.zeros(3, 3, GRID[0] * PATCH, GRID[1] * PATCH)
    for g in range(0, 6, 2):
        for index in range(GRID[0] * GRID[1]):
            b, top, left = top_left(mask, g, index, GAP)
            y, x = index // GRID[1] * PATCH, index % GRID[1] * PATCH
            patch = images[b, :, top : top + PATCH, left : left + PATCH]
            touching[b, :, y : y + PATCH, x : x + PATCH] = patch
    one, other = model(images, mask), model(touching, replace(mask, offsets=None))
    torch.testing.assert_close(one.visible, other.visible)
    torch.testing.assert_close(one.extra, other.extra)
    assert one.grid == other.grid == GRID
    piece = model(images[1:3], mask.images(1, 3, 3))
    torch.testing.assert_close(piece.visible, one.visible[2:])


def test_images_that_do_not_divide_into_cells():
    mask = jittered()
    for size in ((25, 24), (24, 22), (12, 24)):
        with pytest.raises(InputError, match=f'{size[0]} x {size[1]} pixels do not divide into 4 x 4 cells'):
            pick_patches(torch.zeros(4, 3, *size), PATCH, mask.visible, mask)


# -------------------------------------------------------------------------------------------- positions, projector


def test_stretched_positions():
    for side in (2, 3, 4, 14):
        for dim in (4, 24):
            expected = reference.position_table(side, dim)[1:].float()
            table = make_positions('sincos_stretched', dim, 2, (side, side)).codes((side, side))
            torch.testing.assert_close(table, expected, rtol=0, atol=1e-6)
            assert (sincos_positions((side, side), dim) - table).abs().max() > 0.05
    for rows, columns in ((2, 5), (5, 1)):
        table = sincos_positions((rows, columns), 8, stretched=True).view(rows, columns, 8)
        for i in range(rows):
            for j in range(columns):
                u, v = (n * size / max(size - 1, 1) for n, size in ((i, rows), (j, columns)))
                waves = [f(c * w) for c in (v, u) for f in (math.sin, math.cos) for w in (1, 0.01)]
                torch.testing.assert_close(table[i, j], torch.tensor(waves), rtol=0, atol=1e-6)


@pytest.mark.parametrize('hidden', [(), (7,), (12, 5), (6, 9, 10)])
def test_projector(hidden):
    torch.manual_seed(0)
    projector, x = Projector(8, hidden), 1e-2 * torch.randn(2, 3, 8)
    with torch.no_grad():
        for parameter in projector.parameters():
            parameter.normal_()
    widths = [8, *hidden, 8]
    assert [tuple(layer.weight.shape) for layer in projector.linears] == list(zip(widths[1:], widths[:-1], strict=True))
    assert {name.split('.')[-1] for name, _ in projector.linears.named_parameters()} == {'weight'}
    expected = x
    for i, (linear, norm) in enumerate(zip(projector.linears, projector.norms, strict=True)):
        if i:
            expected = expected * 0.5 * (1 + torch.erf(expected / 2**0.5))
        expected = expected @ linear.weight.T
        centred = expected - expected.mean(-1, keepdim=True)
        expected = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt() * norm.weight + norm.bias
    torch.testing.assert_close(projector(x), expected, rtol=1e-4, atol=1e-5)


def test_every_token_is_projected_and_features_are_those_before():
    torch.manual_seed(0)
    model, images = MODELS.build(encoder()), torch.randn(2, 3, 16, 16)
    context = model(images, layers=(-1,))
    tokens = torch.cat([context.extra, context.visible], dim=1)
    torch.testing.assert_close(tokens, model.projector(model.norm(context.hidden[0])))
    assert (tokens - model.norm(context.hidden[0])).abs().max() > 0.1


# ------------------------------------------------------------------------------------------------------- decoder


def decoder_inputs(blocks=1, per_image=1, seed=0, **options):
    """A decoder whose tokens are not at their initial values, the output of an encoder, and masks."""
    torch.manual_seed(seed)
    decoder = CrossAttentionDecoder(DIM, 8, 2, 2, grid=GRID, **options)
    torch.nn.init.normal_(decoder.mask_token)
    mask = random_mask(3, visible=4, predict=4, blocks=blocks, per_image=per_image)
    groups = 3 * per_image
    context = Context(torch.randn(groups, 4, DIM), torch.randn(groups, 1, DIM), GRID, None)
    return decoder, context, mask


@pytest.mark.parametrize('visual_cues', [True, False])
def test_queries_and_context_of_the_decoder(visual_cues):
    decoder, context, mask = decoder_inputs(blocks=2, per_image=2, visual_cues=visual_cues)
    queries, source = decoder.inputs(context, mask)
    table = sincos_positions(GRID, 8, stretched=True)
    assert queries.shape == (12, 5, 8)
    assert source.shape == (12, 5, 8)
    for g in range(6):
        e = decoder.embed(context.visible[g])
        seen = table[mask.visible[g]]
        for t in range(2):
            row = 2 * g + t
            torch.testing.assert_close(source[row, 0], decoder.embed(context.extra[g, 0]))
            torch.testing.assert_close(source[row, 1:], e + seen)
            torch.testing.assert_close(queries[row, 0], decoder.cls_token[0])
            for m, index in enumerate(mask.predict[g, t].tolist()):
                expected = decoder.mask_token[0] + table[index]
                if visual_cues:
                    products = torch.stack([(table[index] * position).sum() / 8**0.5 for position in seen])
                    weights = products.exp() / products.exp().sum()
                    expected = expected + sum(w * value for w, value in zip(weights, e, strict=True))
                torch.testing.assert_close(queries[row, m + 1], expected)


@pytest.mark.parametrize('per_image', [1, 2])
def test_target_blocks_are_predicted_apart_from_each_other(per_image):
    decoder, context, mask = decoder_inputs(blocks=3, per_image=per_image)
    whole = decoder(context, mask).patches
    assert whole.shape == (3 * per_image, 12, DIM)
    parts = [decoder(context, replace(mask, predict=mask.predict[:, t : t + 1])).patches for t in range(3)]
    torch.testing.assert_close(whole, torch.cat(parts, dim=1))
    together = decoder(context, replace(mask, predict=mask.predict.flatten(1).unsqueeze(1))).patches
    assert (together - whole).abs().max() > 1e-3


def test_predictions_do_not_depend_on_the_order_of_what_is_visible():
    decoder, context, mask = decoder_inputs(blocks=2)
    order = torch.tensor([3, 0, 1, 2])
    moved = replace(context, visible=context.visible[:, order])
    expected = decoder(context, mask).patches
    torch.testing.assert_close(decoder(moved, replace(mask, visible=mask.visible[:, order])).patches, expected)
    assert (decoder(moved, mask).patches - expected).abs().max() > 1e-3
    order = torch.tensor([2, 3, 1, 0])
    swapped = decoder(context, replace(mask, predict=mask.predict[:, :, order])).patches
    torch.testing.assert_close(swapped, expected.unflatten(1, (2, 4))[:, :, order].flatten(1, 2))


def test_width_of_the_predictions():
    decoder, context, mask = decoder_inputs(out_dim=11)
    assert decoder(context, mask).patches.shape == (3, 4, 11)


# -------------------------------------------------------------------------------------------------------- losses


@pytest.mark.parametrize('standardize', [True, False])
@pytest.mark.parametrize('temperature', [0.2, 0.05])
def test_patch_discrimination(standardize, temperature):
    torch.manual_seed(0)
    prediction, target = 3 + torch.randn(3, 6, 5), torch.randn(3, 6, 5)
    losses = []
    for p, z in zip(prediction.double(), target.double(), strict=True):
        if standardize:
            mean = sum(p) / 6
            std = (sum((row - mean) ** 2 for row in p) / 5).sqrt()
            p = (p - mean) / (std + 1e-4)
        for k in range(6):
            cosines = [float(p[k] @ other / p[k].norm() / other.norm()) for other in z]
            exponentials = [math.exp(cosine / temperature) for cosine in cosines]
            losses.append(-math.log(exponentials[k] / sum(exponentials)))
    expected = 2 * temperature * sum(losses) / len(losses)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        loss = patch_discrimination(prediction, target, temperature, standardize)
        head = PatchDiscriminationHead(temperature, standardize).loss(Prediction(prediction), Target(target), None)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    assert head['loss'].item() == loss.item()


@pytest.mark.parametrize('patches', [2, 7, 176])
def test_chance_and_certainty(patches):
    torch.manual_seed(0)
    chance = 0.4 * math.log(patches)
    targets = torch.randn(2, patches, 300)
    same = torch.randn(2, 1, 300).expand(-1, patches, -1)
    assert patch_discrimination(same, targets).item() == pytest.approx(chance, rel=1e-5)
    assert patch_discrimination(targets, same).item() == pytest.approx(chance, rel=1e-5)
    assert patch_discrimination(same, targets, standardize=False).item() != pytest.approx(chance, rel=1e-3)
    assert patch_discrimination(targets, targets).item() < 0.5 * chance
    # Images have nothing to do with each other.
    assert patch_discrimination(targets, targets) == pytest.approx(
        sum(patch_discrimination(t[None], t[None]) for t in targets).item() / 2, rel=1e-5
    )


def test_one_patch_cannot_be_told_from_others():
    with pytest.raises(InputError, match='at least 2 patches'):
        patch_discrimination(torch.randn(2, 1, 5), torch.randn(2, 1, 5))


def test_similarity_of_all_pairs():
    torch.manual_seed(0)
    tokens = 0.5 + torch.randn(3, 4, 6)
    expected = []
    for image in tokens:
        pairs = [float(F.cosine_similarity(a, b, dim=0)) for a in image for b in image]
        expected.append(sum(pairs) / 16)
    torch.testing.assert_close(mean_similarity(tokens), torch.tensor(expected))
    torch.testing.assert_close(mean_similarity(tokens[:, :1]), torch.ones(3))


@pytest.mark.parametrize('per_image', [True, False])
def test_similarity_constraint(per_image):
    torch.manual_seed(0)
    predicted, visible = torch.randn(4, 6, 8), 1 + torch.randn(4, 3, 8)
    context = Context(visible.requires_grad_(), torch.full((4, 1, 8), torch.nan), GRID, None)
    prediction = Prediction(predicted.requires_grad_())
    losses = Constraint(target=0.4, weight=0.3, per_image=per_image).loss(prediction, None, context)
    assert set(losses) == {'loss_similarity_predicted', 'loss_similarity_visible'}
    for name, tokens in (('predicted', predicted), ('visible', visible)):
        values = mean_similarity(tokens)
        squares = [(value - 0.4) ** 2 for value in (values if per_image else [values.mean()])]
        torch.testing.assert_close(losses[f'loss_similarity_{name}'], 0.3 * sum(squares) / len(squares))
        assert values.std() > 0.01
    sum(losses.values()).backward()
    assert visible.grad.abs().sum() > 0
    assert predicted.grad.abs().sum() > 0


def test_losses_of_combined_heads():
    torch.manual_seed(0)
    prediction, target = Prediction(torch.randn(2, 6, 8)), Target(torch.randn(2, 6, 8))
    context = Context(torch.randn(2, 3, 8), torch.zeros(2, 0, 8), GRID, None)
    heads = {'tell': {'type': 'mmmim.PatchDiscriminationHead'}, 'hold': {'type': 'mmmim.SimilarityConstraint'}}
    losses = CombinedHead(heads).loss(prediction, target, context)
    alone = PatchDiscriminationHead().loss(prediction, target, context) | Constraint().loss(prediction, None, context)
    assert losses == alone
    assert len(losses) == 3
    clash = CombinedHead({**heads, 'pixels': {'type': 'mmmim.RegressionHead'}})
    with pytest.raises(InputError, match="'pixels' has a loss 'loss', as another of its heads"):
        clash.loss(prediction, target, context)


# ------------------------------------------------------------------------------------------------------- targets


def changed_where(images, mask, indices, gap, by=1.0):
    """Images with other pixels in the patches of ``indices [G, M]``."""
    images = images.clone()
    for g in range(mask.num_masks):
        for index in indices[g].tolist():
            b, top, left = top_left(mask, g, index, gap)
            images[b, :, top : top + PATCH, left : left + PATCH] += by
    return images


@pytest.mark.parametrize('gap', [0, GAP])
@pytest.mark.parametrize('source', ['teacher', 'student'])
@pytest.mark.parametrize('sees', ['predicted', 'all'])
def test_what_targets_know(sees, source, gap):
    data = batch(3, gap, visible=10, predict=3, blocks=2)
    images, mask = data['inputs'], data['mask']
    model = build({'sees': sees, 'encoder': source})

    def targets(pixels):
        return model.targets(pixels, mask, differentiable=False)['latent'].patches

    before = targets(images)
    assert before.shape == (3, 6, DIM)
    by_visible = targets(changed_where(images, mask, mask.visible, gap))
    assert torch.equal(by_visible, before) == (sees == 'predicted')
    by_target = targets(changed_where(images, mask, mask.flat_predict()[:, :1], gap))
    assert (by_target - before)[:, 0].abs().max() > 1e-3
    between = changed_where(images + 1.0, mask, mask.of_all.visible, gap, by=-1.0)
    assert ((between - images).abs().max() > 0.5) == (gap > 0)
    torch.testing.assert_close(targets(between), before, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('depth', [0, 1, 2, None])
@pytest.mark.parametrize('source', ['teacher', 'student'])
def test_targets_of_the_first_blocks(depth, source):
    data, model = batch(3), build({'depth': depth, 'encoder': source})
    images, mask = data['inputs'], data['mask']
    shallow = MODELS.build(encoder(depth=2))
    shallow.load_state_dict(model.backbone.state_dict())
    shallow.blocks = shallow.blocks[:depth]
    expected = shallow(images, mask.of_predicted).visible
    torch.testing.assert_close(model.targets(images, mask, differentiable=False)['latent'].patches, expected)


@pytest.mark.parametrize('own', [False, True])
@pytest.mark.parametrize('stop_gradient', [True, False])
def test_gradients_through_targets(stop_gradient, own):
    """The pixels of predicted patches have gradients through targets only."""
    target = {'encoder': encoder(projector_dims=[8]) if own else 'student', 'stop_gradient': stop_gradient}
    model = build(target, teacher=None)
    data = batch(3, gap=0, visible=6, predict=5)
    images, mask = data['inputs'].requires_grad_(), data['mask']
    made = model.targets(images, mask, differentiable=False)
    assert (made == {}) == (not stop_gradient)
    assert all(not t.patches.requires_grad for t in made.values())
    sum(model.loss(images, mask, made).values()).backward()
    seen, asked = (
        pick_patches(images.grad, PATCH, index, mask).abs().sum() for index in (mask.visible, mask.flat_predict())
    )
    assert seen > 0
    assert (asked > 0) == (not stop_gradient)
    parameters = dict(model.branches['latent'].target_generator.named_parameters())
    assert len(parameters) > 0 or not own
    assert all((p.grad is not None) == (not stop_gradient) for p in parameters.values())


def test_an_encoder_of_its_own_is_trained_and_not_averaged():
    target = {'encoder': encoder(depth=1), 'stop_gradient': False}
    model, data = build(target), batch(4)
    own = 'branches.latent.target_generator.encoder.'
    names = [name for name, p in model.named_parameters() if name.startswith(own) and p.requires_grad]
    assert len(names) > 20
    assert not any('target_generator' in name for name in model.teacher.state_dict())
    generator = model.branches['latent'].target_generator
    expected = generator.encoder(data['inputs'], data['mask'].of_predicted).visible
    torch.testing.assert_close(generator(data['inputs'], data['mask'], None, model.backbone).patches, expected)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    model.train_step(data, optim_wrapper(model, lr=1e-2))
    after = dict(model.named_parameters())
    assert all(not torch.equal(before[name], after[name]) for name in names)
    assert all(torch.equal(before[name], after[name]) for name in before if name.startswith('teacher.'))


def test_a_teacher_has_no_gradients():
    with pytest.raises(InputError, match='a teacher gets no gradients'):
        LatentTarget(DIM, stop_gradient=False)
    for option in ({'encoder': 'ema'}, {'sees': 'visible'}, {'normalize': 'batch'}):
        with pytest.raises(InputError, match=f'LatentTarget.{next(iter(option))} must be one of'):
            LatentTarget(DIM, **option)


# ---------------------------------------------------------------------------------------------------------- step


def steps_of(micro_batch_size, similarity_per_image, target=None, **mask):
    similarity = {'per_image': similarity_per_image, 'weight': 1.0}
    model = build(target, similarity, micro_batch_size=micro_batch_size)
    torch.nn.init.normal_(model.branches['latent'].neck.mask_token)
    wrapper, data = optim_wrapper(model), batch(6, visible=4, predict=8, **mask)
    losses = [model.train_step(data, wrapper) for _ in range(2)]
    return losses, model.state_dict()


@pytest.mark.parametrize('target', ['teacher', 'student', 'own'])
@pytest.mark.parametrize(('micro_batch_size', 'masks'), [(1, 1), (4, 1), (2, 2)])
def test_micro_batches_are_the_whole_batch(target, micro_batch_size, masks):
    options = {
        'teacher': {'sees': 'all'},
        'student': {'encoder': 'student', 'stop_gradient': False},
        'own': {'encoder': encoder(depth=1), 'stop_gradient': False},
    }[target]
    whole, split = (steps_of(size, True, options, per_image=masks) for size in (None, micro_batch_size))
    for one, other in zip(whole[0], split[0], strict=True):
        assert set(one) > {'loss_latent', 'loss_latent_similarity_predicted', 'loss_latent_similarity_visible'}
        for key in one:
            torch.testing.assert_close(one[key], other[key], rtol=1e-4, atol=1e-6, msg=lambda m, key=key: f'{key}: {m}')
    for key, value in whole[1].items():
        if not key.endswith('k_proj.bias'):  # without gradient in exact arithmetic, AdamW enlarges the rounding
            torch.testing.assert_close(value, split[1][key], rtol=2e-3, atol=1e-4, msg=lambda m, key=key: f'{key}: {m}')


def test_micro_batches_show_in_a_similarity_averaged_over_them():
    (whole, _), (split, _) = (steps_of(size, False) for size in (None, 1))
    assert whole[0]['loss_latent'] == pytest.approx(split[0]['loss_latent'].item(), rel=1e-4)
    assert whole[0]['loss_latent_similarity_predicted'] < split[0]['loss_latent_similarity_predicted'] - 1e-5


def test_it_learns():
    model, data = build(), batch(4, visible=6, predict=10)
    wrapper = optim_wrapper(model, lr=3e-3)
    losses = [model.train_step(data, wrapper)['loss_latent'].item() for _ in range(30)]
    assert losses[0] > 0.75 * 0.4 * math.log(10)
    assert losses[-1] < 0.6 * losses[0]


# ------------------------------------------------------------------------------------------------- initialisation


def assert_uniform(weight, bound):
    assert weight.abs().max() <= bound
    assert weight.abs().max() > 0.97 * bound
    assert weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.05)
    assert abs(weight.mean().item()) < 0.05 * bound


def test_initialisation():
    torch.manual_seed(0)
    vit = ViT(32, 8, 96, 1, 4, positions='sincos_stretched', projector_dims=(120, 80), init='latent_mim')
    decoder = CrossAttentionDecoder(96, 64, 1, 4)
    xavier = [(vit.patch_embed.weight.flatten(1), 'patch embedding')]
    xavier += [(layer.weight, 'projector') for layer in vit.projector.linears]
    xavier += [(vit.blocks[0].attn.proj.weight, 'attention'), (vit.blocks[0].mlp.fc1.weight, 'MLP')]
    block = decoder.blocks[0]
    xavier += [(decoder.embed.weight, 'embedding'), (decoder.proj.weight, 'head')]
    xavier += [(block.cross_attn.q_proj.weight, 'queries'), (block.mlp.fc2.weight, 'MLP of the decoder')]
    for weight, _ in xavier:
        assert_uniform(weight, math.sqrt(6 / sum(weight.shape)))
    for attention, dim in ((vit.blocks[0].attn, 96), (block.self_attn, 64)):
        for layer in (attention.q_proj, attention.k_proj, attention.v_proj):
            assert_uniform(layer.weight, math.sqrt(6 / (dim + 3 * dim)))
    for layer in (block.cross_attn.k_proj, block.cross_attn.v_proj):
        assert_uniform(layer.weight, math.sqrt(6 / (64 + 2 * 64)))
    for module in (vit, decoder):
        for name, parameter in module.named_parameters():
            if name.endswith('bias'):
                assert not parameter.any(), name
            if 'norm' in name and name.endswith('weight'):
                assert (parameter == 1).all(), name
    assert not decoder.mask_token.any()
    for token in (vit.extra_tokens, decoder.cls_token):
        assert 0.01 < token.std() < 0.03
    assert ViT(32, 8, 96, 1, 4, init='mae').patch_embed.bias.any()
