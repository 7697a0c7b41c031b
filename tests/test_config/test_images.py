"""One key of a config says what images there are; configs/custom train on them."""

import numpy as np
import pytest
import torch
from mmengine import Config
from PIL import Image

import mmmim
from mmmim.config.cfg_options import merge_cfg_options
from mmmim.config.images import apply_images, check_transforms
from mmmim.config.read import load_config
from mmmim.engine import Runner
from mmmim.engine.config_check import check_config
from mmmim.features.image_files import encode_files
from mmmim.registry import MODELS
from mmmim.utils import InputError
from tests.paths import ROOT
from tests.shrink import shrink, shrink_model, without_files

CUSTOM = sorted(path.stem for path in ROOT.glob('configs/custom/*.py'))
KEY = dict(data_root='/my', channels=13, mean=[1000.0] * 13, std=[300.0] * 13)


def with_images(name, **images):
    cfg = Config.fromfile(ROOT / f'configs/{name}.py')
    cfg.images = images
    apply_images(cfg)
    return cfg


@pytest.mark.parametrize(
    'name',
    [
        *('mae/vitb16', 'maskfeat/vitb16', 'pilamim/vitb16', 'capi/vits14', 'ijepa/vitb16'),
        *('crossmae/vitb16', 'mff/vitb16', 'simmim/vitb16'),
    ],
)
def test_everything_agrees(name):
    patch = 14 if 'capi' in name else 16
    cfg = with_images(name, **KEY, size=7 * patch)
    shrink_model(cfg.model)
    model = MODELS.build(cfg.model)  # refuses sizes that contradict each other
    assert (model.backbone.in_channels, model.backbone.grid) == (13, (7, 7))
    dataset = cfg.train_dataloader.dataset.dataset
    assert dataset.data_root == '/my'
    assert (dataset.pipeline[0].channels, dataset.pipeline[0].window) == (13, 'keep')
    assert dataset.pipeline[1].scale == 7 * patch
    assert dataset.pipeline[2].get('crop_size', 7 * patch) == 7 * patch
    assert model.data_preprocessor.mean.flatten().tolist() == KEY['mean']
    assert model.data_preprocessor.window == 'keep'
    before = cfg.to_dict()
    apply_images(cfg)
    assert cfg.to_dict() == before


def test_crops_that_decode_by_themselves():
    cfg = Config.fromfile(ROOT / 'configs/mae/vitb16.py')
    pipeline = cfg.train_dataloader.dataset.dataset.pipeline
    pipeline[:2] = [dict(type='mmmim.LoadReducedCrop', scale=224, load=dict(max_pixels=10**6))]
    cfg.images = dict(KEY, size=96)
    apply_images(cfg)
    (load, *_) = cfg.train_dataloader.dataset.dataset.pipeline
    assert load == dict(type='mmmim.LoadReducedCrop', scale=96, load=dict(max_pixels=10**6, window='keep', channels=13))
    cfg.train_dataloader.dataset.dataset.pipeline.insert(1, dict(type='mmpretrain.ColorJitter'))
    with pytest.raises(InputError, match=r'ColorJitter is about RGB images of eight bits, and these have 13 channels'):
        check_transforms(cfg)


def test_options_change_it():
    cfg = with_images('latent_mim/vitb16', **KEY, size=224)
    assert cfg.train_dataloader.dataset.dataset.pipeline[1].scale == 14 * (16 + 4)
    merge_cfg_options(cfg, ['images.channels=1', 'images.mean=[5]', 'images.std=[2]', 'images.size=96'])
    assert (cfg.model.backbone.in_channels, cfg.model.data_preprocessor.mean) == (1, [5])
    assert cfg.model.branches.latent.neck.grid == (6, 6)
    assert cfg.train_dataloader.dataset.dataset.pipeline[1].scale == 6 * (16 + 4)
    cfg = with_images('mae/vitb16', **KEY)
    merge_cfg_options(cfg, ['images.channels=2', 'images.mean=[5,5]', 'images.std=[2,2]', '+images.window=[0,4095]'])
    assert cfg.model.branches.pixels.neck.out_dim == 2 * 16 * 16
    assert cfg.train_dataloader.dataset.dataset.pipeline[0].window == [0, 4095]


@pytest.mark.parametrize(
    ('images', 'message'),
    [
        (dict(chanels=3), 'chanels'),
        (dict(channels=0), 'images.channels'),
        (dict(channels=13), r'images.channels=13.*mmmim stats FOLDER'),
        (dict(mean=[1.0]), 'images has one of mean and std'),
        (dict(channels=3, mean=[1.0] * 2, std=[1.0] * 2), r'images.mean has 2 value\(s\).*images.channels=3'),
        (dict(std=[0.0] * 3, mean=[1.0] * 3), 'images.std'),
        (dict(size=100), r'images.size=100 is no multiple of model.backbone.patch_size=16: give 96 or 112'),
        (dict(window='raw'), "no window 'raw'"),
    ],
)
def test_what_has_no_meaning(images, message):
    with pytest.raises(InputError, match=message):
        check_config(with_images('mae/vitb16', **images))


def test_a_folder_for_another_data_set():
    with pytest.raises(InputError, match=r'images.data_root .*mmmim.FashionScenes'):
        with_images('mae/small', data_root='/my')


@pytest.mark.parametrize('transform', ['ColorJitter', 'RandomGrayscale', 'RandAugment', 'ResizeEdge'])
def test_transforms_of_colours(transform):
    cfg = with_images('mae/vitb16', **KEY)
    check_transforms(cfg)
    pipeline = cfg.train_dataloader.dataset.dataset.pipeline
    pipeline.insert(2, dict(type=f'mmpretrain.{transform}', backend='pillow'))
    with pytest.raises(InputError, match=rf'pipeline.2: mmpretrain.{transform}.*13 channels.*mmmim.RandomResizedCrop'):
        check_transforms(cfg)
    cfg = with_images('mae/vitb16', channels=3)
    cfg.train_dataloader.dataset.dataset.pipeline.insert(2, dict(type=f'mmpretrain.{transform}', backend='pillow'))
    check_transforms(cfg)  # RGB of eight bits
    cfg.images.update(mean=[1000.0] * 3, std=[300.0] * 3)
    apply_images(cfg)
    with pytest.raises(InputError, match='more than eight bits'):
        check_transforms(cfg)


def write(folder, channels=13, number=6, size=40):
    rng = np.random.default_rng(0)
    folder.mkdir()
    for i in range(number):
        np.save(folder / f'{i}.npy', rng.integers(0, 4096, (size, size, channels), dtype=np.uint16))


def small(cfg, folder, work_dir, channels=13):
    """Of a custom config: its own key, a small model, two iterations."""
    patch = cfg.model.backbone.patch_size
    mean, std = ([2047.5] * 13, [1182.0] * 13) if channels == 13 else ([120.0] * channels, [60.0] * channels)
    options = [f'images.channels={channels}', f'images.mean={mean}', f'images.std={std}']
    options += [f'images.data_root={folder}', f'images.size={8 * patch}', 'train_cfg.max_iters=2']
    options += ['global_batch_size=4', 'train_dataloader.num_workers=0', 'optim_wrapper.dtype=None']
    merge_cfg_options(cfg, options)
    shrink_model(cfg.model)
    cfg.model.micro_batch_size = None
    cfg.default_hooks.logger.interval = 1
    cfg.work_dir, cfg.experiment_name = str(work_dir), work_dir.name
    return cfg


@pytest.mark.parametrize('name', CUSTOM)
def test_custom_configs_train_on_thirteen_channels_of_twelve_bits(name, tmp_path):
    write(tmp_path / 'images')
    cfg = small(load_config(f'custom/{name}'), tmp_path / 'images', tmp_path / f'work_{name}')
    runner = Runner.from_cfg(cfg)
    runner.train()
    assert runner.iter == 2
    log = next((tmp_path / f'work_{name}').glob('*/*.log')).read_text()
    assert 'loss: ' in log
    assert 'nan' not in log.partition('Iter(train)')[2]
    assert (tmp_path / f'work_{name}/features.png').exists()
    model = mmmim.get_model(tmp_path / f'work_{name}/iter_2.pth')
    assert model.window == 'keep'
    paths = sorted(map(str, (tmp_path / 'images').iterdir()))
    assert encode_files(model, paths).index == list(range(6))


@pytest.mark.parametrize('name', CUSTOM)
def test_custom_configs_are_scaled_recipes(name):
    """The rules of the tool that scales recipes give the same numbers."""
    from mmmim.config.scale import scale_recipe
    from mmmim.registry import SCHEDULES

    cfg = Config.fromfile(ROOT / f'configs/custom/{name}.py')
    base = Config.fromfile(ROOT / f'configs/{"capi/vits14" if name == "capi" else f"{name}/vitb16"}.py')
    rule = 'sqrt' if name == 'capi' else 'linear'
    recipe = scale_recipe(base.to_dict(), SCHEDULES.get, cfg.train_cfg.max_iters, cfg.global_batch_size, rule)
    changed = {change.key: change.new for change in recipe.changes}
    assert len(changed) >= 4
    for key, value in changed.items():
        node = cfg
        for part in key.split('.'):
            node = node[part]
        assert node == pytest.approx(value, rel=1e-9), key


@pytest.mark.slow
@pytest.mark.parametrize('name', [n for n in mmmim.list_models() if n.endswith('small') and 'beit' not in n])
def test_every_method_trains_on_bands(name, tmp_path):
    write(tmp_path / 'images')
    cfg = shrink(Config.fromfile(ROOT / f'configs/{name}.py'), tmp_path / 'images', tmp_path / 'work')
    cfg.model = without_files(cfg.model)
    cfg.images = dict(channels=13, mean=[2047.5] * 13, std=[1182.0] * 13)
    cfg.experiment_name = f'bands_{tmp_path.name}'
    runner = Runner.from_cfg(cfg)
    runner.train()
    assert all(torch.isfinite(parameter).all() for parameter in runner.model.parameters())


def test_browse_shows_red_as_red(tmp_path, monkeypatch):
    from mmmim.cli.browse import main
    from mmmim.visualization import batches

    (tmp_path / 'images').mkdir()
    Image.new('RGB', (40, 40), (200, 10, 20)).save(tmp_path / 'images/0.png')
    cfg = small(load_config('custom/mae'), tmp_path / 'images', tmp_path / 'work', channels=3)
    cfg.dump(tmp_path / 'mine.py')
    drawn, draw = [], batches.draw_batch
    monkeypatch.setattr(batches, 'draw_batch', lambda *args: drawn.append(draw(*args)) or drawn[-1])
    main([str(tmp_path / 'mine.py'), '--images', '1', '--out', str(tmp_path / 'out.png')])
    assert (255 * drawn[0]['image'][0, 5, 5]).round().tolist() == [200, 10, 20]


def test_browse_shows_three_of_thirteen_channels(tmp_path, monkeypatch):
    from mmmim.cli.browse import main

    write(tmp_path / 'images')
    cfg = small(load_config('custom/mae'), tmp_path / 'images', tmp_path / 'work')
    cfg.dump(tmp_path / 'mine.py')
    main([str(tmp_path / 'mine.py'), '--images', '2', '--out', str(tmp_path / 'out.png')])
    assert np.asarray(Image.open(tmp_path / 'out.png').convert('RGB')).std() > 20
