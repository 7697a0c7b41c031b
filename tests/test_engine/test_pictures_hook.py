"""Pictures at the end of a training, of features and of segmentations."""

from dataclasses import replace
from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from PIL import Image

from mmmim.datasets.masking import strategies
from mmmim.engine.hooks import SegmentationPicturesHook
from mmmim.visualization import feature_pictures, segmentations
from mmmim.visualization.segmentations import Segmentation, draw_segmentations, paint_labels
from tests.runs import names, pretraining, start
from tests.shrink import write_images


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp('images')
    write_images(folder)
    return folder


def train(name, images, work_dir, **options):
    """The pictures of a training."""
    cfg = pretraining(name, images, work_dir, pictures=True, probe_data=None)
    cfg.merge_from_dict(options)
    start(cfg)
    return set(names(work_dir, '*.png'))


def read(path):
    return np.asarray(Image.open(path).convert('RGB'))


@pytest.mark.parametrize(('name', 'own'), [('capi/small', set()), ('mae/small', {'reconstruction.png'})])
def test_pictures_at_the_end(name, own, images, tmp_path):
    assert train(name, images, tmp_path) == {'curves.png', 'health.png', 'features.png'} | own
    for file in ('features.png', *own):
        picture = read(tmp_path / file)
        assert picture.std() > 20
        assert picture.shape[0] > 4 * 200  # a row for each of the four images of the batch


def test_two_masks_per_image_of_four_patches(images, tmp_path, monkeypatch):
    """They have three principal components, not eight; pictures of no images are not drawn."""
    plain = strategies.UniformMasking.__call__

    def twice(self, num_images, grid, rng):
        mask = plain(self, 2 * num_images, grid, rng)
        return replace(mask, image_index=mask.image_index // 2)

    monkeypatch.setattr(strategies.UniformMasking, '__call__', twice)
    options = {'train_dataloader.dataset.dataset.pipeline.1.scale': 8}
    assert {'features.png', 'reconstruction.png'} <= train('mae/small', images, tmp_path / 'a', **options)
    hooks = pretraining('mae/small', images, tmp_path, pictures=True).custom_hooks
    hooks = [dict(hook, images=0) for hook in hooks if hook['type'].endswith('PicturesHook')]
    assert not train('mae/small', images, tmp_path / 'b', custom_hooks=hooks) & {'features.png', 'reconstruction.png'}


@pytest.mark.parametrize('error', [OSError(28, 'No space left on device'), RuntimeError('NaN')])
def test_a_failing_picture_does_not_end_training(error, images, tmp_path, monkeypatch):
    monkeypatch.setattr(feature_pictures, 'draw_channels', Mock(side_effect=error))
    assert 'features.png' not in train('mae/small', images, tmp_path)
    assert (tmp_path / 'iter_1.pth').exists()


# Segmentations --------------------------------------------------------------------------------------------------------

PALETTE = [[250, 0, 0], [0, 250, 0], [0, 0, 250]]


def sample(path, labels, predicted):
    maps = {'gt_sem_seg': labels, 'pred_sem_seg': predicted}
    result = SegDataSample(metainfo={'img_path': str(path)})
    result.set_data({key: PixelData(data=torch.as_tensor(value)[None]) for key, value in maps.items()})
    return result


@pytest.fixture
def runner(tmp_path):
    loader = SimpleNamespace(dataset=SimpleNamespace(metainfo={'palette': PALETTE}))
    lines = []
    parts = {'logger': SimpleNamespace(warning=lines.append, lines=lines), 'model': torch.nn.Identity()}
    return SimpleNamespace(log_dir=str(tmp_path), iter=40, val_dataloader=loader, test_dataloader=loader, **parts)


@pytest.fixture
def image(tmp_path):
    path = tmp_path / 'images' / 'grey.png'
    path.parent.mkdir()
    Image.fromarray(np.full((90, 60, 3), 123, np.uint8)).save(path)
    return path


def is_colour(picture, colour):
    return abs(picture.astype(int) - colour).max(-1) <= 2


def test_ignored_pixels_are_chequered():
    labels = np.full((40, 40), 1)
    labels[:, 20:] = 255
    picture = paint_labels(labels, PALETTE)
    assert (picture[:, :20] == PALETTE[1]).all()
    colours, counts = np.unique(picture[:, 20:].reshape(-1, 3), axis=0, return_counts=True)
    assert counts.tolist() == [400, 400]
    assert not any((colours == colour).all(1).any() for colour in PALETTE)
    assert (paint_labels(np.array([[-1, 3]]), PALETTE) == paint_labels(np.array([[255, 255]]), PALETTE)).all()


def test_pictures_of_a_validation_and_of_a_test(runner, image, tmp_path):
    hook = SegmentationPicturesHook(images=3)
    labels = np.zeros((24, 16), int)
    labels[:12] = 255
    outputs = [sample(image, labels, np.full((24, 16), 2))] * 2
    for kind, name, rows in (('val', 'segmentations_40.png', 3), ('test', 'segmentations.png', 2)):
        getattr(hook, f'before_{kind}')(runner)
        for i in range(rows - 1):  # batches of two, so one too many for the validation
            getattr(hook, f'after_{kind}_iter')(runner, i, None, outputs)
        getattr(hook, f'after_{kind}_epoch')(runner)
        picture = read(tmp_path / name)
        shares = [is_colour(picture, colour).mean() for colour in (*PALETTE, (123,) * 3)]
        assert shares[1] < 0.1 < shares[2]
        # Rows of images of 24 x 16, at their shape; half of the labels are ignored.
        assert [2 * shares[0], shares[3]] == pytest.approx([shares[2]] * 2, rel=0.05)
        drawn = is_colour(picture, PALETTE[2]).any(1)
        assert np.count_nonzero(np.diff(drawn.astype(int)) == 1) == rows  # none is left of before


def test_no_pictures_where_none_are_wanted_or_files_are_gone(runner, image, tmp_path):
    labels = np.zeros((8, 8), int)
    # With two layers, which block would it be?
    for images, layers, path in ((0, (1,), image), (8, (0, 1), image), (8, (1,), tmp_path / 'gone.png')):
        hook, runner.model.layers = SegmentationPicturesHook(images), layers
        hook.before_test(runner)
        hook.after_test_iter(runner, 0, None, [sample(path, labels, labels)])
        hook.after_test_epoch(runner)  # does not raise
    assert not list(tmp_path.glob('*.png'))
    (line,) = runner.logger.lines
    assert 'gone.png' in line


def test_large_maps_are_drawn_smaller(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(segmentations, 'draw_image_table', lambda rows, *args: drawn.extend(rows))
    labels = np.zeros((700, 1001), int)
    draw_segmentations([Segmentation(np.zeros((50, 60, 3), np.uint8), labels, labels, 'a')], PALETTE, tmp_path, 'title')
    assert [picture.shape for picture in drawn[0]] == [(175, 251, 3)] * 3
