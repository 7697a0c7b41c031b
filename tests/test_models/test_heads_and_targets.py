"""Heads and target generators beside those of the methods' defaults."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmmim.models import LatentTarget, PrototypeHead, RegressionHead, TeacherAssignments
from mmmim.registry import MODELS
from mmmim.structures import Context, Prediction, Target
from mmmim.utils import InputError
from tests.test_models.test_functional import naive_sinkhorn
from tests.toys import DIM, batch, capi_config, optim_wrapper, random_mask


@pytest.mark.parametrize(
    ('name', 'expected'),
    [
        ('mse', lambda d: (d**2).mean()),
        ('l1', lambda d: d.abs().mean()),
        ('huber', lambda d: torch.where(d.abs() < 1, d**2 / 2, d.abs() - 0.5).mean()),
    ],
)
def test_regression_losses(name, expected):
    torch.manual_seed(0)
    prediction, target = 2 * torch.randn(2, 3, 5), 2 * torch.randn(2, 3, 5)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        loss = RegressionHead(name).loss(Prediction(prediction), Target(target.bfloat16()), None)['loss']
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, expected(prediction - target.bfloat16().float()))


def test_a_loss_that_does_not_exist():
    with pytest.raises(InputError, match="one of mse, l1, huber, got 'hubert'"):
        RegressionHead('hubert')


def test_prototype_head_with_an_mlp():
    torch.manual_seed(0)
    head, x = PrototypeHead(6, 9, mlp_dims=(8, 7, 5)), torch.randn(2, 3, 6)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.copy_(torch.randn_like(parameter))
    weights = {name: p for name, p in head.named_parameters() if name.startswith('mlp')}
    assert [tuple(p.shape) for p in weights.values()] == [(8, 6), (8,), (7, 8), (7,), (5, 7), (5,)]
    layers = list(zip(*[iter(weights.values())] * 2, strict=True))
    h = x
    for i, (weight, bias) in enumerate(layers):
        h = h @ weight.T + bias
        if i < len(layers) - 1:
            h = h * 0.5 * (1 + torch.erf(h / 2**0.5))
    h = h / h.norm(dim=-1, keepdim=True)
    prototypes = head.weight_g * head.weight_v / head.weight_v.norm(dim=1, keepdim=True)
    torch.testing.assert_close(head(x), h @ prototypes.T)
    assert len(PrototypeHead(6, 9).mlp) == 0


class Teacher(nn.Module):
    """Knows the tokens of a batch."""

    def __init__(self, tokens, head=None):
        super().__init__()
        self.tokens = tokens
        self.head = head

    def encode(self, images, mask=None, depth=None):
        return Context(visible=self.tokens, extra=self.tokens[:, :0], grid=(4, 4), positions=None)


def picked(tokens, mask):
    return torch.stack([tokens[image][mask.flat_predict()[g]] for g, image in enumerate(mask.image_index.tolist())])


@pytest.mark.parametrize('normalize', [None, 'layer', 'standard'])
def test_latents_of_the_teacher(normalize):
    torch.manual_seed(0)
    tokens, mask = torch.randn(3, 16, 5), random_mask(3, blocks=2, per_image=2)
    target = LatentTarget(5, normalize=normalize)(None, mask, Teacher(tokens), None).patches
    expected = picked(tokens, mask)
    if normalize:
        centred = expected - expected.mean(dim=-1, keepdim=True)
        squares = centred.pow(2).sum(dim=-1, keepdim=True)
        expected = centred / (squares / 5 + 1e-5 if normalize == 'layer' else squares / 4 + 1e-6).sqrt()
    assert target.shape == (6, 6, 5)
    torch.testing.assert_close(target, expected)
    with pytest.raises(InputError, match='LatentTarget needs a teacher'):
        LatentTarget(5)(None, mask, None, None)


@pytest.mark.parametrize('positional', [True, False])
@pytest.mark.parametrize('chunk_positions', [None, 5])
def test_teacher_assignments(positional, chunk_positions):
    torch.manual_seed(0)
    tokens, mask = torch.randn(6, 16, 5), random_mask(6, per_image=2)
    head = PrototypeHead(5, 9, mlp_dims=(4,))
    generator = TeacherAssignments('head', 9, positional, chunk_positions=chunk_positions)
    target = generator(None, mask, Teacher(tokens, head), None).patches
    with torch.no_grad():
        scores = head(tokens).transpose(0, 1) / 0.06
        expected = naive_sinkhorn(scores if positional else scores.reshape(1, -1, 9)).reshape(16, 6, 9).transpose(0, 1)
    torch.testing.assert_close(target, picked(expected, mask), rtol=1e-4, atol=1e-6)
    assert not target.requires_grad
    with pytest.raises(InputError, match=r"no part 'branches\.ibot\.head'"):
        TeacherAssignments('branches.ibot.head', 9)(None, mask, Teacher(tokens), None)
    with pytest.raises(InputError, match='at least 2 images'):
        generator(None, random_mask(1), Teacher(tokens[:1], head), None)


def variant(name):
    config = capi_config()
    branch = config['branches']['capi']
    if name == 'ijepa':
        branch['neck']['embed_dim'] = DIM
        branch['target_generator'] = {'type': 'mmmim.LatentTarget', 'in_dim': DIM}
        branch['head'] = {'type': 'mmmim.RegressionHead', 'loss': 'huber'}
        config['teacher'] = ['backbone']
    if name == 'ibot':
        branch['neck']['embed_dim'] = DIM
        branch['head'].update(in_dim=DIM, mlp_dims=(12, 6))
        branch['target_generator'] = {
            'type': 'mmmim.TeacherAssignments',
            'head': 'branches.capi.head',
            'num_prototypes': 24,
        }
    if name == 'fused':
        config['backbone']['fused'] = True
        branch['neck'] = {'type': 'mmmim.PickPredicted', 'context_dim': DIM}
        branch['head']['in_dim'] = DIM
    if name == 'self-attention':
        branch['neck'].update(type='mmmim.SelfAttentionPredictor', positions='rope')
    if name == 'learnable':
        config['backbone']['positions'] = branch['neck']['positions'] = 'learnable'
        branch['neck']['grid'] = (4, 4)
    return config


@pytest.mark.parametrize('name', ['ijepa', 'ibot', 'fused', 'self-attention', 'learnable'])
def test_variants_of_capi_train_in_micro_batches(name):
    """They learn, and a step in micro-batches is that of the whole batch."""
    data, results = batch(8), []
    for size in (None, 3):
        torch.manual_seed(0)
        model = MODELS.build({**variant(name), 'micro_batch_size': size}).train()
        model.init_weights()
        wrapper = optim_wrapper(model)
        results.append([model.train_step(data, wrapper)['loss'] for _ in range(6)])
    assert results[0][-1] < results[0][0]
    torch.testing.assert_close(results[0], results[1], rtol=1e-4, atol=1e-5)


def test_a_target_as_wide_as_the_teacher_needs_a_predictor_as_wide():
    config = variant('ijepa')
    config['branches']['capi']['neck']['embed_dim'] = 8
    with pytest.raises(InputError, match=r'target_generator\.out_dim is 16 and .*neck\.out_dim is 8'):
        MODELS.build(config)


def test_only_mask_tokens_stand_where_nothing_is_visible():
    """What a fused encoder makes of hidden patches does not depend on their pixels."""
    torch.manual_seed(0)
    encoder = MODELS.build(variant('fused')['backbone']).eval()
    mask, images = random_mask(2), torch.randn(2, 3, 16, 16)
    patches = F.unfold(images, 4, stride=4)
    hidden = torch.ones(2, 16, dtype=torch.bool).scatter_(1, mask.visible, False)
    other = F.fold(torch.where(hidden.unsqueeze(1), torch.randn_like(patches), patches), (16, 16), 4, stride=4)
    torch.testing.assert_close(encoder(images, mask).visible, encoder(other, mask).visible)
    assert not torch.allclose(encoder(images).visible, encoder(other).visible)
    seen = F.fold(torch.where(hidden.unsqueeze(1), patches, patches + 1), (16, 16), 4, stride=4)
    assert not torch.allclose(encoder(images, mask).visible, encoder(seen, mask).visible)
