"""Every shipped recipe is its paper's, key by key: the tables of tests/recipes against the resolved configs."""

import re

import pytest
from mmengine import Config

import mmmim
from tests.paths import ROOT
from tests.recipes import (
    capi,
    complaints,
    evaluation,
    ijepa,
    is_house,
    latent_mim,
    mae,
    pilamim,
    resolved,
    semantic_mim,
)

METHODS = (capi, ijepa, latent_mim, pilamim, mae, semantic_mim, evaluation)
RECIPES = {name: table for method in METHODS for name, table in method.RECIPES.items()}


def load(name):
    return resolved(Config.fromfile(ROOT / ('' if name.startswith('projects') else 'configs') / f'{name}.py'))


def test_every_recipe_has_a_table():
    shipped = {name for name in mmmim.list_models() if 'digits' not in name}
    protocols = {f'eval/{path.stem}' for path in ROOT.glob('configs/eval/*.py') if 'digits' not in path.stem}
    assert shipped | protocols | {'projects/bootmae/configs/vitb16'} == set(RECIPES)


@pytest.mark.parametrize('name', RECIPES)
def test_a_recipe_is_its_papers(name):
    assert complaints(load(name), RECIPES[name]) == []


@pytest.mark.parametrize('name', RECIPES)
def test_sources_are_named(name):
    assert all(len(source) > 5 or re.fullmatch(r'table \d', source) for _, source in RECIPES[name].values())


def other(value):
    """A value of the same kind that is not the same."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value * 1.5 + 1
    if isinstance(value, list | tuple) and value:
        return type(value)([*value[:-1], other(value[-1])])
    return 'another'


@pytest.mark.parametrize('name', RECIPES)
def test_no_value_can_change_unseen(name):
    config = load(name)
    judged = [key for key in config if not is_house(key)]
    assert len(judged) > 15
    for key in judged:
        assert complaints({**config, key: other(config[key])}, RECIPES[name]), key
        left = {k: v for k, v in config.items() if k != key}
        assert complaints(left, RECIPES[name]), key
    assert complaints({**config, 'model.backbone.new_option': 1}, RECIPES[name])


MASKING, SCHEDULE = 'train_dataloader.collate_fn.masking', 'param_scheduler.schedule'
MOMENTUM, OPTIMIZER = 'default_hooks.target_ema.momentum', 'optim_wrapper.optimizer'
PIPELINE = 'train_dataloader.dataset.dataset.pipeline'
#: Wrong trainings that nothing else would notice.
PLANTED = [
    ('pilamim/vitb16', 'model.branches.pixels.target_generator.normalize', True),
    ('pilamim/vitb16', f'{OPTIMIZER}.betas', (0.9, 0.999)),
    ('pilamim/vitb16', f'{OPTIMIZER}.weight_decay', 0.0),
    ('pilamim/vitb16', f'{MOMENTUM}.start', 0.99),
    ('latent_mim/vitb16', 'model.branches.latent.target_generator.sees', 'all'),
    ('latent_mim/vitb16', 'model.branches.latent.head.heads.similarity.weight', 1.0),
    ('latent_mim/vitb16', 'default_hooks.similarity.schedule.start', 0.25),
    ('latent_mim/vitb16', 'default_hooks.similarity.schedule.final', 0.75),
    ('latent_mim/vitb16', f'{SCHEDULE}.final', 0.0),
    ('latent_mim/vitb16', f'{SCHEDULE}.start', 0.0),
    ('latent_mim/vitb16', f'{MOMENTUM}.start', 0.999),
    ('latent_mim/vitb16', f'{OPTIMIZER}.betas', (0.9, 0.999)),
    ('latent_mim/vitb16', f'{OPTIMIZER}.weight_decay', 0.3),
    ('latent_mim/ablations/gap_8', f'{PIPELINE}.1.scale', 280),
    ('capi/vitl14', 'model.backbone.drop_path_rate', 0.0),
    ('capi/vitl14', 'model.branches.capi.neck.drop_path_rate', 0.0),
    ('capi/vitl14', f'{SCHEDULE}.warmup_ratio', 0.02),
    ('capi/vitl14', f'{SCHEDULE}.truncation', 1.0),
    ('capi/vitl14', f'{MOMENTUM}.truncation', 1.0),
    ('capi/vitl14', f'{PIPELINE}.2.prob', 0.0),
    ('capi/vitl14', 'optim_wrapper.paramwise_cfg.rules.clustering.lr_mult', 1.0),
    ('capi/vits14', f'{MOMENTUM}.base', 0.999),
    ('capi/ablations/masking_random', f'{MASKING}.mask_ratio', 0.65),
    ('beit/vitb16', 'model.backbone.drop_path_rate', 0.0),
    ('beit/vitb16', 'optim_wrapper.clip_norm', 0.02),
    ('maskfeat/vitb16', f'{PIPELINE}.1.crop_ratio_range', (0.08, 1.0)),
    ('semantic_mim/beit_vitb16', 'model.backbone.num_cls_tokens', 1),
    ('semantic_mim/maskfeat_vitb16', f'{MASKING}.num_visible', 117),
    ('ijepa/vitb16', 'param_scheduler.weight_decay.schedule.start', 1.0),
    ('ijepa/vitb16', f'{MASKING}.target_scale', (0.15, 0.3)),
    ('mae/vitb16', f'{MASKING}.mask_ratio', 0.6),
    ('mae/vitb16_800e', 'model.branches.pixels.target_generator.normalize', True),
    ('projects/bootmae/configs/vitb16', f'{MOMENTUM}.start', 0.9),
    ('projects/bootmae/configs/vitb16', f'{MOMENTUM}.final', 0.9),
    ('eval/seg_upernet_ade20k', 'optim_wrapper.paramwise_cfg.layer_decay', 0.65),
    ('eval/seg_linear_voc2012', f'{OPTIMIZER}.weight_decay', 1e-4),
    ('eval/seg_linear_voc2012', 'model.backbone.out_indices', [-1]),
    ('eval/seg_knn_ade20k', 'test_cfg.probe.k', [1, 5, 20]),
    ('eval/seg_logreg_voc2012', 'test_cfg.held_out', 0.0),
    ('eval/seg_logreg_voc2012', 'test_cfg.probe.c', [1.0]),
]


@pytest.mark.parametrize(('name', 'key', 'wrong'), PLANTED)
def test_a_wrong_value_is_named_with_its_source(name, key, wrong):
    config = load(name)
    assert config[key] != wrong
    (complaint,) = complaints({**config, key: wrong}, RECIPES[name])
    assert complaint.startswith(f'{key} is {wrong!r}; ')
