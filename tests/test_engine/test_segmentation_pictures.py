from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from PIL import Image

from mmmim.engine.hooks import SegmentationPicturesHook
from mmmim.visualization import segmentations
from mmmim.visualization.segmentations import Segmentation, draw_segmentations, paint_labels

PALETTE = [[250, 0, 0], [0, 250, 0], [0, 0, 250]]


def sample(path, labels, predicted):
    maps = {'gt_sem_seg': labels, 'pred_sem_seg': predicted}
    maps = {key: PixelData(data=torch.as_tensor(value)[None]) for key, value in maps.items()}
    result = SegDataSample(metainfo={'img_path': str(path)})
    result.set_data(maps)
    return result


@pytest.fixture
def runner(tmp_path):
    dataset = SimpleNamespace(metainfo={'palette': PALETTE})
    loader = SimpleNamespace(dataset=dataset)
    warnings = []
    logger = SimpleNamespace(warning=warnings.append, lines=warnings)
    loaders = {'val_dataloader': loader, 'test_dataloader': loader}
    return SimpleNamespace(log_dir=str(tmp_path), iter=40, model=torch.nn.Identity(), logger=logger, **loaders)


@pytest.fixture
def image(tmp_path):
    path = tmp_path / 'images' / 'grey.png'
    path.parent.mkdir()
    Image.fromarray(np.full((90, 60, 3), 123, np.uint8)).save(path)
    return path


def read(path):
    return np.asarray(Image.open(path).convert('RGB'))


def share(picture, colour):
    return (abs(picture.astype(int) - colour).max(-1) <= 2).mean()


def test_ignored_pixels_are_chequered():
    labels = np.full((40, 40), 1)
    labels[:, 20:] = 255
    picture = paint_labels(labels, PALETTE)
    assert (picture[:, :20] == PALETTE[1]).all()
    ignored = picture[:, 20:].reshape(-1, 3)
    colours, counts = np.unique(ignored, axis=0, return_counts=True)
    assert len(colours) == 2
    assert counts[0] == counts[1]
    assert not any((colours == colour).all(1).any() for colour in PALETTE)
    assert (paint_labels(np.array([[-1, 3]]), PALETTE) == paint_labels(np.array([[255, 255]]), PALETTE)).all()


def test_pictures_of_a_validation_and_of_a_test(runner, image, tmp_path):
    hook = SegmentationPicturesHook(images=3)
    labels = np.zeros((24, 16), int)
    labels[:12] = 255
    outputs = [sample(image, labels, np.full((24, 16), 2))] * 2
    for before, after, draw, name in (
        (hook.before_val, hook.after_val_iter, hook.after_val_epoch, 'segmentations_40.png'),
        (hook.before_test, hook.after_test_iter, hook.after_test_epoch, 'segmentations.png'),
    ):
        before(runner)
        for i in range(3):
            after(runner, i, None, outputs)
        draw(runner)
        picture = read(tmp_path / name)
        assert [share(picture, colour) > 0.1 for colour in PALETTE] == [False, False, True]
        assert 0.5 * share(picture, PALETTE[2]) == pytest.approx(share(picture, PALETTE[0]), rel=0.05)
        # Three rows of images of 24 x 16, at their shape.
        assert share(picture, (123,) * 3) == pytest.approx(share(picture, PALETTE[2]), rel=0.05)
        rows = (abs(picture.astype(int) - PALETTE[2]).max(-1) <= 2).any(1)
        assert np.count_nonzero(np.diff(rows.astype(int)) == 1) == 3


def test_no_pictures_where_none_are_wanted_or_files_are_gone(runner, image, tmp_path):
    labels = np.zeros((8, 8), int)
    none = SegmentationPicturesHook(images=0)
    none.before_test(runner)
    none.after_test_iter(runner, 0, None, [sample(image, labels, labels)])
    none.after_test_epoch(runner)
    several = SegmentationPicturesHook()
    runner.model.layers = (0, 1)  # which block would it be?
    several.before_test(runner)
    several.after_test_iter(runner, 0, None, [sample(image, labels, labels)])
    several.after_test_epoch(runner)
    runner.model.layers = (1,)
    hook = SegmentationPicturesHook()
    hook.before_test(runner)
    hook.after_test_iter(runner, 0, None, [sample(tmp_path / 'gone.png', labels, labels)])
    hook.after_test_epoch(runner)  # does not raise
    assert not list(tmp_path.glob('*.png'))
    assert len(runner.logger.lines) == 1
    assert 'gone.png' in runner.logger.lines[0]


def test_large_maps_are_drawn_smaller(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(segmentations, 'draw_image_table', lambda rows, *args: drawn.extend(rows))
    labels = np.zeros((700, 1001), int)
    draw_segmentations([Segmentation(np.zeros((50, 60, 3), np.uint8), labels, labels, 'a')], PALETTE, tmp_path, 'title')
    assert [picture.shape for picture in drawn[0]] == [(175, 251, 3)] * 3
