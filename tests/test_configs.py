"""Every config of the repository builds at full size, and takes a real step at a small one."""

import os
import re
from pathlib import Path

import pytest
import torch
from mmengine import Config
from mmengine.optim import build_optim_wrapper

import mmmim
from mmmim.config.cfg_options import merge_cfg_options
from mmmim.engine import Runner
from mmmim.engine.schedules import build_schedule
from mmmim.registry import MODELS
from tests.paths import ROOT
from tests.shrink import shrink, without_files, write_images
from tests.toys import random_mask

# Rows of ablation tables differ from a method's config in the model and the masks only.
ABLATIONS = mmmim.list_models('*/ablations/*')
# Methods outside the core train with the algorithm of the core; other models of projects have tests of their own.
PROJECTS = [
    path.relative_to(ROOT).with_suffix('').as_posix()
    for path in sorted(ROOT.glob('projects/*/configs/*.py'))
    if path.parts[-3] != 'digit_scenes'
]
CONFIGS = [name for name in mmmim.list_models() if name not in ABLATIONS] + PROJECTS


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp('images')
    write_images(folder)
    return folder


def load(name):
    return Config.fromfile(ROOT / ('' if name in PROJECTS else 'configs') / f'{name}.py')


def test_there_are_configs():
    assert len(CONFIGS) >= 6
    assert len(PROJECTS) >= 8


@pytest.mark.parametrize('name', CONFIGS)
def test_config(name, images, tmp_path):
    cfg = load(name)
    with torch.device('meta'):
        full = MODELS.build(without_files(cfg.model))
    assert next(full.parameters()).is_meta

    small = shrink(cfg, images, tmp_path)
    runner = Runner.from_cfg(small)
    runner.model.init_weights()
    before = {key: value.clone() for key, value in runner.model.state_dict().items()}
    after = runner.train().state_dict()
    moved = {key for key, value in after.items() if not torch.equal(value, before[key])}
    trained = {name for name, p in runner.model.named_parameters() if p.requires_grad}
    assert moved >= trained
    assert runner.iter == 1
    log = {key: buffer.data[0][-1] for key, buffer in runner.message_hub.log_scalars.items()}
    assert log['train/skipped'] == 0
    losses = [value for key, value in log.items() if key.startswith('train/loss') and key != 'train/loss_scale']
    assert losses
    assert all(0 < value < 1e3 for value in losses)
    assert log['train/grad_norm'] > 0
    assert list(Path(tmp_path).glob('iter_1.pth'))


@pytest.mark.parametrize('name', ABLATIONS)
def test_ablation(name, images, tmp_path):
    cfg = load(name)
    with torch.device('meta'):
        MODELS.build(without_files(cfg.model))
    small = shrink(cfg, images, tmp_path)
    torch.manual_seed(0)
    model = MODELS.build(small.model).train()
    sampler = {'type': 'mmengine.DefaultSampler', 'shuffle': False}
    loader = Runner.build_dataloader({**small.train_dataloader, 'batch_size': 4, 'sampler': sampler})
    wrapper = build_optim_wrapper(model, small.optim_wrapper)
    before = {key: value.clone() for key, value in model.named_parameters()}
    losses = model.train_step(next(iter(loader)), wrapper)
    assert 0 < losses['loss'] < 1e3
    assert losses['skipped'] == 0
    moved = {key for key, value in model.named_parameters() if not torch.equal(value, before[key])}
    assert moved == {key for key, value in model.named_parameters() if value.requires_grad}


def walk_types(node):
    if isinstance(node, dict):
        if isinstance(node.get('type'), str):
            yield node['type']
        for value in node.values():
            yield from walk_types(value)
    elif isinstance(node, (list, tuple)):
        for value in node:
            yield from walk_types(value)


@pytest.mark.parametrize('name', CONFIGS + ABLATIONS)
def test_types_carry_their_package(name):
    types = set(walk_types(load(name).to_dict()))
    assert types
    assert [kind for kind in types if '.' not in kind] == []


def test_recipe_of_vit_l():
    cfg = load('capi/vitl14')
    assert cfg.global_batch_size == 16384
    assert cfg.train_cfg.max_iters == 500_000
    assert cfg.optim_wrapper.dtype == 'bfloat16'
    branch = cfg.model.branches.capi
    assert (branch.head.temperature, branch.target_generator.target_temperature) == (0.12, 0.06)
    assert branch.target_generator.num_prototypes == branch.head.num_prototypes == 16384
    masking = cfg.train_dataloader.collate_fn.masking
    assert (masking.mask_ratio, masking.predict_ratio, masking.roll) == (0.65, 0.05, True)
    crop = cfg.train_dataloader.dataset.dataset.pipeline[1]
    assert (crop.scale, crop.crop_ratio_range, crop.interpolation) == (224, (0.6, 1.0), 'bicubic')


def test_sizes_of_the_paper():
    encoders = {name: load(f'capi/{name}').model.backbone for name in ('vitl14', 'vitb14', 'vits14')}
    assert [(e.depth, e.embed_dim, e.embed_dim // e.num_heads) for e in encoders.values()] == [
        (24, 1024, 64),
        (12, 768, 64),
        (12, 384, 64),
    ]
    with torch.device('meta'):
        backbone = MODELS.build(encoders['vitl14'])
    assert sum(p.numel() for p in backbone.parameters()) / 1e6 == pytest.approx(302, rel=0.01)


def differing(one, other, prefix=''):
    """Dotted keys in which two configs differ."""
    if isinstance(one, dict) and isinstance(other, dict):
        return {key for k in {*one, *other} for key in differing(one.get(k), other.get(k), f'{prefix}{k}.')}
    return set() if one == other else {prefix.rstrip('.')}


#: What the rows of an ablation may change, by name of the file or its first word, in the config that they start from.
CLUSTERING = 'optim_wrapper.paramwise_cfg.rules.clustering'
CAPI, LATENT, LOADER = 'model.branches.capi.', 'model.branches.latent.', 'train_dataloader.'
CROP = LOADER + 'dataset.dataset.pipeline'
ALLOWED = {
    'capi/ablations': {
        'vitl16': (
            'model.backbone.patch_size',
            LOADER + 'collate_fn.patch_size',
            'optim_wrapper.optimizer.lr',
            'train_cfg.max_iters',
            'default_hooks.target_ema.momentum.base',
        ),
        'predictor_fused': ('model.backbone.fused', CAPI + 'neck'),
        'predictor_self_attention': (CAPI + 'neck',),
        'masking': (LOADER + 'collate_fn.masking',),
        'ratio': (LOADER + 'collate_fn.masking.mask_ratio',),
        'loss_ijepa': (CAPI + 'target_generator', CAPI + 'head', CLUSTERING),
        'loss_ibot': (CAPI + 'target_generator', CAPI + 'head.mlp_dims', CLUSTERING),
        'head_mlp': (CAPI + 'head.mlp_dims',),
        'crop': (CROP,),
        'predictor_5x1536': (CAPI + 'neck', CAPI + 'head.in_dim'),
        'predictor_21x768': (CAPI + 'neck', CAPI + 'head.in_dim'),
        'registers': ('model.backbone.num_registers',),
        'positions': ('model.backbone.positions', CAPI + 'neck.positions', CAPI + 'neck.grid'),
        'sinkhorn': (CAPI + 'target_generator.positional',),
        'prototypes': (CAPI + 'target_generator.num_prototypes', CAPI + 'head.num_prototypes'),
        'iterations': ('train_cfg.max_iters',),
        'data': (LOADER + 'dataset.dataset.data_root',),
    },
    'latent_mim/ablations': {
        'naive': (
            'model.backbone.projector_dims',
            LATENT,
            'model.teacher',
            LOADER + 'collate_fn',
            CROP,
            'default_hooks.target_ema',
            'default_hooks.similarity',
        ),
        'no_weight_sharing': (LATENT + 'target_generator.encoder',),
        'stop_gradient': (LATENT + 'target_generator.stop_gradient',),
        'momentum': (LATENT + 'target_generator', 'model.teacher', 'default_hooks.target_ema'),
        'loss_mse': (LATENT + 'target_generator.normalize', LATENT + 'head.heads.discrimination'),
        'loss': (LATENT + 'head.loss',),
        'patch_discrimination': (LATENT + 'head',),
        'ratio_90_contiguous': (LOADER + 'collate_fn.masking.num_visible',),
        'gap_4_unconstrained': (LOADER + 'collate_fn.gap', LOADER + 'collate_fn.masking.num_visible', CROP),
        'self_attention_no_projector': (LATENT + 'head', 'default_hooks.similarity'),
        'self_attention': ('model.backbone.projector_dims',),
        'no_visual_cues': (LATENT + 'neck.visual_cues',),
        'decoder_8': (LATENT + 'neck.depth',),
        'target_depth_0': (
            LATENT + 'target_generator',
            LATENT + 'neck.depth',
            LATENT + 'neck.out_dim',
            'model.teacher',
            'default_hooks.target_ema',
        ),
        'target': (LATENT + 'target_generator.depth', LATENT + 'neck.depth'),
        'gap': (LOADER + 'collate_fn.gap', CROP),
        'ratio': (LOADER + 'collate_fn.masking.num_visible',),
        'no_similarity': (LATENT + 'head', 'default_hooks.similarity'),
        'no_projector': ('model.backbone.projector_dims',),
    },
    'semantic_mim/ablations': {
        'proxies': ('model.backbone.num_cls_tokens',),
        'ratio': (LOADER + 'collate_fn.masking.num_visible',),
    },
}


@pytest.mark.parametrize('name', ABLATIONS)
def test_an_ablation_changes_what_its_name_says(name):
    folder, row = name.rsplit('/', 1)
    (base,) = re.findall(r"^_base_ = '(.*)'$", (ROOT / f'configs/{name}.py').read_text(), re.M)
    base = Path(os.path.normpath(Path(name).parent / base)).with_suffix('').as_posix()
    changed = differing(load(base).to_dict(), load(name).to_dict())
    allowed = ALLOWED[folder]
    prefixes = allowed[row] if row in allowed else allowed[row.split('_')[0]]
    assert changed
    assert all(key.startswith(prefixes) for key in changed), changed


def test_the_model_of_the_ablations():
    cfg = load('capi/ablations/vitl16')
    assert (cfg.train_cfg.max_iters, cfg.optim_wrapper.optimizer.lr) == (100_000, 2e-3)
    assert cfg.default_hooks.target_ema.momentum.base == 0.996
    assert cfg.model.backbone.patch_size == cfg.train_dataloader.collate_fn.patch_size == 16


def test_recipe_of_latent_mim():
    cfg = load('latent_mim/vitb16')
    assert (cfg.global_batch_size, cfg.train_cfg.max_iters) == (4096, 800 * (1_281_167 // 4096))
    assert cfg.optim_wrapper.optimizer.lr == pytest.approx(1.5e-4 * 4096 / 256)
    collate = cfg.train_dataloader.collate_fn
    assert (collate.patch_size, collate.gap, collate.masking.num_visible) == (16, 4, 20)
    assert cfg.train_dataloader.dataset.dataset.pipeline[1].scale == 14 * 20
    smaller = load('latent_mim/vitb16_in100')
    assert smaller.optim_wrapper.optimizer.lr == pytest.approx(1.5e-4 * 1024 / 256)
    assert smaller.train_cfg.max_iters == 300 * 123
    for name in mmmim.list_models('latent_mim/ablations/*'):
        cfg = load(name)
        cell = 16 + cfg.train_dataloader.collate_fn.get('gap', 0)
        assert cfg.train_dataloader.dataset.dataset.pipeline[1].scale == 14 * cell, name


def test_recipe_of_ijepa():
    names = ('vitb16', 'vitl16', 'vith14', 'vith16_448')
    recipes = {name: load(f'ijepa/{name}') for name in names}
    epoch = 1_281_167 // 2048
    released = dict(target_scale=(0.15, 0.2), target_aspect=(0.75, 1.5), context_scale=(0.85, 1.0), min_keep=10)
    for name, cfg in recipes.items():
        epochs, warmup, start = (300, 40, 2e-4) if 'vith' in name else (600, 15, 1e-4)
        total = cfg.train_cfg.max_iters
        assert (cfg.global_batch_size, total) == (2048, epochs * epoch)
        rate, decay = (build_schedule(scheduler.schedule) for scheduler in cfg.param_scheduler.values())
        optimizer = cfg.optim_wrapper.optimizer
        rates = [optimizer.lr * rate(i, total) for i in (0, warmup * epoch - 1, total - 1)]
        assert rates == pytest.approx([start + (1e-3 - start) / (warmup * epoch), 1e-3, 1e-6])
        decays = [optimizer.weight_decay * decay(i, total) for i in (0, total // 2 - 1, total - 1)]
        assert decays == pytest.approx([0.04, 0.22, 0.4])
        assert build_schedule(cfg.default_hooks.target_ema.momentum)(0, total) == 0.996
        crop, pack = cfg.train_dataloader.dataset.dataset.pipeline[1:]
        assert (crop.crop_ratio_range, crop.interpolation) == ((0.3, 1.0), 'bilinear')
        assert pack.type == 'mmpretrain.PackInputs'
        collate = cfg.train_dataloader.collate_fn
        assert collate.patch_size == cfg.model.backbone.patch_size
        assert crop.scale == cfg.model.backbone.img_size
        assert collate.masking == dict(type='mmmim.MultiBlockMasking', num_targets=4, num_contexts=1, **released)
    trained = {}
    for name, cfg in recipes.items():
        with torch.device('meta'):
            model = MODELS.build(cfg.model)
        parts = model.backbone, model.branches.latent.neck
        trained[name] = [sum(p.numel() for p in part.parameters() if p.requires_grad) for part in parts]
    assert trained['vitb16'] == [85_646_592, 11_238_912]
    assert trained['vith14'][1] == 22_279_424


def test_recipe_of_pilamim():
    cfg = load('pilamim/vitb16')
    epoch = 1_281_167 // 2048
    assert (cfg.global_batch_size, cfg.train_cfg.max_iters) == (2048, 800 * epoch)
    assert cfg.optim_wrapper.optimizer.lr == pytest.approx(1.5e-4 * 2048 / 256)
    assert (cfg.optim_wrapper.dtype, cfg.optim_wrapper.optimizer.weight_decay) == ('float16', 0.05)
    assert 'paramwise_cfg' not in cfg.optim_wrapper  # everything decays
    crop, flip = cfg.train_dataloader.dataset.dataset.pipeline[1:3]
    assert (crop.scale, crop.crop_ratio_range, crop.interpolation, flip.prob) == (224, (0.2, 1.0), 'bicubic', 0.5)
    schedule = build_schedule(cfg.param_scheduler.schedule)
    # Constant within an epoch; the first, the peak and half of the cosine.
    rates = [1.2e-3 * schedule(e * epoch + step, cfg.train_cfg.max_iters) for e in (0, 39, 400) for step in (0, 624)]
    assert rates == pytest.approx([3e-5] * 2 + [1.1929770e-3] * 2 + [6e-4] * 2)
    momentum = build_schedule(cfg.default_hooks.target_ema.momentum)
    assert [momentum(step, 500_000) for step in (0, 250_000)] == pytest.approx([0.996, 0.998])
    shorter, baseline = load('pilamim/vitb16_600e'), load('mae/vitb16_800e')
    assert (shorter.train_cfg.max_iters, shorter.param_scheduler.schedule.epochs) == (600 * epoch, 600)
    assert (baseline.train_cfg.max_iters, baseline.global_batch_size) == (800 * epoch, 2048)
    assert baseline.optim_wrapper.optimizer.lr == cfg.optim_wrapper.optimizer.lr
    assert baseline.param_scheduler.schedule.warmup_ratio == 40 / 800


def test_sizes_of_pilamim():
    with torch.device('meta'):
        model = MODELS.build(load('pilamim/vitb16').model)
    sizes = [sum(p.numel() for p in part.parameters()) / 1e6 for part in (model, model.backbone)]
    assert sizes == [pytest.approx(194.15, abs=0.01), pytest.approx(85.77, abs=0.01)]


def test_variants_of_pilamim():
    base = load('pilamim/vitb16').to_dict()
    pixels, latent = 'model.branches.pixels.', 'model.branches.latent.'
    assert differing(base, load('pilamim/vitb16_released').to_dict()) == {
        'model.teacher_init',
        f'{latent}target_generator.aligned',
        f'{latent}head.heads.patches.nominal_ratio',
        f'{pixels}head.nominal_ratio',
    }
    without = load('pilamim/vitb16_no-cls')
    changed = {f'{latent}neck.predict_cls', f'{latent}head.type', f'{latent}head.heads'}
    assert differing(base, without.to_dict()) == changed
    assert without.model.branches.latent.head == {'type': 'mmmim.RegressionHead'}
    assert without.model.backbone == base['model']['backbone']


SPECIFICATION = Config.fromfile(ROOT / 'projects/pilamim_comparison/spec.py')


@pytest.mark.parametrize(
    ('subset', 'arm'), [(subset, arm) for subset, arms in SPECIFICATION.subsets.items() for arm in arms]
)
def test_arms_of_the_comparison_of_pilamim(subset, arm):
    """The changes of every arm fit its config, and give images, masks and model the same sizes."""
    options = SPECIFICATION.subsets[subset][arm]
    cfg = Config.fromfile(ROOT / options.config)
    merge_cfg_options(cfg, [f'{key}={value}' for key, value in options.options.items()])
    assert (cfg.train_cfg.max_iters, cfg.train_dataloader.dataset.dataset.subset) == (300, subset)
    patch, size = (4, 32) if subset == 'single' else (8, 64)
    backbone, loader = cfg.model.backbone, cfg.train_dataloader
    assert (backbone.patch_size, loader.collate_fn.patch_size) == (patch, patch)
    assert (backbone.img_size, loader.dataset.dataset.pipeline[1].scale) == (size, size)
    model = MODELS.build(cfg.model)
    mask = random_mask(2, visible=16, predict=48, grid=(8, 8))
    inputs = torch.randn(2, 3, size, size)
    losses = model.loss(inputs, mask, model.targets(inputs, mask, differentiable=False))
    assert ('loss_latent_cls' in losses) == (arm in ('random init', 'PiLaMIM'))
