"""Losses against their definitions."""

import pytest
import torch
import torch.nn.functional as F

from mmmim.models import (
    CombinedHead,
    CrossEntropyHead,
    PrototypeHead,
    RegressionHead,
    SimilarityConstraint,
)
from mmmim.models.functional import mean_similarity, patch_discrimination
from mmmim.structures import Context, Prediction, Target
from mmmim.utils import InputError

GRID = (3, 3)


def pair(patches=7, cls=True):
    """A prediction, a target and a context of two images."""
    rng = torch.Generator().manual_seed(0)
    tokens = [2 * torch.randn(2, patches, 5, generator=rng) for _ in range(2)]
    wholes = [torch.randn(2, 5, generator=rng) if cls else None for _ in range(2)]
    context = Context(torch.randn(2, 3, 5, generator=rng), torch.full((2, 1, 5), torch.nan), GRID, None)
    return Prediction(tokens[0], wholes[0]), Target(tokens[1], wholes[1]), context


@pytest.mark.parametrize(
    ('name', 'expected'),
    [
        ('mse', lambda d: (d**2).mean()),
        ('l1', lambda d: d.abs().mean()),
        ('huber', lambda d: torch.where(d.abs() < 1, d**2 / 2, d.abs() - 0.5).mean()),
        ('smooth_l1', lambda d: torch.where(d.abs() < 1, d**2 / 2, d.abs() - 0.5).mean()),
    ],
)
def test_regression(name, expected):
    """In fp32 whatever the precision of what is compared; patches and the global token on their own."""
    exact, target, context = pair()
    prediction = Prediction(exact.patches.bfloat16(), exact.cls.bfloat16())
    rounded = Target(target.patches.bfloat16(), target.cls.bfloat16())
    heads = {
        'a': {'type': 'mmmim.RegressionHead', 'loss': name},
        'b': {'type': 'mmmim.RegressionHead', 'loss': name, 'of': 'cls', 'weight': 0.5},
    }
    losses = CombinedHead(heads).loss(prediction, rounded, context)
    assert set(losses) == {'loss', 'loss_cls'}
    assert losses['loss'].dtype == torch.float32
    torch.testing.assert_close(losses['loss'], expected(prediction.patches.float() - rounded.patches.float()))
    torch.testing.assert_close(losses['loss_cls'], 0.5 * expected(prediction.cls.float() - rounded.cls.float()))
    # 7 of 9 patches are predicted; the ratio of the recipe is 0.7.
    nominal = RegressionHead(name, nominal_ratio=0.7).loss(prediction, rounded, context)['loss']
    torch.testing.assert_close(nominal, losses['loss'] * 7 / 9 / 0.7)


def test_the_threshold_of_smooth_l1():
    prediction, target, context = pair()
    difference = (prediction.patches - target.patches).abs()
    assert 0.1 < (difference > 0.7).float().mean() < 0.9
    expected = torch.where(difference < 0.7, difference**2 / 1.4, difference - 0.35).mean()
    found = RegressionHead('smooth_l1', beta=0.7).loss(prediction, target, context)['loss']
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'loss': 'hubert'}, "one of mse, l1, huber, smooth_l1, cosine, got 'hubert'"),
        ({'of': 'registers'}, "of must be 'patches' or 'cls', got 'registers'"),
        ({'nominal_ratio': 0.0}, 'a share of the patches, for patches only'),
        ({'loss': 'huber', 'beta': 2.0}, "only loss='smooth_l1' has a threshold"),
        ({'nominal_ratio': 0.75, 'of': 'cls'}, 'a share of the patches, for patches only'),
    ],
)
def test_regressions_that_make_no_sense(options, message):
    with pytest.raises(InputError, match=message):
        RegressionHead(**options)


def test_what_cannot_be_compared():
    (prediction, target, context), (bare, no_target, _) = pair(), pair(cls=False)
    head = RegressionHead(of='cls')
    with pytest.raises(InputError, match=r'the neck predicts no CLS: set neck\.predict_cls=True'):
        head.loss(bare, target, context)
    with pytest.raises(InputError, match='the target generator gives no CLS'):
        head.loss(prediction, no_target, context)
    one = torch.randn(2, 1, 5)
    with pytest.raises(InputError, match='at least 2 patches'):
        patch_discrimination(one, one)
    twice = {name: {'type': 'mmmim.RegressionHead'} for name in ('one', 'other')}
    with pytest.raises(InputError, match="'other' has a loss 'loss', as another of its heads"):
        CombinedHead(twice).loss(prediction, target, context)


def test_prototype_head_with_an_mlp():
    torch.manual_seed(0)
    head, x = PrototypeHead(6, 9, mlp_dims=(8, 7, 5)), torch.randn(2, 3, 6)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.copy_(torch.randn_like(parameter))
    weights = [p for name, p in head.named_parameters() if name.startswith('mlp')]
    assert [tuple(p.shape) for p in weights] == [(8, 6), (8,), (7, 8), (7,), (5, 7), (5,)]
    h = x
    for i in range(3):
        h = h @ weights[2 * i].T + weights[2 * i + 1]
        if i < 2:
            h = h * 0.5 * (1 + torch.erf(h / 2**0.5))
    h = h / h.norm(dim=-1, keepdim=True)
    prototypes = head.weight_g * head.weight_v / head.weight_v.norm(dim=1, keepdim=True)
    torch.testing.assert_close(head(x), h @ prototypes.T)
    assert len(PrototypeHead(6, 9).mlp) == 0


def test_cross_entropy():
    torch.manual_seed(0)
    logits, tokens = torch.randn(3, 5, 7).bfloat16(), torch.randint(7, (3, 5))
    loss = CrossEntropyHead().loss(Prediction(logits), Target(tokens), None)['loss']
    expected = -logits.float().log_softmax(-1).gather(2, tokens.unsqueeze(2)).mean()
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize('per_image', [True, False])
def test_similarity_constraint(per_image):
    """Of all pairs of tokens; registers and CLS are none of them."""
    prediction, _, context = pair()
    losses = SimilarityConstraint(target=0.4, weight=0.3, per_image=per_image).loss(prediction, None, context)
    assert set(losses) == {'loss_similarity_predicted', 'loss_similarity_visible'}
    for name, tokens in (('predicted', prediction.patches), ('visible', context.visible)):
        values = [
            sum(F.cosine_similarity(a, b, dim=0) for a in image for b in image) / len(image) ** 2 for image in tokens
        ]
        torch.testing.assert_close(mean_similarity(tokens), torch.stack(values))
        squares = [(value - 0.4) ** 2 for value in (values if per_image else [sum(values) / 2])]
        torch.testing.assert_close(losses[f'loss_similarity_{name}'], 0.3 * sum(squares) / len(squares))
    torch.testing.assert_close(mean_similarity(context.visible[:, :1]), torch.ones(2))
