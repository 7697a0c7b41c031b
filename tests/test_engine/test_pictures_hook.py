import numpy as np
import pytest
from mmengine import Config
from PIL import Image

from mmmim.engine import Runner
from tests.paths import ROOT
from tests.shrink import shrink, write_images


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp('images')
    write_images(folder)
    return folder


def train(name, images, work_dir, **options):
    cfg = shrink(Config.fromfile(ROOT / f'configs/{name}.py'), images, work_dir)
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


def test_no_pictures_when_switched_off(images, tmp_path):
    cfg = Config.fromfile(ROOT / 'configs/mae/digits.py')
    hooks = [dict(hook, images=0) if hook['type'].endswith('PicturesHook') else hook for hook in cfg.custom_hooks]
    assert train('mae/digits', images, tmp_path, custom_hooks=hooks) == {'curves.png', 'health.png'}


def test_a_full_disk_does_not_end_training(images, tmp_path, monkeypatch):
    from mmmim.engine.hooks import pictures_hook

    def full(*args, **kwargs):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(pictures_hook, 'draw_channels', full)
    assert 'features.png' not in train('mae/digits', images, tmp_path)
    assert (tmp_path / 'iter_1.pth').exists()
