"""Every config of the repository builds at full size, and takes a real step at a small one."""

from functools import cache

import pytest
import torch
from mmengine import Config
from mmengine.optim import build_optim_wrapper

import mmmim
from mmmim.config.cfg_options import merge_cfg_options
from mmmim.engine import Runner
from mmmim.engine.optim_constructor import parameter_groups
from mmmim.engine.schedules import build_schedule
from mmmim.models.layers.block import LayerScale
from mmmim.registry import MODELS
from mmmim.utils import InputError
from tests.paths import ROOT
from tests.shrink import shrink, without_files, write_images
from tests.toys import random_mask

# Methods outside the core train with the algorithm of the core; other models of projects have tests of their own.
PROJECTS = [
    path.relative_to(ROOT).with_suffix('').as_posix()
    for path in sorted(ROOT.glob('projects/*/configs/*.py'))
    if path.stem != 'supervised'
]
CONFIGS = mmmim.list_models(ablations=True) + PROJECTS
#: What has taken a step: configs that differ in numbers alone run the same code.
STEPPED = []


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp('images')
    write_images(folder)
    return folder


def load(name):
    return Config.fromfile(ROOT / ('' if name.startswith('projects') else 'configs') / f'{name}.py')


def without_numbers(node):
    """A config in which numbers are only 0 or not."""
    if isinstance(node, dict):
        return {key: without_numbers(value) for key, value in node.items() if key not in ('data_root', 'work_dir')}
    if isinstance(node, list | tuple):
        return [without_numbers(value) for value in node]
    return bool(node) if isinstance(node, int | float) else node


@cache
def on_meta(name):
    """The model of a config at full size, but for DALL-E's encoder, which draws its weights even there."""
    model = without_files(load(name).model)
    for node in dicts(model):
        if node.get('type') == 'mmmim.DalleTokenizer':
            node['hidden_dim'] = 8
    with torch.device('meta'):
        return MODELS.build(model)


def dicts(node):
    """The dicts of a config at any depth."""
    if isinstance(node, dict):
        yield node
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list | tuple) else ():
        yield from dicts(child)


def bare_types(cfg):
    """Types of a config that do not say of which package they are."""
    types = {node['type'] for node in dicts(cfg.to_dict()) if isinstance(node.get('type'), str)}
    assert types
    return [kind for kind in types if '.' not in kind]


def test_there_are_configs():
    assert len(CONFIGS) >= 80
    assert len(PROJECTS) >= 10


@pytest.mark.parametrize('name', CONFIGS)
def test_config(name, images, tmp_path):
    """It builds at full size, its types are named, and a small step moves every trained parameter."""
    cfg = load(name)
    assert next(on_meta(name).parameters()).is_meta
    assert bare_types(cfg) == []

    small = shrink(cfg, images, tmp_path)
    code = without_numbers(small.to_dict())
    if code in STEPPED:
        return
    STEPPED.append(code)
    torch.manual_seed(0)
    model = MODELS.build(small.model).train()
    sampler = {'type': 'mmengine.DefaultSampler', 'shuffle': False}
    loader = Runner.build_dataloader({**small.train_dataloader, 'batch_size': 4, 'sampler': sampler})
    wrapper = build_optim_wrapper(model, small.optim_wrapper)
    before = {key: value.clone() for key, value in model.named_parameters()}
    log = model.train_step(next(iter(loader)), wrapper)
    moved = {key for key, value in model.named_parameters() if not torch.equal(value, before[key])}
    assert moved >= {key for key, value in model.named_parameters() if value.requires_grad}
    assert log['skipped'] == 0
    losses = [value for key, value in log.items() if key.startswith('loss') and key != 'loss_scale']
    assert losses
    assert all(0 < value < 1e3 for value in losses)


@pytest.mark.parametrize('name', [name for name in CONFIGS if name.endswith('small')])
def test_losses_of_other_splits_have_the_masks_of_the_training(name):
    cfg = load(name)
    for loader in (cfg.val_dataloader, cfg.test_dataloader):
        assert loader.collate_fn.masking == cfg.train_dataloader.collate_fn.masking
    method, tokens = name.split('/')[0], cfg.model.backbone.get('num_cls_tokens', 1)
    if method in ('beit', 'maskfeat', 'semantic_mim'):  # 40 % of the 64 patches are masked, with proxies 60 %
        assert cfg.train_dataloader.collate_fn.masking.num_visible == (25 if tokens == 8 else 38)


@pytest.mark.parametrize(
    ('name', 'part', 'millions'),
    [
        ('capi/vitl14', 'backbone', 302.66),
        ('pilamim/vitb16', '', 194.15),
        ('pilamim/vitb16', 'backbone', 85.77),
        ('ijepa/vitb16', 'backbone', 85.646592),
        ('ijepa/vitb16', 'branches.latent.neck', 11.238912),
        ('ijepa/vith14', 'branches.latent.neck', 22.279424),
        ('semantic_mim/beit_vitb16', 'branches.semantic.neck.blocks', 85.06),
    ],
)
def test_parameters_are_as_many_as_published(name, part, millions):
    """Trained ones of a part, all of a model."""
    module = on_meta(name).get_submodule(part)
    digits = len(str(millions).partition('.')[2])
    found = sum(p.numel() for p in module.parameters() if p.requires_grad or not part) / 1e6
    assert found == pytest.approx(millions, abs=0.51 * 10**-digits)


EPOCH = 1_281_167 // 2048
#: Peak and least learning rate, start and epochs of the warm-up (SemanticMIM, table 2, and the released code).
BASELINES = {'beit': (1.5e-3, 1e-5, 1e-4, 10), 'maskfeat': (1.6e-3, 1e-6, 1e-6, 30)}


@pytest.mark.parametrize(
    ('name', 'key', 'scale', 'expected'),
    [
        *(
            (f'ijepa/{name}', 'param_scheduler.lr.schedule', 1e-3, {0: first, warmup * EPOCH - 1: 1e-3, -1: 1e-6})
            for name, warmup, first in (
                ('vitb16', 15, 1e-4 + 9e-4 / (15 * EPOCH)),
                ('vith14', 40, 2e-4 + 8e-4 / (40 * EPOCH)),
            )
        ),
        ('ijepa/vitb16', 'param_scheduler.weight_decay.schedule', 0.4, {0: 0.04, 300 * EPOCH - 1: 0.22, -1: 0.4}),
        ('ijepa/vitb16', 'default_hooks.target_ema.momentum', 1, {0: 0.996}),
        # Constant within an epoch; the first, the peak and half of the cosine.
        (
            'pilamim/vitb16',
            'param_scheduler.schedule',
            1.2e-3,
            {e * EPOCH + i: rate for e, rate in ((0, 3e-5), (39, 1.192977e-3), (400, 6e-4)) for i in (0, EPOCH - 1)},
        ),
        ('pilamim/vitb16', 'default_hooks.target_ema.momentum', 1, {0: 0.996, 400 * EPOCH: 0.998}),
        *(
            (f'{method}/vitb16', 'param_scheduler.schedule', lr, {0: lr * start, warmup * EPOCH - 1: lr, -1: least})
            for method, (lr, least, start, warmup) in BASELINES.items()
        ),
    ],
)
def test_schedules_of_recipes(name, key, scale, expected):
    cfg = load(name)
    node = cfg
    for part in key.split('.'):
        node = node[part]
    schedule, total = build_schedule(node), cfg.train_cfg.max_iters
    values = [scale * schedule(step % total, total) for step in expected]
    assert values == pytest.approx([*expected.values()], rel=1e-4)


@pytest.mark.parametrize(
    ('name', 'method'),
    [(name, method) for method in BASELINES for name in (f'{method}/vitb16', f'semantic_mim/{method}_vitb16')],
)
def test_what_does_not_decay(name, method):
    cfg = load(name)
    model = on_meta(name)
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


COMPARISON = Config.fromfile(ROOT / 'projects/fashion_scenes/spec.py')


@pytest.mark.parametrize('name', ['beit/small', 'semantic_mim/beit_small'])
def test_the_codebook_of_small_recipes(name, tmp_path, monkeypatch):
    """Where it is missing the error says the command; config, pages and the comparison name the same file."""
    cfg = load(name)
    (branch,) = cfg.model.branches.values()
    codebook = branch.target_generator.tokenizer.codebook
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=rf'{codebook} does not exist.*fit_patch_codebook\.py CONFIG FILE --codes 512'):
        MODELS.build(cfg.model)
    tool, config = 'tools/misc/fit_patch_codebook.py', ROOT / f'configs/{name}.py'
    for file in (config, config.with_name('README.md')):
        assert f'python {tool} configs/{name}.py {codebook}' in file.read_text()
    assert COMPARISON.prepare[codebook] == [tool, 'configs/beit/small.py', codebook]


@pytest.mark.parametrize(
    ('subset', 'arm'),
    [
        (subset, arm)
        for subset, arms in COMPARISON.subsets.items()
        for arm, options in arms.items()
        if 'config' in options and not options.get('own_test')
    ],
)
def test_arms_of_the_comparison(subset, arm):
    """The changes of every arm fit its config, give images, masks and model the same sizes, and see as many images."""
    options = COMPARISON.subsets[subset][arm]
    cfg = Config.fromfile(ROOT / options.config)
    merge_cfg_options(cfg, [f'{key}={value}' for key, value in options.get('options', {}).items()])
    assert cfg.train_dataloader.dataset.dataset.subset == subset
    if options.get('train', True):
        assert cfg.train_cfg.max_iters * cfg.global_batch_size == 51_200
    patch, size = (4, 32) if subset == 'single' else (8, 64)
    backbone, loader = cfg.model.backbone, cfg.train_dataloader
    assert (backbone.patch_size, loader.collate_fn.patch_size, backbone.img_size) == (patch, patch, size)
    assert loader.dataset.dataset.pipeline[1].scale == 8 * (patch + loader.collate_fn.get('gap', 0))
    torch.manual_seed(0)
    model = MODELS.build(without_files(cfg.model))
    visible = loader.collate_fn.masking.get('num_visible', 16)
    hidden = 64 - visible if arm == 'ConMIM' else 20  # its candidates are all patches
    mask = random_mask(2, visible=visible, predict=hidden, grid=(8, 8))
    inputs = torch.randn(2, 3, size, size)
    losses = model.loss(inputs, mask, model.targets(inputs, mask))
    assert all(0 < loss.item() < 50 for loss in losses.values())
    of_cls = ('PiLaMIM', 'PiLaMIM, released', 'data2vec 2.0')
    assert ('loss_latent_cls' in losses) == (arm.removeprefix('random init, ViT of ') in of_cls)
    without_cls = arm.startswith(('CAPI', 'random init, RoPE')) or arm.endswith('I-JEPA')
    assert backbone.get('num_cls_tokens', 1) == (8 if 'Semantic' in arm else 0 if without_cls else 1)
