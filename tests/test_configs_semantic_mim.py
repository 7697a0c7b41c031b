"""Recipes of SemanticMIM and its baselines, and their comparison."""

import math

import pytest
import torch
from mmengine import Config
from mmengine.optim import CosineAnnealingLR, LinearLR

from mmmim.config.cfg_options import merge_cfg_options
from mmmim.engine.optim_constructor import parameter_groups
from mmmim.engine.schedules import ScheduleLR
from mmmim.models.layers.block import LayerScale
from mmmim.registry import MODELS
from mmmim.utils import InputError
from tests.paths import ROOT
from tests.shrink import without_files
from tests.toys import random_mask

#: Peak and least learning rate, start and epochs of the warm-up, clipping, crop (table 2, and the released code).
RECIPES = {'beit': (1.5e-3, 1e-5, 1e-4, 10, 3.0, (0.08, 1.0)), 'maskfeat': (1.6e-3, 1e-6, 1e-6, 30, 0.02, (0.5, 1.0))}
#: Configs, and how many patches of 196 they mask and how many CLS tokens or proxies there are.
PAIRS = [(f'{method}/vitb16', method, 0.4, 1) for method in RECIPES]
PAIRS += [(f'semantic_mim/{method}_vitb16', method, 0.6, 8) for method in RECIPES]


def load(name):
    return Config.fromfile(ROOT / f'configs/{name}.py')


def build_sizes(cfg):
    with torch.device('meta'):
        return MODELS.build(without_files(cfg.model))


@pytest.mark.parametrize(('name', 'method', 'ratio', 'tokens'), PAIRS)
def test_recipe(name, method, ratio, tokens):
    cfg = load(name)
    lr, _, _, _, clip_norm, crop_ratio = RECIPES[method]
    assert (cfg.global_batch_size, cfg.train_cfg.max_iters) == (2048, 300 * (1_281_167 // 2048))
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.lr, optimizer.betas, optimizer.weight_decay) == (lr, (0.9, 0.999), 0.05)
    assert cfg.optim_wrapper.clip_norm == clip_norm
    crop, flip, *jitter = cfg.train_dataloader.dataset.dataset.pipeline[1:-1]
    assert (crop.scale, crop.crop_ratio_range, crop.interpolation, flip.prob) == (224, crop_ratio, 'bicubic', 0.5)
    options = dict(type='mmpretrain.ColorJitter', brightness=0.4, contrast=0.4, saturation=0.4)
    assert jitter == ([options] if method == 'beit' else [])
    masking = cfg.train_dataloader.collate_fn.masking
    assert masking == dict(type='mmmim.UniformMasking', num_visible=196 - math.ceil(196 * ratio))
    assert cfg.model.backbone.get('num_cls_tokens', 1) == tokens


@pytest.mark.parametrize('method', RECIPES)
def test_learning_rate_is_that_of_mmengine(method):
    """Five iterations per epoch."""
    lr, least, start, warmup, _, _ = RECIPES[method]
    cfg, total = load(f'{method}/vitb16'), 300 * 5
    optimizers = [torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr) for _ in range(2)]
    ours = ScheduleLR(optimizers[0], cfg.param_scheduler.schedule, end=total)
    begin = 5 * warmup
    theirs = [
        LinearLR(optimizers[1], start_factor=start, begin=0, end=begin, by_epoch=False),
        CosineAnnealingLR(optimizers[1], eta_min=least, begin=begin, end=total, by_epoch=False),
    ]
    rates = []
    for _ in range(total):
        rates.append([optimizer.param_groups[0]['lr'] for optimizer in optimizers])
        for optimizer in optimizers:
            optimizer.step()
        for scheduler in (ours, *theirs):
            scheduler.step()
    assert rates[0][0] == pytest.approx(start * lr)
    assert max(rate for rate, _ in rates) == lr
    for one, other in rates:
        assert one == pytest.approx(other, rel=1e-6)


@pytest.mark.parametrize(('name', 'method', 'ratio', 'tokens'), PAIRS)
def test_what_does_not_decay(name, method, ratio, tokens):
    cfg = load(name)
    model = build_sizes(cfg)
    groups = parameter_groups(model, 1.0, 0.05, cfg.optim_wrapper.paramwise_cfg.rules)
    assert {group['lr'] for group in groups} == {1.0}
    by_id = {id(p): name for name, p in model.named_parameters()}
    undecayed = {by_id[id(p)] for group in groups if group['weight_decay'] == 0 for p in group['params']}
    expected = {key for key in by_id.values() if key.endswith('.bias')}
    kinds = (torch.nn.LayerNorm, LayerScale) if method == 'beit' else torch.nn.LayerNorm
    expected |= {by_id[id(p)] for module in model.modules() if isinstance(module, kinds) for p in module.parameters()}
    learned = {'backbone.extra_tokens', 'backbone.positions.weight', 'backbone.positions.extra'}
    (mask_token,) = (key for key in by_id.values() if key.endswith('mask_token'))
    assert learned < set(by_id.values())
    assert undecayed == expected | (learned if method == 'beit' else {mask_token})


def test_sizes():
    """Of the training, 170.88 M in the BEiT flavour without its head, 85.06 M are blocks beside the encoder."""
    model = build_sizes(load('semantic_mim/beit_vitb16'))
    neck = model.branches.semantic.neck
    total, head, blocks = (sum(p.numel() for p in part.parameters()) / 1e6 for part in (model, neck.proj, neck.blocks))
    tokenizer = sum(p.numel() for p in model.branches.semantic.target_generator.parameters()) / 1e6
    assert total - tokenizer - head == pytest.approx(170.88, abs=0.005)
    assert blocks == pytest.approx(85.06, abs=0.005)


@pytest.mark.parametrize(('name', 'ratio', 'visible'), [('', 0.4, 38), ('semantic_mim', 0.6, 25)])
@pytest.mark.parametrize('method', RECIPES)
def test_digits_mask_as_many(method, name, ratio, visible):
    cfg = load(f'{name}/{method}_digits' if name else f'{method}/digits')
    assert visible == 64 - math.ceil(64 * ratio)
    for key in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        assert cfg[key].collate_fn.masking.num_visible == visible


@pytest.mark.parametrize('name', ['beit/digits', 'semantic_mim/beit_digits'])
def test_the_codebook_of_digits(name, tmp_path, monkeypatch):
    """Where it is missing the error says the command; config, pages and the comparison name the same file."""
    cfg = load(name)
    (branch,) = cfg.model.branches.values()
    codebook = branch.target_generator.tokenizer.codebook
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=rf'{codebook} does not exist.*fit_patch_codebook\.py CONFIG FILE --codes 512'):
        MODELS.build(cfg.model)
    command = f'python tools/misc/fit_patch_codebook.py configs/{name}.py {codebook}'
    assert command in (ROOT / f'configs/{name}.py').read_text()
    assert command in (ROOT / f'configs/{name}.py').with_name('README.md').read_text()
    assert SPECIFICATION.prepare == {codebook: ['tools/misc/fit_patch_codebook.py', 'configs/beit/digits.py', codebook]}


SPECIFICATION = Config.fromfile(ROOT / 'projects/semanticmim_comparison/spec.py')


@pytest.mark.parametrize('arm', SPECIFICATION.subsets.single)
def test_arms_of_the_comparison(arm):
    """The changes of every arm fit its config, which makes a loss; proxies are where the arm's name says so."""
    options = SPECIFICATION.subsets.single[arm]
    cfg = Config.fromfile(ROOT / options.config)
    merge_cfg_options(cfg, [f'{key}={value}' for key, value in options.options.items()])
    assert (cfg.train_cfg.max_iters, cfg.train_dataloader.dataset.dataset.subset) == (300, 'single')
    torch.manual_seed(0)
    model = MODELS.build(without_files(cfg.model))
    mask = random_mask(2, visible=cfg.train_dataloader.collate_fn.masking.num_visible, predict=20, grid=(8, 8))
    images = torch.randn(2, 3, 32, 32)
    losses = model.loss(images, mask, model.targets(images, mask, differentiable=False))
    assert len(losses) == 1
    assert all(0 < loss.item() < 20 for loss in losses.values())
    assert model.backbone.num_cls_tokens == (8 if 'proxies' in arm else 1)
