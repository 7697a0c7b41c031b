"""Every shipped recipe is its paper's, key by key: the tables of tests/recipes against the resolved configs."""

import functools
import re

import pytest
from mmengine import Config

import mmmim
from tests.paths import ROOT
from tests.recipes import (
    beitv2,
    capi,
    classification,
    complaints,
    conmim,
    crossmae,
    data2vec,
    data2vec2,
    distillation,
    evaluation,
    fitted_images,
    ijepa,
    is_house,
    label_free,
    latent_mim,
    mae,
    mff,
    pilamim,
    read,
    resolved,
    semantic_mim,
    simmim,
)

RECIPES = read(
    *(
        method.TABLE
        for method in (
            *(capi, data2vec, data2vec2, ijepa, latent_mim, mae, pilamim, semantic_mim),
            *(beitv2, conmim, crossmae, mff, simmim, distillation),
            *(evaluation, fitted_images, classification, label_free),
        )
    )
)


@functools.cache
def load(name):
    return resolved(Config.fromfile(ROOT / ('' if name.startswith('projects') else 'configs') / f'{name}.py'))


def test_every_recipe_has_a_table():
    shipped = {
        name for name in mmmim.list_models(ablations=True) if 'small' not in name and not name.startswith('custom/')
    }
    protocols = {f'eval/{path.stem}' for path in ROOT.glob('configs/eval/*.py') if 'fashion' not in path.stem}
    assert shipped | protocols | {'projects/bootmae/configs/vitb16'} == set(RECIPES)


@pytest.mark.parametrize('name', RECIPES)
def test_a_recipe_is_its_papers(name):
    assert complaints(load(name), RECIPES[name]) == []
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
    """Whatever is judged is named with its source where it is wrong, and missed where it is gone."""
    config = load(name)
    judged = [key for key in config if not is_house(key)]
    assert len(judged) > 8
    for key in judged:
        wrong = other(config[key])
        (complaint,) = complaints({**config, key: wrong}, RECIPES[name])
        assert complaint == f'{key} is {wrong!r}; {RECIPES[name][key].source}: {RECIPES[name][key].value!r}'
        left = {k: v for k, v in config.items() if k != key}
        assert complaints(left, RECIPES[name]), key
    assert complaints({**config, 'model.backbone.new_option': 1}, RECIPES[name])
