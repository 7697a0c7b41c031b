import numpy as np
import pytest

from mmmim.evaluation.label_free.discovery import Found
from mmmim.evaluation.label_free.methods import FoundClusters, FoundObject
from mmmim.visualization.colours import colour_sequence, heat
from mmmim.visualization.found import (
    FOUND,
    GIVEN,
    Example,
    draw_found_clusters,
    draw_objects,
    frame,
    magnified,
    paint_clusters,
    paint_mask,
)


def test_frames_lie_inside_of_boxes_and_of_the_picture():
    picture = np.zeros((40, 60, 3), np.uint8)
    frame(picture, np.array([5, 2.5, 15, 10]), (1, 2, 3), 2.0, width=2)
    drawn = (picture == (1, 2, 3)).all(axis=-1)
    expected = np.zeros((40, 60), bool)
    expected[5:20, 10:30] = True
    expected[7:18, 12:28] = False
    assert np.array_equal(drawn, expected)
    frame(picture, np.array([-9, -9, 99, 99]), (9, 9, 9), 1.0)  # no error


@pytest.mark.parametrize(('size', 'expected', 'factor'), [((64, 30), (448, 210), 7), ((960, 240), (480, 120), 0.5)])
def test_pictures_of_one_size(size, expected, factor):
    picture, by = magnified(np.zeros((*size, 3), np.uint8))
    assert (picture.shape[:2], by) == (expected, factor)


def test_colours_are_the_same_however_many_there_are():
    many = colour_sequence(300)
    assert np.array_equal(many[:7], colour_sequence(7))
    assert len(np.unique(many.round(3), axis=0)) > 290
    assert many.min() >= 0
    assert many.max() <= 1
    shades = heat(np.array([[0.0, 1.0], [0.5, 0.0]])).astype(int).sum(axis=-1)
    assert shades[0, 0] == shades[1, 1] < shades[1, 0] < shades[0, 1]
    assert len(np.unique(heat(np.ones((2, 2))).reshape(-1, 3), axis=0)) == 1


def test_masks_and_clusters_lie_over_the_image():
    image = np.full((2, 2, 3), 100, np.uint8)
    painted = paint_mask(image, np.array([[True, False], [False, False]]))
    assert painted[0, 0, 0] > 150 > 80 > painted[0, 0, 1]
    assert (painted[1] == 100).all()
    clusters = paint_clusters(image, np.array([[0, 1], [0, 1]]))
    assert clusters[0, 0, 2] > clusters[0, 0, 0]  # blue
    assert clusters[0, 1, 0] > clusters[0, 1, 2]  # orange


def drawn(monkeypatch):
    import mmmim.visualization.found as module

    found = {}

    def table(rows, path, columns, names, title, caption):
        found.update(rows=rows, columns=columns, names=names)

    monkeypatch.setattr(module, 'draw_image_table', table)
    return found


def test_pictures_of_objects(monkeypatch, tmp_path):
    found = drawn(monkeypatch)
    mask = np.array([[False, True], [False, False]])
    patches = Found(mask, 1, np.array([[0.0, 1], [0, 0]]), mask.astype(int))
    one = FoundObject(patches, np.array([16, 0, 32, 16]), (16, 16))
    image = np.full((32, 32, 3), 90, np.uint8)
    example = Example('a', image, np.array([[0, 0, 8, 8]]), {'pretrained': one, 'random': one})
    draw_objects([example], tmp_path / 'a.png', 'title')
    assert found['columns'] == ['image', *(f'{e}\n{w}' for e in example.found for w in ('chosen by', 'found'))]
    first, values, shown, *_ = found['rows'][0]
    assert first.shape == values.shape == shown.shape == (480, 480, 3)
    assert tuple(first[0, 60]) == tuple(shown[0, 60]) == GIVEN
    assert tuple(shown[100, 240]) == FOUND
    assert shown[100, 300, 0] > 150 > shown[300, 300, 0]
    assert values[0, 300].sum() > values[300, 300].sum()
    assert (image == 90).all()


def test_pictures_of_clusters(monkeypatch, tmp_path):
    found = drawn(monkeypatch)
    classes = np.array([[0, 1], [255, 1]]).repeat(8, 0).repeat(8, 1)
    clusters = FoundClusters({'2': classes % 2, 'classes': classes * 0}, classes, 255)
    example = Example('a', np.zeros((16, 16, 3), np.uint8), np.zeros((0, 4)), {'random': clusters})
    draw_found_clusters([example], [[0, 0, 255], [255, 0, 0]], tmp_path / 'a.png', 'title')
    assert found['columns'] == ['image', 'label', 'random\n2 clusters', 'random\nas many as classes']
    label = found['rows'][0][1]
    assert (label[:200, 300:] == [255, 0, 0]).all()
    assert len(np.unique(label[300:, :200].reshape(-1, 3), axis=0)) == 2  # chequers
