"""The parts of PiLaMIM: two decoders, the global token, targets out of order, a teacher with weights of its own."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmmim.apis import FeatureExtractor
from mmmim.features.extraction import extract_features
from mmmim.models import CombinedHead, LatentTarget, RegressionHead, SelfAttentionPredictor, ViT
from mmmim.registry import MODELS
from mmmim.structures import Context, Prediction, Target
from mmmim.utils import InputError
from tests.toys import optim_wrapper, random_mask

DIM, PATCH, GRID = 16, 4, (4, 4)
STYLE = {'positions': 'learnable', 'qkv_bias': False, 'norm_eps': 1e-5, 'init': 'torch'}


def encoder(**options):
    sizes = {'img_size': GRID[0] * PATCH, 'patch_size': PATCH, 'embed_dim': DIM, 'depth': 2, 'num_heads': 2}
    return {'type': 'mmmim.ViT', **sizes, **STYLE, **options}


def decoder(out_dim, **options):
    sizes = {'context_dim': DIM, 'embed_dim': 8, 'depth': 2, 'num_heads': 2, 'grid': GRID, 'out_dim': out_dim}
    own = {'num_extra_positions': 1, 'final_norm': False}
    return {'type': 'mmmim.SelfAttentionPredictor', **sizes, **own, **STYLE, **options}


def config(target=None, cls=True, **options):
    """A small PiLaMIM; arguments of the latent target, and whether CLS is predicted."""
    heads = {'patches': {'type': 'mmmim.RegressionHead'}, 'cls': {'type': 'mmmim.RegressionHead', 'of': 'cls'}}
    combined = {'type': 'mmmim.CombinedHead', 'heads': heads}
    return {
        'type': 'mmmim.MaskedImageModeling',
        'data_preprocessor': {'type': 'mmmim.MIMDataPreprocessor', 'mean': [0.0] * 3, 'std': [1.0] * 3},
        'backbone': encoder(),
        'branches': {
            'pixels': {
                'target_generator': {'type': 'mmmim.PixelTarget', 'patch_size': PATCH, 'normalize': False},
                'neck': decoder(3 * PATCH**2),
                'head': {'type': 'mmmim.RegressionHead'},
            },
            'latent': {
                'target_generator': {'type': 'mmmim.LatentTarget', 'in_dim': DIM, **(target or {})},
                'neck': decoder(DIM, predict_cls=cls),
                'head': combined if cls else heads['patches'],
            },
        },
        'teacher': ['backbone'],
        **options,
    }


def build(*args, **options):
    torch.manual_seed(0)
    return MODELS.build(config(*args, **options)).train()


@pytest.fixture
def images():
    return torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def mask():
    return random_mask(3, visible=4, predict=12)


# ----------------------------------------------------------------------------------------------------------- teacher


def equal_weights(model):
    state = model.state_dict()
    return {k: torch.equal(v, state[k.removeprefix('teacher.')]) for k, v in state.items() if k.startswith('teacher.')}


def test_a_teacher_starts_as_the_student_or_on_its_own():
    for start in ('student', 'own'):
        model = build(teacher_init=start)
        for _ in range(2):
            same = equal_weights(model)
            constant = {key for key in same if 'norm' in key}  # ones and zeros in every model
            assert all(same[key] for key in constant)
            assert {same[key] for key in same if key not in constant} == {start == 'student'}
            model.init_weights()
        assert not any(parameter.requires_grad for parameter in model.teacher.parameters())


def test_own_weights_of_a_teacher_are_drawn_like_those_of_a_student():
    model = build(teacher_init='own')
    one, other = (part.blocks[0].mlp.fc1.weight for part in (model.backbone, model.teacher.backbone))
    assert one.std().item() == pytest.approx(other.std().item(), rel=0.1)
    assert MODELS.build(config(teacher=None, teacher_init='own')).teacher is None
    with pytest.raises(InputError, match="teacher_init must be 'student' or 'own', got 'copy'"):
        build(teacher_init='copy')


# ----------------------------------------------------------------------------------------------------------- targets


def test_targets_are_the_latents_of_their_patches(images, mask):
    model = build()
    latents = model.teacher.backbone(images)
    target = model.targets(images, mask, differentiable=False)['latent']
    for b in range(3):
        torch.testing.assert_close(target.patches[b], latents.visible[b, mask.predict[b, 0]])
    torch.testing.assert_close(target.cls, latents.extra[:, 0])
    assert not target.patches.requires_grad


@pytest.mark.parametrize('gap', [False, True])
def test_of_several_tokens_the_first_is_the_target_and_the_prediction(images, gap):
    """Proxies and registers after CLS change nothing of what CLS is."""
    options = {'backbone': encoder(num_cls_tokens=2, num_registers=3)}
    changed = config(**options)
    for branch in changed['branches'].values():
        branch['neck']['num_extra_positions'] = 5
    torch.manual_seed(0)
    model = MODELS.build(changed)
    mask = random_mask(3, visible=4, predict=12)
    if gap:
        mask = replace(mask, offsets=torch.zeros(3, 16, 2, dtype=torch.int64))
    context = model.teacher.backbone(images)
    assert context.num_cls_tokens == 2
    assert torch.equal(context.cls, context.extra[:, :2])
    target = model.targets(images, mask, differentiable=False)['latent']
    torch.testing.assert_close(target.cls, context.extra[:, 0], rtol=1e-4, atol=1e-5)
    for other in range(1, 5):
        assert not torch.allclose(target.cls, context.extra[:, other], rtol=1e-2)
    features = extract_features(model.backbone, images)
    torch.testing.assert_close(features.cls, model.backbone(images).extra[:, :2].mean(dim=1))


@pytest.mark.parametrize(('own', 'student'), [((1, 0), (0, 1)), ((0, 1), (1, 0)), ((2, 1), (1, 0)), ((0, 0), (1, 0))])
def test_an_encoder_of_its_own_tells_of_its_own_tokens(images, mask, own, student):
    """(CLS, registers) of the encoder that makes the targets, and of the student."""
    tokens = encoder(num_cls_tokens=own[0], num_registers=own[1])
    generator = LatentTarget(DIM, encoder=tokens)
    backbone = MODELS.build(encoder(num_cls_tokens=student[0], num_registers=student[1]))
    target = generator(images, mask, None, backbone)
    if not own[0]:
        assert target.cls is None  # a register is none
    else:
        torch.testing.assert_close(target.cls, generator.encoder(images).extra[:, 0])


def test_an_encoder_that_does_not_tell_is_asked(images, mask, monkeypatch):
    """As those of projects whose contexts have no such number: their attribute counts."""
    model = build()
    run = ViT.forward
    monkeypatch.setattr(ViT, 'forward', lambda *args, **options: replace(run(*args, **options), num_cls_tokens=None))
    target = model.targets(images, mask, differentiable=False)['latent']
    torch.testing.assert_close(target.cls, model.teacher.backbone(images).extra[:, 0])
    assert model.branches['latent'].neck(model.backbone(images, mask), mask).cls is not None
    assert extract_features(model.backbone, images).cls is not None


def test_a_register_is_not_predicted_as_cls(images, mask):
    neck = MODELS.build(decoder(DIM, predict_cls=True))
    bare = MODELS.build(encoder(num_cls_tokens=0, num_registers=1))
    with pytest.raises(InputError, match=r'predict_cls needs .* there are 0 tokens'):
        neck(bare(images, mask), mask)


def test_sizes_of_an_encoder_of_its_own():
    with pytest.raises(InputError, match=r'in_dim is 8 and its encoder\.embed_dim is 16'):
        LatentTarget(8, encoder=encoder())
    wide = encoder(embed_dim=24)
    target = {'encoder': wide, 'in_dim': 24}
    assert MODELS.build(
        config(
            target, branches={'latent': {**config(target)['branches']['latent'], 'neck': decoder(24, predict_cls=True)}}
        )
    )
    with pytest.raises(InputError, match=r'target_generator\.patch_size is 8 and model\.backbone\.patch_size is 4'):
        MODELS.build(config({'encoder': encoder(patch_size=8)}))


def test_targets_that_are_not_aligned_are_those_of_other_places(images, mask):
    model = build({'aligned': False})
    generator, latents = model.branches['latent'].target_generator, model.teacher.backbone(images)
    order = random_mask(3, visible=0, predict=16, seed=5).predict[:, 0]
    generator.draw_order = lambda number, total, device: order
    target = model.targets(images, mask, differentiable=False)['latent']
    for b in range(3):
        for m, patch in enumerate(mask.predict[b, 0].tolist()):
            torch.testing.assert_close(target.patches[b, m], latents.visible[b, order[b, patch]])
    torch.testing.assert_close(target.cls, latents.extra[:, 0])
    del generator.draw_order
    drawn = [model.targets(images, mask, differentiable=False)['latent'].patches for _ in range(2)]
    assert not torch.equal(*drawn)
    # Twelve different latents of the same image, mostly not those of the predicted patches.
    nearest = torch.cdist(drawn[0], latents.visible).argmin(dim=2)
    assert all(len(set(row.tolist())) == 12 for row in nearest)
    assert (nearest != mask.predict[:, 0]).float().mean() > 0.5


def test_orders_are_permutations_of_their_own():
    order = LatentTarget.draw_order(50, 9, torch.device('cpu'))
    assert torch.equal(order.sort(dim=1).values, torch.arange(9).expand(50, -1))
    assert len({tuple(row) for row in order.tolist()}) > 40


def test_gradients_flow_through_predictions_only(images, mask):
    model = build({'aligned': False})
    losses = model.loss(images, mask, model.targets(images, mask, differentiable=False))
    (losses['loss_latent'] + losses['loss_latent_cls']).backward()
    got = {name.split('.neck')[0].split('.')[0] for name, p in model.named_parameters() if p.grad is not None}
    assert got == {'backbone', 'branches'}
    assert all(p.grad is None for p in model.branches['pixels'].parameters())
    assert all(p.grad.abs().sum() > 0 for p in model.branches['latent'].parameters())


def test_disorder_needs_targets_that_see_all():
    with pytest.raises(InputError, match="aligned=False draws from all patches: set sees='all'"):
        LatentTarget(DIM, sees='predicted', aligned=False)


def test_the_target_of_cls_is_normalised_like_the_others(images, mask):
    model = build({'normalize': 'layer'})
    target = model.targets(images, mask, differentiable=False)['latent']
    torch.testing.assert_close(target.cls, F.layer_norm(model.teacher.backbone(images).extra[:, 0], (DIM,)))


# ---------------------------------------------------------------------------------------------------------- decoders


def naive(neck, context, mask):
    """All tokens in raster order, CLS first, as MAE's decoder has them: predictions of CLS and of all patches."""
    tokens = neck.mask_token.expand(3, 16, -1).clone()
    for b in range(3):
        tokens[b, mask.visible[b]] = neck.embed(context.visible[b])
    x = torch.cat([neck.embed(context.extra), tokens], dim=1)
    x = x + torch.cat([neck.positions.extra, neck.positions.weight])
    for block in neck.blocks:
        x = block(x)
    x = neck.proj(x)
    return x[:, 0], x[:, 1:]


def test_a_decoder_predicts_cls_and_patches(images, mask):
    model = build()
    context = model.backbone(images, mask)
    for name in ('pixels', 'latent'):
        neck = model.branches[name].neck
        prediction = neck(context, mask)
        cls, patches = naive(neck, context, mask)
        expected = torch.stack([patches[b, mask.predict[b, 0]] for b in range(3)])
        torch.testing.assert_close(prediction.patches, expected, rtol=1e-4, atol=1e-5)
        if name == 'latent':
            torch.testing.assert_close(prediction.cls, cls, rtol=1e-4, atol=1e-5)
        else:
            assert prediction.cls is None


def test_a_last_norm_is_for_cls_too(images, mask):
    context = ViT(**{k: v for k, v in encoder().items() if k != 'type'})(images, mask)
    options = {k: v for k, v in decoder(None, predict_cls=True).items() if k != 'type'}
    torch.manual_seed(0)
    plain = SelfAttentionPredictor(**options)
    torch.manual_seed(0)
    normed = SelfAttentionPredictor(**{**options, 'final_norm': True})
    one, other = plain(context, mask), normed(context, mask)
    torch.testing.assert_close(other.cls, F.layer_norm(one.cls, (8,)))
    torch.testing.assert_close(other.patches, F.layer_norm(one.patches, (8,)))
    assert not any(key.startswith('norm.') for key in plain.state_dict())
    assert 'norm.weight' in normed.state_dict()


def test_the_position_of_cls_is_learned(images, mask):
    model = build()
    neck = model.branches['latent'].neck
    context = model.backbone(images, mask)
    before = neck(context, mask).patches
    neck(context, mask).cls.sum().backward()
    assert neck.positions.extra.shape == (1, 8)
    assert neck.positions.extra.grad.abs().sum() > 0
    with torch.no_grad():
        neck.positions.extra[:, 0] += 1  # of one channel: a layer norm takes away what all have
    assert not torch.allclose(neck(context, mask).patches, before)


def test_cls_without_a_position(images, mask):
    neck = build().branches['pixels'].neck
    plain = MODELS.build(decoder(3 * PATCH**2, num_extra_positions=0))
    assert 'positions.extra' not in plain.state_dict()
    state = {key: value for key, value in neck.state_dict().items() if key != 'positions.extra'}
    plain.load_state_dict(state)
    with torch.no_grad():
        neck.positions.extra.zero_()
    context = build().backbone(images, mask)
    torch.testing.assert_close(plain(context, mask).patches, neck(context, mask).patches)


def test_wrong_numbers_of_extra_tokens_are_refused(images):
    wrong = config()
    wrong['branches']['pixels']['neck']['num_extra_positions'] = 2
    with pytest.raises(InputError, match=r'num_extra_positions is 2 and model\.backbone\.num_extra_tokens is 1'):
        MODELS.build(wrong)
    neck = MODELS.build(decoder(DIM, predict_cls=True, num_extra_positions=0))
    bare = MODELS.build(encoder(num_cls_tokens=0))
    masks = random_mask(3, visible=4, predict=12)
    with pytest.raises(InputError, match=r'predict_cls needs .* there are 0 tokens and 1 blocks'):
        neck(bare(images, masks), masks)
    blocks = random_mask(3, visible=4, predict=3, blocks=2)
    with pytest.raises(InputError, match='there are 1 tokens and 2 blocks'):
        neck(MODELS.build(encoder())(images, blocks), blocks)


# ------------------------------------------------------------------------------------------------------------- losses


def pair(seed=0, patches=7, cls=True):
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(2, patches, 5, generator=rng), torch.randn(2, 5, generator=rng) if cls else None


CONTEXT = Context(visible=torch.zeros(2, 2, 5), extra=torch.zeros(2, 1, 5), grid=(3, 3), positions=lambda index: index)


def test_losses_of_patches_and_of_cls():
    prediction, target = Prediction(*pair()), Target(*pair(1))
    heads = {'a': {'type': 'mmmim.RegressionHead'}, 'b': {'type': 'mmmim.RegressionHead', 'of': 'cls', 'weight': 0.5}}
    losses = CombinedHead(heads).loss(prediction, target, CONTEXT)
    assert set(losses) == {'loss', 'loss_cls'}
    torch.testing.assert_close(losses['loss'], (prediction.patches - target.patches).square().mean())
    torch.testing.assert_close(losses['loss_cls'], 0.5 * (prediction.cls - target.cls).square().mean())
    huber = RegressionHead('huber', of='cls').loss(prediction, target, CONTEXT)['loss_cls']
    torch.testing.assert_close(huber, F.smooth_l1_loss(prediction.cls, target.cls))


def test_a_nominal_ratio():
    """7 of 9 patches are predicted; the ratio of the recipe is 0.7."""
    prediction, target = Prediction(*pair()), Target(*pair(1))
    loss = RegressionHead(nominal_ratio=0.7).loss(prediction, target, CONTEXT)['loss']
    squares = (prediction.patches - target.patches).square().sum()
    torch.testing.assert_close(loss, squares / (2 * 9 * 5) / 0.7)
    exact = RegressionHead(nominal_ratio=7 / 9).loss(prediction, target, CONTEXT)['loss']
    torch.testing.assert_close(exact, RegressionHead().loss(prediction, target, CONTEXT)['loss'])


def test_heads_that_make_no_sense_are_refused():
    with pytest.raises(InputError, match="of must be 'patches' or 'cls', got 'registers'"):
        RegressionHead(of='registers')
    for options in ({'nominal_ratio': 0.0}, {'nominal_ratio': 1.5}, {'nominal_ratio': 0.75, 'of': 'cls'}):
        with pytest.raises(InputError, match='a share of the patches, for patches only'):
            RegressionHead(**options)
    head = RegressionHead(of='cls')
    with pytest.raises(InputError, match=r'the neck predicts no CLS: set neck\.predict_cls=True'):
        head.loss(Prediction(*pair(cls=False)), Target(*pair()), CONTEXT)
    with pytest.raises(InputError, match='the target generator gives no CLS'):
        head.loss(Prediction(*pair()), Target(*pair(cls=False)), CONTEXT)


# ------------------------------------------------------------------------------------------------------- whole model


def test_weights_start_as_torch_draws_them():
    torch.manual_seed(0)
    wide = {'embed_dim': 64, 'depth': 3, 'num_heads': 4}
    model = ViT(**{**{k: v for k, v in encoder().items() if k != 'type'}, **wide})
    checked = 0
    for name, layer in model.named_modules():
        if isinstance(layer, nn.Linear) or name == 'patch_embed':
            bound = 1 / math.sqrt(layer.weight[0].numel())
            values = [v for v in (layer.weight, layer.bias) if v is not None]
            checked += len(values)
            for value in values:
                assert value.abs().max() <= bound, name
                assert value.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.25), name
        elif isinstance(layer, nn.LayerNorm):
            assert (layer.weight == 1).all()
            assert (layer.bias == 0).all()
            assert layer.eps == 1e-5
    assert checked == 2 + 3 * (3 + 2 + 4)  # patch embedding; queries, keys and values have no bias
    assert not [key for key in model.state_dict() if key.endswith(('q_proj.bias', 'k_proj.bias', 'v_proj.bias'))]
    for value in (model.positions.weight, model.extra_tokens):
        assert value.requires_grad
        assert value.std().item() == pytest.approx(0.02, rel=0.25)
    assert model.positions.extra is None


def test_a_step_trains_everything(images, mask):
    model = build(teacher_init='own', target={'aligned': False})
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    log = model.train_step({'inputs': images, 'mask': mask}, optim_wrapper(model))
    assert {'loss_pixels', 'loss_latent', 'loss_latent_cls'} < set(log)
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {name for name, p in model.named_parameters() if p.requires_grad}


def test_micro_batches_share_the_targets_of_cls(images, mask):
    logs = []
    for size in (None, 2):
        model = build(micro_batch_size=size)
        logs.append(model.train_step({'inputs': images, 'mask': mask}, optim_wrapper(model)))
    for name in ('loss_pixels', 'loss_latent', 'loss_latent_cls', 'grad_norm'):
        torch.testing.assert_close(logs[0][name], logs[1][name], rtol=1e-5, atol=1e-6)


def test_without_cls(images, mask):
    model = build(cls=False)
    log = model.train_step({'inputs': images, 'mask': mask}, optim_wrapper(model))
    assert {name for name in log if name.startswith('loss_')} == {'loss_pixels', 'loss_latent'}


def test_branches_that_are_switched_off(images, mask):
    both = config()
    for off, losses in (('pixels', {'loss_latent', 'loss_latent_cls'}), ('latent', {'loss_pixels'})):
        cfg = {**both, 'branches': {**both['branches'], off: None}}
        if off == 'latent':
            cfg['teacher'] = None
        model = MODELS.build(cfg)
        log = model.train_step({'inputs': images, 'mask': mask}, optim_wrapper(model))
        assert {name for name in log if name.startswith('loss_')} == losses
        assert not any(f'branches.{off}.' in name for name in model.state_dict())
        assert FeatureExtractor(cfg, model.state_dict())(images).cls is not None
    with pytest.raises(InputError, match=r'model\.branches has no branch'):
        MODELS.build({**both, 'branches': dict.fromkeys(both['branches'])})
