"""Videos followed by features that tell their objects apart, so that every mask is known."""

import numpy as np
import pytest
import torch

from mmmim.datasets import DAVIS2017
from mmmim.evaluation.tracking.propagation import Propagation
from mmmim.evaluation.tracking.sequences import follow
from tests.videos import write_list, write_video

PATCH = 4
#: Of the background and the objects of ``write_video``.
BRIGHTNESS = torch.tensor([20.0, 80.0, 140.0, 200.0])


def by_brightness(images):
    """Features of patches that say how bright they are, and nothing else."""
    (image,) = images
    bright = image.float().mean(0).unfold(0, PATCH, PATCH).unfold(1, PATCH, PATCH).mean((2, 3))
    features = torch.exp(-(((bright.flatten()[:, None] - BRIGHTNESS) / 15) ** 2))
    return [features[None]], tuple(bright.shape)


def boxes(*corners, size=(32, 48), side=8):
    indices = np.zeros(size, np.uint8)
    for index, corner in enumerate(corners, start=1):
        if corner is not None:
            indices[corner[0] : corner[0] + side, corner[1] : corner[1] + side] = index
    return indices


#: Two boxes that pass each other; the third is there at first, is hidden in the middle and comes back.
CROSSING = [
    boxes((0, 0), (16, 40), (24, 20)),
    boxes((4, 8), (12, 32), (24, 20)),
    boxes((8, 12), (12, 28), None),
    boxes((12, 20), (4, 20), None),
    boxes((16, 28), (0, 8), (24, 24)),
]


@pytest.mark.parametrize(
    'how', [Propagation(), Propagation(context=1, radius=3, topk=2), Propagation(min_max=False, upsample='original')]
)
def test_every_object_is_where_it_is(tmp_path, how):
    write_video(tmp_path, 'a', CROSSING)
    write_list(tmp_path, 'a')
    frames = list(follow(DAVIS2017(str(tmp_path))[0], by_brightness, PATCH, how, None))
    assert [frame.number for frame in frames] == list(range(5))
    assert {(frame.input_size, frame.grid, frame.objects) for frame in frames} == {((32, 48), (8, 12), 3)}
    wrong = [(frame.predicted[0] != frame.annotated).mean() for frame in frames]
    assert wrong[0] == 0
    # Where the third is hidden and maps are stretched, the little that is left of it wins somewhere.
    assert max(wrong) < (0.1 if how.min_max else 0.02)
    for frame in frames[1:]:
        for index in (1, 2):
            found, true = (maps == index for maps in (frame.predicted[0], frame.annotated))
            assert (found & true).sum() > 0.8 * (found | true).sum()


def test_an_object_that_comes_late_is_background(tmp_path):
    late = [boxes((0, 0)), boxes((0, 4), (16, 16)), boxes((0, 8), (16, 16))]
    write_video(tmp_path, 'a', late)
    write_list(tmp_path, 'a')
    frames = list(follow(DAVIS2017(str(tmp_path))[0], by_brightness, PATCH, Propagation(min_max=False), None))
    assert frames[0].objects == 1
    assert max(frame.predicted[0].max() for frame in frames) == 1


def test_frames_of_another_size_than_their_annotations(tmp_path):
    """Masks have the size of the annotations; all frames get the size of the first."""
    write_video(tmp_path, 'a', CROSSING, frame_size=(64, 96))
    write_list(tmp_path, 'a')
    sequence = DAVIS2017(str(tmp_path))[0]
    from PIL import Image

    with Image.open(sequence.frames[2]) as image:
        image.resize((50, 30)).save(sequence.frames[2])
    frames = list(follow(sequence, by_brightness, PATCH, Propagation(min_max=False), None))
    assert {frame.predicted[0].shape for frame in frames} == {(32, 48)}
    assert {frame.input_size for frame in frames} == {(64, 96)}
    assert frames[2].image.shape == (30, 50, 3)
    assert max((frame.predicted[0] != frame.annotated).mean() for frame in frames) < 0.05
