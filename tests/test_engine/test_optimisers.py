"""Parameter groups of recipes, and steps that gradients which are not finite cannot spoil."""

import pytest
import torch
from mmengine import Config
from torch import nn

from mmmim.engine import OptimWrapper
from mmmim.engine.optim_constructor import RuleOptimWrapperConstructor, parameter_groups
from mmmim.features import PretrainedBackbone
from mmmim.registry import MODELS
from mmmim.utils import InputError
from tests.paths import ROOT


def recipe(name: str) -> tuple[float, float]:
    """(lr, weight decay) of every parameter of CAPI ViT-L/14, from the paper's table 6 and the reference's groups."""
    if name.startswith('branches.capi.target_generator.'):
        return 5e-4, 0.01
    if name.startswith('backbone.patch_embed.'):
        return 2e-4, 0.1 if name.endswith('weight') else 0.0
    return 1e-3, 0.01 if name.endswith(('.norm1.weight', '.norm2.weight')) else 0.1


def values(groups):
    """(lr, weight decay) of every parameter."""
    return {id(p): (group['lr'], group['weight_decay']) for group in groups for p in group['params']}


def test_every_parameter_of_the_recipe_by_name():
    config = Config.fromfile(ROOT / 'configs/capi/vitl14.py')
    with torch.device('meta'):
        model = MODELS.build(config.model)
    optimizer = config.optim_wrapper.optimizer
    groups = parameter_groups(model, optimizer.lr, optimizer.weight_decay, config.optim_wrapper.paramwise_cfg.rules)
    found = values(groups)
    names = {name: p for name, p in model.named_parameters() if not name.startswith('teacher.')}
    assert len(found) == len(names) == 24 * 8 + 3 + 12 * 8 + 1 + 2 + 2
    for name, parameter in names.items():
        assert found[id(parameter)] == pytest.approx(recipe(name)), name
    assert (groups[0]['lr'], groups[0]['weight_decay']) == (optimizer.lr, optimizer.weight_decay)
    assert tuple(optimizer.betas) == (0.9, 0.95)


def test_rules():
    model = nn.ModuleDict({'a': nn.Linear(2, 2), 'b': nn.Linear(2, 2)})
    biases, half = {'match': r'bias$', 'decay_mult': 0.0}, {'match': r'^a', 'lr_mult': 0.5}
    groups = parameter_groups(model, 1.0, 0.1, {'biases': biases, 'off': None, 'half': half})
    found = [(group['lr'], group['weight_decay'], len(group['params'])) for group in groups]
    assert found == [(1.0, 0.1, 1), (0.5, 0.1, 1), (1.0, 0.0, 2)]
    with pytest.raises(InputError, match=r"rules\.typo: match='c' matches no trainable parameter"):
        parameter_groups(model, 1.0, 0.1, {'typo': {'match': 'c'}})
    with pytest.raises(InputError, match='keys are match'):
        parameter_groups(model, 1.0, 0.1, {'wrong': {'match': 'a', 'lr': 0.1}})


SIZES = {'depth': 3, 'num_heads': 2}
VIT = {'type': 'mmmim.ViT', 'embed_dim': 16, 'img_size': 32, 'patch_size': 16, **SIZES, 'num_registers': 1}
DINOV2 = 'vit_small_patch14_reg4_dinov2'
TIMM = {'type': 'mmmim.TimmEncoder', 'name': DINOV2, 'embed_dim': 16, 'img_size': 28, **SIZES}
ARCH = {'embed_dims': 16, 'num_layers': 3, 'num_heads': 2, 'feedforward_channels': 32}
MMPRETRAIN = {'type': 'mmmim.MMPretrainEncoder', 'name': 'VisionTransformer', 'arch': ARCH, 'img_size': 32}


@pytest.mark.parametrize(
    ('encoder', 'blocks', 'norms'),
    [
        ({**VIT, 'positions': 'learnable'}, 'blocks', 'norm'),
        (TIMM, 'encoder.blocks', 'encoder.norm'),
        (MMPRETRAIN, 'encoder.layers', 'encoder.ln1'),
    ],
    ids=['mmmim', 'timm', 'mmpretrain'],
)
def test_layer_decay(encoder, blocks, norms):
    """BEiT, arXiv 2106.08254: decay ** (depth + 1 - layer), embeddings layer 0, block i layer i + 1, all else 1."""
    model = nn.ModuleDict({'backbone': PretrainedBackbone('random', encoder=encoder), 'head': nn.Linear(16, 2)})
    model.backbone = model['backbone']
    rules = {'biases': {'match': r'bias$', 'decay_mult': 0.0}, 'head': {'match': '^head', 'lr_mult': 10.0}}
    groups = parameter_groups(model, 2.0, 0.1, rules, layer_decay=0.5)
    found = values(groups)
    scales = set()
    for name, parameter in model.named_parameters():
        own = name.removeprefix('backbone.backbone.')
        layer = int(own.removeprefix(blocks + '.').split('.')[0]) + 1 if own.startswith(blocks + '.') else 0
        layer = 4 if own.startswith((norms, 'head')) else layer
        scales.add(layer)
        lr = 2.0 * 0.5 ** (4 - layer) * (10 if name == 'head.weight' else 1)
        assert found[id(parameter)] == (lr, 0.0 if name.endswith('bias') else 0.1), name
    assert scales == {0, 1, 2, 3, 4}
    assert len(groups) == 2 * 5 + 1  # biases and weights of every layer, and the weight of the head
    assert (groups[0]['lr'], groups[0]['weight_decay']) == (2.0, 0.1)


def test_layer_decay_of_what_has_no_layers():
    encoder = MODELS.build(VIT)
    with pytest.raises(InputError, match='Linear has no get_layer_depth'):
        parameter_groups(nn.Linear(2, 2), 1.0, 0.1, {}, 0.9)
    with pytest.raises(InputError, match='layer_decay must be a finite number above 0 and up to 1'):
        parameter_groups(encoder, 1.0, 0.1, {}, 1.1)
    optimizer = {'type': 'AdamW', 'lr': 1.0, 'weight_decay': 0.1, 'fused': True}
    wrapper = {'type': 'mmmim.OptimWrapper', 'optimizer': optimizer}
    built = RuleOptimWrapperConstructor(wrapper, {'layer_decay': 0.9})(encoder)
    assert sorted(group['lr'] for group in built.optimizer.param_groups) == [0.9**i for i in (4, 3, 2, 1, 0)]
    with pytest.raises(InputError, match=r'has decay_rate.*: the keys of .* are rules, .* and layer_decay'):
        RuleOptimWrapperConstructor(wrapper, {'decay_rate': 0.9})


def test_optimisers_that_cannot_skip_on_the_device_are_refused():
    parameters = [nn.Parameter(torch.zeros(2))]
    with pytest.raises(InputError, match='fused=True'):
        OptimWrapper(torch.optim.AdamW(parameters))
    with pytest.raises(InputError, match="'bfloat16' or 'float16'"):
        OptimWrapper(torch.optim.AdamW(parameters, fused=True), dtype='float64')


@pytest.mark.parametrize('name', ['AdamW', 'Adam', 'SGD'])
def test_non_finite_gradients_leave_everything_as_it_is(name):
    parameters = [nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(2))]
    wrapper = OptimWrapper(getattr(torch.optim, name)(parameters, lr=0.1, fused=True))
    for gradient, skipped in ((1.0, 0), (float('nan'), 1), (float('inf'), 1), (1.0, 0)):
        before = [p.detach().clone() for p in parameters]
        for parameter in parameters:
            parameter.grad = torch.ones_like(parameter)
        parameters[1].grad[0] = gradient
        wrapper.step()
        assert wrapper.skipped == skipped
        for parameter, old in zip(parameters, before, strict=True):
            assert torch.equal(parameter, old) == bool(skipped)
            assert torch.isfinite(parameter).all()


def test_clipping():
    parameter = nn.Parameter(torch.zeros(4))
    wrapper = OptimWrapper(torch.optim.SGD([parameter], lr=1.0, fused=True), clip_norm=0.5)
    for gradient, norm, moved in ((2.0, 4.0, 0.5), (0.01, 0.02, 0.52)):
        parameter.grad = torch.full((4,), gradient)
        wrapper.step()
        torch.testing.assert_close(wrapper.step_info['grad_norm'], torch.tensor(norm))
        torch.testing.assert_close(parameter.detach().norm(), torch.tensor(moved))
