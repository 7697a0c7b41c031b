from dataclasses import replace

import numpy as np
import pytest
from mmengine import Config
from PIL import Image

from mmmim.engine import Runner
from mmmim.utils import InputError
from tests.paths import ROOT
from tests.shrink import shrink, write_images


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp('images')
    write_images(folder)
    return folder


def train(name, images, work_dir, **options):
    cfg = shrink(Config.fromfile(ROOT / f'configs/{name}.py'), images, work_dir, pictures=True)
    cfg.merge_from_dict({'probe_data': None, **options})
    cfg.experiment_name = work_dir.name
    Runner.from_cfg(cfg).train()
    return {path.name for path in work_dir.glob('*.png')}


@pytest.mark.parametrize(('name', 'own'), [('capi/digits', set()), ('mae/digits', {'reconstruction.png'})])
def test_pictures_at_the_end(name, own, images, tmp_path):
    made = train(name, images, tmp_path)
    assert made == {'curves.png', 'health.png', 'features.png'} | own
    for file in ('features.png', *own):
        picture = np.asarray(Image.open(tmp_path / file).convert('RGB'))
        assert picture.std() > 20
        assert picture.shape[0] > 4 * 200  # a row for each of the four images of the batch


def test_two_masks_per_image_and_few_patches(images, tmp_path, monkeypatch):
    from mmmim.datasets.masking import strategies

    plain = strategies.UniformMasking.__call__

    def twice(self, num_images, grid, rng):
        mask = plain(self, 2 * num_images, grid, rng)
        return replace(mask, image_index=mask.image_index // 2)

    monkeypatch.setattr(strategies.UniformMasking, '__call__', twice)
    assert 'reconstruction.png' in train('mae/digits', images, tmp_path / 'twice')
    monkeypatch.undo()


def test_four_patches(images, tmp_path):
    """They have three principal components, not eight."""
    options = {'train_dataloader.dataset.dataset.pipeline.1.scale': 8}
    assert 'features.png' in train('mae/digits', images, tmp_path, **options)


def test_no_pictures_when_switched_off(images, tmp_path):
    cfg = Config.fromfile(ROOT / 'configs/mae/digits.py')
    hooks = [dict(hook, images=0) if hook['type'].endswith('PicturesHook') else hook for hook in cfg.custom_hooks]
    assert train('mae/digits', images, tmp_path, custom_hooks=hooks) == {'curves.png', 'health.png'}


@pytest.mark.parametrize('error', [OSError(28, 'No space left on device'), InputError('too few'), RuntimeError('NaN')])
def test_a_failing_picture_does_not_end_training(error, images, tmp_path, monkeypatch):
    from mmmim.visualization import feature_pictures

    def full(*args, **kwargs):
        raise error

    monkeypatch.setattr(feature_pictures, 'draw_channels', full)
    assert 'features.png' not in train('mae/digits', images, tmp_path)
    assert (tmp_path / 'iter_1.pth').exists()
