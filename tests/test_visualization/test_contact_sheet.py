import numpy as np
import pytest
from PIL import Image

from mmmim.visualization.contact_sheet import SegmentedFrame, draw_contact_sheet, overlay, shown_frames

PALETTE = [(0, 0, 0), (255, 0, 0), (0, 0, 255)]


@pytest.mark.parametrize(
    ('frames', 'places'), [(24, [0, 6, 12, 23]), (101, [0, 25, 50, 100]), (3, [0, 1, 2]), (70, [0, 17, 34, 69])]
)
def test_frames_at_shares_of_the_time(frames, places):
    assert list(shown_frames(frames)) == places


def test_objects_are_tinted_and_the_background_is_left():
    image = np.full((1, 3, 3), 100, np.uint8)
    assert overlay(image, np.array([[0, 1, 2]], np.uint8), PALETTE)[0].tolist() == [
        [100, 100, 100],
        [178, 50, 50],
        [50, 50, 178],
    ]


@pytest.mark.parametrize('size', [(90, 160), (700, 400)])
def test_annotation_above_prediction(size, tmp_path):
    """Frames are drawn in their shape, whatever their size; the prediction is red where the annotation is blue."""
    annotated, predicted = np.full(size, 2, np.uint8), np.full(size, 1, np.uint8)
    image = np.full((50, 60, 3), 255, np.uint8)
    frames = [SegmentedFrame(image, annotated, predicted, f'frame {i}') for i in range(2)]
    draw_contact_sheet(frames, PALETTE, tmp_path / 'a.png', 'a: J 1.0, F 2.0')
    picture = np.asarray(Image.open(tmp_path / 'a.png'))[..., :3].astype(int)
    blue, red = (abs(picture - colour).max(axis=2) < 10 for colour in ((128, 128, 255), (255, 128, 128)))
    places = [np.argwhere(each) for each in (blue, red)]
    assert places[0][:, 0].max() < places[1][:, 0].min()
    assert blue.sum() == pytest.approx(red.sum(), rel=0.02)
    rows = np.ptp(places[0][:, 0]) + 1
    columns = blue.any(axis=0).sum() / 2
    assert rows / columns == pytest.approx(size[0] / size[1], rel=0.05)
